//! The one writer: gathers changes, applies those that hold, commits once.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use redb::{Database, ReadableTable, WriteTransaction};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, error};

use super::change::{Change, Expectation, Write};
use super::damage::{Damage, said};
use super::file::StateFile;
use super::mark::Mark;
use super::record;
use super::record_kind::{self, Kind};
use super::table::{self, Key};
use super::{CodecError, StoreError};
use crate::base::heartbeat::Heartbeat;
use crate::base::metrics::{Counter, Histogram, MetricSet, Registry, Unit, batch, duration};
use crate::model::quota::Quota;

/// Most changes that travel in one commit.
const GROUP: usize = 64;

pub struct Job {
    pub change: Change,
    pub answer: oneshot::Sender<Result<(), StoreError>>,
}

/// What the writer counts. Clones count together.
#[derive(Clone, Debug)]
pub struct WriterMetrics {
    commits: Counter,
    changes: Counter,
    refused: Counter,
    failures: Counter,
    seconds: Histogram,
    group: Histogram,
}

impl Default for WriterMetrics {
    fn default() -> Self {
        let count = Counter::default;
        Self {
            commits: count(),
            changes: count(),
            refused: count(),
            failures: count(),
            seconds: duration(),
            group: batch(),
        }
    }
}

impl MetricSet for WriterMetrics {
    fn register(&self, registry: &mut Registry) {
        let mut count = |name: &str, help: &str, counter: &Counter| {
            registry.register(name, help, counter.clone());
        };
        count("state_commits", "Commits to the state file", &self.commits);
        count("state_changes", "Changes kept in those commits", &self.changes);
        count(
            "state_changes_refused",
            "Changes refused because what they relied on had changed, or for a limit",
            &self.refused,
        );
        count("state_commit_failures", "Commits that the disk refused", &self.failures);
        registry.register_with_unit(
            "state_commit_duration",
            "How long commits took until they were on disk",
            Unit::Seconds,
            self.seconds.clone(),
        );
        registry.register(
            "state_commit_changes",
            "How many changes travelled in one commit",
            self.group.clone(),
        );
    }
}

pub struct Writer {
    pub file: Arc<StateFile>,
    pub jobs: mpsc::Receiver<Job>,
    pub sequence: Arc<AtomicU64>,
    /// How many commits there were before.
    pub commits: u64,
    pub mark: Mark,
    pub damage: Damage,
    pub metrics: WriterMetrics,
    pub pulse: Heartbeat,
}

impl Writer {
    /// Runs until every [`super::Store`] is gone and the channel is empty, or until the database
    /// falls: then nothing is written any more, and whoever waits learns that the store is closed.
    pub fn run(mut self) {
        let mut group = Vec::with_capacity(GROUP);
        while self.jobs.blocking_recv_many(&mut group, GROUP) > 0 {
            self.pulse.beat();
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.write(&mut group))) {
                self.damage.file(&said(&*panic));
                error!("the store's writer has fallen: nothing is written any more");
                return;
            }
            self.pulse.rest();
        }
        debug!("the store's writer has closed the file");
    }

    fn write(&mut self, group: &mut Vec<Job>) {
        let mut answers = Vec::with_capacity(group.len());
        let mut changes = Vec::with_capacity(group.len());
        for job in group.drain(..) {
            changes.push(job.change);
            answers.push(job.answer);
        }
        let outcomes = self.try_commit(&changes).unwrap_or_else(|reason| {
            self.metrics.failures.inc();
            changes.iter().map(|_| Err(StoreError::Disk(reason.clone()))).collect()
        });
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // Whoever asked may have gone; what was promised is on disk all the same.
            let _nobody_waits = answer.send(outcome);
        }
    }

    /// One outcome for each change, or the reason why the disk refused them all.
    fn try_commit(&mut self, changes: &[Change]) -> Result<Vec<Result<(), StoreError>>, String> {
        let database = self.file.for_writing()?;
        let began = Instant::now();
        match self.commit(&database, changes) {
            Ok(outcomes) => {
                let kept = outcomes.iter().filter(|o| o.is_ok()).count();
                self.metrics.refused.inc_by((outcomes.len() - kept) as u64);
                if kept > 0 {
                    self.commits += 1;
                    self.mark.write(self.commits);
                    self.mended(changes, &outcomes);
                    self.metrics.commits.inc();
                    self.metrics.changes.inc_by(kept as u64);
                    self.metrics.seconds.observe(began.elapsed().as_secs_f64());
                    self.metrics.group.observe(kept as f64);
                    self.file.works();
                }
                Ok(outcomes)
            }
            Err(reason) => {
                error!(%reason, "a commit has failed");
                self.file.failed(database, &reason);
                Err(reason)
            }
        }
    }

    /// What was written is as it should be now.
    fn mended(&self, changes: &[Change], outcomes: &[Result<(), StoreError>]) {
        let kept = changes.iter().zip(outcomes).filter(|(_, outcome)| outcome.is_ok());
        for write in kept.flat_map(|(change, _)| &change.writes) {
            match write {
                Write::Put { table, key, .. } | Write::Delete { table, key } => {
                    self.damage.mended(table, key, false);
                }
                Write::DeleteAll { table, prefix } => self.damage.mended(table, prefix, true),
            }
        }
    }

    fn commit(
        &self,
        database: &Database,
        changes: &[Change],
    ) -> Result<Vec<Result<(), StoreError>>, String> {
        let transaction = database.begin_write().map_err(|e| e.to_string())?;
        let mut outcomes = Vec::with_capacity(changes.len());
        for change in changes {
            let outcome = check(&transaction, change)?;
            if outcome.is_ok() {
                apply(&transaction, change)?;
            }
            outcomes.push(outcome);
        }
        if outcomes.iter().all(Result::is_err) {
            transaction.abort().map_err(|e| e.to_string())?;
            return Ok(outcomes);
        }
        {
            let mut meta = transaction.open_table(table::META).map_err(|e| e.to_string())?;
            let sequence = self.sequence.load(Ordering::Relaxed).to_le_bytes();
            meta.insert(table::SEQUENCE, sequence.as_slice()).map_err(|e| e.to_string())?;
            let commits = (self.commits + 1).to_le_bytes();
            meta.insert(table::COMMITS, commits.as_slice()).map_err(|e| e.to_string())?;
        }
        transaction.commit().map_err(|e| e.to_string())?;
        Ok(outcomes)
    }
}

