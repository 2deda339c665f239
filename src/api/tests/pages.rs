//! Lists that are read page by page while others delete what is in them.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::place::{Place, admin, alt, demo, requester};
use super::quotas::quota;
use crate::model::NodeGroupId;
use crate::model::nodegroup::{self, NodeGroup};
use crate::model::requester::Requester;
use crate::store::{Change, Scope};

/// An id that was drawn in this millisecond.
fn drawn(millis: u64) -> u128 {
    uuid::Builder::from_unix_timestamp_millis(millis, &[7; 10]).into_uuid().as_u128()
}

fn shown(page: &Value, kind: &str, key: &str) -> Vec<String> {
    let items = page[kind].as_array().unwrap_or_else(|| panic!("{page}")).iter();
    items.map(|item| item[key].as_str().unwrap().to_owned()).collect()
}

impl Place {
    /// Reads a whole list in pages of one; what a page has shown is deleted before the next.
    pub(super) async fn read_while_deleting(
        &self,
        who: fn() -> Requester,
        path: &str,
        kind: &str,
        delete: impl AsyncFn(&Value),
    ) -> Vec<Value> {
        let mut seen = Vec::new();
        let mut next = path.to_owned();
        loop {
            let page = self.get(who(), &next).await;
            assert_eq!(page.status, StatusCode::OK, "{next}: {}", page.text);
            let items = page.body[kind].as_array().unwrap().clone();
            for item in &items {
                delete(item).await;
            }
            seen.extend(items);
            let Some(more) = page.body["next"].as_str() else { return seen };
            next = more.strip_prefix("http://127.0.0.1:9511").unwrap_or(more).to_owned();
            next = next.strip_prefix("http://magnum.example:9511").unwrap_or(&next).to_owned();
        }
    }
}

const ORDERS: [(&str, &str); 6] = [
    ("id", "asc"),
    ("id", "desc"),
    ("created_at", "asc"),
    ("created_at", "desc"),
    ("uuid", "asc"),
    ("uuid", "desc"),
];

fn in_order(direction: &str) -> Vec<&'static str> {
    let mut names = vec!["a", "b", "c", "d"];
    if direction == "desc" {
        names.reverse();
    }
    names
}

