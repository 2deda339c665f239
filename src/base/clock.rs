//! Time as an argument: real, or many times too fast for a lab.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::macros::format_description;

/// A moment in UTC, in microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const EPOCH: Self = Self(0);

    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    pub const fn micros(self) -> i64 {
        self.0
    }

    /// The moment `later` after this one; saturates at the end of time.
    pub fn plus(self, later: Duration) -> Self {
        let micros = i64::try_from(later.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// The calendar form that X.509 wants.
    pub fn to_offset(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1000)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }

    /// Reads an RFC 3339 date such as Keystone's `expires_at`.
    pub fn parse(text: &str) -> Option<Self> {
        let at =
            OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
        i64::try_from(at.unix_timestamp_nanos() / 1000).ok().map(Self)
    }
}

/// ISO 8601 with microseconds and offset, as Magnum prints dates.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let format = format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]+00:00"
        );
        f.write_str(&self.to_offset().format(format).map_err(|_| fmt::Error)?)
    }
}

/// Where "now" comes from and how long a sleep takes.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Arc<Source>,
    /// Microseconds by which somebody has set it.
    ahead: Arc<AtomicI64>,
}

/// A moment from which time is counted without a look at the wall's clock: whoever sets that, or
/// a time service that corrects it, changes nothing here.
#[derive(Clone, Copy, Debug)]
pub struct Anchor {
    wall: Timestamp,
    at: Instant,
}

#[derive(Debug)]
enum Source {
    Real,
    Fast { factor: f64, began: Timestamp, at: Instant },
}

impl Clock {
    pub fn real() -> Self {
        Self::of(Source::Real)
    }

    /// A clock on which `factor` seconds pass in one real second.
    pub fn fast(factor: f64) -> Self {
        Self::of(Source::Fast { factor, began: system_now(), at: Instant::now() })
    }

    fn of(source: Source) -> Self {
        Self { source: Arc::new(source), ahead: Arc::default() }
    }

    /// One that shows the same and can be set by itself.
    pub fn another(&self) -> Self {
        let ahead = AtomicI64::new(self.ahead.load(Ordering::SeqCst));
        Self { source: Arc::clone(&self.source), ahead: Arc::new(ahead) }
    }

    /// As if somebody had set the wall's clock forward by so much, or back: for tests.
    pub fn set_ahead(&self, micros: i64) {
        self.ahead.store(micros, Ordering::SeqCst);
    }

    pub fn now(&self) -> Timestamp {
        let Timestamp(micros) = match *self.source {
            Source::Real => system_now(),
            Source::Fast { factor, began, at } => began.plus(at.elapsed().mul_f64(factor)),
        };
        Timestamp(micros.saturating_add(self.ahead.load(Ordering::SeqCst)))
    }

    pub fn anchor(&self) -> Anchor {
        Anchor { wall: self.now(), at: Instant::now() }
    }

    /// The time by an anchor: what the wall's clock showed there, and what has passed since.
    pub fn now_by(&self, anchor: &Anchor) -> Timestamp {
        let passed = anchor.at.elapsed();
        anchor.wall.plus(match *self.source {
            Source::Real => passed,
            Source::Fast { factor, .. } => passed.mul_f64(factor),
        })
    }

    pub async fn sleep(&self, length: Duration) {
        tokio::time::sleep(self.real_length(length)).await;
    }

    /// How long `length` of this clock lasts on the wall.
    pub fn real_length(&self, length: Duration) -> Duration {
        match *self.source {
            Source::Real => length,
            Source::Fast { factor, .. } => length.div_f64(factor),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
fn system_now() -> Timestamp {
    let nanos = OffsetDateTime::now_utc().unix_timestamp_nanos();
    Timestamp(i64::try_from(nanos / 1000).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_print_as_magnum_does_and_read_as_keystone_writes() {
        let at = Timestamp::parse("2026-08-01T09:30:00.000000Z").unwrap();
        assert_eq!(at.to_string(), "2026-08-01T09:30:00.000000+00:00");
        assert_eq!(Timestamp::parse("2026-08-01T09:30:00Z"), Some(at));
        assert_eq!(Timestamp::parse("yesterday"), None);
    }

    #[test]
    fn a_fast_clock_runs_ahead_and_sleeps_less() {
        let clock = Clock::fast(100.0);
        assert_eq!(clock.real_length(Duration::from_secs(1)), Duration::from_millis(10));
        let began = clock.now();
        std::thread::sleep(Duration::from_millis(5));
        assert!(clock.now().since(began) >= Duration::from_millis(500));
    }

    #[test]
    fn an_anchor_does_not_care_who_sets_the_clock() {
        const HOURS: i64 = 2 * 3600 * 1_000_000;
        for clock in [Clock::real(), Clock::fast(10.0)] {
            let (anchor, other) = (clock.anchor(), clock.another());
            let before = clock.now();
            for ahead in [HOURS, -HOURS] {
                clock.set_ahead(ahead);
                let off =
                    clock.now_by(&anchor).since(before).max(before.since(clock.now_by(&anchor)));
                assert!(off < Duration::from_secs(600), "{off:?}");
                let wall = clock.now().micros() - before.micros() - ahead;
                assert!((0..600_000_000).contains(&wall), "{wall}");
            }
            assert!(other.now().since(before) < Duration::from_secs(600), "its own is not set");
        }
    }
}
