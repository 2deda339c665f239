//! States of schema 2, which had discovery tokens and URLs in plain text: opened, restored from a
//! backup and imported from an export.

use std::path::Path;

use redb::ReadableDatabase;
use serde_json::Value;

use super::keeping::contents;
use super::whole::{NOW, TOKEN, URL, full, id};
use super::{Place, stamped};
use crate::base::secret::{Sealed, Sealer};
use crate::model::cluster::Cluster;
use crate::model::discovery::DiscoveryToken;
use crate::store::backup::{self, Backup};
use crate::store::dump::{Import, Secrets};
use crate::store::restore::{Source, restore};
use crate::store::table::{self, Key};
use crate::store::{Record, Store, record};

fn key() -> Sealer {
    Sealer::new(&[1; 32])
}

/// A record of today as its first version was, which has the same shape.
fn first_version<R: Record>(record: &R) -> Vec<u8> {
    let mut encoded = record::encode(record).unwrap();
    encoded[0] = 0xd1;
    record::stamp(R::TABLE, &mut encoded, 5);
    encoded
}

/// The cluster and the token as the former releases wrote them.
fn plain(store: &Store) -> (Cluster, DiscoveryToken) {
    let mut cluster = store.read(|v| v.cluster(id())).unwrap().unwrap().record;
    cluster.discovery_url = Some(Sealed::from_bytes(URL.as_bytes().to_vec()));
    let mut token = store.read(|v| v.discovery(TOKEN)).unwrap().unwrap().record;
    token.name = TOKEN.to_owned();
    (cluster, token)
}

/// Puts them into the file, which then is of schema 2.
fn age(state: &Path, cluster: &Cluster, token: &DiscoveryToken) {
    let database = redb::Database::open(state).unwrap();
    let write = database.begin_write().unwrap();
    for name in [table::DISCOVERY, table::DISCOVERY_BY_CLUSTER] {
        write.open_table(table::definition(name)).unwrap().retain(|_, _| false).unwrap();
    }
    let put = |table, key: &Key, value: &[u8]| {
        let mut open = write.open_table(table::definition(table)).unwrap();
        open.insert(key.0.as_slice(), value).unwrap();
    };
    put(table::CLUSTER, &cluster.key(), &first_version(cluster));
    put(table::DISCOVERY, &token.key(), &first_version(token));
    put(table::DISCOVERY_BY_CLUSTER, &token.indexes()[0].1, &[]);
    let mut meta = write.open_table(table::META).unwrap();
    meta.insert(table::SCHEMA, 2_u64.to_le_bytes().as_slice()).unwrap();
    drop(meta);
    write.commit().unwrap();
}

fn knows_the_token(state: &Path) -> bool {
    let has = |bytes: &[u8]| bytes.windows(TOKEN.len()).any(|part| part == TOKEN.as_bytes());
    contents(state).iter().any(|(_, key, value)| has(key) || has(value))
}

fn is_up_to_date(store: &Store) {
    assert_eq!(store.verify().unwrap().findings, []);
    let cluster = store.read(|v| v.cluster(id())).unwrap().unwrap();
    assert_eq!(cluster.open_discovery_url(store.sealer()).unwrap().as_deref(), Some(URL));
    let token = store.read(|v| v.discovery(TOKEN)).unwrap().unwrap();
    assert_eq!((token.cluster_id, token.record.size), (id(), 1));
    let of = store.read(|v| v.discovery_of(id())).unwrap();
    assert_eq!(of.iter().map(|t| &t.record).collect::<Vec<_>>(), [&token.record]);
}

async fn aged() -> Place {
    let place = Place::new();
    let store = full(&place).await;
    let (cluster, token) = plain(&store);
    drop(store);
    age(&place.path, &cluster, &token);
    assert!(knows_the_token(&place.path), "as it was");
    place
}

#[tokio::test]
async fn plain_tokens_are_sealed_when_a_state_is_opened() {
    let place = aged().await;
    let store = place.open();
    is_up_to_date(&store);
    let cluster = store.read(|v| v.cluster(id())).unwrap().unwrap();
    assert_eq!(cluster.revision, 5, "nobody has changed it");
    drop(store);
    assert!(!knows_the_token(&place.path));
    is_up_to_date(&place.open());
}