pub(super) fn names(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn clusters_that_are_deleted_between_two_pages_take_none_along() {
    for (key, direction) in ORDERS {
        for list in ["clusters", "clusters/detail"] {
            let place = Place::new();
            place.put(&place.template(1, "p1", "base")).await;
            for (millis, name) in [(10, "a"), (20, "b"), (30, "c"), (40, "d")] {
                place.cluster(drawn(millis), "p1", name).await;
                place.cluster(drawn(millis + 5), "p2", "foreign").await;
            }
            let path = format!("/v1/{list}?limit=1&sort_key={key}&sort_dir={direction}");
            let delete = async |item: &Value| {
                let id = Uuid::parse_str(item["uuid"].as_str().unwrap()).unwrap();
                let change = Change::new().delete_cluster(crate::model::ClusterId::new(id));
                place.store.commit(change).await.unwrap();
            };
            let seen = place.read_while_deleting(demo, &path, "clusters", delete).await;
            assert_eq!(names(&seen), in_order(direction), "{path}");
            let left = place.store.read(|v| v.count_clusters(Scope::Everyone)).unwrap();
            assert_eq!(left, 4, "those of the other project");
        }
    }
}

#[tokio::test]
async fn templates_of_others_among_them_are_not_lost_either() {
    for (key, direction) in ORDERS {
        let place = Place::new();
        for (millis, name, project) in
            [(10, "a", "p1"), (20, "b", "p2"), (30, "c", "p1"), (40, "d", "p2")]
        {
            let mut template = place.template(drawn(millis), project, name);
            template.public = project == "p2";
            place.put(&template).await;
            place.put(&place.template(drawn(millis + 5), "p2", "private")).await;
        }
        let path = format!("/v1/clustertemplates?limit=1&sort_key={key}&sort_dir={direction}");
        let delete = async |item: &Value| {
            let owner = if item["project_id"] == "p1" { demo() } else { alt() };
            let path = format!("/v1/clustertemplates/{}", item["uuid"].as_str().unwrap());
            assert_eq!(place.delete(owner, &path).await.status, StatusCode::NO_CONTENT);
        };
        let seen = place.read_while_deleting(demo, &path, "clustertemplates", delete).await;
        assert_eq!(names(&seen), in_order(direction), "{path}");
    }
}

#[tokio::test]
async fn a_template_that_is_private_again_is_as_good_as_gone() {
    let place = Place::new();
    for (millis, name) in [(10, "a"), (20, "b"), (30, "c")] {
        let mut template = place.template(drawn(millis), "p2", name);
        template.public = true;
        place.put(&template).await;
    }
    let hide = async |item: &Value| {
        let path = format!("/v1/clustertemplates/{}", item["uuid"].as_str().unwrap());
        let patch = json!([{"op": "replace", "path": "/public", "value": false}]);
        let owner = requester("alt", "p2", &["admin", "member"]);
        let done = place.send(owner, Method::PATCH, &path, &patch).await;
        assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    };
    let path = "/v1/clustertemplates?limit=1";
    let seen = place.read_while_deleting(demo, path, "clustertemplates", hide).await;
    assert_eq!(names(&seen), ["a", "b", "c"]);
}

#[tokio::test]
async fn node_groups_and_quotas_go_on_too() {
    let place = Place::new();
    place.put(&place.template(1, "p1", "base")).await;
    let cluster = place.cluster(drawn(10), "p1", "k1").await;
    let delete = async |item: &Value| {
        let id = Uuid::parse_str(item["uuid"].as_str().unwrap()).unwrap();
        let group = place
            .store
            .read(|v| v.nodegroup(cluster.id, crate::model::NodeGroupId::new(id)))
            .unwrap()
            .unwrap();
        place.store.commit(Change::new().delete(&group.record)).await.unwrap();
    };
    // Both groups of a `Place` were drawn in the same millisecond: by uuid their order is plain.
    let path = "/v1/clusters/k1/nodegroups?limit=1&sort_key=uuid";
    let seen = place.read_while_deleting(demo, path, "nodegroups", delete).await;
    assert_eq!(names(&seen), ["default-master", "default-worker"]);

    for project in ["p1", "p2", "p3"] {
        quota(&place, project, 3).await;
    }
    let delete = async |item: &Value| {
        let path = format!("/v1/quotas/{}/Cluster", item["project_id"].as_str().unwrap());
        assert_eq!(place.delete(admin(), &path).await.status, StatusCode::NO_CONTENT);
    };
    for direction in ["asc", "desc"] {
        let path = format!("/v1/quotas?all_tenants=1&limit=1&sort_dir={direction}");
        let seen = place.read_while_deleting(admin, &path, "quotas", async |_| {}).await;
        assert_eq!(seen.len(), 3, "{path}");
    }
    let seen =
        place.read_while_deleting(admin, "/v1/quotas?all_tenants=1&limit=1", "quotas", delete);
    assert_eq!(seen.await.len(), 3);
}

/// As upstream: what never was on a page, and what only the record itself could tell.
#[tokio::test]
async fn a_marker_whose_place_nobody_knows_is_not_found() {
    let place = Place::new();
    place.put(&place.template(1, "p1", "base")).await;
    place.cluster(drawn(10), "p1", "a").await;
    place.cluster(drawn(30), "p1", "b").await;
    let (gone, chosen) = (Uuid::from_u128(drawn(20)), Uuid::from_u128(1 << 100));
    for (list, kind) in [
        ("clusters", "Cluster"),
        ("clusters/detail", "Cluster"),
        ("clustertemplates", "ClusterTemplate"),
        ("clusters/a/nodegroups", "Nodegroup"),
    ] {
        for query in [format!("marker={chosen}"), format!("sort_key=name&marker={gone}")] {
            let answer = place.get(demo(), &format!("/v1/{list}?{query}")).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{list}?{query}");
            let sentence = answer.detail().to_owned();
            assert!(sentence.starts_with(kind), "{sentence}");
        }
    }
    // Another project's is as gone as one that was deleted: the answer is the same.
    let foreign = place.cluster(drawn(25), "p2", "foreign").await;
    for marker in [gone, foreign.id.uuid()] {
        let page = place.get(demo(), &format!("/v1/clusters?marker={marker}")).await;
        assert_eq!(shown(&page.body, "clusters", "name"), ["b"]);
    }
}

/// Reads a list to its end; the names of each page.
async fn pages_of(
    place: &Place,
    who: fn() -> Requester,
    path: &str,
    kind: &str,
) -> Vec<Vec<String>> {
    let (mut pages, mut next) = (Vec::new(), path.to_owned());
    loop {
        let page = place.get(who(), &next).await;
        assert_eq!(page.status, StatusCode::OK, "{next}: {}", page.body["errors"]);
        pages.push(shown(&page.body, kind, "name"));
        let Some(more) = page.body["next"].as_str() else { return pages };
        let path = more.find("/v1/").map(|at| &more[at..]);
        next = path.unwrap_or_else(|| panic!("{more}")).to_owned();
    }
}

/// A page ends early where its records are large; whoever follows `next` misses none, of their own
/// or of what others show, in any order.
#[tokio::test]
async fn pages_of_large_records_end_early_and_lose_none() {
    let place = Place::new();
    let long = "x".repeat(60 << 10);
    let mut own = Vec::new();
    for n in 0..200_u128 {
        let project = if n % 2 == 0 { "p1" } else { "p2" };
        let mut template = place.template(drawn(10 + n as u64), project, &format!("t{n:03}"));
        template.labels.insert("long", long.clone());
        template.public = project == "p2" && n % 4 == 1;
        template.hidden = n % 8 == 5;
        if project == "p1" || (template.public && !template.hidden) {
            own.push(template.name.clone());
        }
        place.put(&template).await;
    }
    for query in
        ["", "?sort_dir=desc", "?sort_key=name", "?sort_key=name&sort_dir=desc", "?limit=40"]
    {
        let path = format!("/v1/clustertemplates{query}");
        let pages = pages_of(&place, demo, &path, "clustertemplates").await;
        let most = if query == "?limit=40" { 40 } else { 72 };
        assert!(pages.len() > 1 && pages.iter().all(|p| p.len() <= most), "{query}: {pages:?}");
        let mut all: Vec<String> = pages.concat();
        if query.contains("desc") {
            all.reverse();
        }
        assert_eq!(all, own, "{query}");
    }
    let everything = pages_of(&place, admin, "/v1/clustertemplates", "clustertemplates").await;
    assert_eq!(everything.concat().len(), 200);

    place.put(&place.template(1, "p1", "base")).await;
    for n in 0..100 {
        let mut cluster = place.cluster(drawn(10 + n), "p1", &format!("k{n:03}")).await;
        cluster.labels.insert("long", long.clone());
        place.put(&cluster).await;
    }
    for path in ["/v1/clusters", "/v1/clusters/detail?sort_key=name"] {
        let pages = pages_of(&place, demo, path, "clusters").await;
        assert!(pages.len() > 1, "{path}");
        let names: Vec<String> = (0..100).map(|n| format!("k{n:03}")).collect();
        assert_eq!(pages.concat(), names, "{path}");
    }
    // Groups show no labels in a list, but a page of them is held in memory.
    let cluster = place.cluster(1, "p1", "wide").await;
    for n in 0..200_u64 {
        let mut group = NodeGroup::default_of(&cluster, "image", nodegroup::WORKER, 1);
        group.labels.insert("long", long.clone());
        (group.name, group.is_default) = (format!("g{n:03}"), false);
        group.role = if n.is_multiple_of(2) { "even" } else { "odd" }.to_owned();
        let id = NodeGroupId::new(Uuid::from_u128(drawn(1000 + n)));
        place.put(&group.identified(id, place.store.next_sequence())).await;
    }
    for (query, role) in
        [("?sort_key=name", ""), ("?role=even", "even"), ("?role=odd&limit=7", "odd")]
    {
        let path = format!("/v1/clusters/{}/nodegroups{query}", cluster.id);
        let pages = pages_of(&place, demo, &path, "nodegroups").await;
        let most = if query.contains("limit") { 7 } else { 72 };
        assert!(pages.len() > 1 && pages.iter().all(|p| p.len() <= most), "{query}: {pages:?}");
        let is_meant = |n: &u64| match role {
            "even" => n.is_multiple_of(2),
            "odd" => !n.is_multiple_of(2),
            _ => true,
        };
        let names: Vec<String> = (0..200).filter(is_meant).map(|n| format!("g{n:03}")).collect();
        let shown: Vec<String> =
            pages.concat().into_iter().filter(|name| name.starts_with('g')).collect();
        assert_eq!(shown, names, "{query}");
    }
}
