//! The store as its callers use it, on a real file.

use std::path::PathBuf;

use proptest::prelude::*;
use uuid::Uuid;

use super::record;
use super::{Change, OpenError, Page, Record, Scope, Store, StoreError};
use crate::base::clock::Timestamp;
use crate::base::secret::Sealer;
use crate::model::cluster::Cluster;
use crate::model::labels::Labels;
use crate::model::operation::{Create, CreateStep, Operation, OperationKind};
use crate::model::rollout::Rollout;
use crate::model::{ClusterId, Sequence, TemplateId};

mod damage;
mod earlier;
mod former_release;
mod keeping;
mod random;
mod shapes;
mod whole;

struct Place {
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("magnumd.redb");
        Self { _folder: folder, path }
    }

    fn open(&self) -> Store {
        Store::open(&self.path, Sealer::new(&[1; 32])).unwrap()
    }
}

fn cluster(store: &Store, number: u128, project: &str, name: &str) -> Cluster {
    Cluster {
        sequence: store.next_sequence(),
        project_id: project.to_owned(),
        user_id: "u".to_owned(),
        floating_ip_enabled: true,
        create_timeout: 60,
        driver: "k8s_kubeadm_v1".to_owned(),
        ..Cluster::plain(
            ClusterId::new(Uuid::from_u128(number)),
            name,
            TemplateId::new(Uuid::from_u128(1)),
        )
    }
}

