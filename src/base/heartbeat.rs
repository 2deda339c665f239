//! Heartbeats: a loop beats, and whoever watches asks whether it still does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The heartbeat of one loop. Clones share it.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    began: Instant,
    /// Milliseconds after `began`, plus one; 0 while resting.
    beat: Arc<AtomicU64>,
}

impl Default for Heartbeat {
    /// At rest.
    fn default() -> Self {
        Self { began: Instant::now(), beat: Arc::default() }
    }
}

impl Heartbeat {
    /// I am working now.
    pub fn beat(&self) {
        self.beat.store(self.now() + 1, Ordering::Relaxed);
    }

    /// I have nothing to do, and silence means nothing.
    pub fn rest(&self) {
        self.beat.store(0, Ordering::Relaxed);
    }

    /// Whether it rests or has beaten no longer than `silence` ago.
    pub fn is_alive(&self, silence: Duration) -> bool {
        match self.beat.load(Ordering::Relaxed) {
            0 => true,
            beat => u128::from(self.now().saturating_sub(beat - 1)) <= silence.as_millis(),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_death_except_at_rest() {
        let pulse = Heartbeat::default();
        let silence = Duration::from_millis(10);
        assert!(pulse.is_alive(silence), "it rests");
        pulse.clone().beat();
        assert!(pulse.is_alive(Duration::from_secs(60)));
        std::thread::sleep(Duration::from_millis(30));
        assert!(!pulse.is_alive(silence));
        pulse.rest();
        assert!(pulse.is_alive(silence));
    }
}
