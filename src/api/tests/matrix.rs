//! Who may do what: every rule of the policy, asked through the listener by every kind of caller,
//! with the built-in rules, with the rule in question taken away, and with it given to all.

use std::collections::BTreeSet;

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use super::place::{Answer, LATEST, Place, alt, demo, mate, read, reader, request, requester};
use crate::api::error::ApiError;
use crate::api::policy::{self, Credentials, Policy, Target};
use crate::model::requester::Requester;

/// Who asks. Templates and clusters belong to `Member`, in project p1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Caller {
    Admin,
    Manager,
    Member,
    /// Another member of the same project.
    Mate,
    Reader,
    /// The same with what Heat and Nova show: a node's enrolment token and its server's id.
    Finder,
    /// A member of another project.
    Stranger,
    /// The cluster's own user.
    Trustee,
    Service,
    /// On a node: what the node's user data hold, and no token of Keystone's.
    Pod,
    Nobody,
}

const CALLERS: [Caller; 11] = [
    Caller::Admin,
    Caller::Manager,
    Caller::Member,
    Caller::Mate,
    Caller::Reader,
    Caller::Finder,
    Caller::Stranger,
    Caller::Trustee,
    Caller::Service,
    Caller::Pod,
    Caller::Nobody,
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Allowed,
    Refused,
    /// As if it were not there.
    Hidden,
    Unknown,
}

/// Whom a rule lets through, as the table of upstream's documentation has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Members,
    Readers,
    Admins,
    OwnerAsReader,
    OwnerAsMember,
    /// Members, but not administrators as such.
    MembersOnly,
}

/// What the request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// The caller's own project.
    Own,
    Cluster,
    Template,
}

struct Row {
    rule: &'static str,
    class: Class,
    about: About,
    method: Method,
    /// `CLUSTER`, `TEMPLATE` and `PROJECT` stand for those of the caller's try.
    path: &'static str,
    body: Value,
}

fn row(
    rule: &'static str,
    class: Class,
    about: About,
    method: Method,
    path: &'static str,
    body: Value,
) -> Row {
    Row { rule, class, about, method, path, body }
}

