//! Line: changes of one thing, made one after the other, each from what the last one left.

use std::time::{Duration, Instant};

use super::error::ApiError;

/// How long a change stands in line behind others of the same thing.
const LONGEST: Duration = Duration::from_secs(30);

/// A change that is tried until nobody is faster.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    began: Instant,
}

impl Line {
    pub fn stand() -> Self {
        Self { began: Instant::now() }
    }

    /// Whether `refused` may only mean that somebody was faster: then what they left is read,
    /// and the change made from that.
    pub fn goes_on_after(&self, refused: &ApiError) -> bool {
        refused.is_conflict() && self.began.elapsed() < LONGEST
    }
}
