//! Backup, restore, export, import and verify of a state with every kind of record in it.

use std::io::Write;
use std::path::{Path, PathBuf};

use redb::ReadableDatabase;

use super::whole::{NOW, full, id};
use super::{Place, cluster, stamped};
use crate::base::secret::Sealer;
use crate::model::ClusterId;
use crate::model::cluster::Cluster;
use crate::model::credential::Credential;
use crate::model::status::Status;
use crate::store::backup::{Backup, BackupError, Watched};
use crate::store::dump::{Import, ImportError, Secrets};
use crate::store::record_kind::{self, KINDS};
use crate::store::restore::{RestoreError, STATE, Source, restore};
use crate::store::{Change, Store, record, table};
use uuid::Uuid;

fn key() -> Sealer {
    Sealer::new(&[1; 32])
}

fn back_up(store: &Store, path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    store.backup(NOW, &mut bytes).unwrap();
    std::fs::write(path, &bytes).unwrap();
    bytes
}

/// Everything in the file, tables and indexes, byte for byte.
pub fn contents(state: &Path) -> Vec<(&'static str, Vec<u8>, Vec<u8>)> {
    let database = redb::Database::open(state).unwrap();
    let read = database.begin_read().unwrap();
    let mut all = Vec::new();
    for name in record_kind::tables() {
        let open = read.open_table(table::definition(name)).unwrap();
        for entry in redb::ReadableTable::iter(&open).unwrap() {
            let (key, value) = entry.unwrap();
            all.push((name, key.value().to_vec(), value.value().to_vec()));
        }
    }
    all
}

#[tokio::test]
async fn a_restored_backup_is_the_same_state() {
    let place = Place::new();
    let store = full(&place).await;
    let kinds: Vec<&str> = KINDS.iter().map(|k| k.table).collect();
    let file = place.path.with_file_name("b");
    back_up(&store, &file);
    let last = store.next_sequence();
    // Written after the backup, so not in it.
    store.commit(Change::new().put(&cluster(&store, 99, "p", "late"))).await.unwrap();
    let backup = Backup::open(&file).unwrap();
    assert_eq!(backup.header().clusters, 1);
    assert!(backup.verify(&key()).unwrap().findings.is_empty());
    let into = tempfile::tempdir().unwrap();
    let restored = restore(Source::Backup(backup), &key(), into.path(), false, NOW).unwrap();
    assert_eq!(restored.report.findings, []);
    assert_eq!(restored.aside, None);
    store.commit(Change::new().delete_cluster(ClusterId::new(Uuid::from_u128(99)))).await.unwrap();
    drop(store);
    let (old, new) = (contents(&place.path), contents(&restored.state));
    assert_eq!(old, new);
    for kind in kinds {
        assert!(new.iter().any(|(table, ..)| *table == kind), "{kind} has a record here");
    }
    let again = Store::open(&restored.state, key()).unwrap();
    let left_out = crate::store::meta::LEFT_OUT;
    assert!(again.next_sequence().0 >= last.0 + left_out, "nor one that was given after it");
    let found = again.read(|v| v.cluster(id())).unwrap().unwrap();
    assert_eq!(found.record.name, "k1");
}

/// Where in the file each of its parts is.
fn regions(bytes: &[u8]) -> Vec<(&'static str, std::ops::Range<usize>)> {
    let find = |text: &[u8]| bytes.windows(text.len()).position(|w| w == text).unwrap();
    let tables = 21 + usize::from(u16::from_le_bytes([bytes[17], bytes[18]]));
    let end = find(b"\nend of backup\n");
    vec![
        ("magic", 0..17),
        ("header length", 17..21),
        ("header", 21..tables),
        ("table name", tables..tables + 17),
        ("count", tables + 17..tables + 25),
        ("record lengths", tables + 25..tables + 33),
        ("record", tables + 33..end - 1),
        ("last byte", end - 1..end),
        ("end mark", end..end + 15),
        ("digest", end + 15..end + 47),
        ("seal", end + 47..bytes.len()),
    ]
}

#[tokio::test]
async fn what_is_watched_is_judged_the_same_in_pieces_of_any_size() {
    let place = Place::new();
    let store = full(&place).await;
    let file = place.path.with_file_name("b");
    let good = back_up(&store, &file);
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    let watch = |bytes: &[u8], size: usize| {
        let mut watched = Watched::new(Vec::new());
        for piece in bytes.chunks(size) {
            watched.write_all(piece).unwrap();
        }
        watched.end(&file).map(|proven| (proven.header.clusters, proven.length))
    };
    for size in [1, 3, 97, 130, 4096, good.len()] {
        assert_eq!(watch(&good, size).unwrap(), (1, good.len() as u64), "{size}");
        assert!(matches!(watch(&bad, size), Err(BackupError::Damaged(_))), "{size}");
        let cut = watch(&good[..good.len() - 1], size);
        assert!(matches!(cut, Err(BackupError::CutOff(_))), "{size}");
    }
}