fn rows() -> Vec<Row> {
    use About::{Cluster, Own, Template};
    use Class::{Admins, Members, MembersOnly, OwnerAsMember, OwnerAsReader, Readers};
    const GET: Method = Method::GET;
    const POST: Method = Method::POST;
    const PATCH: Method = Method::PATCH;
    const DELETE: Method = Method::DELETE;
    let none = || Value::Null;
    let count = || json!([{ "op": "replace", "path": "/node_count", "value": 5 }]);
    let health = || json!([{ "op": "replace", "path": "/health_status", "value": "HEALTHY" }]);
    let most = || json!([{ "op": "replace", "path": "/max_node_count", "value": 9 }]);
    let rename = || json!([{ "op": "replace", "path": "/name", "value": "n" }]);
    let template = || json!({ "name": "t", "coe": "kubernetes", "image_id": "i" });
    let public = || json!({ "coe": "kubernetes", "image_id": "i", "public": true });
    let publish = || json!([{ "op": "replace", "path": "/public", "value": true }]);
    let group = || json!({ "name": "g" });
    let one = "/v1/clusters/CLUSTER";
    let worker = "/v1/clusters/CLUSTER/nodegroups/default-worker";
    let groups = "/v1/clusters/CLUSTER/nodegroups";
    let resize = "/v1/clusters/CLUSTER/actions/resize";
    let upgrade = "/v1/clusters/CLUSTER/actions/upgrade";
    let onto = || json!({ "cluster_template": "00000000-0000-0000-0000-000000000001" });
    let sign = || json!({ "cluster_uuid": "CLUSTER", "csr": "x" });
    let plain = "/v1/clustertemplates/TEMPLATE";
    let quota = || json!({ "project_id": "p1", "hard_limit": 3 });
    vec![
        row(
            "cluster:create",
            Members,
            Own,
            POST,
            "/v1/clusters",
            json!({ "cluster_template_id": "x" }),
        ),
        row("cluster:delete", Members, Cluster, DELETE, one, none()),
        row("cluster:delete_all_projects", Admins, Cluster, DELETE, one, none()),
        row("cluster:detail", Readers, Own, GET, "/v1/clusters/detail", none()),
        row("cluster:detail_all_projects", Admins, Own, GET, "/v1/clusters/detail", none()),
        row("cluster:get", Readers, Cluster, GET, one, none()),
        row("cluster:get_one_all_projects", Admins, Cluster, GET, one, none()),
        row("cluster:get_all", Readers, Own, GET, "/v1/clusters", none()),
        row("cluster:get_all_all_projects", Admins, Own, GET, "/v1/clusters", none()),
        row("cluster:update", Members, Cluster, PATCH, one, count()),
        row("cluster:update_health_status", Members, Cluster, PATCH, one, health()),
        row("cluster:update_all_projects", Admins, Cluster, PATCH, one, health()),
        row("cluster:resize", Members, Cluster, POST, resize, json!({ "node_count": 3 })),
        row("cluster:upgrade", Members, Cluster, POST, upgrade, onto()),
        row("cluster:upgrade_all_projects", Admins, Cluster, POST, upgrade, onto()),
        row("clustertemplate:create", Members, Own, POST, "/v1/clustertemplates", template()),
        row("clustertemplate:delete", Members, Template, DELETE, plain, none()),
        row("clustertemplate:delete_all_projects", Admins, Template, DELETE, plain, none()),
        row("clustertemplate:detail", Readers, Own, GET, "/v1/clustertemplates/detail", none()),
        row(
            "clustertemplate:detail_all_projects",
            Admins,
            Own,
            GET,
            "/v1/clustertemplates/detail",
            none(),
        ),
        row("clustertemplate:get", Readers, Template, GET, plain, none()),
        row("clustertemplate:get_one_all_projects", Admins, Template, GET, plain, none()),
        row("clustertemplate:get_all", Readers, Own, GET, "/v1/clustertemplates", none()),
        row(
            "clustertemplate:get_all_all_projects",
            Admins,
            Own,
            GET,
            "/v1/clustertemplates",
            none(),
        ),
        row("clustertemplate:update", Members, Template, PATCH, plain, rename()),
        row("clustertemplate:update_all_projects", Admins, Template, PATCH, plain, rename()),
        row("clustertemplate:publish", Admins, Own, POST, "/v1/clustertemplates", public()),
        row("certificate:get", OwnerAsReader, Cluster, GET, "/v1/certificates/CLUSTER", none()),
        row("certificate:create", OwnerAsMember, Cluster, POST, "/v1/certificates", sign()),
        row("certificate:rotate_ca", Members, Cluster, PATCH, "/v1/certificates/CLUSTER", none()),
        row("credential:rotate", MembersOnly, Cluster, PATCH, "/v1/credentials/CLUSTER", none()),
        row("nodegroup:get", Readers, Cluster, GET, worker, none()),
        row("nodegroup:get_all", Readers, Cluster, GET, groups, none()),
        row("nodegroup:get_one_all_projects", Admins, Cluster, GET, worker, none()),
        row("nodegroup:get_all_all_projects", Admins, Cluster, GET, groups, none()),
        row("nodegroup:create", Members, Cluster, POST, groups, group()),
        row("nodegroup:update", Members, Cluster, PATCH, worker, most()),
        row("nodegroup:delete", Members, Cluster, DELETE, worker, none()),
        row("quota:get", Readers, Own, GET, "/v1/quotas/PROJECT/Cluster", none()),
        row("quota:get_all", Admins, Own, GET, "/v1/quotas", none()),
        row("quota:create", Admins, Own, POST, "/v1/quotas", quota()),
        row(
            "quota:update",
            Admins,
            Own,
            PATCH,
            "/v1/quotas/p1/Cluster",
            json!({ "hard_limit": 3 }),
        ),
        row("quota:delete", Admins, Own, DELETE, "/v1/quotas/p1/Cluster", none()),
        row("stats:get_all", Readers, Own, GET, "/v1/stats", none()),
        row("magnum-service:get_all", Admins, Own, GET, "/v1/mservices", none()),
        row("clustertemplate:publish", Admins, Template, PATCH, plain, publish()),
        row("federation:create", Members, Own, POST, "/v1/federations", json!({})),
        row("federation:update", Members, Own, PATCH, "/v1/federations/f", json!([])),
        row("federation:delete", Members, Own, DELETE, "/v1/federations/f", none()),
        row("federation:get", Readers, Own, GET, "/v1/federations/f", none()),
        row("federation:detail", Readers, Own, GET, "/v1/federations/detail", none()),
        row("federation:get_all", Readers, Own, GET, "/v1/federations", none()),
    ]
}