/// Whether the change's expectations hold in the tables as earlier changes left them.
fn check(
    transaction: &WriteTransaction,
    change: &Change,
) -> Result<Result<(), StoreError>, String> {
    for expectation in &change.expectations {
        let refused = match expectation {
            Expectation::Revision { table, key, revision } => (current(transaction, table, key)?
                != Some(*revision))
            .then_some(StoreError::Conflict),
            Expectation::Absent { table, key } => {
                current(transaction, table, key)?.is_some().then_some(StoreError::Conflict)
            }
            Expectation::Exists { table, key } => {
                current(transaction, table, key)?.is_none().then_some(StoreError::Conflict)
            }
            Expectation::WithinQuota { project, limit } => {
                // Read here, where creates and changes of quotas stand in line.
                let limit = match quota(transaction, project)? {
                    Ok(own) => own.unwrap_or(*limit),
                    Err(damaged) => return Ok(Err(damaged.into())),
                };
                let clusters = Key::new().text(project);
                fewer(transaction, table::CLUSTER_BY_PROJECT, &clusters, limit)?
            }
            Expectation::Fewer { index, prefix, limit } => {
                fewer(transaction, index, prefix, *limit)?
            }
            Expectation::None { index, prefix } => (!with_prefix(transaction, index, prefix, 1)?
                .is_empty())
            .then_some(StoreError::Conflict),
            Expectation::Unreadable { table, key } => {
                (!is_unreadable(transaction, table, key)?).then_some(StoreError::Conflict)
            }
        };
        if let Some(refused) = refused {
            return Ok(Err(refused));
        }
    }
    Ok(Ok(()))
}

fn current(
    transaction: &WriteTransaction,
    table: &'static str,
    key: &Key,
) -> Result<Option<u64>, String> {
    let open = transaction.open_table(table::definition(table)).map_err(|e| e.to_string())?;
    let found = open.get(key.0.as_slice()).map_err(|e| e.to_string())?;
    Ok(found.map(|v| record::revision(v.value())))
}

/// Whether there is something that is no record of its place.
fn is_unreadable(
    transaction: &WriteTransaction,
    table: &'static str,
    key: &Key,
) -> Result<bool, String> {
    let open = transaction.open_table(table::definition(table)).map_err(|e| e.to_string())?;
    let found = open.get(key.0.as_slice()).map_err(|e| e.to_string())?;
    let kind = Kind::named(table);
    Ok(found.is_some_and(|value| {
        kind.is_some_and(|kind| kind.decode_at(&key.0, value.value()).is_err())
    }))
}

