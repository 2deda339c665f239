//! Records: what each one is called, how it is keyed, indexed and encoded.
//!
//! bincode numbers enum variants and fields by position, so a released shape is
//! never edited: a new shape gets a new version and the old one stays readable. Around each
//! record lies an envelope with its revision and a digest, so that a flipped bit is seen.

use aws_lc_rs::digest::{Context, SHA256};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::table::{self, Key};
use crate::base::secret::Sealed;
use crate::model::ClusterId;
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

/// No record is larger, encoded or decoded: whoever writes is held to what readers take.
pub const MOST_BYTES: usize = 1 << 20;
/// The high half of the first byte of a record that carries its digest. It differs in several
/// bits from every version of a record without one, so that no flipped bit makes one of the other.
const DIGESTED: u8 = 0xd0;
const REVISION: std::ops::Range<usize> = 1..9;
/// Where the body of a record begins that carries a digest.
const BODY: usize = 9 + DIGEST;
const DIGEST: usize = 16;

/// Why a value is not a record.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("a {table} record has version {version}, which only a newer magnumd can read")]
    TooNew { table: &'static str, version: u8 },
    #[error("a {table} record is damaged: {reason}")]
    Damaged { table: &'static str, reason: String },
    #[error("holds the record of {of}")]
    Misplaced { of: String },
}

/// Why something cannot be kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Nobody could read the record again. `reason` says what is too much, and how much may be.
    #[error("a {table} record cannot be kept: {reason}")]
    Record { table: &'static str, reason: String },
    /// Too much at once; whoever has more to write does it in several changes.
    #[error("a change of {writes} records and {bytes} bytes is more than is written at once")]
    Change { writes: usize, bytes: usize },
}

/// Something the store keeps.
pub trait Record: Serialize + DeserializeOwned + Clone {
    const TABLE: &'static str;
    /// The version written; every version up to it can be read.
    const VERSION: u8 = 1;
    /// Whether its key begins with the id of the cluster to which it belongs, and with which it
    /// goes.
    const OF_CLUSTER: bool = false;

    fn key(&self) -> Key;

    /// Reads the body of an earlier version.
    fn of_earlier(version: u8, body: &[u8]) -> Result<Self, String> {
        let _same_shape = version;
        decode_body(body)
    }

    /// Every index entry that leads here: index and key.
    fn indexes(&self) -> Vec<(&'static str, Key)> {
        Vec::new()
    }

    /// The records without which this one makes no sense: table and key.
    fn needs(&self) -> Vec<(&'static str, Key)> {
        Vec::new()
    }

    /// Every sealed value in it, and what each is bound to.
    fn sealed(&mut self) -> Vec<(String, &mut Sealed)> {
        Vec::new()
    }
}

pub fn encode_body<T: Serialize>(value: &T) -> Vec<u8> {
    bincode::serde::encode_to_vec(value, bincode::config::standard())
        .expect("plain data in memory always encodes")
}

pub fn decode_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    if body.len() > MOST_BYTES {
        return Err(format!("{} bytes are too many", body.len()));
    }
    let config = bincode::config::standard().with_limit::<MOST_BYTES>();
    match bincode::serde::decode_from_slice(body, config) {
        Ok((value, used)) if used == body.len() => Ok(value),
        Ok((_, used)) => Err(format!("{} bytes are left over", body.len() - used)),
        Err(bincode::error::DecodeError::LimitExceeded) => {
            Err(format!("its parts take more than {MOST_BYTES} bytes of memory"))
        }
        Err(e) => Err(e.to_string()),
    }
}

/// The envelope before it is stamped, around a body that was read back: what readers would
/// refuse is never written.
pub fn encode<R: Record>(record: &R) -> Result<Vec<u8>, Unfit> {
    let body = encode_body(record);
    let unfit = |reason: String| Unfit::Record { table: R::TABLE, reason };
    if body.len() > MOST_BYTES {
        return Err(unfit(format!(
            "it has {} bytes, and at most {MOST_BYTES} are kept",
            body.len()
        )));
    }
    decode_body::<R>(&body).map_err(|reason| {
        unfit(format!("with its {} bytes it could not be read again: {reason}", body.len()))
    })?;
    let mut out = vec![0; BODY];
    out[0] = DIGESTED | R::VERSION;
    out.extend(body);
    Ok(out)
}

