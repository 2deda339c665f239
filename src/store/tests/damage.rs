//! What is damaged is refused, left out, named and mended; what would be is never written.

use redb::ReadableTable;
use uuid::Uuid;

use super::keeping::{contents, first, tamper};
use super::whole::{NOW, full, id};
use super::{Place, cluster, names, stamped};
use crate::base::secret::Sealer;
use crate::model::ClusterId;
use crate::model::cluster::Cluster;
use crate::model::labels::Labels;
use crate::model::node::Node;
use crate::model::quota::Quota;
use crate::store::dump::Secrets;
use crate::store::repair::{BadPlace, RepairError};
use crate::store::verify::Finding;
use crate::store::{Change, OpenError, Page, Scope, Store, StoreError, Unfit, mark, record, table};

fn key() -> Sealer {
    Sealer::new(&[1; 32])
}

/// Flips one bit of the record of a key, behind the store's back.
fn flip(state: &std::path::Path, name: &'static str, key: &[u8], at: usize) {
    let found = contents(state).into_iter().find(|(t, k, _)| *t == name && k == key).unwrap();
    let mut value = found.2;
    let at = at % value.len();
    value[at] ^= 1;
    tamper(state, name, key, Some(&value));
}

/// Findings but those that clusters give which were made without groups and operations.
fn unreadable(store: &Store) -> Vec<Finding> {
    let findings = store.verify().unwrap().findings;
    let of_records = |f: &Finding| f.table != table::CLUSTER || f.cure.contains("magnumd damage");
    findings.into_iter().filter(of_records).collect()
}

/// Every record as a line of JSON.
fn contents_of(store: &Store) -> Vec<String> {
    let mut export = Vec::new();
    store.export(Secrets::Omitted, NOW, &mut export).unwrap();
    String::from_utf8(export).unwrap().lines().map(str::to_owned).collect()
}

fn with_labels(store: &Store, labels: Labels) -> Cluster {
    Cluster { labels, ..cluster(store, 7, "p", "k1") }
}

#[tokio::test]
async fn what_nobody_could_read_again_is_not_written() {
    let place = Place::new();
    let store = place.open();
    let long = |bytes: usize| {
        Labels::from_iter([("a", "x".repeat(bytes / 2)), ("b", "x".repeat(bytes / 2))])
    };
    let many = Labels::from_iter((0..60_000).map(|n| (n.to_string(), "x")));
    for (labels, told) in [
        (long(1_200_000), "bytes, and at most 1048576 are kept"),
        (many, "its parts take more than 1048576 bytes of memory"),
    ] {
        let change = Change::new().put(&with_labels(&store, labels));
        assert!(!change.is_empty(), "whoever asks must commit it and be refused");
        let refused = store.commit(change).await.unwrap_err();
        let StoreError::Unfit(Unfit::Record { table: of, reason }) = refused else {
            panic!("{refused}")
        };
        assert_eq!(of, table::CLUSTER);
        assert!(reason.contains(told), "{reason}");
    }
    assert!(names(&store, Scope::Everyone, Page::ALL).is_empty());
    // As much as goes in comes out.
    let largest = with_labels(&store, long(1_000_000));
    store.commit(Change::new().put(&largest)).await.unwrap();
    assert_eq!(store.read(|v| v.cluster(largest.id)).unwrap().unwrap().record, largest);
    assert_eq!(unreadable(&store), []);
}

#[tokio::test]
async fn a_change_that_is_too_large_is_not_written() {
    let place = Place::new();
    let store = place.open();
    let clusters = |count: u128| (100..100 + count).map(|n| cluster(&store, n, "p", "k1"));
    let all = |count| clusters(count).fold(Change::new(), |change, c| change.put(&c));
    store.commit(all(100)).await.unwrap();
    let refused = store.commit(all(101)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unfit(Unfit::Change { writes: 101, .. })), "{refused}");
    let label = || Labels::from_iter([("a", "x".repeat(600_000))]);
    let large = |count| {
        clusters(count)
            .fold(Change::new(), |change, c| change.put(&Cluster { labels: label(), ..c }))
    };
    store.commit(large(1)).await.unwrap();
    let refused = store.commit(large(2)).await.unwrap_err();
    assert!(
        matches!(refused, StoreError::Unfit(Unfit::Change { writes: 2, bytes: 1_200_000.. })),
        "{refused}"
    );
    let named = names(&store, Scope::Everyone, Page::ALL);
    assert_eq!(named.len(), 100, "nothing of what was refused");
}

