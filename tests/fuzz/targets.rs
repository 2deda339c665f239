//! The API: bodies, patches, versions and paths.

use serde_json::{Value, json};

use crate::corpus::{Corpus, Sample};
use crate::dice::Dice;
use crate::mutate;
use crate::run::{Run, target};
use crate::site::{Site, path, tame};
use crate::wire::Answer;

/// Bodies of every POST.
#[test]
fn bodies() {
    target("bodies", &[201, 202, 400, 404], fuzz_bodies);
}

async fn fuzz_bodies(mut run: Run) {
    let mut site = Site::new().await;
    let mut samples = site.corpus.of(&["POST"], |s| s.path.starts_with("/v1/"));
    let cluster = site.cluster.clone();
    for (path, body) in [
        (
            format!("/v1/clusters/{cluster}/nodegroups"),
            json!({ "name": "g", "node_labels": {
            "a": "b" }, "node_taints": [{ "key": "a", "value": "", "effect": "NoSchedule" }] }),
        ),
        (
            format!("/v1/clusters/{cluster}/actions/resize"),
            json!({ "node_count": 2,
            "nodes_to_remove": ["0"], "nodegroup": "default-worker" }),
        ),
        ("/v1/federations".to_owned(), json!({ "hostcluster_id": cluster })),
    ] {
        let sample = Sample { method: "POST".to_owned(), path, body };
        samples.extend(vec![sample; 12]);
    }
    while let Some((case, mut dice)) = run.next() {
        let sample = dice.pick(&samples).clone();
        let mut body = sample.body.clone();
        // Names of clusters need not be unique, those of groups must be.
        if !dice.one_in(8) {
            mutate::json(&mut dice, &site.corpus, &mut body);
        }
        tame(&mut body);
        let sent = site.json(&mut dice, "POST", &sample.path, &body);
        let answer = site.wire.ask(&sent).await;
        run.check(&sent, &answer);
        if case % 60 == 59 {
            site.tidy().await;
        }
    }
    run.end();
}

/// JSON Patch on everything that takes one.
#[test]
fn patches() {
    target("patches", &[200, 202, 400], fuzz_patches);
}

async fn fuzz_patches(mut run: Run) {
    let mut site = Site::new().await;
    let samples = site.corpus.of(&["PATCH"], |s| s.body.is_array());
    let cluster = format!("/v1/clusters/{}", site.cluster);
    let paths = [
        cluster.clone(),
        format!("{cluster}?rollback=true"),
        format!("{cluster}/nodegroups/default-worker"),
        format!("/v1/clustertemplates/{}", site.spare),
        "/v1/clustertemplates/k8s".to_owned(),
        format!("/v1/quotas/{}/Cluster", site.project),
    ];
    while let Some((_, mut dice)) = run.next() {
        let mut body = match dice.below(3) {
            0 => dice.pick(&samples).body.clone(),
            _ => (0..dice.below(4)).map(|_| step(&mut dice, &site.corpus)).collect(),
        };
        if dice.one_in(3) {
            mutate::json(&mut dice, &site.corpus, &mut body);
        }
        tame(&mut body);
        let path = dice.pick(&paths).clone();
        let sent = site.json(&mut dice, "PATCH", &path, &body);
        let answer = site.wire.ask(&sent).await;
        run.check(&sent, &answer);
    }
    run.end();
}

fn step(dice: &mut Dice, corpus: &Corpus) -> Value {
    const OPS: [&str; 6] = ["add", "replace", "remove", "test", "move", ""];
    const ATTRIBUTES: [&str; 12] = [
        "labels",
        "health_status",
        "health_status_reason",
        "node_count",
        "node_labels",
        "node_taints",
        "max_node_count",
        "min_node_count",
        "name",
        "tags",
        "hidden",
        "dns_nameserver",
    ];
    let known = if dice.one_in(10) { 6 } else { 3 };
    let op = *dice.pick(&OPS[..known]);
    let attribute = match dice.below(4) {
        0 => dice.pick(&corpus.keys).clone(),
        _ => (*dice.pick(&ATTRIBUTES)).to_owned(),
    };
    let member = *dice.pick(&["", "", "/a", "/a~1b.c", "/~", "/é", "/a/b", "/"]);
    let value = match dice.below(4) {
        0 => json!({ "a": "b" }),
        1 => json!("{'a': 'b', \"c\": 1}"),
        2 => json!([{ "key": "a", "value": "b", "effect": "NoExecute" }]),
        _ => mutate::value(dice, corpus),
    };
    json!({ "op": op, "path": format!("/{attribute}{member}"), "value": value })
}

/// Versions, other headers, paths and queries.
#[test]
fn versions_and_paths() {
    target("versions_and_paths", &[200, 400, 404, 405, 406], fuzz_versions_and_paths);
}

async fn fuzz_versions_and_paths(mut run: Run) {
    let mut site = Site::new().await;
    let mut samples = site.corpus.of(&["GET"], |s| s.path.len() < 300);
    let (root, version) = (samples[0].clone(), samples[0].clone());
    samples.push(Sample { path: "/".to_owned(), ..root });
    samples.push(Sample { path: "/v1".to_owned(), ..version });
    const VERSIONS: [&str; 9] = [
        "container-infra 1.9",
        "container-infra latest",
        "container-infrastructure-management 1.14",
        "compute 2.1, container-infra 1.5",
        "container-infra 1.15",
        "container-infra 0.0",
        "container-infra",
        "1.4",
        "latest",
    ];
    const ARGUMENTS: [&str; 12] = [
        "limit=1",
        "limit=0",
        "marker=x",
        "sort_key=name",
        "sort_dir=up",
        "role=worker",
        "type=cluster",
        "project_id=%00",
        "all_tenants=yes",
        "ca_cert_type=etcd",
        "%ff=%ff",
        "&&==&",
    ];
    while let Some((_, mut dice)) = run.next() {
        let mut asked = dice.pick(&samples).path.clone();
        for _ in 0..dice.below(3) {
            asked += if asked.contains('?') { "&" } else { "?" };
            asked += *dice.pick(&ARGUMENTS);
        }
        let asked = path(&mut dice, &asked);
        let method = *dice.pick(&["GET", "GET", "GET", "GET", "HEAD", "OPTIONS", "PUT", "DANCE"]);
        let mut version = dice.pick(&VERSIONS).as_bytes().to_vec();
        if dice.one_in(2) {
            mutate::bytes(&mut dice, &mut version);
        }
        let mut sent = site.bare(method, &asked).header("openstack-api-version", version);
        for (name, value) in [
            ("accept", "application/json"),
            ("host", "magnum.example:9511"),
            ("origin", "https://horizon.example"),
            ("x-forwarded-host", "cloud.example"),
            ("x-openstack-request-id", "req-00000000-0000-4000-8000-000000000000"),
            ("content-type", "application/json"),
        ] {
            if dice.one_in(4) {
                let mut value = value.as_bytes().to_vec();
                mutate::bytes(&mut dice, &mut value);
                sent = sent.header(name, value);
            }
        }
        let answer = site.wire.ask(&sent).await;
        let answer = run.check(&sent, &answer);
        let names_a_request = |a: &Answer| a.head.contains("x-openstack-request-id");
        if answer.is_some_and(|a| !a.is_not_ours() && !names_a_request(&a)) {
            run.fail(&asked, "an answer without a request id");
        }
    }
    run.end();
}
