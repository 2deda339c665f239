//! The state as JSON lines: for programs to read, and to move a state to another sealing key.
//!
//! The first line is a [`Header`], each further one a record. Without secrets a sealed value
//! is the empty text; with them it is the plain secret in base64.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use redb::{Database, ReadTransaction, ReadableTable};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::meta::Meta;
use super::record_kind::{self, KINDS, Kind};
use super::table;
use super::{SCHEMA, StoreError, earlier, record};
use crate::base::clock::Timestamp;
use crate::base::secret::{Sealed, Sealer};

/// Whether an export carries secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Secrets {
    Omitted,
    /// In plain text.
    Plain,
}

/// The first line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The release that wrote it.
    pub magnumd: String,
    pub schema: u64,
    pub instance: String,
    pub made_at: String,
    pub secrets: Secrets,
    pub sequence: u64,
    pub records: u64,
    /// Table and key of what could not be read and is left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<String>,
}

/// A further line.
#[derive(Serialize, Deserialize)]
struct Line {
    table: String,
    revision: u64,
    record: Value,
}

pub(super) fn export(
    transaction: &ReadTransaction,
    sealer: &Sealer,
    secrets: Secrets,
    made_at: Timestamp,
    out: &mut dyn Write,
) -> Result<Header, StoreError> {
    let meta = Meta::read(transaction).map_err(disk)?;
    let meta = meta.ok_or_else(|| disk("it was never written"))?;
    let (mut records, mut damaged) = (0, Vec::new());
    for kind in KINDS {
        let open = transaction.open_table(table::definition(kind.table)).map_err(disk)?;
        for entry in open.iter().map_err(disk)? {
            let (key, value) = entry.map_err(disk)?;
            match kind.decode_at(key.value(), value.value()) {
                Ok(_) => records += 1,
                Err(_) => {
                    damaged.push(format!(
                        "{} {}",
                        kind.table,
                        table::shown(kind.table, key.value())
                    ));
                }
            }
        }
    }
    let header = Header {
        magnumd: env!("CARGO_PKG_VERSION").to_owned(),
        schema: meta.schema,
        instance: meta.instance.unwrap_or_default(),
        made_at: made_at.to_string(),
        secrets,
        sequence: meta.sequence,
        records,
        damaged,
    };
    put(out, &header)?;
    for kind in KINDS {
        let open = transaction.open_table(table::definition(kind.table)).map_err(disk)?;
        for entry in open.iter().map_err(disk)? {
            let (key, value) = entry.map_err(disk)?;
            // Counted above, and named in the first line.
            let Ok((mut record, revision)) = kind.decode_at(key.value(), value.value()) else {
                continue;
            };
            for (owner, sealed) in record.sealed() {
                *sealed = Sealed::from_bytes(match secrets {
                    Secrets::Omitted => Vec::new(),
                    Secrets::Plain => {
                        let plain = sealer.open(&owner, sealed);
                        plain.map_err(|e| disk(format!("{owner}: {e}")))?.to_vec()
                    }
                });
            }
            let record = record.to_json().map_err(disk)?;
            put(out, &Line { table: kind.table.to_owned(), revision, record })?;
        }
    }
    out.flush().map_err(disk)?;
    Ok(header)
}

fn put(out: &mut dyn Write, line: &impl Serialize) -> Result<(), StoreError> {
    let mut text = Zeroizing::new(serde_json::to_vec(line).map_err(disk)?);
    text.push(b'\n');
    out.write_all(&text).map_err(disk)
}

/// Why a file cannot be imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("{0} is not an export of magnumd: {1}")]
    Foreign(PathBuf, String),
    #[error(
        "{0} was written with schema {1}, and this magnumd knows {SCHEMA}; install a later one"
    )]
    Newer(PathBuf, u64),
    #[error(
        "{0} was written without secrets, so no cluster in it could be served; export again with --with-secrets"
    )]
    NoSecrets(PathBuf),
    #[error("{path}, line {line}: {reason}")]
    Line { path: PathBuf, line: usize, reason: String },
    #[error("{path} has {found} records, but its first line says {wanted}: it is cut off")]
    CutOff { path: PathBuf, found: u64, wanted: u64 },
    #[error("{0}: {1}")]
    Disk(PathBuf, std::io::Error),
    #[error("the state cannot be written: {0}")]
    State(String),
}

