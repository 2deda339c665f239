//! A state that the former release has left in mid-air, with every kind of operation on its way:
//! verified, restored, read, and kept again. See `tests/state/README.md`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use redb::ReadableDatabase;

use super::keeping::contents;
use super::whole::NOW;
use crate::base::secret::Sealer;
use crate::store::backup::{self, Backup};
use crate::store::record_kind::Kind;
use crate::store::restore::{Source, restore};
use crate::store::{Change, Page, SCHEMA, Scope, Store};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/state").join(name)
}

fn key() -> Sealer {
    let bytes = std::fs::read(fixture("schema-3.key")).unwrap();
    Sealer::new(&bytes.try_into().unwrap())
}

#[test]
fn every_kind_of_operation_of_schema_3_is_read_where_it_stood() {
    let former = Backup::open(&fixture("schema-3.backup")).unwrap();
    assert_eq!(former.header().schema, 3);
    assert_eq!(former.verify(&key()).unwrap().findings, []);
    let into = tempfile::tempdir().unwrap();
    let restored = restore(Source::Backup(former), &key(), into.path(), false, NOW).unwrap();
    assert_eq!(restored.report.findings, []);
    let tables: BTreeSet<&str> =
        contents(&restored.state).into_iter().map(|(table, ..)| table).collect();
    for table in ["cluster", "duty", "next_certificate", "node_key", "rollout"] {
        assert!(tables.contains(table), "{table}: {tables:?}");
    }

    let store = Store::open(&restored.state, key()).unwrap();
    assert_eq!(store.verify().unwrap().findings, []);
    let operations = store.read(|view| view.operations()).unwrap();
    let stood: BTreeSet<(&str, &str)> =
        operations.iter().map(|o| (o.kind.name(), o.kind.step_name())).collect();
    let wanted = [
        ("create", "await"),
        ("create-group", "await-group"),
        ("delete", "await-gone"),
        ("delete-group", "await-group-gone"),
        ("resize", "await-update"),
        ("rotate-authorities", "trust-authorities"),
        ("rotate-credential", "take-stacks"),
        ("upgrade", "await-nodes"),
    ];
    assert_eq!(stood, wanted.into());
    for operation in &operations {
        let group = operation.nodegroup();
        let known = store.read(|view| view.nodegroups(operation.cluster_id)).unwrap();
        assert!(group.is_none_or(|id| known.iter().any(|g| g.id == id)), "{operation:?}");
    }
    drop(store);

    // What is kept of it from now on is of today's schema, and as whole.
    let again = into.path().join("again.backup");
    let database = redb::Database::open(&restored.state).unwrap();
    let mut bytes = Vec::new();
    backup::write(&database.begin_read().unwrap(), &key(), NOW, &mut bytes).unwrap();
    std::fs::write(&again, bytes).unwrap();
    let again = Backup::open(&again).unwrap();
    assert_eq!(again.header().schema, SCHEMA);
    assert_eq!(again.verify(&key()).unwrap().findings, []);
}

/// A new kind of record that belongs to a cluster must not outlive it.
#[tokio::test]
async fn nothing_of_a_deleted_cluster_stays_but_what_has_a_key_of_its_own() {
    let former = Backup::open(&fixture("schema-3.backup")).unwrap();
    let into = tempfile::tempdir().unwrap();
    let restored = restore(Source::Backup(former), &key(), into.path(), false, NOW).unwrap();
    let store = Store::open(&restored.state, key()).unwrap();
    let clusters = store.read(|view| view.clusters(Scope::Everyone, Page::ALL)).unwrap();
    for cluster in &clusters {
        store.commit(Change::new().delete_cluster(cluster.id)).await.unwrap();
    }
    drop(store);
    let left: BTreeSet<&str> =
        contents(&restored.state).into_iter().map(|(table, ..)| table).collect();
    let own = ["cluster_template", "driver", "keyring", "operation", "service"];
    let left: Vec<&str> = left.into_iter().filter(|table| Kind::named(table).is_some()).collect();
    assert_eq!(left, own);
}