#[tokio::test]
async fn damage_anywhere_is_refused_and_leaves_what_was_there() {
    let place = Place::new();
    let store = full(&place).await;
    let file = place.path.with_file_name("b");
    let good = back_up(&store, &file);
    drop(store);
    let into = tempfile::tempdir().unwrap();
    let old = into.path().join(STATE);
    std::fs::copy(&place.path, &old).unwrap();
    let before = std::fs::read(&old).unwrap();
    let attempt = |bytes: &[u8]| -> String {
        std::fs::write(&file, bytes).unwrap();
        let outcome = Backup::open(&file).map_err(RestoreError::from).and_then(|backup| {
            restore(Source::Backup(backup), &key(), into.path(), true, NOW).map(drop)
        });
        assert_eq!(std::fs::read(&old).unwrap(), before, "the old state is untouched");
        assert_eq!(std::fs::read_dir(into.path()).unwrap().count(), 1, "and nothing beside it");
        outcome.unwrap_err().to_string()
    };
    for (region, range) in regions(&good) {
        for at in [range.start, range.start + range.len() / 2, range.end - 1] {
            for bit in [0, 7] {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                let said = attempt(&bad);
                let wanted: &[&str] = match region {
                    "magic" => &["is not a backup", "backup format"],
                    "end mark" => &["is cut off"],
                    "seal" => &["its seal does not fit"],
                    _ => &["is damaged"],
                };
                assert!(wanted.iter().any(|w| said.contains(w)), "{region} at {at}: {said}");
            }
        }
    }
    for length in (0..good.len()).step_by(97).chain(good.len() - 130..good.len()) {
        let said = attempt(&good[..length]);
        assert!(said.contains("is cut off") || said.contains("empty"), "{length}: {said}");
    }
    let mut longer = good.clone();
    longer.push(b'\n');
    assert!(attempt(&longer).contains("is cut off, or something follows it"));
    for (foreign, wanted) in [
        (&before[..], "a state file"),
        (b"{\"magnumd\":\"0.1.0\"}", "magnumd import"),
        (b"\x7fELF and so on, until it is long enough to be anything", "something else"),
        (b"magnumd backup 2\n and whatever that may be", "backup format '2'"),
    ] {
        let said = attempt(foreign);
        assert!(said.contains(wanted), "{said}");
    }
}

/// The backup with another header, and everything in it right for that.
fn forged(good: &[u8], sealer: &Sealer, change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    let length = u32::from_le_bytes(good[17..21].try_into().unwrap()) as usize;
    let mut header = serde_json::from_slice(&good[21..21 + length]).unwrap();
    change(&mut header);
    let header = serde_json::to_vec(&header).unwrap();
    let mut out = good[..17].to_vec();
    out.extend(u32::try_from(header.len()).unwrap().to_le_bytes());
    out.extend(header);
    out.extend(&good[21 + length..good.len() - 92]);
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &out);
    out.extend(digest.as_ref());
    out.extend(sealer.seal("backup/digest", digest.as_ref()).as_bytes());
    out
}

#[tokio::test]
async fn a_newer_schema_another_key_and_a_forgery_are_told_apart() {
    let place = Place::new();
    let store = full(&place).await;
    let file = place.path.with_file_name("b");
    let good = back_up(&store, &file);
    std::fs::write(&file, forged(&good, &key(), |h| h["schema"] = 99.into())).unwrap();
    let newer = Backup::open(&file).unwrap_err();
    assert!(matches!(newer, BackupError::NewerSchema(_, _, 99)), "{newer}");
    let other = Sealer::new(&[2; 32]);
    std::fs::write(&file, &good).unwrap();
    let wrong = Backup::open(&file).unwrap().verify(&other).unwrap_err().to_string();
    assert!(wrong.contains(key().key_id()) && wrong.contains(other.key_id()), "{wrong}");
    // Whoever has no key can make the checksum right and not the seal.
    std::fs::write(&file, forged(&good, &other, |h| h["sequence"] = 0.into())).unwrap();
    let forged = Backup::open(&file).unwrap().check_seal(&key()).unwrap_err();
    assert!(matches!(forged, BackupError::Forged(_)), "{forged}");
}