fn names(store: &Store, scope: Scope<'_>, page: Page) -> Vec<String> {
    let found = store.read(|v| v.clusters(scope, page)).unwrap();
    found.into_iter().map(|c| c.record.name).collect()
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_reopening() {
    let place = Place::new();
    let store = place.open();
    let made = cluster(&store, 7, "p", "k1");
    store.commit(Change::new().expect_absent(&made).put(&made)).await.unwrap();
    let last = store.next_sequence();
    store.commit(Change::new().put(&cluster(&store, 8, "p", "k2"))).await.unwrap();
    drop(store);
    let store = place.open();
    let found = store.read(|v| v.cluster(made.id)).unwrap().unwrap();
    assert_eq!(found.record, made);
    assert!(store.next_sequence() > last, "no sequence is given twice");
}

#[tokio::test]
async fn lists_follow_making_in_both_directions_and_stay_in_their_project() {
    let place = Place::new();
    let store = place.open();
    for (n, project, name) in [(5, "p", "a"), (4, "q", "b"), (3, "p", "c"), (2, "p", "d")] {
        store.commit(Change::new().put(&cluster(&store, n, project, name))).await.unwrap();
    }
    let own = Scope::Project("p");
    assert_eq!(names(&store, own, Page::ALL), ["a", "c", "d"]);
    assert_eq!(names(&store, Scope::Everyone, Page::ALL), ["a", "b", "c", "d"]);
    let second = store.read(|v| v.clusters(own, Page::ALL)).unwrap()[1].sequence;
    let after = Page { after: Some(second), limit: 5, ..Page::ALL };
    assert_eq!(names(&store, own, after), ["d"]);
    assert_eq!(names(&store, own, Page { descending: true, ..after }), ["a"]);
    assert_eq!(names(&store, own, Page { limit: 2, ..Page::ALL }), ["a", "c"]);
    assert_eq!(names(&store, own, Page { limit: 0, ..Page::ALL }), [""; 0]);
    assert_eq!(store.read(|v| v.count_clusters(own)).unwrap(), 3);
}

#[tokio::test]
async fn an_index_follows_its_record() {
    let place = Place::new();
    let store = place.open();
    let mut made = cluster(&store, 7, "p", "old");
    store.commit(Change::new().put(&made)).await.unwrap();
    made.name = "new".to_owned();
    store.commit(Change::new().put(&made)).await.unwrap();
    let named =
        |name: &str| store.read(|v| v.clusters_named(name, Scope::Project("p"))).unwrap().len();
    assert_eq!((named("old"), named("new")), (0, 1));
    assert!(store.read(|v| v.is_template_used(made.template_id)).unwrap());
    store.commit(Change::new().delete_cluster(made.id)).await.unwrap();
    assert_eq!((named("old"), named("new")), (0, 0));
    assert!(!store.read(|v| v.is_template_used(made.template_id)).unwrap());
    assert!(names(&store, Scope::Everyone, Page::ALL).is_empty());
}

#[tokio::test]
async fn a_refused_change_leaves_nothing_and_spoils_nobody() {
    let place = Place::new();
    let store = place.open();
    let one = cluster(&store, 1, "p", "one");
    store.commit(Change::new().put(&one)).await.unwrap();
    let read = store.read(|v| v.cluster(one.id)).unwrap().unwrap();
    store.commit(Change::new().expect(&read).put(&one)).await.unwrap();
    let two = cluster(&store, 2, "p", "two");
    let stale = Change::new().expect(&read).put(&two).put(&one);
    let good = Change::new().put(&cluster(&store, 3, "p", "three"));
    let (stale, good) = tokio::join!(store.commit(stale), store.commit(good));
    assert!(matches!(stale, Err(StoreError::Conflict)));
    good.unwrap();
    assert_eq!(names(&store, Scope::Everyone, Page::ALL), ["one", "three"]);
}

#[tokio::test]
async fn parallel_creates_cannot_pass_a_limit() {
    let place = Place::new();
    let store = place.open();
    let creates = (0..50).map(|n| {
        let made = cluster(&store, n, "p", "k");
        let store = store.clone();
        let change = Change::new().expect_fewer_clusters("p", 20).put(&made);
        tokio::spawn(async move { store.commit(change).await.is_ok() })
    });
    let mut accepted = 0;
    for create in creates.collect::<Vec<_>>() {
        accepted += usize::from(create.await.unwrap());
    }
    assert_eq!(accepted, 20);
    assert_eq!(names(&store, Scope::Project("p"), Page::ALL).len(), 20);
}

#[tokio::test]
async fn a_cluster_has_its_own_operation() {
    let place = Place::new();
    let store = place.open();
    let operation = |cluster: u128| Operation {
        sequence: store.next_sequence(),
        cluster_id: ClusterId::new(Uuid::from_u128(cluster)),
        began: Timestamp::EPOCH,
        deadline: None,
        token: None,
        roles: vec!["member".to_owned()],
        user_id: "u".to_owned(),
        request_id: "req-1".to_owned(),
        kind: Create { step: CreateStep::Certificates }.into(),
    };
    let (a, b) = (operation(1), operation(2));
    store.commit(Change::new().put(&a).put(&b)).await.unwrap();
    let found = store.read(|v| v.operation_of(a.cluster_id)).unwrap().unwrap();
    assert_eq!(found.record, a);
    assert_eq!(store.read(|v| v.operations()).unwrap().len(), 2);
    store.commit(Change::new().expect(&found).delete(&found.record)).await.unwrap();
    assert!(store.read(|v| v.operation_of(a.cluster_id)).unwrap().is_none());
}

#[test]
fn a_second_opening_a_wrong_key_and_a_newer_file_are_refused() {
    let place = Place::new();
    let store = place.open();
    let second = Store::open(&place.path, Sealer::new(&[1; 32])).err().unwrap();
    assert!(matches!(second, OpenError::Locked(_)), "{second}");
    drop(store);
    let wrong = Store::open(&place.path, Sealer::new(&[2; 32])).err().unwrap();
    assert!(matches!(wrong, OpenError::WrongKey(_)), "{wrong}");
    {
        let database = redb::Database::create(&place.path).unwrap();
        let write = database.begin_write().unwrap();
        let newer = 99_u64.to_le_bytes();
        write
            .open_table(super::table::META)
            .unwrap()
            .insert(super::table::SCHEMA, newer.as_slice())
            .unwrap();
        write.commit().unwrap();
    }
    let newer = Store::open(&place.path, Sealer::new(&[1; 32])).err().unwrap();
    assert!(newer.to_string().contains("newer magnumd (schema 99)"), "{newer}");
}

#[test]
fn a_released_record_stays_readable() {
    // Version 1 of an operation, frozen. Never edit: add a sample for a new version.
    let frozen = "0105000000000000000910000000000000000000000000000000070005020001fd0048\
                  27ad010000000001066d656d6265720175057265712d31\
                  011000000000000000000000000000000007020102733101";
    let bytes: Vec<u8> = (0..frozen.len())
        .step_by(2)
        .filter_map(|i| u8::from_str_radix(frozen.get(i..i + 2)?, 16).ok())
        .collect();
    let (operation, revision) = record::decode::<Operation>(&bytes).unwrap();
    assert_eq!(revision, 5);
    assert_eq!(operation.sequence, Sequence(9));
    assert_eq!(operation.kind, OperationKind::Create(Create { step: CreateStep::Await }));
    assert_eq!(operation.deadline, Some(Timestamp::from_micros(3_600_000_000)));
    assert_eq!(operation.request_id, "req-1");

    // Version 1 of a rollout, frozen likewise.
    let frozen = "010500000000000000100000000000000000000000000000000710000000000000000000000000000000081000000000\
                  0000000000000000000000010269320000010100016900";
    let bytes: Vec<u8> = (0..frozen.len())
        .step_by(2)
        .filter_map(|i| u8::from_str_radix(frozen.get(i..i + 2)?, 16).ok())
        .collect();
    let (rollout, revision) = record::decode::<Rollout>(&bytes).unwrap();
    assert_eq!((revision, rollout.image_id.as_str()), (5, "i2"));
    assert_eq!(rollout.masters, [(0, "i".to_owned())].into());
    assert_eq!((rollout.flavors.master.as_ref(), rollout.resizing.len()), (None, 0));
    assert_eq!(record::decode::<Rollout>(&stamped(&rollout)).unwrap(), (rollout, 1));
}

#[test]
fn a_state_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    drop(place.open());
    let mode = || std::fs::metadata(&place.path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600, "whatever the umask is");
    // As a copy may be that was put here.
    std::fs::set_permissions(&place.path, std::fs::Permissions::from_mode(0o644)).unwrap();
    drop(place.open());
    assert_eq!(mode(), 0o600);
}

