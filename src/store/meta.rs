//! What the state file says of itself.

use redb::{ReadTransaction, TableError, WriteTransaction};

use super::{SCHEMA, record, table};
use crate::base::id::Entropy;
use crate::base::secret::{Sealed, Sealer};

const KEY_CHECK_OWNER: &str = "meta/key_check";
const KEY_CHECK: &[u8] = b"magnumd";

/// How many sequence numbers are left out when a state is restored: what was done after the backup
/// was made has numbers that services outside remember, such as a stack's `revision`.
pub const LEFT_OUT: u64 = 1 << 20;

#[derive(Clone, Debug)]
pub struct Meta {
    pub schema: u64,
    /// The last sequence that may have been given.
    pub sequence: u64,
    /// How many commits there were since it was made or restored.
    pub commits: u64,
    /// Opens with the right sealing key only; None when it cannot be read.
    pub key_check: Option<Sealed>,
    /// Absent in files of the first releases.
    pub instance: Option<String>,
}

impl Meta {
    /// Of a state that begins.
    pub fn first(sealer: &Sealer) -> Self {
        let key_check = Some(sealer.seal(KEY_CHECK_OWNER, KEY_CHECK));
        Self { schema: SCHEMA, sequence: 0, commits: 0, key_check, instance: None }
    }

    /// With a name, drawn if there was none.
    pub fn named(mut self) -> Self {
        self.instance.get_or_insert_with(|| Entropy::new().uuid().to_string());
        self
    }

    /// Of a state that is put in the place of a later one, perhaps.
    pub const fn restored(mut self) -> Self {
        self.sequence = self.sequence.saturating_add(LEFT_OUT);
        self
    }

    /// None when nothing was ever written.
    pub fn read(transaction: &ReadTransaction) -> Result<Option<Self>, redb::Error> {
        let meta = match transaction.open_table(table::META) {
            Ok(meta) => meta,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        let read = |key: &str| Ok::<_, redb::Error>(meta.get(key)?.map(|v| v.value().to_vec()));
        let number = |bytes: Vec<u8>| bytes.try_into().map(u64::from_le_bytes).unwrap_or(0);
        Ok(Some(Self {
            schema: read(table::SCHEMA)?.map_or(0, number),
            sequence: read(table::SEQUENCE)?.map_or(0, number),
            commits: read(table::COMMITS)?.map_or(0, number),
            key_check: read(table::KEY_CHECK)?.and_then(|v| record::decode_body(&v).ok()),
            instance: read(table::INSTANCE)?.and_then(|v| String::from_utf8(v).ok()),
        }))
    }

    pub fn write(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let mut meta = transaction.open_table(table::META)?;
        meta.insert(table::SCHEMA, self.schema.to_le_bytes().as_slice())?;
        meta.insert(table::SEQUENCE, self.sequence.to_le_bytes().as_slice())?;
        meta.insert(table::COMMITS, self.commits.to_le_bytes().as_slice())?;
        if let Some(check) = &self.key_check {
            meta.insert(table::KEY_CHECK, record::encode_body(check).as_slice())?;
        }
        if let Some(instance) = &self.instance {
            meta.insert(table::INSTANCE, instance.as_bytes())?;
        }
        Ok(())
    }

    pub fn fits(&self, sealer: &Sealer) -> bool {
        self.key_check.as_ref().is_some_and(|check| sealer.open(KEY_CHECK_OWNER, check).is_ok())
    }
}
