//! Every kind of record, for whoever goes through all of them: what the writer indexes, what
//! is verified, exported and restored. A kind that is missing here has no table.

use std::any::Any;

use serde_json::Value;

use super::record::{self, CodecError, KeyringEntry, Record, Unfit};
use super::table::{self, Key};
use crate::base::secret::Sealed;
use crate::model::certificate::{Certificate, NextCertificate};
use crate::model::cluster::Cluster;
use crate::model::cluster_template::ClusterTemplate;
use crate::model::credential::Credential;
use crate::model::discovery::DiscoveryToken;
use crate::model::driver::{ClusterDriver, StoredDriver};
use crate::model::duty::Duty;
use crate::model::facts::CloudFacts;
use crate::model::join::JoinSecrets;
use crate::model::node::Node;
use crate::model::node_key::NodeKey;
use crate::model::node_wait::NodeWait;
use crate::model::nodegroup::NodeGroup;
use crate::model::operation::Operation;
use crate::model::quota::Quota;
use crate::model::rollout::Rollout;
use crate::model::service::Service;
use crate::model::stack_revision::StackRevision;

/// What others need comes first; exports and backups go in this order.
pub static KINDS: &[Kind] = &[
    Kind::of::<ClusterTemplate>(),
    Kind::of::<Cluster>(),
    Kind::of::<StoredDriver>(),
    Kind::of::<ClusterDriver>(),
    Kind::of::<NodeGroup>(),
    Kind::of::<Certificate>(),
    Kind::of::<Credential>(),
    Kind::of::<CloudFacts>(),
    Kind::of::<Operation>(),
    Kind::of::<DiscoveryToken>(),
    Kind::of::<Node>(),
    Kind::of::<NodeKey>(),
    Kind::of::<Duty>(),
    Kind::of::<JoinSecrets>(),
    Kind::of::<Rollout>(),
    Kind::of::<NextCertificate>(),
    Kind::of::<NodeWait>(),
    Kind::of::<StackRevision>(),
    Kind::of::<Service>(),
    Kind::of::<Quota>(),
    Kind::of::<KeyringEntry>(),
];

/// What can be done with records of one table without knowing their type.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    pub table: &'static str,
    pub of_cluster: bool,
    pub from_json: fn(Value) -> Result<Box<dyn AnyRecord>, serde_json::Error>,
    indexes: fn(&[u8], &[u8]) -> Result<Indexes, CodecError>,
    decode_at: fn(&[u8], &[u8]) -> Result<Decoded, CodecError>,
    #[cfg(fuzzing)]
    pub(super) reread: fn(&[u8]),
}

/// A record and its revision.
type Decoded = (Box<dyn AnyRecord>, u64);
type Indexes = Vec<(&'static str, Key)>;

impl Kind {
    const fn of<R: Record + 'static>() -> Self {
        Self {
            table: R::TABLE,
            of_cluster: R::OF_CLUSTER,
            from_json: |value| Ok(Box::new(serde_json::from_value::<R>(value)?)),
            indexes: |key, encoded| Ok(record::decode_at::<R>(key, encoded)?.0.indexes()),
            decode_at: |key, encoded| {
                let (record, revision) = record::decode_at::<R>(key, encoded)?;
                Ok((Box::new(record), revision))
            },
            #[cfg(fuzzing)]
            reread: super::fuzzing::reread::<R>,
        }
    }

    /// The record of a key.
    pub fn decode_at(&self, key: &[u8], encoded: &[u8]) -> Result<Decoded, CodecError> {
        (self.decode_at)(key, encoded)
    }

    pub fn named(table: &str) -> Option<&'static Self> {
        KINDS.iter().find(|kind| kind.table == table)
    }
}

/// The names of all tables and indexes.
pub fn tables() -> impl Iterator<Item = &'static str> {
    KINDS.iter().map(|kind| kind.table).chain(table::INDEXES)
}

/// The index entries of an encoded record of any table.
pub fn indexes_of(table: &str, key: &[u8], encoded: &[u8]) -> Result<Indexes, CodecError> {
    Kind::named(table).map_or_else(|| Ok(Vec::new()), |kind| (kind.indexes)(key, encoded))
}

/// A record of whichever type.
pub trait AnyRecord {
    fn key(&self) -> Key;
    fn indexes(&self) -> Indexes;
    fn needs(&self) -> Vec<(&'static str, Key)>;
    fn sealed(&mut self) -> Vec<(String, &mut Sealed)>;
    fn encode(&self) -> Result<Vec<u8>, Unfit>;
    fn to_json(&self) -> Result<Value, serde_json::Error>;
    fn as_any(&self) -> &dyn Any;
}

impl<R: Record + 'static> AnyRecord for R {
    fn key(&self) -> Key {
        Record::key(self)
    }

    fn indexes(&self) -> Indexes {
        Record::indexes(self)
    }

    fn needs(&self) -> Vec<(&'static str, Key)> {
        Record::needs(self)
    }

    fn sealed(&mut self) -> Vec<(String, &mut Sealed)> {
        Record::sealed(self)
    }

    fn encode(&self) -> Result<Vec<u8>, Unfit> {
        record::encode(self)
    }

    fn to_json(&self) -> Result<Value, serde_json::Error> {
        serde_json::to_value(self)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
