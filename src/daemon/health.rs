//! What has to be in order, and the looks that find out whether it is again.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};

use crate::conductor::Conductor;
use crate::openstack::{Cloud, Service};
use crate::ops::health::{Check, Health};
use crate::store::{Change, Store};

/// A Keystone that is silent for longer keeps almost every request from an answer.
const SILENCE: Duration = Duration::from_secs(60);
/// How often a state that could not be written, or a Keystone that was silent, is tried.
const STATE_INTERVAL: Duration = Duration::from_secs(2);
const KEYSTONE_INTERVAL: Duration = Duration::from_secs(10);

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

/// Without requests nobody would notice that the disk has room again.
pub async fn watch_state(store: Store) {
    loop {
        tokio::time::sleep(STATE_INTERVAL).await;
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