/// Rules whose requests another rule guards too, so that either alone lets nobody in.
const OF_TWO: [&str; 3] =
    ["cluster:update", "cluster:update_health_status", "clustertemplate:publish"];
/// What a trustee may do to its own cluster, whatever the rules say.
const OF_TRUSTEES: [&str; 4] =
    ["certificate:get", "certificate:create", "cluster:get", "cluster:update_health_status"];

impl Row {
    fn is_everywhere(&self) -> bool {
        self.rule.ends_with("_all_projects")
    }

    /// What the built-in rules say; nothing where another row says it.
    fn expected(&self, caller: Caller) -> Option<Outcome> {
        use Caller::{
            Admin, Finder, Manager, Mate, Member, Nobody, Pod, Reader, Service, Stranger, Trustee,
        };
        // What nodes are let in by opens nothing here.
        if matches!(caller, Nobody | Pod) {
            return Some(Outcome::Unknown);
        }
        let caller = if caller == Finder { Reader } else { caller };
        if self.is_everywhere() {
            return (caller == Admin).then_some(Outcome::Allowed);
        }
        let within: &[Caller] = match self.class {
            Class::Members => &[Admin, Manager, Member, Mate],
            Class::Readers => &[Admin, Manager, Member, Mate, Reader],
            Class::Admins => &[Admin],
            Class::OwnerAsReader | Class::OwnerAsMember => &[Admin, Member],
            Class::MembersOnly => &[Manager, Member, Mate],
        };
        let said = |allowed| if allowed { Outcome::Allowed } else { Outcome::Refused };
        Some(match (caller, self.about) {
            (Stranger | Service, About::Cluster | About::Template) => Outcome::Hidden,
            // In its own project a stranger is a member like any other.
            (Stranger, About::Own) => said(within.contains(&Mate)),
            (Service, About::Own) => Outcome::Refused,
            (Trustee, About::Template) => Outcome::Hidden,
            (Trustee, About::Cluster) => said(OF_TRUSTEES.contains(&self.rule)),
            (Trustee, About::Own) => Outcome::Refused,
            _ => said(within.contains(&caller)),
        })
    }

    /// What is left when the rule allows nobody.
    fn without(&self, caller: Caller, before: Outcome) -> Outcome {
        let keeps = caller == Caller::Trustee && OF_TRUSTEES.contains(&self.rule);
        // Only administrators are asked for more than their own project.
        let is_asked = !self.is_everywhere() || caller == Caller::Admin;
        match before == Outcome::Allowed && is_asked && !keeps {
            true => Outcome::Refused,
            false => before,
        }
    }

    /// What comes of it when the rule allows everybody.
    fn with(&self, caller: Caller, before: Outcome) -> Outcome {
        let is_asked = match caller {
            Caller::Nobody | Caller::Pod => false,
            Caller::Trustee if Policy::is_for_projects(self.rule) => false,
            _ => before == Outcome::Refused && !self.is_everywhere(),
        };
        let other = match self.rule {
            // Members, who may do the rest.
            "clustertemplate:publish" => {
                matches!(caller, Caller::Manager | Caller::Member | Caller::Mate)
                    || (caller == Caller::Stranger && self.about == About::Own)
            }
            rule => !OF_TWO.contains(&rule),
        };
        if is_asked && other { Outcome::Allowed } else { before }
    }
}

fn who(caller: Caller, number: u128) -> Option<Requester> {
    let mut trustee = requester(&format!("trustee-{number}"), "", &[]);
    trustee.project_id = None;
    trustee.user_domain_id = "trustees".to_owned();
    Some(match caller {
        Caller::Admin => requester("root", "p3", &["admin"]),
        Caller::Manager => requester("manager", "p1", &["manager", "member", "reader"]),
        Caller::Member => demo(),
        Caller::Mate => mate(),
        Caller::Reader | Caller::Finder => reader(),
        Caller::Stranger => alt(),
        Caller::Trustee => trustee,
        Caller::Service => requester("nova", "p9", &["service"]),
        Caller::Pod | Caller::Nobody => return None,
    })
}

