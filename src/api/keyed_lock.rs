//! Locks by name: changes of one resource are made one after the other, each from what the last
//! one left.
//!
//! That none is lost is the store's doing, which refuses what was made from an older reading.
//! The lock spares everybody the trying: two hundred at once would refuse each other twenty
//! thousand times.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::error::ApiError;

/// How long a change waits for the lock before it tries without, and then how long it tries.
const LONGEST: Duration = Duration::from_secs(30);

/// The locks that are held or waited for, by the name of what is changed.
#[derive(Debug, Default)]
pub struct KeyedLocks {
    locks: Mutex<HashMap<String, Weak<AsyncMutex<()>>>>,
}

/// The lock is held until this is dropped.
#[derive(Debug)]
pub struct KeyedLock {
    _place: Option<OwnedMutexGuard<()>>,
    began: Instant,
}

impl KeyedLocks {
    /// Waits until everybody is done who came before, but not forever.
    pub async fn acquire(&self, name: &str) -> KeyedLock {
        let place = tokio::time::timeout(LONGEST, self.lock(name).lock_owned()).await;
        KeyedLock { _place: place.ok(), began: Instant::now() }
    }

    fn lock(&self, name: &str) -> Arc<AsyncMutex<()>> {
        // Nothing panics while holding it.
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lock) = locks.get(name).and_then(Weak::upgrade) {
            return lock;
        }
        locks.retain(|_, lock| lock.strong_count() > 0);
        let lock = Arc::default();
        locks.insert(name.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

impl KeyedLock {
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
        let locks = Arc::new(KeyedLocks::default());
        let (within, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..40 {
            let (locks, within, done) = (locks.clone(), within.clone(), done.clone());
            tasks.spawn(async move {
                let _held = locks.acquire(if n % 4 == 0 { "other" } else { "one" }).await;
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
        drop(locks.acquire("last").await);
        assert_eq!(locks.locks.lock().unwrap().len(), 1, "those that nobody stands in are gone");
    }
}