#[tokio::test]
async fn a_former_backup_is_verified_and_restored() {
    let place = aged().await;
    let file = place.path.with_file_name("backup");
    let database = redb::Database::open(&place.path).unwrap();
    let mut bytes = Vec::new();
    backup::write(&database.begin_read().unwrap(), &key(), NOW, &mut bytes).unwrap();
    drop(database);
    std::fs::write(&file, bytes).unwrap();
    let former = Backup::open(&file).unwrap();
    assert_eq!(former.header().schema, 2);
    assert_eq!(former.verify(&key()).unwrap().findings, []);
    let into = tempfile::tempdir().unwrap();
    let restored = restore(Source::Backup(former), &key(), into.path(), false, NOW).unwrap();
    assert_eq!(restored.report.findings, []);
    assert!(!knows_the_token(&restored.state));
    is_up_to_date(&Store::open(&restored.state, key()).unwrap());
}

fn export(store: &Store, secrets: Secrets) -> String {
    let mut bytes = Vec::new();
    store.export(secrets, NOW, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn an_export_without_secrets_tells_no_token_and_one_with_them_moves_it_to_another_key() {
    let place = Place::new();
    let store = full(&place).await;
    assert!(!export(&store, Secrets::Omitted).contains(TOKEN));
    let file = place.path.with_file_name("export");
    let today = export(&store, Secrets::Plain);
    // The same as schema 2 wrote it.
    let (cluster, token) = plain(&store);
    let former: Vec<String> = today
        .lines()
        .map(|line| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            match line["table"].as_str() {
                None => line["schema"] = 2.into(),
                Some(table::CLUSTER) => line["record"]["discovery_url"] = URL.into(),
                Some(table::DISCOVERY) => {
                    let record = line["record"].as_object_mut().unwrap();
                    assert_eq!(record.remove("name").unwrap(), DiscoveryToken::name_of(TOKEN));
                    record.insert("token".to_owned(), token.name.clone().into());
                }
                Some(_) => {}
            }
            line.to_string()
        })
        .collect();
    assert_eq!(cluster.id, id());
    for text in [today, former.join("\n")] {
        std::fs::write(&file, text).unwrap();
        let into = tempfile::tempdir().unwrap();
        let other = || Sealer::new(&[2; 32]);
        let import = Import::open(&file).unwrap();
        let made = restore(Source::Import(import), &other(), into.path(), false, NOW).unwrap();
        assert_eq!(made.report.findings, []);
        assert!(!knows_the_token(&made.state));
        is_up_to_date(&Store::open(&made.state, other()).unwrap());
    }
}

#[test]
fn the_first_version_of_a_token_stays_readable() {
    let mut token = DiscoveryToken::issue(TOKEN, id(), 3, vec!["m0".to_owned()], None, NOW, NOW);
    token.name = TOKEN.to_owned();
    let shown: String = first_version(&token).iter().map(|b| format!("{b:02x}")).collect();
    // Frozen. Never edit: add a sample for a new version.
    let frozen = "d105000000000000006abc63b702a9b57763dd99f11cfdb79a2030313233343536373839616263646566\
                  30313233343536373839616263646566100000000000000000000000000000000703fd000031512eca0c\
                  0000fd000031512eca0c0000030001026d3000";
    assert_eq!(shown, frozen);
    let (read, revision) = record::decode::<DiscoveryToken>(&first_version(&token)).unwrap();
    assert_eq!((read.name.as_str(), revision), (DiscoveryToken::name_of(TOKEN).as_str(), 5));
    let again = record::decode::<DiscoveryToken>(&stamped(&read)).unwrap();
    assert_eq!(again, (read, 1), "named once, not twice");
}

#[test]
fn the_first_version_of_a_cluster_stays_readable() {
    // Frozen. Never edit: add a sample for a new version.
    let frozen = "d10500000000000000c91487446f19e76bb38fe97f2beb21241000000000000000000000000000000007\
                  0901700175026b3110000000000000000000000000000000010000000000000000003c0136687474703a\
                  2f2f3139322e302e322e313a393531322f30313233343536373839616263646566303132333435363738\
                  396162636465660000000000000000016400fd000031512eca0c0000";
    let bytes: Vec<u8> = (0..frozen.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&frozen[at..at + 2], 16).unwrap())
        .collect();
    let (read, revision) = record::decode::<Cluster>(&bytes).unwrap();
    assert_eq!((read.id, read.name.as_str(), read.driver.as_str()), (id(), "k1", "d"));
    assert_eq!((read.create_timeout, read.created_at, revision), (60, NOW, 5));
    // Not sealed yet: that is for who opens the state.
    assert_eq!(read.discovery_url, Some(Sealed::from_bytes(URL.as_bytes().to_vec())));
}