async fn ask(place: &Place, row: &Row, caller: Caller, number: u128) -> Answer {
    let found = match caller {
        Caller::Finder | Caller::Pod => &FOUND[..],
        _ => &[],
    };
    ask_as(place, row, who(caller, number), found, number).await
}

/// What a node presents when it reports, as its user data have it.
const FOUND: [(&str, &str); 3] = [
    ("authorization", "Bearer eyJyIjoibWFzdGVyIn0.c2ln"),
    ("x-magnumd-instance", "11111111-2222-3333-4444-555555555555"),
    ("x-magnumd-vendor-secret", "0123456789abcdef0123456789abcdef"),
];

async fn ask_as(
    place: &Place,
    row: &Row,
    requester: Option<Requester>,
    found: &[(&str, &str)],
    number: u128,
) -> Answer {
    let cluster = place.cluster(number, "p1", &format!("k{number}")).await;
    let template = place.template(number + 500_000, "p1", "spare");
    place.put(&template).await;
    let project = requester.as_ref().and_then(|r| r.project_id.clone());
    let fill = |text: &str| {
        text.replace("CLUSTER", &cluster.id.to_string())
            .replace("TEMPLATE", &template.id.to_string())
            .replace("PROJECT", project.as_deref().unwrap_or("p1"))
    };
    let path = fill(row.path);
    let body = if row.body.is_null() { String::new() } else { fill(&row.body.to_string()) };
    let mut how = vec![LATEST[0], ("content-type", "application/json")];
    how.extend(found);
    match requester {
        Some(requester) => {
            place.ask(requester, row.method.clone(), &path, &how, body.as_bytes()).await
        }
        None => {
            let asked = request(row.method.clone(), &path, &how, body.as_bytes());
            let refused = Some(Err(ApiError::unauthenticated()));
            read(place.api.respond(&asked, refused).await).await
        }
    }
}

