//! Is the state whole? Every record is read to its last byte, every index entry has its
//! record and every record its index entries, every secret opens, every reference holds.

use std::collections::{BTreeMap, BTreeSet};

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};
use serde::{Deserialize, Serialize};

use super::meta::Meta;
use super::record_kind::{AnyRecord, KINDS};
use super::table::{self, Key};
use super::{Damages, SCHEMA, StoreError, mark};
use crate::base::secret::Sealer;
use crate::model::ClusterId;
use crate::model::certificate::{Certificate, CertificateKind};
use crate::model::cluster::Cluster;
use crate::model::credential::Credential;
use crate::model::nodegroup::NodeGroup;
use crate::model::operation::Operation;
use crate::model::status::Status;

/// What is wrong at one place, and what helps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub table: String,
    pub key: String,
    pub problem: String,
    pub cure: String,
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    pub records: u64,
    pub index_entries: u64,
    pub secrets: u64,
    pub findings: Vec<Finding>,
}

const RESTORE: &str = "restore a backup from before the damage";
const REINDEX: &str = "magnumd backup, then magnumd restore --force: it makes every index anew";
const WITHOUT_TEMPLATE: &str = "the cluster works, and can be shown and deleted; what renders its \
     template anew, as a resize, an upgrade and a rotation do, needs it: restore a backup from before, \
     or make the cluster anew";
const STRAY: &str = "what it belonged to is gone and nothing reads it: it does no harm";

/// What helps where a record cannot be read: nobody can mend it, and without it the rest goes on.
fn unreadable(table: &str, key: &[u8]) -> String {
    let then = match table {
        table::CLUSTER => {
            "forgets the cluster; magnumd orphans list then shows what it had in OpenStack"
        }
        table::CLUSTER_TEMPLATE => {
            "forgets the template; clusters made of it can still be shown and deleted, and its \
             owner makes it anew"
        }
        table::NODE | table::NODE_WAIT | table::SERVICE | table::DUTY | table::ROLLOUT => {
            "forgets it; what is still needed is written anew"
        }
        table::QUOTA => "gives the project the configured limit until it has a quota again",
        table::DRIVER => {
            "forgets these files of a driver; clusters made of just them cannot be changed until \
             they are upgraded, all others go on"
        }
        table::OPERATION => {
            "gives the order up; the cluster's owner deletes the cluster, or orders again"
        }
        table::KEYRING => {
            "lets magnumd draw another key at its next start, which nodes made before do not know"
        }
        _ => "forgets it; the cluster can then be deleted, and made anew by its owner",
    };
    let key = table::shown(table, key);
    format!("magnumd damage delete {table} {key}: it {then}")
}

pub(super) fn verify(transaction: &ReadTransaction, sealer: &Sealer) -> Result<Report, StoreError> {
    let mut look = Look { transaction, sealer, report: Report::default(), seen: Seen::default() };
    look.meta()?;
    let indexed = look.records()?;
    look.indexes(indexed)?;
    look.clusters();
    Ok(look.report)
}

/// What is wrong with the file as a whole.
pub(super) fn of_the_file(checked: Option<String>, known: &Damages) -> Vec<Finding> {
    let finding = |problem: &str, cure: &str| Finding {
        table: "file".to_owned(),
        key: String::new(),
        problem: problem.to_owned(),
        cure: cure.to_owned(),
    };
    let file = checked.as_ref().or(known.file.as_ref());
    let file = file
        .map(|problem| finding(problem, "stop magnumd, look after the disk, and restore a backup"));
    let lost = known.lost.as_ref().map(|problem| {
        let cure = "magnumd orphans list shows what was made and is forgotten; magnumd cluster \
                    adopt links it again";
        finding(problem, cure)
    });
    let mark = known.mark.then(|| Finding {
        table: "mark".to_owned(),
        ..finding(
            &format!("is {}", mark::DAMAGED),
            "compare magnumd cluster list with what is expected, or with a backup; the mark is \
             written anew with the next change",
        )
    });
    file.into_iter().chain(lost).chain(mark).collect()
}

struct Look<'t> {
    transaction: &'t ReadTransaction,
    sealer: &'t Sealer,
    report: Report,
    seen: Seen,
}