#[tokio::test]
async fn a_state_in_place_is_kept_and_a_running_one_is_not_touched() {
    let place = Place::new();
    let store = full(&place).await;
    let folder = place.path.parent().unwrap().to_path_buf();
    let file = folder.join("b");
    back_up(&store, &file);
    let again = |force| {
        let source = Source::Backup(Backup::open(&file).unwrap());
        restore(source, &key(), &folder, force, NOW)
    };
    assert!(matches!(again(false).unwrap_err(), RestoreError::Exists(_)));
    assert!(matches!(again(true).unwrap_err(), RestoreError::Running(_)));
    drop(store);
    let before = contents(&place.path);
    let aside: PathBuf = again(true).unwrap().aside.unwrap();
    assert_eq!(contents(&aside), before);
    assert_eq!(contents(&place.path), before);
    // A second one in the same second would take the same name.
    assert!(matches!(again(true).unwrap_err(), RestoreError::Exists(path) if path == aside));
}

#[tokio::test]
async fn an_export_with_secrets_moves_a_state_to_another_key() {
    let place = Place::new();
    let store = full(&place).await;
    let (mut plain, mut bare) = (Vec::new(), Vec::new());
    store.export(Secrets::Plain, NOW, &mut plain).unwrap();
    store.export(Secrets::Omitted, NOW, &mut bare).unwrap();
    drop(store);
    let secret = "aHVudGVyMg==";
    let (plain, bare) = (String::from_utf8(plain).unwrap(), String::from_utf8(bare).unwrap());
    assert!(plain.contains(secret) && !bare.contains(secret));
    let before = contents(&place.path);
    for (_, _, value) in &before {
        let (Some(at), true) = (value.get(9..), value.len() > 60) else { continue };
        // Ciphertexts are no secrets, and still nobody needs them.
        assert!(!bare.as_bytes().windows(at.len()).any(|w| w == at));
    }
    let file = place.path.with_file_name("export");
    let (other, into) = (Sealer::new(&[2; 32]), tempfile::tempdir().unwrap());
    std::fs::write(&file, &bare).unwrap();
    assert!(matches!(Import::open(&file).unwrap_err(), ImportError::NoSecrets(_)));
    let cut = &plain[..plain.trim_end().rfind('\n').unwrap() + 1];
    std::fs::write(&file, cut).unwrap();
    let import = |into: &Path| {
        restore(Source::Import(Import::open(&file).unwrap()), &other, into, false, NOW)
    };
    assert!(import(into.path()).unwrap_err().to_string().contains("it is cut off"));
    std::fs::write(&file, plain.replace("\"UpdateInProgress\"", "\"Nonsense\"")).unwrap();
    let said = import(into.path()).unwrap_err().to_string();
    assert!(said.contains("export, line 3: unknown variant `Nonsense`"), "{said}");
    assert_eq!(std::fs::read_dir(into.path()).unwrap().count(), 0);
    std::fs::write(&file, &plain).unwrap();
    let restored = import(into.path()).unwrap();
    assert_eq!(restored.report.findings, []);
    let store = Store::open(&restored.state, Sealer::new(&[2; 32])).unwrap();
    let credential = store.read(|v| v.credential(id())).unwrap().unwrap();
    let owner = Credential::owner(id());
    let opened = store.sealer().open_text(&owner, &credential.trustee_password).unwrap();
    assert_eq!(opened.expose(), "hunter2");
    drop(store);
    let keys = |all: Vec<(&'static str, Vec<u8>, Vec<u8>)>| {
        all.into_iter().map(|(t, k, v)| (t, k, record::revision(&v))).collect::<Vec<_>>()
    };
    assert_eq!(keys(contents(&restored.state)), keys(before));
}

/// Changes one table behind the store's back.
pub fn tamper(state: &Path, name: &'static str, key: &[u8], value: Option<&[u8]>) {
    let database = redb::Database::open(state).unwrap();
    let write = database.begin_write().unwrap();
    {
        let mut open = write.open_table(table::definition(name)).unwrap();
        match value {
            Some(value) => drop(open.insert(key, value).unwrap()),
            None => assert!(open.remove(key).unwrap().is_some(), "{name}"),
        }
    }
    write.commit().unwrap();
}

pub fn first(state: &Path, name: &str) -> (Vec<u8>, Vec<u8>) {
    let found = contents(state).into_iter().find(|(table, ..)| *table == name).unwrap();
    (found.1, found.2)
}