fn outcome(answer: &Answer) -> Outcome {
    let detail = answer.detail();
    let is_missing = detail.ends_with("could not be found.")
        && ["Cluster ", "ClusterTemplate ", "Nodegroup "].iter().any(|k| detail.starts_with(k))
        // What a body names is not what the request is about.
        && !detail.starts_with("ClusterTemplate x ");
    match answer.status {
        StatusCode::UNAUTHORIZED => Outcome::Unknown,
        // The cloud may have reasons of its own; those are not the rules'.
        StatusCode::FORBIDDEN
            if detail.contains("Policy doesn't allow") || detail == "Not authorized." =>
        {
            Outcome::Refused
        }
        _ if is_missing => Outcome::Hidden,
        _ => Outcome::Allowed,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_rule_lets_through_whom_it_should_and_nobody_else() {
    let place = Place::new();
    place.put(&place.template(1, "p1", "base")).await;
    let mut wrong = Vec::new();
    let mut number = 10_000;
    for row in rows() {
        for caller in CALLERS {
            number += 1;
            place.api.replace_policy(Policy::builtin());
            let answer = ask(&place, &row, caller, number).await;
            let found = outcome(&answer);
            if let Some(expected) = row.expected(caller)
                && expected != found
            {
                wrong.push(format!("{} by {caller:?}: {found:?} {}", row.rule, answer.text));
            }
            number += 1;
            let rules = [(row.rule.to_owned(), json!("!"))];
            place.api.replace_policy(Policy::with_overrides(rules));
            let answer = ask(&place, &row, caller, number).await;
            let expected = row.without(caller, found);
            if outcome(&answer) != expected {
                wrong.push(format!("{} taken from {caller:?}: {}", row.rule, answer.text));
            }
            if found == Outcome::Allowed
                && expected == Outcome::Refused
                && !answer.detail().contains(row.rule)
            {
                wrong.push(format!("{} is not named: {}", row.rule, answer.text));
            }
            number += 1;
            let rules = [(row.rule.to_owned(), json!("@"))];
            place.api.replace_policy(Policy::with_overrides(rules));
            let answer = ask(&place, &row, caller, number).await;
            if outcome(&answer) != row.with(caller, found) {
                wrong.push(format!("{} given to {caller:?}: {}", row.rule, answer.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_matrix_has_every_rule() {
    let asked: BTreeSet<&str> = rows().iter().map(|row| row.rule).collect();
    let known: BTreeSet<&str> = policy::names().filter(|name| name.contains(':')).collect();
    assert_eq!(asked, known);
}

/// Rules that requests do not name, asked about a cluster of `Member` in project p1.
#[tokio::test]
async fn base_rules_let_through_whom_their_names_say() {
    use Caller::{Admin, Finder, Manager, Mate, Member, Reader, Service, Stranger, Trustee};
    let table: &[(&str, &[Caller])] = &[
        ("context_is_admin", &[Admin]),
        ("admin_or_owner", &[Admin, Manager, Member, Mate, Reader]),
        ("admin_or_user", &[Admin, Member]),
        ("is_user", &[Member]),
        ("cluster_user", &[Trustee]),
        ("deny_cluster_user", &[Admin, Manager, Member, Mate, Reader, Stranger, Service]),
        ("project_member", &[Manager, Member, Mate]),
        ("project_reader", &[Manager, Member, Mate, Reader]),
        ("admin_or_project_member", &[Admin, Manager, Member, Mate]),
        ("admin_or_project_reader", &[Admin, Manager, Member, Mate, Reader]),
        ("admin_or_project_member_user", &[Admin, Member]),
        ("admin_or_project_reader_user", &[Admin, Member]),
        ("user_or_cluster_user", &[Member, Trustee]),
        ("admin_or_user_or_cluster_user", &[Admin, Member, Trustee]),
        ("admin_or_project_member_cluster_user", &[Admin]),
        ("admin_or_project_member_user_or_cluster_user", &[Admin, Member]),
        ("project_member_deny_cluster_user", &[Manager, Member, Mate]),
        ("project_reader_deny_cluster_user", &[Manager, Member, Mate, Reader]),
        ("admin_or_project_member_deny_cluster_user", &[Admin, Manager, Member, Mate]),
        ("admin_or_project_reader_deny_cluster_user", &[Admin, Manager, Member, Mate, Reader]),
    ];
    let named: BTreeSet<&str> = table.iter().map(|(rule, _)| *rule).collect();
    assert_eq!(named, policy::names().filter(|name| !name.contains(':')).collect());
    let cluster = Place::new().cluster(7, "p1", "k1").await;
    let policy = Policy::builtin();
    for (rule, allowed) in table {
        for caller in CALLERS {
            let Some(requester) = who(caller, 7) else { continue };
            let is_admin = policy.is_admin(&requester);
            let credentials = Credentials { requester: &requester, is_admin };
            let target = Target::cluster(&cluster, Some("trustees"));
            let found = policy.allows(rule, &credentials, &target);
            let caller = if caller == Finder { Reader } else { caller };
            assert_eq!(found, allowed.contains(&caller), "{rule} and {caller:?}");
        }
    }
}

/// Tokens that are scoped to something else meet no rule for projects, whoever holds them.
#[tokio::test(flavor = "multi_thread")]
async fn rules_for_projects_refuse_tokens_of_the_system_and_of_domains() {
    let place = Place::new();
    let mut system = requester("root", "", &["admin", "member", "reader"]);
    system.project_id = None;
    let mut domain = system.clone();
    system.system_scope = true;
    domain.domain_id = Some("default".to_owned());
    for row in rows() {
        let rules = [(row.rule.to_owned(), json!("@"))];
        place.api.replace_policy(Policy::with_overrides(rules));
        for scoped in [&system, &domain] {
            let answer = ask_as(&place, &row, Some(scoped.clone()), &[], 20_000).await;
            let is_refused = outcome(&answer) == Outcome::Refused;
            if Policy::is_for_projects(row.rule) {
                assert!(is_refused, "{}: {}", row.rule, answer.text);
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{}", row.rule);
            }
        }
    }
}
