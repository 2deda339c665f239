//! Lines: changes of one thing are made one after the other, each from what the last one left.
//!
//! That none is lost is the store's doing, which refuses what was made from an older reading.
//! The line spares everybody the trying: two hundred at once would refuse each other twenty
//! thousand times.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as Lane, OwnedMutexGuard};

use super::error::ApiError;

/// How long a change stands in line before it tries its luck, and then how long it tries.
const LONGEST: Duration = Duration::from_secs(30);

/// The lines that there are, by the name of what is changed.
#[derive(Debug, Default)]
pub struct Lines {
    lanes: Mutex<HashMap<String, Weak<Lane<()>>>>,
}

/// A change whose turn it is, until it is dropped.
#[derive(Debug)]
pub struct Turn {
    _place: Option<OwnedMutexGuard<()>>,
    began: Instant,
}

impl Lines {
    /// Waits until everybody is done who came before, but not forever.
    pub async fn stand(&self, name: &str) -> Turn {
        let place = tokio::time::timeout(LONGEST, self.lane(name).lock_owned()).await;
        Turn { _place: place.ok(), began: Instant::now() }
    }

    fn lane(&self, name: &str) -> Arc<Lane<()>> {
        // Nothing panics while holding it.
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(name).and_then(Weak::upgrade) {
            return lane;
        }
        lanes.retain(|_, lane| lane.strong_count() > 0);
        let lane = Arc::default();
        lanes.insert(name.to_owned(), Arc::downgrade(&lane));
        lane
    }
}

impl Turn {
    /// Whether `refused` may only mean that somebody was faster, such as the conductor: then
    /// what they left is read, and the change made from that.
    pub fn goes_on_after(&self, refused: &ApiError) -> bool {
        refused.is_conflict() && self.began.elapsed() < LONGEST
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn one_at_a_time_and_nothing_is_left_behind() {
        let lines = Arc::new(Lines::default());
        let (within, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..40 {
            let (lines, within, done) = (lines.clone(), within.clone(), done.clone());
            tasks.spawn(async move {
                let _turn = lines.stand(if n % 4 == 0 { "other" } else { "one" }).await;
                if n % 4 != 0 {
                    assert_eq!(within.fetch_add(1, Ordering::SeqCst), 0);
                    tokio::task::yield_now().await;
                    within.fetch_sub(1, Ordering::SeqCst);
                }
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        assert_eq!(done.load(Ordering::SeqCst), 40);
        drop(lines.stand("last").await);
        assert_eq!(lines.lanes.lock().unwrap().len(), 1, "those that nobody stands in are gone");
    }
}
