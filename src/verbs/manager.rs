//! What the service manager is told; nothing happens where there is none.

use std::time::Duration;

use magnumd::daemon::Handle;
use sd_notify::NotifyState;
use tracing::{debug, error};

/// Listeners, running steps and the state's writer, each with its own limit.
const STOP_MICROS: u32 = 110_000_000;
/// How often the status line is brought up to date.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Until the next [`ready`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "the monotonic clock cannot be read"),
    }
}

pub fn stopping() {
    let status = NotifyState::Status("stopping: open requests and running steps may finish");
    tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(STOP_MICROS), status]);
}

/// Shows how the daemon is and, while it lives, keeps the watchdog quiet. Has no end.
pub async fn attend(handle: Handle) {
    let watchdog = sd_notify::watchdog_enabled();
    let interval = watchdog.map_or(STATUS_INTERVAL, |w| (w / 3).min(STATUS_INTERVAL));
    let (mut was_alive, mut shown) = (true, String::new());
    loop {
        let is_alive = handle.is_alive();
        if is_alive && watchdog.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
        if was_alive && !is_alive {
            error!("the state's writer or the conductor is stuck; the watchdog is told no more");
        }
        was_alive = is_alive;
        if let Some(load) = handle.load() {
            let trouble = if load.is_writable { "" } else { "; the state cannot be written" };
            let status = format!(
                "{} clusters being worked on, {} waiting{trouble}",
                load.running, load.waiting
            );
            if status != shown {
                tell(&[NotifyState::Status(&status)]);
                shown = status;
            }
        }
        tokio::time::sleep(interval).await;
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "the service manager could not be told");
    }
}
