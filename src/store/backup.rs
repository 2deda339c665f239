//! A backup: one moment of the state in one file that proves itself.
//!
//! ```text
//! "magnumd backup 1\n" · header length u32 · header JSON
//! for each table: name length u8 · name · count u64 · count × (lengths u32, u32 · key · value)
//! 0 u8 · "\nend of backup\n" · SHA-256 of all before · that digest sealed
//! ```
//!
//! Values are as the state file has them, so secrets stay sealed. Indexes are left out: a
//! restore makes them anew. The digest finds damage without any key; its sealed copy shows
//! that nobody without the sealing key wrote it.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use redb::{Database, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};
use serde::{Deserialize, Serialize};

use super::meta::Meta;
use super::record_kind::{self, KINDS, Kind};
use super::table::{self, Key};
use super::{SCHEMA, StoreError, earlier, verify};
use crate::base::clock::Timestamp;
use crate::base::secret::{Sealed, Sealer};

const MAGIC: &[u8] = b"magnumd backup 1\n";
/// What files of every format begin with.
const FAMILY: &[u8] = b"magnumd backup ";
const END: &[u8] = b"\nend of backup\n";
const SEAL_OWNER: &str = "backup/digest";
/// Nonce, digest and tag.
const SEALED_LENGTH: usize = 12 + SHA256_OUTPUT_LEN + 16;
const TRAILER: usize = END.len() + SHA256_OUTPUT_LEN + SEALED_LENGTH;
/// A header is a few hundred bytes; a record is at most a megabyte.
const MOST_HEADER: u32 = 64 << 10;
const MOST_VALUE: u32 = 2 << 20;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The release that made it.
    pub magnumd: String,
    pub schema: u64,
    /// The state it is of.
    pub instance: String,
    pub made_at: String,
    /// Which sealing key opens its secrets.
    pub key_id: String,
    pub key_check: Sealed,
    pub sequence: u64,
    pub records: u64,
    pub clusters: u64,
}

/// Why a file cannot be used as a backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("{0} is not a backup of magnumd, but {1}")]
    Foreign(PathBuf, &'static str),
    #[error(
        "{0} has backup format '{1}', which this magnumd does not know; install the release that \
         made it"
    )]
    Format(PathBuf, String),
    #[error(
        "{0} is cut off, or something follows it: the mark of its end is not in its place; use \
         another copy"
    )]
    CutOff(PathBuf),
    #[error(
        "{0} is damaged: it does not have the checksum that it was written with; use another copy"
    )]
    Damaged(PathBuf),
    #[error("{0} is damaged although its checksum is right: {1}")]
    Malformed(PathBuf, String),
    #[error(
        "{0} was made by magnumd {1} with schema {2}, and this one knows {SCHEMA}; install that \
         release or a later one"
    )]
    NewerSchema(PathBuf, String, u64),
    #[error(
        "{0} was sealed with the key {theirs}, but the key given is {ours}; give the one with \
         which its state was made", path.display()
    )]
    WrongKey { path: PathBuf, theirs: String, ours: String },
    #[error("{0} was changed after it was made: its seal does not fit; use another copy")]
    Forged(PathBuf),
    #[error("{0}: {1}")]
    Disk(PathBuf, std::io::Error),
    #[error("the state cannot be written: {0}")]
    State(String),
}

