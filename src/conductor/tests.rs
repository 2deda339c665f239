//! Who wakes the conductor, whatever becomes of the request.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::test_support;
use crate::base::secret::Sealer;
use crate::model::certificate::CertificateKind;
use crate::model::cluster::Cluster;
use crate::model::operation::{Create, CreateStep, Operation};
use crate::model::status::Status;
use crate::model::{ClusterId, Sequence, TemplateId};
use crate::store::{Change, Store};

fn store(folder: &tempfile::TempDir) -> Store {
    let sealer = Sealer::new(&[7; Sealer::KEY_BYTES]);
    Store::open(&folder.path().join("state.redb"), sealer).unwrap()
}

fn creation() -> (Cluster, Operation) {
    let id = ClusterId::new(Uuid::from_u128(7));
    let template = TemplateId::new(Uuid::from_u128(1));
    let cluster =
        Cluster { status: Status::CreateInProgress, ..Cluster::plain(id, "k1", template) };
    let operation = Operation {
        sequence: Sequence(1),
        cluster_id: id,
        began: cluster.created_at,
        deadline: None,
        token: None,
        roles: Vec::new(),
        user_id: String::new(),
        request_id: String::new(),
        kind: Create { step: CreateStep::Certificates }.into(),
    };
    (cluster, operation)
}

/// Regression: hyper drops the future of a request when its client goes away, and what it had
/// handed to the store by then became durable without anybody hearing of it.
#[tokio::test(flavor = "multi_thread")]
async fn an_intention_wakes_the_conductor_although_its_request_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let (conductor, _) = test_support::conductor(store.clone());
    let (cluster, operation) = creation();
    {
        let change = Change::new().put(&cluster).put(&operation);
        let mut request = pin!(conductor.intend(cluster.id, change));
        let polled = request.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Pending), "a commit takes longer than that");
    }
    let began = Instant::now();
    while conductor.load() != (1, 0) {
        assert!(began.elapsed() < Duration::from_secs(20), "nobody was woken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(store.read(|view| view.operation_of(cluster.id)).unwrap().is_some());
}

/// Whatever was missed: the periodic look takes up every operation on record.
#[tokio::test(flavor = "multi_thread")]
async fn the_periodic_look_takes_up_operations() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let (conductor, _) = test_support::conductor(store.clone());
    let (cluster, operation) = creation();
    conductor.sync_soon();
    assert_eq!(conductor.load(), (0, 0));
    store.commit(Change::new().put(&cluster).put(&operation)).await.unwrap();
    conductor.sync_soon();
    assert_eq!(conductor.load(), (1, 0));
}

/// Keys that take long are drawn while nobody keeps a lane; the cluster is looked at again when
/// they are there, and what was drawn is given once.
#[tokio::test(flavor = "multi_thread")]
async fn drawing_keys_holds_no_lane() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let (conductor, _) = test_support::conductor(store.clone());
    let (cluster, operation) = creation();
    store.commit(Change::new().put(&cluster).put(&operation)).await.unwrap();
    let mut drawn: Vec<Vec<u8>> = Vec::new();
    for _ in 0..2 {
        let kinds = &CertificateKind::ALL;
        assert!(conductor.draw(&cluster, kinds).await.unwrap().is_none(), "a lane waits");
        assert!(conductor.draw(&cluster, kinds).await.unwrap().is_none(), "asked again at once");
        let began = Instant::now();
        while conductor.load() != (1, 0) {
            assert!(began.elapsed() < Duration::from_secs(60), "nobody was woken");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let certificates = conductor.draw(&cluster, kinds).await.unwrap().expect("they are drawn");
        assert_eq!(certificates.len(), kinds.len());
        drawn.extend(certificates.into_iter().map(|c| c.pem.into_bytes()));
        conductor.queue().take(Instant::now());
        conductor.queue().finished(cluster.id);
    }
    let different: std::collections::HashSet<&Vec<u8>> = drawn.iter().collect();
    assert_eq!(different.len(), 10, "none was given twice");
    // Authorities alone need nothing that takes long.
    let rotated = conductor.draw(&cluster, &CertificateKind::ROTATED).await.unwrap();
    assert_eq!(rotated.expect("at once").len(), 4);
}