/// Stamps the revision into an encoded record, and the digest of all of it.
pub fn stamp(table: &str, encoded: &mut [u8], revision: u64) {
    encoded[REVISION].copy_from_slice(&revision.to_le_bytes());
    let digest = digest(table, encoded);
    encoded[BODY - DIGEST..BODY].copy_from_slice(&digest);
}

/// Of everything but the digest's own place.
fn digest(table: &str, encoded: &[u8]) -> [u8; DIGEST] {
    let parts: [&[u8]; 5] =
        [b"magnumd record ", table.as_bytes(), &[0], &encoded[..9], &encoded[BODY..]];
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut short = [0; DIGEST];
    short.copy_from_slice(&context.finish().as_ref()[..DIGEST]);
    short
}

/// The version of a record that carries its digest.
pub fn version(encoded: &[u8]) -> Option<u8> {
    encoded.first().filter(|first| **first & 0xf0 == DIGESTED).map(|first| first & 0x0f)
}

pub fn revision(encoded: &[u8]) -> u64 {
    encoded.get(REVISION).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// The record with its digest, if it is of the first releases, which wrote none, and can be read.
pub fn with_digest(table: &'static str, encoded: &[u8]) -> Option<Vec<u8>> {
    let (head, body) = encoded.split_at_checked(9)?;
    if head[0] >= DIGESTED {
        return None;
    }
    let mut out = vec![0; BODY];
    out[0] = DIGESTED | head[0];
    out.extend_from_slice(body);
    stamp(table, &mut out, revision(encoded));
    Some(out)
}

/// The record of a key, and its revision.
pub fn decode_at<R: Record>(key: &[u8], encoded: &[u8]) -> Result<(R, u64), CodecError> {
    let (record, revision) = decode::<R>(encoded)?;
    let own = record.key().0;
    match own == key {
        true => Ok((record, revision)),
        false => Err(CodecError::Misplaced { of: table::shown(R::TABLE, &own) }),
    }
}

/// `version · revision · body`, as the first releases wrote it, or
/// `0xd0 + version · revision · digest · body`.
pub fn decode<R: Record>(encoded: &[u8]) -> Result<(R, u64), CodecError> {
    let damaged = |reason: &str| CodecError::Damaged { table: R::TABLE, reason: reason.to_owned() };
    let short = || damaged("it is too short");
    let first = *encoded.first().ok_or_else(short)?;
    let (version, body) = match first & 0xf0 {
        DIGESTED => {
            let body = encoded.get(BODY..).ok_or_else(short)?;
            if encoded[BODY - DIGEST..BODY] != digest(R::TABLE, encoded) {
                return Err(damaged("it is not as it was written: its digest does not fit"));
            }
            (first & 0x0f, body)
        }
        _ => (first, encoded.get(9..).ok_or_else(short)?),
    };
    if version > R::VERSION {
        return Err(CodecError::TooNew { table: R::TABLE, version });
    }
    let record = match version == R::VERSION {
        true => decode_body(body),
        false => R::of_earlier(version, body),
    };
    Ok((record.map_err(|reason| damaged(&reason))?, revision(encoded)))
}

fn of_cluster(id: ClusterId) -> (&'static str, Key) {
    (table::CLUSTER, Key::new().uuid(id.uuid()))
}

impl Record for ClusterTemplate {
    const TABLE: &'static str = table::CLUSTER_TEMPLATE;

    fn key(&self) -> Key {
        Key::new().uuid(self.id.uuid())
    }

    fn indexes(&self) -> Vec<(&'static str, Key)> {
        let (id, sequence) = (self.id.uuid(), self.sequence.0);
        let mut keys = vec![
            (table::TEMPLATE_BY_SEQUENCE, Key::new().number(sequence).uuid(id)),
            (
                table::TEMPLATE_BY_PROJECT,
                Key::new().text(&self.project_id).number(sequence).uuid(id),
            ),
            (table::TEMPLATE_BY_NAME, Key::new().text(&self.name).number(sequence).uuid(id)),
        ];
        if self.public {
            keys.push((table::TEMPLATE_PUBLIC, Key::new().number(sequence).uuid(id)));
        }
        keys
    }
}

impl Record for Cluster {
    const TABLE: &'static str = table::CLUSTER;
    const OF_CLUSTER: bool = true;
    /// 2: the discovery URL is sealed. Version 1 has it in plain text in the same place, and is
    /// read like 2: whoever opens a state seals it, see [`super::earlier`].
    const VERSION: u8 = 2;

    fn key(&self) -> Key {
        Key::new().uuid(self.id.uuid())
    }

    fn indexes(&self) -> Vec<(&'static str, Key)> {
        let (id, sequence) = (self.id.uuid(), self.sequence.0);
        vec![
            (table::CLUSTER_BY_SEQUENCE, Key::new().number(sequence).uuid(id)),
            (
                table::CLUSTER_BY_PROJECT,
                Key::new().text(&self.project_id).number(sequence).uuid(id),
            ),
            (table::CLUSTER_BY_NAME, Key::new().text(&self.name).number(sequence).uuid(id)),
            (table::CLUSTER_BY_TEMPLATE, Key::new().uuid(self.template_id.uuid()).uuid(id)),
        ]
    }

    fn needs(&self) -> Vec<(&'static str, Key)> {
        vec![(table::CLUSTER_TEMPLATE, Key::new().uuid(self.template_id.uuid()))]
    }

    fn sealed(&mut self) -> Vec<(String, &mut Sealed)> {
        let owner = Self::discovery_owner(self.id);
        self.discovery_url.iter_mut().map(|url| (owner.clone(), url)).collect()
    }
}

impl Record for StoredDriver {
    const TABLE: &'static str = table::DRIVER;

    fn key(&self) -> Key {
        Key::new().text(&self.digest)
    }
}

impl Record for ClusterDriver {
    const TABLE: &'static str = table::CLUSTER_DRIVER;
    const OF_CLUSTER: bool = true;

    fn key(&self) -> Key {
        Key::new().uuid(self.cluster_id.uuid())
    }

    fn indexes(&self) -> Vec<(&'static str, Key)> {
        let key = Key::new().text(&self.digest).uuid(self.cluster_id.uuid());
        vec![(table::CLUSTER_BY_DRIVER, key)]
    }

    fn needs(&self) -> Vec<(&'static str, Key)> {
        vec![of_cluster(self.cluster_id), (table::DRIVER, Key::new().text(&self.digest))]
    }
}

impl Record for NodeGroup {
    const TABLE: &'static str = table::NODEGROUP;
    const OF_CLUSTER: bool = true;

    fn key(&self) -> Key {
        Key::new().uuid(self.cluster_id.uuid()).uuid(self.id.uuid())
    }

    fn needs(&self) -> Vec<(&'static str, Key)> {
        vec![of_cluster(self.cluster_id)]
    }
}

impl Record for Certificate {
    const TABLE: &'static str = table::CERTIFICATE;
    const OF_CLUSTER: bool = true;

    fn key(&self) -> Key {
        Key::new().uuid(self.cluster_id.uuid()).byte(self.kind.tag())
    }

    fn needs(&self) -> Vec<(&'static str, Key)> {
        vec![of_cluster(self.cluster_id)]
    }

    fn sealed(&mut self) -> Vec<(String, &mut Sealed)> {
        vec![(Self::owner(self.cluster_id, self.kind), &mut self.key)]
    }
}

impl Record for Credential {
    const TABLE: &'static str = table::CREDENTIAL;
    const OF_CLUSTER: bool = true;

    fn key(&self) -> Key {
        Key::new().uuid(self.cluster_id.uuid())
    }

    fn needs(&self) -> Vec<(&'static str, Key)> {
        vec![of_cluster(self.cluster_id)]
    }

    fn sealed(&mut self) -> Vec<(String, &mut Sealed)> {
        let owner = Self::owner(self.cluster_id);
        let passwords = [&mut self.trustee_password].into_iter().chain(&mut self.next_password);
        passwords.map(|password| (owner.clone(), password)).collect()
    }
}

impl Record for CloudFacts {
    const TABLE: &'static str = table::FACTS;
    const OF_CLUSTER: bool = true;

    fn key(&self) -> Key {
        Key::new().uuid(self.cluster_id.uuid())
    }

    fn needs(&self) -> Vec<(&'static str, Key)> {
        vec![of_cluster(self.cluster_id)]
    }
}

impl Record for Operation {
    const TABLE: &'static str = table::OPERATION;
    /// 2: every kind has steps and data of its own.
    const VERSION: u8 = 2;

    fn of_earlier(_: u8, body: &[u8]) -> Result<Self, String> {
        super::former_shapes::operation(body)
    }

    fn key(&self) -> Key {
        Key::new().number(self.sequence.0)
    }

    fn indexes(&self) -> Vec<(&'static str, Key)> {
        let key = Key::new().uuid(self.cluster_id.uuid()).number(self.sequence.0);
        vec![(table::OPERATION_BY_CLUSTER, key)]
    }

    fn needs(&self) -> Vec<(&'static str, Key)> {
        let group = self.nodegroup().map(|group| {
            (table::NODEGROUP, Key::new().uuid(self.cluster_id.uuid()).uuid(group.uuid()))
        });
        [of_cluster(self.cluster_id)].into_iter().chain(group).collect()
    }

    fn sealed(&mut self) -> Vec<(String, &mut Sealed)> {
        let owner = Self::token_owner(self.cluster_id);
        self.token.iter_mut().map(|token| (owner.clone(), token)).collect()
    }
}

impl Record for DiscoveryToken {
    const TABLE: &'static str = table::DISCOVERY;
    /// 2: named by the digest of its token. Version 1 has the token in the same place.
    const VERSION: u8 = 2;

    fn of_earlier(_: u8, body: &[u8]) -> Result<Self, String> {
        let first: Self = decode_body(body)?;
        Ok(Self { name: Self::name_of(&first.name), ..first })
    }

    fn key(&self) -> Key {
        Key::new().text(&self.name)
    }

    fn indexes(&self) -> Vec<(&'static str, Key)> {
        let key = Key::new().uuid(self.cluster_id.uuid()).text(&self.name);
        vec![(table::DISCOVERY_BY_CLUSTER, key)]
    }

    fn needs(&self) -> Vec<(&'static str, Key)> {
        vec![of_cluster(self.cluster_id)]
    }
}

impl Record for Node {
    const TABLE: &'static str = table::NODE;
    const OF_CLUSTER: bool = true;

    fn key(&self) -> Key {
        Key::new().uuid(self.cluster_id.uuid()).text(&self.name)
    }

    fn needs(&self) -> Vec<(&'static str, Key)> {
        vec![of_cluster(self.cluster_id)]
    }
}

impl Record for NodeKey {
    const TABLE: &'static str = table::NODE_KEY;
    const OF_CLUSTER: bool = true;

    fn key(&self) -> Key {
        Key::new().uuid(self.cluster_id.uuid()).text(&self.node)
    }

    fn needs(&self) -> Vec<(&'static str, Key)> {
        vec![of_cluster(self.cluster_id)]
    }
}

impl Record for NodeWait {
    const TABLE: &'static str = table::NODE_WAIT;
    const OF_CLUSTER: bool = true;

    fn key(&self) -> Key {
        Key::new().uuid(self.cluster_id.uuid())
    }

    fn needs(&self) -> Vec<(&'static str, Key)> {
        vec![of_cluster(self.cluster_id)]
    }
}

impl Record for StackRevision {
    const TABLE: &'static str = table::STACK_REVISION;
    const OF_CLUSTER: bool = true;

    fn key(&self) -> Key {
        Key::new().uuid(self.cluster_id.uuid()).text(&self.stack_id)
    }

    fn needs(&self) -> Vec<(&'static str, Key)> {
        vec![of_cluster(self.cluster_id)]
    }
}

impl Record for JoinSecrets {
    const TABLE: &'static str = table::JOIN;
    const OF_CLUSTER: bool = true;

    fn key(&self) -> Key {
        Key::new().uuid(self.cluster_id.uuid())
    }

    fn needs(&self) -> Vec<(&'static str, Key)> {
        vec![of_cluster(self.cluster_id)]
    }

    fn sealed(&mut self) -> Vec<(String, &mut Sealed)> {
        let owner = |which: &str| Self::owner(self.cluster_id, which);
        vec![
            (owner("master"), &mut self.master),
            (owner("worker"), &mut self.worker),
            (owner("renewal"), &mut self.renewal),
        ]
    }
}

impl Record for Duty {
    const TABLE: &'static str = table::DUTY;
    const OF_CLUSTER: bool = true;
    /// 2: duty `rejoin`; whoever does not know it must not take the record for damaged.
    const VERSION: u8 = 2;

    fn key(&self) -> Key {
        Key::new().uuid(self.cluster_id.uuid()).text(&self.node)
    }

    fn needs(&self) -> Vec<(&'static str, Key)> {
        vec![of_cluster(self.cluster_id)]
    }
}

impl Record for Rollout {
    const TABLE: &'static str = table::ROLLOUT;
    const VERSION: u8 = 4;
    const OF_CLUSTER: bool = true;

    fn of_earlier(version: u8, body: &[u8]) -> Result<Self, String> {
        super::former_shapes::rollout(version, body)
    }

    fn key(&self) -> Key {
        Key::new().uuid(self.cluster_id.uuid()).uuid(self.nodegroup.uuid())
    }

    fn needs(&self) -> Vec<(&'static str, Key)> {
        vec![of_cluster(self.cluster_id)]
    }
}

impl Record for NextCertificate {
    const TABLE: &'static str = table::NEXT_CERTIFICATE;
    const OF_CLUSTER: bool = true;

    fn key(&self) -> Key {
        self.0.key()
    }

    fn needs(&self) -> Vec<(&'static str, Key)> {
        self.0.needs()
    }

    fn sealed(&mut self) -> Vec<(String, &mut Sealed)> {
        self.0.sealed()
    }
}

impl Record for Quota {
    const TABLE: &'static str = table::QUOTA;

    fn key(&self) -> Key {
        Self::key_of(&self.project_id)
    }
}

impl Quota {
    pub(super) fn key_of(project: &str) -> Key {
        Key::new().text(project)
    }
}

impl Record for Service {
    const TABLE: &'static str = table::SERVICE;

    fn key(&self) -> Key {
        Key::new().text(&self.host)
    }
}

/// A key or certificate of the daemon itself, such as the bootstrap listener's CA.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct KeyringEntry {
    pub name: String,
    /// What may be shown, such as a certificate in PEM; may be empty.
    pub public: String,
    /// Sealed for [`KeyringEntry::owner`].
    pub private: Sealed,
}

impl KeyringEntry {
    /// What the private part is bound to when sealed.
    pub fn owner(name: &str) -> String {
        format!("keyring/{name}")
    }
}

impl Record for KeyringEntry {
    const TABLE: &'static str = table::KEYRING;

    fn key(&self) -> Key {
        Key::new().text(&self.name)
    }

    fn sealed(&mut self) -> Vec<(String, &mut Sealed)> {
        vec![(Self::owner(&self.name), &mut self.private)]
    }
}
