//! Fail points: places at which a process might die.
//!
//! Code that acts on the outside passes a point before and after each act and each commit.
//! A test counts them, then runs again and stops at each in turn; in production a point is
//! one comparison.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The run was told to stop here, as if the process had been killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stopped at a point")]
pub struct Stopped;

/// Counts points and stops at one of them, for good. Clones share the count.
#[derive(Clone, Debug, Default)]
pub struct FailPoints(Option<Arc<Counter>>);

#[derive(Debug)]
struct Counter {
    passed: AtomicU64,
    stop_at: u64,
}

impl FailPoints {
    /// Never stops and counts nothing.
    pub const fn none() -> Self {
        Self(None)
    }

    /// Lets `number` points pass and stops at the next one and at every later one.
    pub fn stopping_after(number: u64) -> Self {
        Self(Some(Arc::new(Counter { passed: AtomicU64::new(0), stop_at: number })))
    }

    /// Counts without ever stopping.
    pub fn counting() -> Self {
        Self::stopping_after(u64::MAX)
    }

    pub fn pass(&self) -> Result<(), Stopped> {
        match &self.0 {
            None => Ok(()),
            Some(counter) => match counter.passed.fetch_add(1, Ordering::SeqCst) {
                passed if passed < counter.stop_at => Ok(()),
                _ => Err(Stopped),
            },
        }
    }

    /// How many points were reached so far.
    pub fn passed(&self) -> u64 {
        self.0.as_ref().map_or(0, |counter| counter.passed.load(Ordering::SeqCst))
    }

    /// Whether the stop has happened.
    pub fn has_stopped(&self) -> bool {
        self.0.as_ref().is_some_and(|c| c.passed.load(Ordering::SeqCst) > c.stop_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_after_its_number_and_stays_stopped() {
        let points = FailPoints::stopping_after(2);
        assert_eq!((points.pass(), points.pass()), (Ok(()), Ok(())));
        assert!(!points.has_stopped());
        assert_eq!((points.pass(), points.pass()), (Err(Stopped), Err(Stopped)));
        assert!(points.has_stopped());
        assert_eq!(FailPoints::none().pass(), Ok(()));
    }
}