/// What must agree between records of one cluster.
#[derive(Default)]
struct Seen {
    last_sequence: u64,
    clusters: BTreeMap<ClusterId, Cluster>,
    groups: BTreeMap<ClusterId, Vec<NodeGroup>>,
    certificates: BTreeMap<ClusterId, Vec<CertificateKind>>,
    trustees: BTreeMap<ClusterId, Option<String>>,
    operations: BTreeSet<ClusterId>,
    /// Places whose record cannot be read: nothing follows from what it does not say.
    unreadable: Vec<(&'static str, Key)>,
}

impl Seen {
    /// Whether the index entry is an unreadable record's.
    fn excuses(&self, index: &str, entry: &Key) -> bool {
        self.unreadable.iter().any(|(table, key)| {
            table::indexes_to(table).contains(&index) && entry.0.ends_with(&key.0)
        })
    }

    /// Whether something of the cluster cannot be read.
    fn is_partial(&self, id: ClusterId) -> bool {
        self.unreadable.iter().any(|(_, key)| key.0.starts_with(id.uuid().as_bytes()))
    }

    fn note(&mut self, record: &dyn AnyRecord) {
        let record = record.as_any();
        if let Some(cluster) = record.downcast_ref::<Cluster>() {
            self.last_sequence = self.last_sequence.max(cluster.sequence.0);
            self.clusters.insert(cluster.id, cluster.clone());
        } else if let Some(group) = record.downcast_ref::<NodeGroup>() {
            self.last_sequence = self.last_sequence.max(group.sequence.0);
            self.groups.entry(group.cluster_id).or_default().push(group.clone());
        } else if let Some(certificate) = record.downcast_ref::<Certificate>() {
            let kinds = self.certificates.entry(certificate.cluster_id).or_default();
            kinds.push(certificate.kind);
        } else if let Some(credential) = record.downcast_ref::<Credential>() {
            self.trustees.insert(credential.cluster_id, credential.trustee_user_id.clone());
        } else if let Some(operation) = record.downcast_ref::<Operation>() {
            self.last_sequence = self.last_sequence.max(operation.sequence.0);
            self.operations.insert(operation.cluster_id);
        }
    }
}

/// For each index the entries that records ask for, and which record asks.
type Indexed = BTreeMap<&'static str, BTreeMap<Key, (&'static str, Key)>>;

