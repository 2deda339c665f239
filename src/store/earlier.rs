//! What states of earlier schemas are given when they are opened, restored or verified.
//!
//! 1 → 2: every record gets a digest. 2 → 3: what etcd's members find each other by is no longer
//! there in plain text: a token is known by its digest, a cluster's discovery URL is sealed. 3 → 4:
//! each kind of operation has steps and data of its own; records tell their version, lines of an
//! export do not.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use redb::{Database, ReadableDatabase, ReadableTable, WriteTransaction};
use serde_json::Value;

use super::meta::Meta;
use super::record::{self, Record};
use super::table::{self, Key};
use super::{SCHEMA, former_shapes, record_kind};
use crate::base::secret::Sealer;
use crate::model::cluster::Cluster;
use crate::model::discovery::DiscoveryToken;

/// The last schema with plain discovery tokens.
const PLAIN_TOKENS: u64 = 2;
/// The last schema in which all kinds of operations had the same fields.
const FLAT_OPERATIONS: u64 = 3;

/// Brings a whole database up to date, if it has been written to and is behind.
pub fn renew_all(database: &Database, sealer: &Sealer) -> Result<(), redb::Error> {
    let meta = Meta::read(&database.begin_read()?)?;
    let Some(meta) = meta.filter(|meta| meta.schema < SCHEMA) else { return Ok(()) };
    let transaction = database.begin_write()?;
    renew(&transaction, meta.schema, sealer)?;
    Meta { schema: SCHEMA, ..meta }.write(&transaction)?;
    Ok(transaction.commit()?)
}

/// Brings the records of schema `from` up to date; all tables are there. Returns how many were
/// written anew. What cannot be read stays as it is, for verify to name.
pub fn renew(
    transaction: &WriteTransaction,
    from: u64,
    sealer: &Sealer,
) -> Result<usize, redb::Error> {
    let mut renewed = give_digests(transaction)?;
    if from <= PLAIN_TOKENS {
        renewed += name_tokens(transaction)? + seal_urls(transaction, sealer)?;
    }
    Ok(renewed)
}

fn give_digests(transaction: &WriteTransaction) -> Result<usize, redb::Error> {
    let mut given = 0;
    for kind in record_kind::KINDS {
        let mut open = transaction.open_table(table::definition(kind.table))?;
        let mut bare = Vec::new();
        for entry in open.iter()? {
            let (key, value) = entry?;
            if let Some(value) = record::with_digest(kind.table, value.value()) {
                bare.push((key.value().to_vec(), value));
            }
        }
        given += bare.len();
        for (key, value) in bare {
            open.insert(key.as_slice(), value.as_slice())?;
        }
    }
    Ok(given)
}

/// The readable records of the first version, with keys and revisions.
fn of_first_version<R: Record>(
    transaction: &WriteTransaction,
) -> Result<Vec<(Vec<u8>, R, u64)>, redb::Error> {
    let mut found = Vec::new();
    for entry in transaction.open_table(table::definition(R::TABLE))?.iter()? {
        let (key, value) = entry?;
        if record::version(value.value()) == Some(1)
            && let Ok((record, revision)) = record::decode::<R>(value.value())
        {
            found.push((key.value().to_vec(), record, revision));
        }
    }
    Ok(found)
}

/// Writes a record as it is written today; none that could not be read again.
fn put<R: Record>(
    transaction: &WriteTransaction,
    record: &R,
    revision: u64,
) -> Result<bool, redb::Error> {
    let Ok(mut encoded) = record::encode(record) else { return Ok(false) };
    record::stamp(R::TABLE, &mut encoded, revision);
    let mut open = transaction.open_table(table::definition(R::TABLE))?;
    open.insert(record.key().0.as_slice(), encoded.as_slice())?;
    Ok(true)
}

/// Moves each token to the name that its digest is.
fn name_tokens(transaction: &WriteTransaction) -> Result<usize, redb::Error> {
    let tokens = of_first_version::<DiscoveryToken>(transaction)?;
    for (former, token, revision) in &tokens {
        if !put(transaction, token, *revision)? {
            continue;
        }
        let mut open = transaction.open_table(table::definition(table::DISCOVERY))?;
        open.remove(former.as_slice())?;
        let entry = [&Key::new().uuid(token.cluster_id.uuid()).0[..], former].concat();
        let mut index = transaction.open_table(table::definition(table::DISCOVERY_BY_CLUSTER))?;
        index.remove(entry.as_slice())?;
        for (_, key) in token.indexes() {
            index.insert(key.0.as_slice(), [].as_slice())?;
        }
    }
    Ok(tokens.len())
}

fn seal_urls(transaction: &WriteTransaction, sealer: &Sealer) -> Result<usize, redb::Error> {
    let clusters = of_first_version::<Cluster>(transaction)?;
    let count = clusters.len();
    for (_, mut cluster, revision) in clusters {
        // Read from where the plain one was.
        for (owner, url) in cluster.sealed() {
            *url = sealer.seal(&owner, url.as_bytes());
        }
        put(transaction, &cluster, revision)?;
    }
    Ok(count)
}

/// The same for a line of an export of schema `from`: the record as exports have it today. What
/// cannot be read stays as it is, for the import to name.
pub fn renew_line(from: u64, table: &str, record: &mut Value) {
    if from <= FLAT_OPERATIONS
        && table == table::OPERATION
        && let Ok(operation) = former_shapes::operation_of_json(record.clone())
        && let Ok(today) = serde_json::to_value(operation)
    {
        *record = today;
    }
    if from > PLAIN_TOKENS {
        return;
    }
    let Some(fields) = record.as_object_mut() else { return };
    match table {
        table::DISCOVERY => {
            if let Some(Value::String(token)) = fields.remove("token") {
                fields.insert("name".to_owned(), DiscoveryToken::name_of(&token).into());
            }
        }
        table::CLUSTER => {
            if let Some(Value::String(url)) = fields.get_mut("discovery_url") {
                *url = STANDARD.encode(url.as_bytes());
            }
        }
        _ => {}
    }
}