#[tokio::test]
async fn a_bad_record_is_left_out_of_lists_and_named_and_harms_nobody_else() {
    let place = Place::new();
    let store = full(&place).await;
    for (n, project, name) in [(20, "p", "b"), (21, "q", "c"), (22, "p", "d"), (23, "p", "e")] {
        store.commit(Change::new().put(&cluster(&store, n, project, name))).await.unwrap();
    }
    drop(store);
    let bad = ClusterId::new(Uuid::from_u128(22));
    flip(&place.path, table::CLUSTER, bad.uuid().as_bytes(), 60);
    let store = place.open();
    assert!(store.damage().is_empty(), "nobody has read it yet");
    let own = Scope::Project("p");
    assert_eq!(names(&store, Scope::Everyone, Page::ALL), ["k1", "b", "c", "e"]);
    assert_eq!(names(&store, own, Page::ALL), ["k1", "b", "e"]);
    assert_eq!(names(&store, own, Page { limit: 3, ..Page::ALL }), ["k1", "b", "e"]);
    assert_eq!(names(&store, Scope::Project("q"), Page::ALL), ["c"]);
    let mut seen = Vec::new();
    store.read(|v| v.each_cluster(own, |c| seen.push(c.name.clone()))).unwrap();
    assert_eq!(seen.len(), 3);
    let alone = store.read(|v| v.cluster(bad)).unwrap_err();
    assert!(matches!(alone, StoreError::Corrupt(_)), "{alone}");
    assert_eq!(store.damage().records, [(table::CLUSTER, bad.to_string())]);
    assert_eq!(
        store.read(|v| v.unreadable_clusters()).unwrap().into_iter().collect::<Vec<_>>(),
        [bad]
    );

    let findings = unreadable(&store);
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0].key, bad.to_string());
    assert!(findings[0].problem.contains("its digest does not fit"));
    let mut export = Vec::new();
    let header = store.export(Secrets::Plain, NOW, &mut export).unwrap();
    assert_eq!(header.damaged, [format!("cluster {bad}")]);
    assert_eq!(String::from_utf8(export).unwrap().lines().count() as u64, header.records + 1);

    // Whoever writes in the same commit is not concerned, and what is written is whole again.
    let mut again = cluster(&store, 22, "p", "d2");
    again.labels = Labels::from_iter([("a", "b")]);
    let other = Change::new().put(&cluster(&store, 30, "q", "f"));
    let (mended, other) =
        tokio::join!(store.commit(Change::new().put(&again)), store.commit(other));
    mended.unwrap();
    other.unwrap();
    assert!(store.damage().is_empty());
    assert_eq!(unreadable(&store), []);
    assert_eq!(names(&store, own, Page::ALL), ["k1", "b", "e", "d2"]);
}