/// Writes one moment.
pub(super) fn write(
    transaction: &ReadTransaction,
    sealer: &Sealer,
    made_at: Timestamp,
    out: &mut dyn Write,
) -> Result<Header, StoreError> {
    let meta = Meta::read(transaction).map_err(disk)?;
    let meta = meta.ok_or_else(|| disk("it was never written"))?;
    let mut tables = Vec::new();
    for kind in KINDS {
        let open = transaction.open_table(table::definition(kind.table)).map_err(disk)?;
        tables.push((kind.table, open.len().map_err(disk)?, open));
    }
    let clusters = tables.iter().find(|(name, ..)| *name == table::CLUSTER);
    let header = Header {
        magnumd: env!("CARGO_PKG_VERSION").to_owned(),
        schema: meta.schema,
        instance: meta.instance.unwrap_or_default(),
        made_at: made_at.to_string(),
        key_id: sealer.key_id().to_owned(),
        key_check: meta.key_check.ok_or_else(|| disk("its key check is missing"))?,
        sequence: meta.sequence,
        records: tables.iter().map(|(_, count, _)| count).sum(),
        clusters: clusters.map_or(0, |(_, count, _)| *count),
    };
    let mut out = Hashing { out, digest: Context::new(&SHA256) };
    let text = serde_json::to_vec(&header).map_err(disk)?;
    out.put(MAGIC)?;
    out.put(&length(&text).to_le_bytes())?;
    out.put(&text)?;
    for (name, count, open) in tables {
        out.put(&[u8::try_from(name.len()).expect("table names are short")])?;
        out.put(name.as_bytes())?;
        out.put(&count.to_le_bytes())?;
        for entry in open.iter().map_err(disk)? {
            let (key, value) = entry.map_err(disk)?;
            let (key, value) = (key.value(), value.value());
            out.put(&length(key).to_le_bytes())?;
            out.put(&length(value).to_le_bytes())?;
            out.put(key)?;
            out.put(value)?;
        }
    }
    out.put(&[0])?;
    out.put(END)?;
    let digest = out.digest.clone().finish();
    out.put(digest.as_ref())?;
    out.put(sealer.seal(SEAL_OWNER, digest.as_ref()).as_bytes())?;
    out.out.flush().map_err(disk)?;
    Ok(header)
}

/// Keeps the digest of what passes.
struct Hashing<'o> {
    out: &'o mut dyn Write,
    digest: Context,
}

impl Hashing<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.digest.update(bytes);
        self.out.write_all(bytes).map_err(disk)
    }
}

fn length(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).expect("keys and values are smaller than 4 GiB")
}

/// Sees a whole file pass and can tell whether it is a complete, undamaged backup.
pub struct Watched<W> {
    out: W,
    /// Of everything that passed but `tail`.
    digest: Context,
    /// As much of the beginning as a header may need.
    head: Vec<u8>,
    /// The last bytes, which may be the trailer.
    tail: Vec<u8>,
    length: u64,
}

impl<W: Write> Watched<W> {
    pub fn new(out: W) -> Self {
        let (head, tail) = (Vec::new(), Vec::new());
        Self { out, digest: Context::new(&SHA256), head, tail, length: 0 }
    }

    /// What passed, if all of it was a backup; `path` is for sentences.
    pub fn end(self, path: &Path) -> Result<Proven, BackupError> {
        let Self { mut digest, head, tail, length, .. } = self;
        if !head.starts_with(MAGIC) {
            return Err(foreign(path, &head[..MAGIC.len().min(head.len())]));
        }
        if length < (MAGIC.len() + 4 + TRAILER) as u64 || !tail.starts_with(END) {
            return Err(BackupError::CutOff(path.to_owned()));
        }
        digest.update(END);
        let (said, seal) = tail[END.len()..].split_at(SHA256_OUTPUT_LEN);
        if digest.finish().as_ref() != said {
            return Err(BackupError::Damaged(path.to_owned()));
        }
        let malformed =
            |e: &dyn std::fmt::Display| BackupError::Malformed(path.to_owned(), e.to_string());
        let mut rest = &head[MAGIC.len()..];
        let size = number(&mut rest).map_err(|e| malformed(&e))?;
        if size > MOST_HEADER {
            return Err(malformed(&"its header is too long"));
        }
        let header = bytes(&mut rest, size).map_err(|e| malformed(&e))?;
        let header: Header = serde_json::from_slice(&header).map_err(|e| malformed(&e))?;
        if header.schema > SCHEMA {
            let Header { magnumd, schema, .. } = header;
            return Err(BackupError::NewerSchema(path.to_owned(), magnumd, schema));
        }
        let tables = MAGIC.len() as u64 + 4 + u64::from(size);
        let (digest, seal) = (said.to_vec(), Sealed::from_bytes(seal.to_vec()));
        Ok(Proven { header, length, digest, seal, tables })
    }

