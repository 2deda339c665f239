//! Regression: a list that is sorted by what goes with a record, such as its name, ended with 404
//! when the last record of a page was deleted before the next page was asked for. A tool that
//! deletes what it lists, page by page, stopped half-way; now the place of the marker is remembered.

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::pages::names;
use super::place::{Place, admin, alt, demo, requester};
use super::quotas::quota;
use crate::api::column::Columns;
use crate::model::cluster::Cluster;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::nodegroup::{self, NodeGroup};
use crate::model::quota::Quota;
use crate::model::requester::Requester;
use crate::model::status::Status;
use crate::model::{ClusterId, NodeGroupId};
use crate::store::Change;

fn uuid(item: &Value) -> Uuid {
    Uuid::parse_str(item["uuid"].as_str().unwrap()).unwrap()
}

fn boss() -> Requester {
    requester("boss", "p1", &["admin", "member", "reader"])
}

/// The columns of `R` in both directions.
fn orders<R: Columns>() -> Vec<String> {
    let both = R::COLUMNS.iter().flat_map(|(key, _)| [(key, "asc"), (key, "desc")]);
    both.map(|(key, direction)| format!("sort_key={key}&sort_dir={direction}")).collect()
}

impl Place {
    async fn whole(&self, who: Requester, path: &str, kind: &str) -> Vec<Value> {
        let page = self.get(who, path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {}", page.text);
        page.body[kind].as_array().unwrap().clone()
    }

    /// Five clusters and a foreign one, of unordered ids that tell no time.
    async fn clusters(&self) {
        self.put(&self.template(1, "p1", "base")).await;
        for (number, name) in [(50, "b"), (20, "e"), (90, "a"), (30, "d"), (70, "c")] {
            let mut cluster = self.cluster(number, "p1", name).await;
            cluster.labels.insert("own", name.to_owned());
            // Two of a kind, which stay in order of making.
            cluster.docker_volume_size = (number > 40).then_some(number as u32 / 50);
            self.put(&cluster).await;
            self.cluster(number + 5, "p2", name).await;
        }
    }
}

#[tokio::test]
async fn clusters_in_any_order_go_on_behind_one_that_was_deleted() {
    for order in orders::<Cluster>() {
        let list = if order.ends_with("desc") { "clusters/detail" } else { "clusters" };
        let who = if order.contains("=name&") { boss } else { demo };
        let place = Place::new();
        place.clusters().await;
        let path = format!("/v1/{list}?{order}");
        let whole = place.whole(who(), &path, "clusters").await;
        assert_eq!(whole.len(), if who().user_id == "boss" { 10 } else { 5 });
        let delete = async |item: &Value| {
            let change = Change::new().delete_cluster(ClusterId::new(uuid(item)));
            place.store.commit(change).await.unwrap();
        };
        let paged = format!("{path}&limit=1");
        let seen = place.read_while_deleting(who, &paged, "clusters", delete).await;
        assert_eq!(names(&seen), names(&whole), "{path}");
    }
}

#[tokio::test]
async fn templates_in_any_order_go_on_behind_one_that_was_deleted() {
    for order in orders::<ClusterTemplate>() {
        let place = Place::new();
        for (number, name, project) in
            [(50, "b", "p1"), (20, "e", "p2"), (90, "a", "p2"), (30, "d", "p1"), (70, "c", "p1")]
        {
            let mut template = place.template(number, project, name);
            template.public = project == "p2";
            template.image_id = format!("image-{}", number % 4);
            place.put(&template).await;
            place.put(&place.template(number + 5, "p2", "private")).await;
        }
        let path = format!("/v1/clustertemplates?{order}");
        let whole = place.whole(demo(), &path, "clustertemplates").await;
        assert_eq!(whole.len(), 5);
        let delete = async |item: &Value| {
            let owner = if item["project_id"] == "p1" { demo() } else { alt() };
            let path = format!("/v1/clustertemplates/{}", uuid(item));
            assert_eq!(place.delete(owner, &path).await.status, StatusCode::NO_CONTENT);
        };
        let paged = format!("{path}&limit=1");
        let seen = place.read_while_deleting(demo, &paged, "clustertemplates", delete).await;
        assert_eq!(names(&seen), names(&whole), "{path}");
    }
}

#[tokio::test]
async fn node_groups_and_quotas_in_any_order_go_on_too() {
    for order in orders::<NodeGroup>() {
        let place = Place::new();
        place.put(&place.template(1, "p1", "base")).await;
        let cluster = place.cluster(10, "p1", "k1").await;
        for (number, name) in [(50, "b"), (20, "e"), (90, "a")] {
            let group = NodeGroup {
                name: name.to_owned(),
                is_default: false,
                ..NodeGroup::default_of(&cluster, "image", nodegroup::WORKER, number)
            };
            let id = NodeGroupId::new(Uuid::from_u128(number.into()));
            place.put(&group.identified(id, place.store.next_sequence())).await;
        }
        let delete = async |item: &Value| {
            let id = NodeGroupId::new(uuid(item));
            let group = place.store.read(|v| v.nodegroup(cluster.id, id)).unwrap().unwrap();
            place.store.commit(Change::new().delete(&group.record)).await.unwrap();
        };
        let path = format!("/v1/clusters/k1/nodegroups?role=worker&{order}");
        let whole = place.whole(demo(), &path, "nodegroups").await;
        assert_eq!(whole.len(), 4);
        let paged = format!("{path}&limit=1");
        let seen = place.read_while_deleting(demo, &paged, "nodegroups", delete).await;
        assert_eq!(names(&seen), names(&whole), "{path}");
    }
    for order in orders::<Quota>() {
        let place = Place::new();
        for (project, limit) in [("p3", 7), ("p1", 9), ("p4", 7), ("p2", 1)] {
            quota(&place, project, limit).await;
        }
        let delete = async |item: &Value| {
            let path = format!("/v1/quotas/{}/Cluster", item["project_id"].as_str().unwrap());
            assert_eq!(place.delete(admin(), &path).await.status, StatusCode::NO_CONTENT);
        };
        let path = format!("/v1/quotas?all_tenants=1&{order}");
        let whole = place.whole(admin(), &path, "quotas").await;
        assert_eq!(whole.len(), 4);
        let paged = format!("{path}&limit=1");
        let seen = place.read_while_deleting(admin, &paged, "quotas", delete).await;
        assert_eq!(seen, whole, "{path}");
    }
}

/// A renamed template takes the reader along neither forwards nor backwards.
#[tokio::test]
async fn a_record_that_moves_between_two_pages_leaves_its_reader_where_it_was() {
    for (renamed, expected) in [("z", &["a", "b", "c", "d", "z"][..]), ("0", &["a", "b", "c", "d"])]
    {
        let place = Place::new();
        for (number, name) in [(5, "b"), (2, "d"), (9, "a"), (3, "c")] {
            place.put(&place.template(number, "p1", name)).await;
        }
        let rename = async |item: &Value| {
            if item["name"] != "b" {
                return;
            }
            let path = format!("/v1/clustertemplates/{}", uuid(item));
            let patch = json!([{ "op": "replace", "path": "/name", "value": renamed }]);
            let done = place.send(demo(), Method::PATCH, &path, &patch).await;
            assert_eq!(done.status, StatusCode::OK, "{}", done.text);
        };
        let path = "/v1/clustertemplates?sort_key=name&limit=1";
        let seen = place.read_while_deleting(demo, path, "clustertemplates", rename).await;
        assert_eq!(names(&seen), expected, "{renamed}");
    }
    // By status, while clusters are being built.
    let place = Place::new();
    place.clusters().await;
    let settle = async |item: &Value| {
        let id = ClusterId::new(uuid(item));
        let mut cluster = place.store.read(|v| v.cluster(id)).unwrap().unwrap().record;
        cluster.status = Status::UpdateInProgress;
        place.put(&cluster).await;
    };
    let path = "/v1/clusters?sort_key=status&limit=1";
    let seen = place.read_while_deleting(demo, path, "clusters", settle).await;
    // Each is seen once where it was, and once where it went.
    assert_eq!(names(&seen), ["b", "e", "a", "d", "c", "b", "e", "a", "d", "c"]);
}

/// A bookmark tells nothing to those who did not read that page: others' records are as gone as
/// those that were deleted, before and after.
#[tokio::test]
async fn bookmarks_are_their_readers_own() {
    let place = Place::new();
    place.clusters().await;
    let first = "/v1/clusters?sort_key=name&limit=2";
    let page = place.get(demo(), first).await;
    let marker = uuid(&page.body["clusters"][1]);
    assert!(page.body["next"].as_str().unwrap().ends_with(&format!("marker={marker}")));
    let behind = async |who: Requester, key: &str| {
        let path = format!("/v1/clusters?sort_key={key}&limit=2&marker={marker}");
        let page = place.get(who, &path).await;
        (page.status.as_u16(), page.detail().to_owned(), page.body["clusters"].clone())
    };
    let (status, sentence, _) = behind(alt(), "name").await;
    assert_eq!(status, 404, "{sentence}");
    let change = Change::new().delete_cluster(ClusterId::new(marker));
    place.store.commit(change).await.unwrap();
    assert_eq!(behind(alt(), "name").await.1, sentence);
    assert_eq!(behind(boss(), "name").await.1, sentence, "read with another scope");
    assert_eq!(behind(demo(), "status").await.1, sentence, "read in another order");
    let (status, _, rest) = behind(demo(), "name").await;
    assert_eq!(status, 200);
    assert_eq!(names(rest.as_array().unwrap()), ["c", "d"]);
    // The id alone is enough, as clients name it that build their own addresses.
    let again = format!("/v1/clusters/detail?sort_key=name&sort_dir=desc&marker={marker}");
    let back = place.whole(demo(), &again, "clusters").await;
    assert_eq!(names(&back), ["a"]);
}