/// A project's own limit, if it has one. One that cannot be read is no reason to give more.
fn quota(
    transaction: &WriteTransaction,
    project: &str,
) -> Result<Result<Option<u32>, CodecError>, String> {
    let open =
        transaction.open_table(table::definition(table::QUOTA)).map_err(|e| e.to_string())?;
    let key = Quota::key_of(project);
    let found = open.get(key.0.as_slice()).map_err(|e| e.to_string())?;
    let quota = found.map(|value| record::decode_at::<Quota>(&key.0, value.value())).transpose();
    Ok(quota.map(|quota| quota.map(|(quota, _)| quota.hard_limit)))
}

/// The refusal, if so many index entries or more begin with `prefix`.
fn fewer(
    transaction: &WriteTransaction,
    index: &'static str,
    prefix: &Key,
    limit: u32,
) -> Result<Option<StoreError>, String> {
    let found = with_prefix(transaction, index, prefix, limit as usize)?.len();
    Ok((found >= limit as usize).then_some(StoreError::Limit { limit }))
}

fn with_prefix(
    transaction: &WriteTransaction,
    table: &'static str,
    prefix: &Key,
    most: usize,
) -> Result<Vec<Key>, String> {
    let open = transaction.open_table(table::definition(table)).map_err(|e| e.to_string())?;
    let range = open.range(prefix.0.as_slice()..).map_err(|e| e.to_string())?;
    let mut keys = Vec::new();
    for entry in range.take(most) {
        let (key, _) = entry.map_err(|e| e.to_string())?;
        if !key.value().starts_with(&prefix.0) {
            break;
        }
        keys.push(Key(key.value().to_vec()));
    }
    Ok(keys)
}

/// Writes the change. An error here (of the disk) aborts the whole transaction: by then part of
/// the change may have been written into it.
fn apply(transaction: &WriteTransaction, change: &Change) -> Result<(), String> {
    for write in &change.writes {
        match write {
            Write::Put { table, key, encoded, indexes } => {
                put(transaction, table, key, Some((encoded, indexes)))?;
            }
            Write::Delete { table, key } => put(transaction, table, key, None)?,
            Write::DeleteAll { table, prefix } => {
                for key in with_prefix(transaction, table, prefix, usize::MAX)? {
                    put(transaction, table, &key, None)?;
                }
            }
        }
    }
    Ok(())
}

type Entry<'c> = (&'c Vec<u8>, &'c Vec<(&'static str, Key)>);

/// Replaces one record and brings its index entries into line.
fn put(
    transaction: &WriteTransaction,
    table: &'static str,
    key: &Key,
    entry: Option<Entry<'_>>,
) -> Result<(), String> {
    let mut open = transaction.open_table(table::definition(table)).map_err(|e| e.to_string())?;
    let (revision, old) = {
        let old = open.get(key.0.as_slice()).map_err(|e| e.to_string())?;
        let revision = old.as_ref().map_or(0, |v| record::revision(v.value()));
        let indexes = match old.map(|v| record_kind::indexes_of(table, &key.0, v.value())) {
            None => Vec::new(),
            Some(Ok(indexes)) => indexes,
            // It does not say any more what leads to it.
            Some(Err(_)) => leading_to(transaction, table, key)?,
        };
        (revision, indexes)
    };
    let none = Vec::new();
    let new = match entry {
        Some((encoded, indexes)) => {
            let mut stamped = encoded.clone();
            record::stamp(table, &mut stamped, revision.saturating_add(1));
            open.insert(key.0.as_slice(), stamped.as_slice()).map_err(|e| e.to_string())?;
            indexes
        }
        None => {
            open.remove(key.0.as_slice()).map_err(|e| e.to_string())?;
            &none
        }
    };
    drop(open);
    for (index, key) in old.iter().filter(|entry| !new.contains(entry)) {
        let mut open =
            transaction.open_table(table::definition(index)).map_err(|e| e.to_string())?;
        open.remove(key.0.as_slice()).map_err(|e| e.to_string())?;
    }
    for (index, key) in new.iter().filter(|entry| !old.contains(entry)) {
        let mut open =
            transaction.open_table(table::definition(index)).map_err(|e| e.to_string())?;
        open.insert(key.0.as_slice(), [].as_slice()).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Every index entry that ends with a record's key, for one that cannot be read.
fn leading_to(
    transaction: &WriteTransaction,
    table: &str,
    key: &Key,
) -> Result<Vec<(&'static str, Key)>, String> {
    let mut entries = Vec::new();
    for &index in table::indexes_to(table) {
        let open = transaction.open_table(table::definition(index)).map_err(|e| e.to_string())?;
        for entry in open.iter().map_err(|e| e.to_string())? {
            let (entry, _) = entry.map_err(|e| e.to_string())?;
            if entry.value().ends_with(&key.0) {
                entries.push((index, Key(entry.value().to_vec())));
            }
        }
    }
    Ok(entries)
}