    fn see(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        let most = MAGIC.len() + 4 + MOST_HEADER as usize;
        let lacking = most.saturating_sub(self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..lacking]);
        // All but the last bytes of tail and these together are behind us.
        let behind = (self.tail.len() + bytes.len()).saturating_sub(TRAILER);
        let of_tail = behind.min(self.tail.len());
        self.digest.update(&self.tail[..of_tail]);
        self.tail.drain(..of_tail);
        let (passed, last) = bytes.split_at(behind - of_tail);
        self.digest.update(passed);
        self.tail.extend_from_slice(last);
    }
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.see(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

/// What a backup that is whole says of itself.
#[derive(Debug)]
pub struct Proven {
    pub header: Header,
    pub length: u64,
    digest: Vec<u8>,
    seal: Sealed,
    /// Where the first table begins.
    tables: u64,
}

/// A backup whose checksum was found right.
#[derive(Debug)]
pub struct Backup {
    path: PathBuf,
    file: File,
    proven: Proven,
}

impl Backup {
    /// Reads the whole file once; refuses whatever is not a complete, undamaged backup.
    pub fn open(path: &Path) -> Result<Self, BackupError> {
        let io = |e: std::io::Error| BackupError::Disk(path.to_owned(), e);
        let mut file = File::open(path).map_err(io)?;
        let mut watched = Watched::new(std::io::sink());
        let mut chunk = vec![0; 1 << 18];
        // Whatever else it is may be large: its first bytes tell.
        while watched.head.len() < MAGIC.len() || watched.head.starts_with(MAGIC) {
            match file.read(&mut chunk).map_err(io)? {
                0 => break,
                read => watched.see(&chunk[..read]),
            }
        }
        let proven = watched.end(path)?;
        Ok(Self { path: path.to_owned(), file, proven })
    }

    pub const fn header(&self) -> &Header {
        &self.proven.header
    }

    /// Whether it was made with this sealing key, and is as it was made.
    pub fn check_seal(&self, sealer: &Sealer) -> Result<(), BackupError> {
        if !self.meta().fits(sealer) {
            return Err(BackupError::WrongKey {
                path: self.path.clone(),
                theirs: self.proven.header.key_id.clone(),
                ours: sealer.key_id().to_owned(),
            });
        }
        match sealer.open(SEAL_OWNER, &self.proven.seal) {
            Ok(sealed) if *sealed == self.proven.digest => Ok(()),
            _ => Err(BackupError::Forged(self.path.clone())),
        }
    }

    fn meta(&self) -> Meta {
        Meta {
            schema: self.proven.header.schema,
            sequence: self.proven.header.sequence,
            commits: 0,
            key_check: Some(self.proven.header.key_check.clone()),
            instance: Some(self.proven.header.instance.clone()).filter(|name| !name.is_empty()),
        }
    }

    /// Checks what it holds as [`super::Store::verify`] checks a state.
    pub fn verify(&self, sealer: &Sealer) -> Result<verify::Report, BackupError> {
        self.check_seal(sealer)?;
        let memory = redb::backends::InMemoryBackend::new();
        let database = Database::builder().create_with_backend(memory).map_err(state)?;
        self.load(&database)?;
        verified(&database, sealer)
    }

    /// Fills an empty database with the records, in one transaction, and makes the indexes.
    pub(super) fn load(&self, database: &Database) -> Result<(), BackupError> {
        let transaction = database.begin_write().map_err(state)?;
        self.meta().restored().named().write(&transaction).map_err(state)?;
        for name in record_kind::tables() {
            transaction.open_table(table::definition(name)).map_err(state)?;
        }
        let mut indexes: Vec<(&'static str, Key)> = Vec::new();
        let mut file = BufReader::with_capacity(1 << 20, &self.file);
        file.seek(SeekFrom::Start(self.proven.tables))
            .map_err(|e| BackupError::Disk(self.path.clone(), e))?;
        while let Some(kind) = self.next_table(&mut file)? {
            let mut open = transaction.open_table(table::definition(kind.table)).map_err(state)?;
            let count = bytes(&mut file, 8).map_err(|e| self.malformed(&e))?;
            let count = u64::from_le_bytes(count.try_into().expect("8 bytes"));
            for _ in 0..count {
                let (key, value) = self.next_record(&mut file)?;
                // One that cannot be read is kept as it is: verify names it.
                indexes
                    .extend(record_kind::indexes_of(kind.table, &key, &value).unwrap_or_default());
                open.insert(key.as_slice(), value.as_slice()).map_err(state)?;
            }
        }
        indexes.sort();
        for group in indexes.chunk_by(|(a, _), (b, _)| a == b) {
            let mut open = transaction.open_table(table::definition(group[0].0)).map_err(state)?;
            for (_, key) in group {
                open.insert(key.0.as_slice(), [].as_slice()).map_err(state)?;
            }
        }
        transaction.commit().map_err(state)
    }

    fn next_table(&self, file: &mut impl Read) -> Result<Option<&'static Kind>, BackupError> {
        let size = bytes(file, 1).map_err(|e| self.malformed(&e))?[0];
        if size == 0 {
            return Ok(None);
        }
        let name = bytes(file, u32::from(size)).map_err(|e| self.malformed(&e))?;
        let name = String::from_utf8_lossy(&name);
        let kind = Kind::named(&name);
        kind.map(Some).ok_or_else(|| self.malformed(&format!("it has a table '{name}'")))
    }

    fn next_record(&self, file: &mut impl Read) -> Result<(Vec<u8>, Vec<u8>), BackupError> {
        let mut read = || -> std::io::Result<_> {
            let (key, value) = (number(file)?, number(file)?);
            Ok((bytes(file, key)?, bytes(file, value)?))
        };
        read().map_err(|e| self.malformed(&e))
    }

    fn malformed(&self, reason: &dyn std::fmt::Display) -> BackupError {
        BackupError::Malformed(self.path.clone(), reason.to_string())
    }
}

pub(super) fn verified(
    database: &Database,
    sealer: &Sealer,
) -> Result<verify::Report, BackupError> {
    earlier::renew_all(database, sealer).map_err(state)?;
    let transaction = database.begin_read().map_err(state)?;
    verify::verify(&transaction, sealer).map_err(state)
}

/// What a file is that does not begin as a backup of this format does.
fn foreign(path: &Path, start: &[u8]) -> BackupError {
    let path = path.to_owned();
    if let Some(format) = start.strip_prefix(FAMILY) {
        return BackupError::Format(path, String::from_utf8_lossy(format).trim().to_owned());
    }
    let what = match start {
        [] => "empty",
        _ if start.starts_with(b"redb") => {
            "a state file; copy it into place while no magnumd runs, or make a backup of it"
        }
        _ if start.starts_with(b"{") => "JSON; if it is an export, use magnumd import",
        _ if MAGIC.starts_with(start) => return BackupError::CutOff(path),
        _ => "something else",
    };
    BackupError::Foreign(path, what)
}

fn number(file: &mut impl Read) -> std::io::Result<u32> {
    let mut bytes = [0; 4];
    file.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

fn bytes(file: &mut impl Read, length: u32) -> std::io::Result<Vec<u8>> {
    if length > MOST_VALUE {
        return Err(std::io::Error::other(format!("{length} bytes are too many")));
    }
    let mut bytes = vec![0; length as usize];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn disk(error: impl std::fmt::Display) -> StoreError {
    StoreError::Disk(error.to_string())
}

fn state(error: impl std::fmt::Display) -> BackupError {
    BackupError::State(error.to_string())
}