/// As the writer writes it.
fn stamped<R: Record>(record: &R) -> Vec<u8> {
    let mut encoded = record::encode(record).unwrap();
    record::stamp(R::TABLE, &mut encoded, 1);
    encoded
}

proptest! {
    #[test]
    fn any_record_survives_and_any_bytes_are_survived(
        name in ".*",
        labels in proptest::collection::btree_map(".*", ".*", 0..5),
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let place = Place::new();
        let store = place.open();
        let mut made = cluster(&store, 7, "p", &name);
        made.labels = Labels::from_iter(labels);
        let (back, _) = record::decode::<Cluster>(&stamped(&made)).unwrap();
        prop_assert_eq!(back, made);
        // Damage is an error, not a panic.
        let _ = record::decode::<Cluster>(&bytes);
        let _ = record::decode::<Operation>(&bytes);
    }

    #[test]
    fn a_truncated_record_is_refused(cut in 1usize..60) {
        let place = Place::new();
        let encoded = stamped(&cluster(&place.open(), 7, "p", "k1"));
        prop_assert!(record::decode::<Cluster>(&encoded[..encoded.len() - cut]).is_err());
    }
}

#[test]
fn keys_are_prefix_free() {
    let place = Place::new();
    let store = place.open();
    let (a, b) = (cluster(&store, 1, "p", "k"), cluster(&store, 2, "pp", "kk"));
    for ((_, x), (_, y)) in a.indexes().iter().zip(b.indexes().iter()) {
        assert!(!y.0.starts_with(&x.0) && !x.0.starts_with(&y.0));
    }
}