#[tokio::test]
async fn an_administrator_deletes_a_bad_record_with_what_belongs_to_it_and_no_good_one() {
    let place = Place::new();
    let store = full(&place).await;
    store.commit(Change::new().put(&cluster(&store, 20, "p", "good"))).await.unwrap();
    drop(store);
    flip(&place.path, table::CLUSTER, id().uuid().as_bytes(), 40);
    let (quota, _) = first(&place.path, table::QUOTA);
    flip(&place.path, table::QUOTA, &quota, 40);
    let (token, _) = first(&place.path, table::DISCOVERY);
    flip(&place.path, table::DISCOVERY, &token, 40);
    let store = place.open();
    store.look_over().unwrap();
    assert_eq!(store.damage().records.len(), 3);
    let bad = store.bad_records().unwrap();
    let places: Vec<(&str, &str)> =
        bad.iter().map(|b| (b.table.as_str(), b.key.as_str())).collect();
    let uuid = id().to_string();
    let name =
        format!("{}…", &crate::model::discovery::DiscoveryToken::name_of(super::whole::TOKEN)[..8]);
    assert_eq!(places, [("cluster", &*uuid), ("discovery", &name), ("quota", "p")]);
    assert!(bad[0].words.iter().any(|w| w.contains("k8s_kubeadm_v1")), "{:?}", bad[0].words);
    assert!(bad[1].words.is_empty(), "a token is a secret");

    let place_of =
        |table: &str, key: &str| BadPlace { table: table.to_owned(), key: key.to_owned() };
    let good = ClusterId::new(Uuid::from_u128(20)).to_string();
    for (table, key) in [("cluster", good.as_str()), ("cluster", "nowhere"), ("quota", "q")] {
        let refused = store.forget(&place_of(table, key)).await.unwrap_err();
        assert!(matches!(refused, RepairError::NotBad { .. }), "{refused}");
    }
    let refused = store.forget(&place_of("pony", "p")).await.unwrap_err();
    assert!(matches!(refused, RepairError::NoTable(_)), "{refused}");

    // A quota that cannot be read gives nobody more, and stops nobody else.
    let more = |n, project: &str| {
        let made = cluster(&store, n, project, "k");
        store.commit(Change::new().expect_fewer_clusters(project, 99).put(&made))
    };
    let (own, others) = tokio::join!(more(40, "p"), more(41, "q"));
    assert!(matches!(own.unwrap_err(), StoreError::Corrupt(_)));
    others.unwrap();

    let forgotten = store.forget(&place_of("cluster", &uuid)).await.unwrap();
    assert!(forgotten.with >= 15, "{forgotten:?}");
    store.forget(&place_of("quota", "p")).await.unwrap();
    assert!(store.damage().is_empty(), "{:?}", store.damage());
    assert_eq!(unreadable(&store), []);
    let gone = contents_of(&store).into_iter().filter(|line| line.contains(&uuid));
    assert_eq!(gone.collect::<Vec<_>>(), [""; 0], "nothing of it is left");
    assert_eq!(names(&store, Scope::Everyone, Page::ALL), ["good", "k"]);
    let left: Vec<Node> =
        store.read(|v| v.nodes(id())).unwrap().into_iter().map(|n| n.record).collect();
    assert_eq!(left, []);
}

#[tokio::test]
async fn a_part_of_a_cluster_is_never_taken_for_the_whole() {
    let place = Place::new();
    drop(full(&place).await);
    let (group, _) = first(&place.path, table::NODEGROUP);
    flip(&place.path, table::NODEGROUP, &group, 50);
    let store = place.open();
    // Whoever builds on its groups must not build on one of two.
    assert!(store.read(|v| v.nodegroups(id())).is_err());
    let shown = store.read(|v| v.nodegroups_of([&id()])).unwrap();
    assert_eq!(shown[0].len(), 1, "a list shows what can be shown");
    assert!(store.read(|v| v.unreadable_clusters()).unwrap().contains(&id()));
    assert_eq!(store.verify().unwrap().findings.len(), 1);
    // Its cluster can be deleted all the same.
    store.commit(Change::new().delete_cluster(id())).await.unwrap();
    assert!(store.damage().is_empty());
}

#[tokio::test]
async fn an_index_entry_that_leads_astray_is_seen_by_who_follows_it() {
    let place = Place::new();
    let store = full(&place).await;
    store.commit(Change::new().put(&cluster(&store, 20, "q", "other"))).await.unwrap();
    drop(store);
    let all = contents(&place.path);
    let (_, entry, _) = all
        .iter()
        .find(|(t, k, _)| *t == table::CLUSTER_BY_PROJECT && k.starts_with(b"q\0"))
        .unwrap();
    tamper(&place.path, table::CLUSTER_BY_PROJECT, entry, None);
    let mut astray = entry.clone();
    let end = astray.len();
    astray[end - 16..].copy_from_slice(id().uuid().as_bytes());
    tamper(&place.path, table::CLUSTER_BY_PROJECT, &astray, Some(&[]));
    let store = place.open();
    assert_eq!(names(&store, Scope::Project("q"), Page::ALL), [""; 0], "not another project's");
    assert_eq!(store.damage().records.len(), 1);
    assert_eq!(store.damage().records[0].0, table::CLUSTER_BY_PROJECT);
}

/// Takes the digests away and says so, as the first releases wrote.
fn age(state: &std::path::Path) {
    let database = redb::Database::open(state).unwrap();
    let write = database.begin_write().unwrap();
    for kind in super::super::record_kind::KINDS {
        let mut open = write.open_table(table::definition(kind.table)).unwrap();
        let all: Vec<(Vec<u8>, Vec<u8>)> = open
            .iter()
            .unwrap()
            .map(|entry| entry.map(|(k, v)| (k.value().to_vec(), v.value().to_vec())).unwrap())
            .collect();
        for (key, value) in all {
            let mut bare = vec![value[0] & 0x0f];
            bare.extend_from_slice(&value[1..9]);
            bare.extend_from_slice(&value[25..]);
            open.insert(key.as_slice(), bare.as_slice()).unwrap();
        }
    }
    let mut meta = write.open_table(table::META).unwrap();
    meta.insert(table::SCHEMA, 1_u64.to_le_bytes().as_slice()).unwrap();
    meta.remove(table::COMMITS).unwrap();
    drop(meta);
    write.commit().unwrap();
}

