//! How long to wait before asking again.

use std::time::Duration;

/// Exponential delays between two bounds.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub first: Duration,
    pub most: Duration,
}

impl Backoff {
    /// The delay before attempt `attempt` (counted from 0), spread by `fraction` in `0.0..1.0`.
    ///
    /// Half of the delay is fixed and half is jitter, so that neighbours who
    /// failed together do not come back together.
    pub fn delay(&self, attempt: u32, fraction: f64) -> Duration {
        let full = self.first.saturating_mul(1 << attempt.min(20)).min(self.most);
        full.mul_f64(0.5 + 0.5 * fraction.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_its_bound_and_never_past_it() {
        let backoff = Backoff { first: Duration::from_secs(1), most: Duration::from_secs(60) };
        assert_eq!(backoff.delay(0, 1.0), Duration::from_secs(1));
        assert_eq!(backoff.delay(3, 0.0), Duration::from_secs(4));
        assert_eq!(backoff.delay(u32::MAX, 1.0), Duration::from_secs(60));
    }
}
