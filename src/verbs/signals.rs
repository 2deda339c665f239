//! SIGINT and SIGTERM: the first asks, the second insists.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Cancels `stop` at the first signal; exits at the second.
pub fn stop_on_signal(stop: CancellationToken) {
    let (interrupt, terminate) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()));
    let (mut interrupt, mut terminate) = match (interrupt, terminate) {
        (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
        (Err(error), _) | (_, Err(error)) => {
            return warn!(%error, "signals cannot be caught; they end the process at once");
        }
    };
    tokio::spawn(async move {
        for asked in 0_u8.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if asked > 0 {
                // Always allowed: the next start cannot tell a stop from a power cut.
                std::process::exit(130);
            }
            info!("stopping; a second signal stops at once");
            stop.cancel();
        }
    });
}