impl Look<'_> {
    fn find(&mut self, table: &str, key: &[u8], problem: impl Into<String>, cure: &str) {
        self.report.findings.push(Finding {
            table: table.to_owned(),
            key: table::shown(table, key),
            problem: problem.into(),
            cure: cure.to_owned(),
        });
    }

    fn meta(&mut self) -> Result<(), StoreError> {
        let meta = Meta::read(self.transaction).map_err(disk)?;
        match meta {
            None => self.find("meta", b"schema", "is missing", RESTORE),
            Some(meta) if meta.schema > SCHEMA => {
                let problem = format!("{} is newer than this magnumd knows", meta.schema);
                self.find("meta", b"schema", problem, "use the release that wrote it");
            }
            Some(meta) if !meta.fits(self.sealer) => {
                let cure = "give the key with which the state was made";
                self.find("meta", b"key_check", "does not open with this sealing key", cure);
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn records(&mut self) -> Result<Indexed, StoreError> {
        let mut indexed = Indexed::new();
        for kind in KINDS {
            let open = self.transaction.open_table(table::definition(kind.table)).map_err(disk)?;
            for entry in open.iter().map_err(disk)? {
                let (key, value) = entry.map_err(disk)?;
                let key = key.value();
                self.report.records += 1;
                let mut record = match kind.decode_at(key, value.value()) {
                    Ok((record, _)) => record,
                    Err(e) => {
                        self.find(kind.table, key, e.to_string(), &unreadable(kind.table, key));
                        self.seen.unreadable.push((kind.table, Key(key.to_vec())));
                        continue;
                    }
                };
                for (owner, sealed) in record.sealed() {
                    self.report.secrets += 1;
                    if self.sealer.open(&owner, sealed).is_err() {
                        let problem = format!("the secret of {owner} does not open");
                        let cure = "restore a backup from before, or delete and make the cluster";
                        self.find(kind.table, key, problem, cure);
                    }
                }
                for (index, entry) in record.indexes() {
                    let of = (kind.table, Key(key.to_vec()));
                    indexed.entry(index).or_default().insert(entry, of);
                }
                for (needed, other) in record.needs() {
                    if !self.has(needed, &other)? {
                        let other = table::shown(needed, &other.0);
                        let problem = format!("belongs to {needed} {other}, which is not there");
                        let cure = match kind.table {
                            table::CLUSTER => WITHOUT_TEMPLATE,
                            _ => STRAY,
                        };
                        self.find(kind.table, key, problem, cure);
                    }
                }
                self.seen.note(&*record);
            }
        }
        Ok(indexed)
    }

    fn has(&self, table: &'static str, key: &Key) -> Result<bool, StoreError> {
        let open = self.transaction.open_table(table::definition(table)).map_err(disk)?;
        Ok(open.get(key.0.as_slice()).map_err(disk)?.is_some())
    }

    /// Quotas are counted in an index, so usage is right when the index is.
    fn indexes(&mut self, mut indexed: Indexed) -> Result<(), StoreError> {
        for index in table::INDEXES {
            let mut wanted = indexed.remove(index).unwrap_or_default();
            let open = self.transaction.open_table(table::definition(index)).map_err(disk)?;
            self.report.index_entries += open.len().map_err(disk)?;
            for entry in open.iter().map_err(disk)? {
                let (key, _) = entry.map_err(disk)?;
                let key = Key(key.value().to_vec());
                if wanted.remove(&key).is_none() && !self.seen.excuses(index, &key) {
                    self.find(index, &key.0, "leads to no record that asks for it", REINDEX);
                }
            }
            for (key, (table, of)) in wanted {
                let problem =
                    format!("is missing, but {table} {} needs it", table::shown(table, &of.0));
                self.find(index, &key.0, problem, REINDEX);
            }
        }
        for (index, entries) in indexed {
            let problem = format!("is asked for by {} records and is no index", entries.len());
            self.find(index, b"", problem, "install the release that wrote the state");
        }
        Ok(())
    }

    fn clusters(&mut self) {
        let seen = std::mem::take(&mut self.seen);
        let given = Meta::read(self.transaction).ok().flatten().map_or(0, |m| m.sequence);
        if seen.last_sequence > given {
            let problem = format!("is {given}, but a record has {}", seen.last_sequence);
            self.find("meta", table::SEQUENCE.as_bytes(), problem, RESTORE);
        }
        for (id, cluster) in seen.clusters.iter().filter(|(id, _)| !seen.is_partial(**id)) {
            let uuid = id.uuid();
            let key = uuid.as_bytes();
            let in_progress = cluster.status.is_in_progress();
            if in_progress && !seen.operations.contains(id) {
                let problem = format!("is {} and nothing is being done about it", cluster.status);
                self.find("cluster", key, problem, "delete the cluster, or restore a backup");
            }
            let groups = seen.groups.get(id).map(Vec::as_slice).unwrap_or_default();
            let masters = groups.iter().filter(|g| g.is_default && g.is_master()).count();
            let workers = groups.iter().filter(|g| g.is_default && !g.is_master()).count();
            if (masters, workers) != (1, 1) {
                let problem =
                    format!("has {masters} default master and {workers} default worker groups");
                self.find("cluster", key, problem, RESTORE);
            }
            for group in groups.iter().filter(|g| g.project_id != cluster.project_id) {
                let problem = format!("group {} is of project {}", group.name, group.project_id);
                self.find("cluster", key, problem, RESTORE);
            }
            let trustee = seen.trustees.get(id);
            if trustee.is_some_and(|known| *known != cluster.trustee_user_id) {
                let problem = "names another trustee than its credential";
                self.find("cluster", key, problem, RESTORE);
            }
            // An adopted cluster never had keys here; one that failed may have none yet.
            let built = !in_progress
                && !matches!(
                    cluster.status,
                    Status::CreateFailed
                        | Status::DeleteFailed
                        | Status::DeleteComplete
                        | Status::AdoptComplete
                );
            if built {
                let kinds = seen.certificates.get(id).map(Vec::as_slice).unwrap_or_default();
                let missing: Vec<&str> = CertificateKind::ALL
                    .iter()
                    .filter(|kind| !kinds.contains(kind))
                    .map(|kind| kind.as_str())
                    .collect();
                if !missing.is_empty() {
                    let problem = format!("has no key of kind {}", missing.join(", "));
                    self.find("cluster", key, problem, RESTORE);
                }
                if trustee.is_none() {
                    let problem = "has no trustee, so nothing can be done about its stack";
                    self.find("cluster", key, problem, "magnumd cluster adopt, or restore");
                }
            }
        }
    }
}

fn disk(error: impl std::fmt::Display) -> StoreError {
    StoreError::Disk(error.to_string())
}