/// An export to be read.
#[derive(Debug)]
pub struct Import {
    path: PathBuf,
    lines: BufReader<std::fs::File>,
    header: Header,
}

impl Import {
    pub fn open(path: &Path) -> Result<Self, ImportError> {
        let io = |e| ImportError::Disk(path.to_owned(), e);
        let mut lines = BufReader::new(std::fs::File::open(path).map_err(io)?);
        let mut first = String::new();
        let foreign = |reason: String| ImportError::Foreign(path.to_owned(), reason);
        match lines.read_line(&mut first) {
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                return Err(foreign("its first line is no text".to_owned()));
            }
            other => other.map_err(io)?,
        };
        let header: Header = serde_json::from_str(&first).map_err(|e| foreign(e.to_string()))?;
        if header.schema > SCHEMA {
            return Err(ImportError::Newer(path.to_owned(), header.schema));
        }
        match header.secrets {
            Secrets::Omitted => Err(ImportError::NoSecrets(path.to_owned())),
            Secrets::Plain => Ok(Self { path: path.to_owned(), lines, header }),
        }
    }

    /// Fills an empty database, sealing every secret with `sealer`.
    pub(super) fn load(self, database: &Database, sealer: &Sealer) -> Result<(), ImportError> {
        let Self { path, lines, header } = self;
        let state = |e: &dyn std::fmt::Display| ImportError::State(e.to_string());
        let transaction = database.begin_write().map_err(|e| state(&e))?;
        let instance = Some(header.instance).filter(|name| !name.is_empty());
        let meta = Meta { sequence: header.sequence, instance, ..Meta::first(sealer) };
        meta.restored().named().write(&transaction).map_err(|e| state(&e))?;
        for name in record_kind::tables() {
            transaction.open_table(table::definition(name)).map_err(|e| state(&e))?;
        }
        let mut found = 0;
        for (number, text) in (2..).zip(lines.lines()) {
            let text = Zeroizing::new(text.map_err(|e| ImportError::Disk(path.clone(), e))?);
            let wrong =
                |reason: String| ImportError::Line { path: path.clone(), line: number, reason };
            let mut line: Line = serde_json::from_str(&text).map_err(|e| wrong(e.to_string()))?;
            earlier::renew_line(header.schema, &line.table, &mut line.record);
            let kind = Kind::named(&line.table);
            let kind = kind.ok_or_else(|| wrong(format!("there is no table '{}'", line.table)))?;
            let mut record = (kind.from_json)(line.record).map_err(|e| wrong(e.to_string()))?;
            for (owner, plain) in record.sealed() {
                *plain = sealer.seal(&owner, plain.as_bytes());
            }
            let mut encoded = record.encode().map_err(|e| wrong(e.to_string()))?;
            record::stamp(kind.table, &mut encoded, line.revision);
            let put = |name, key: &[u8], value: &[u8]| {
                let mut open = transaction.open_table(table::definition(name))?;
                open.insert(key, value)?;
                Ok::<_, redb::Error>(())
            };
            put(kind.table, &record.key().0, &encoded).map_err(|e| state(&e))?;
            for (index, key) in record.indexes() {
                put(index, &key.0, &[]).map_err(|e| state(&e))?;
            }
            found += 1;
        }
        if found != header.records {
            return Err(ImportError::CutOff { path, found, wanted: header.records });
        }
        transaction.commit().map_err(|e| state(&e))
    }
}

fn disk(error: impl std::fmt::Display) -> StoreError {
    StoreError::Disk(error.to_string())
}