#[tokio::test]
async fn every_kind_of_damage_is_found_where_it_is() {
    let place = Place::new();
    drop(full(&place).await);
    let sound = std::fs::read(&place.path).unwrap();
    let state = &place.path;
    let said = |expected: &[(&str, &str)]| {
        let store = place.open();
        let findings = store.verify().unwrap().findings;
        drop(store);
        for (table, problem) in expected {
            let fits = |f: &&super::super::verify::Finding| {
                f.table == *table && f.problem.contains(problem) && !f.cure.is_empty()
            };
            assert!(findings.iter().any(|f| fits(&f)), "{table}, {problem}: {findings:#?}");
        }
        assert_eq!(findings.len(), expected.len(), "{findings:#?}");
        std::fs::write(state, &sound).unwrap();
    };
    said(&[]);

    let (key, mut value) = first(state, table::QUOTA);
    value.push(0);
    record::stamp(table::QUOTA, &mut value, 1);
    tamper(state, table::QUOTA, &key, Some(&value));
    said(&[(table::QUOTA, "1 bytes are left over")]);

    for (name, told) in [
        (table::CLUSTER, "magnumd orphans list"),
        (table::CLUSTER_TEMPLATE, "makes it anew"),
        (table::NODEGROUP, "the cluster can then be deleted"),
        (table::OPERATION, "gives the order up"),
    ] {
        let (key, value) = first(state, name);
        for at in [0, 5, 12, value.len() - 1] {
            let mut flipped = value.clone();
            flipped[at] ^= 4;
            tamper(state, name, &key, Some(&flipped));
            let findings = place.open().verify().unwrap().findings;
            let found = findings.iter().find(|f| f.table == name).unwrap();
            assert!(found.cure.contains(&format!("magnumd damage delete {name} ")), "{found:?}");
            assert!(found.cure.contains(told) && !found.cure.contains("restore"), "{found:?}");
            std::fs::write(state, &sound).unwrap();
        }
    }

    let (key, mut value) = first(state, table::SERVICE);
    value[0] = 200;
    tamper(state, table::SERVICE, &key, Some(&value));
    said(&[(table::SERVICE, "version 200, which only a newer magnumd can read")]);

    let (key, _) = first(state, table::CLUSTER_BY_NAME);
    tamper(state, table::CLUSTER_BY_NAME, &key, None);
    said(&[(table::CLUSTER_BY_NAME, "is missing, but cluster 00000000-")]);

    tamper(state, table::CLUSTER_BY_PROJECT, b"nobody\0", Some(&[]));
    said(&[(table::CLUSTER_BY_PROJECT, "leads to no record")]);

    let (_, value) = first(state, table::KEYRING);
    tamper(state, table::KEYRING, b"other\0", Some(&value));
    said(&[(table::KEYRING, "holds the record of enrolment")]);

    // A sealed value moved to another record does not open there.
    let mut moved = record::decode::<Credential>(&first(state, table::CREDENTIAL).1).unwrap().0;
    moved.cluster_id = ClusterId::new(Uuid::from_u128(8));
    let key = crate::store::Record::key(&moved).0;
    tamper(state, table::CREDENTIAL, &key, Some(&stamped(&moved)));
    said(&[
        (table::CREDENTIAL, "the secret of credential/00000000-"),
        (table::CREDENTIAL, "the secret of credential/00000000-"),
        (table::CREDENTIAL, "belongs to cluster 00000000-0000-0000-0000-000000000008"),
    ]);

    let (key, _) = first(state, table::CERTIFICATE);
    tamper(state, table::CERTIFICATE, &key, None);
    let mut built = record::decode::<Cluster>(&first(state, table::CLUSTER).1).unwrap().0;
    built.status = Status::UpdateComplete;
    tamper(state, table::CLUSTER, id().uuid().as_bytes(), Some(&stamped(&built)));
    said(&[(table::CLUSTER, "has no key of kind kubernetes")]);

    let (key, _) = first(state, table::OPERATION);
    tamper(state, table::OPERATION, &key, None);
    let (key, _) = first(state, table::OPERATION_BY_CLUSTER);
    tamper(state, table::OPERATION_BY_CLUSTER, &key, None);
    said(&[(table::CLUSTER, "is UPDATE_IN_PROGRESS and nothing is being done about it")]);

    let (key, _) = first(state, table::NODEGROUP);
    tamper(state, table::NODEGROUP, &key, None);
    said(&[(table::CLUSTER, "has 0 default master and 1 default worker groups")]);
}

#[tokio::test]
async fn compacting_gives_space_back_and_loses_nothing() {
    let place = Place::new();
    let store = full(&place).await;
    let numbers: Vec<u128> = (100..900).collect();
    for some in numbers.chunks(100) {
        let put = some.iter().fold(Change::new(), |change, n| {
            let mut made = cluster(&store, *n, "p", "k");
            made.status_reason = Some("x".repeat(4000));
            change.put(&made)
        });
        store.commit(put).await.unwrap();
    }
    // A cluster goes with a write for every kind of record that is its own.
    for some in numbers.chunks(5) {
        let gone = some.iter().fold(Change::new(), |change, n| {
            change.delete_cluster(ClusterId::new(Uuid::from_u128(*n)))
        });
        store.commit(gone).await.unwrap();
    }
    drop(store);
    let before = contents(&place.path);
    let (large, small) = Store::compact(&place.path, key()).unwrap();
    assert!(small < large / 2, "{large} → {small}");
    assert_eq!(contents(&place.path), before);
}