#[tokio::test]
async fn a_state_of_the_first_schema_is_read_and_brought_up_to_date() {
    let place = Place::new();
    drop(full(&place).await);
    let before = contents(&place.path);
    std::fs::remove_file(mark::path_of(&place.path)).unwrap();
    age(&place.path);
    assert_ne!(contents(&place.path), before);
    let store = place.open();
    assert!(store.damage().is_empty());
    assert_eq!(store.verify().unwrap().findings, []);
    assert_eq!(store.read(|v| v.cluster(id())).unwrap().unwrap().name, "k1");
    let mut backup = Vec::new();
    store.backup(NOW, &mut backup).unwrap();
    drop(store);
    assert_eq!(contents(&place.path), before, "as if it had always had its digests");
    drop(place.open());
}

#[test]
fn a_record_with_a_digest_stays_readable() {
    // Frozen. Never edit: add a sample for a new version.
    let frozen = "d1050000000000000033dd0b3b8105b94d365519a8c78ef0df07017004fd000031512eca0c0000";
    let quota = Quota {
        sequence: crate::model::Sequence(7),
        project_id: "p".to_owned(),
        hard_limit: 4,
        created_at: NOW,
        updated_at: None,
    };
    let mut now = record::encode(&quota).unwrap();
    record::stamp(table::QUOTA, &mut now, 5);
    let shown: String = now.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(shown, frozen);
    assert_eq!(record::decode::<Quota>(&now).unwrap(), (quota.clone(), 5));
    // No bit of it can turn without being noticed.
    for bit in 0..now.len() * 8 {
        let mut flipped = now.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(record::decode::<Quota>(&flipped).is_err(), "{bit}");
    }
    assert!(record::decode_at::<Quota>(b"q\0", &stamped(&quota)).is_err(), "another's place");
}

#[tokio::test]
async fn an_empty_a_cut_and_a_foreign_file_are_damaged_and_never_begun_anew() {
    let place = Place::new();
    drop(full(&place).await);
    let whole = std::fs::read(&place.path).unwrap();
    let mut cases: Vec<Vec<u8>> = [0, 1, 63, 320, 4096, whole.len() / 2, whole.len() - 1]
        .iter()
        .map(|length| whole[..*length].to_vec())
        .collect();
    cases.push(vec![0; whole.len()]);
    cases.push(b"not a state at all".repeat(1000));
    cases.push([whole.clone(), vec![0; 100]].concat());
    for case in cases {
        std::fs::write(&place.path, &case).unwrap();
        let refused = Store::open(&place.path, key()).err().unwrap();
        assert!(matches!(refused, OpenError::Damaged(..)), "{} bytes: {refused}", case.len());
        assert!(refused.to_string().contains("magnumd restore --force"), "{refused}");
        assert_eq!(std::fs::read(&place.path).unwrap().len(), case.len(), "left as it was");
    }
    std::fs::write(&place.path, &whole).unwrap();
    assert_eq!(place.open().verify().unwrap().findings, []);
}

#[tokio::test]
async fn a_state_that_is_older_than_what_was_told_of_says_so() {
    let place = Place::new();
    let store = full(&place).await;
    drop(store);
    let older = std::fs::read(&place.path).unwrap();
    let store = place.open();
    assert!(store.damage().is_empty());
    store.commit(Change::new().put(&cluster(&store, 30, "p", "told"))).await.unwrap();
    drop(store);
    std::fs::write(&place.path, older).unwrap();
    let store = place.open();
    let lost = store.damage().lost.unwrap();
    assert!(lost.contains("its last change is number 1, but number 2"), "{lost}");
    let findings = store.verify().unwrap().findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].cure.contains("magnumd orphans list"), "{findings:?}");
    store.commit(Change::new().put(&cluster(&store, 31, "p", "anew"))).await.unwrap();
    drop(store);
    assert!(place.open().damage().is_empty(), "what goes on from there is whole");
}
