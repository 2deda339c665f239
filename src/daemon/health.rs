//! What has to be in order, and the looks that find out whether it is again.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::conductor::Conductor;
use crate::openstack::{Cloud, Service};
use crate::ops::health::{Check, Finding, Health};
use crate::store::{Change, Damages, Store};

/// A Keystone that is silent for longer keeps almost every request from an answer.
const SILENCE: Duration = Duration::from_secs(60);
/// How often a state that could not be written, or a Keystone that was silent, is tried.
const STATE_INTERVAL: Duration = Duration::from_secs(2);
const KEYSTONE_INTERVAL: Duration = Duration::from_secs(10);
/// How often the whole state is read, so that damage is known before it is met.
const READ_INTERVAL: Duration = Duration::from_secs(86_400);
/// Damaged records that are named.
const NAMED: usize = 5;

/// What is looked at.
pub struct Subjects {
    pub store: Store,
    pub conductor: Conductor,
    pub cloud: Cloud,
    pub has_started: Arc<AtomicBool>,
    pub stop: CancellationToken,
    pub disable_file: Option<PathBuf>,
}

/// Reasons are told to anybody, so they say what but not where.
pub fn health(subjects: &Subjects) -> Health {
    let Subjects { store, conductor, cloud, has_started, stop, disable_file } = subjects;
    let because = |holds: bool, reason: &str| match holds {
        true => Ok(()),
        false => Err(reason.to_owned()),
    };
    let (writer, loops) = (store.clone(), conductor.clone());
    let live = vec![
        Check::new("writer", move || because(writer.is_alive(), "the state's writer is stuck")),
        Check::new("conductor", move || because(loops.is_alive(), "the conductor is stuck")),
    ];
    let (damaged, left_out) = (store.clone(), store.clone());
    let (store, cloud, has_started) = (store.clone(), cloud.clone(), Arc::clone(has_started));
    let (stop, disable_file) = (stop.clone(), disable_file.clone());
    let ready = vec![
        Check::new("started", move || {
            because(has_started.load(Ordering::Relaxed), "the daemon is starting")
        }),
        Check::new("running", move || because(!stop.is_cancelled(), "the daemon is stopping")),
        Check::new("enabled", move || {
            let is_disabled = disable_file.as_ref().is_some_and(|file| file.exists());
            because(!is_disabled, "disabled by file")
        }),
        Check::new("state", move || {
            because(store.trouble().is_none(), "the state cannot be written; reads are answered")
        }),
        Check::new("file", move || {
            because(damaged.damage().file.is_none(), "the state file is damaged")
        }),
        Check::graded("records", move || records(&left_out.damage())),
        Check::new("keystone", move || match cloud.silence(Service::Keystone) {
            Some((since, _)) if since > SILENCE => {
                Err(format!("Keystone has not answered for {} s", since.as_secs()))
            }
            _ => Ok(()),
        }),
    ];
    Health::new(live, ready)
}

/// Says once, as soon as Keystone has shown its catalogue, what cannot be called because nobody has
/// said in which region.
pub async fn tell_unclear_services(cloud: Cloud) {
    let unclear = loop {
        match cloud.unclear().await {
            Ok(unclear) => break unclear,
            // Others say so, again and again.
            Err(error) => debug!(%error, "the catalogue is not known yet"),
        }
        tokio::time::sleep(KEYSTONE_INTERVAL).await;
    };
    for cause in unclear {
        error!(%cause, "a service is not called, and operations wait, until its region is configured");
    }
}

/// Records that cannot be read cost those whose they are, and nobody else.
fn records(damages: &Damages) -> Finding {
    let Damages { records, lost, .. } = damages;
    if lost.is_some() {
        return Finding::Degraded(
            "the state has lost what was acknowledged: magnumd verify says more".to_owned(),
        );
    }
    if records.is_empty() {
        return Finding::Fine;
    }
    let named = records.iter().take(NAMED).map(|(table, key)| format!("{table} {key}"));
    let named: Vec<String> = named.collect();
    let more = match records.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Finding::Degraded(format!(
        "{} cannot be read: {}{more}; magnumd verify says what helps",
        if records.len() == 1 { "a record" } else { "records" },
        named.join(", ")
    ))
}

/// Without requests nobody would notice that the disk has room again, or that a record that is
/// seldom read was damaged. A writer that has fallen ends the daemon: only a start can mend that.
pub async fn watch_state(store: Store) {
    let mut read_at = None;
    loop {
        if read_at.is_none_or(|at: Instant| at.elapsed() >= READ_INTERVAL) {
            read_at = Some(Instant::now());
            let whole = store.clone();
            // Beside the watch, which goes on meanwhile.
            drop(tokio::task::spawn_blocking(move || {
                if let Err(error) = whole.look_over() {
                    error!(%error, "the state cannot be read as a whole");
                }
            }));
        }
        tokio::time::sleep(STATE_INTERVAL).await;
        assert!(!store.has_fallen(), "the state's writer has fallen");
        if store.trouble().is_some()
            && let Err(error) = store.commit(Change::new()).await
        {
            debug!(%error, "the state still cannot be written");
        }
    }
}

/// Nor that Keystone is back.
pub async fn watch_keystone(cloud: Cloud) {
    let mut is_told = false;
    loop {
        tokio::time::sleep(KEYSTONE_INTERVAL).await;
        let Some((since, reason)) = cloud.silence(Service::Keystone) else {
            is_told = false;
            continue;
        };
        if since > SILENCE && !is_told {
            is_told = true;
            warn!(reason, ?since, "Keystone does not answer; requests are sent elsewhere");
        }
        if let Err(error) = cloud.keystone().ping().await {
            debug!(%error, "Keystone still does not answer");
        }
    }
}
