//! Time as an argument (ADR 10): everything that must know the time is handed a [`Clock`].

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimeMs(pub i64);

impl TimeMs {
    /// Later by `duration`, saturating.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
    /// Whole seconds since the epoch, as JWT claims want it (RFC 7519 `NumericDate`).
    pub fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

/// Wall and monotonic time. Deadlines use [`Clock::monotonic`], so that a jump of the wall clock fires nothing.
pub trait Clock: Send + Sync + 'static {
    /// Time of the wall clock, which may be set forward or back.
    fn now(&self) -> TimeMs;
    /// Time since an arbitrary start; never goes back.
    fn monotonic(&self) -> Duration;
    /// The same, and the time for which the machine was asleep counts, where the system knows it.
    fn boottime(&self) -> Duration {
        self.monotonic()
    }
}

/// The clock of the machine that this process runs on.
#[derive(Debug)]
pub struct SystemClock {
    start: Instant,
    #[cfg(target_os = "linux")]
    boot: Duration,
}

/// Since the machine was started, asleep or not (Linux, `CLOCK_BOOTTIME`).
#[cfg(target_os = "linux")]
fn since_boot() -> Duration {
    let at = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::try_from(at).unwrap_or_default()
}

impl SystemClock {
    /// Monotonic time counts from here.
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
            #[cfg(target_os = "linux")]
            boot: since_boot(),
        }
    }
}
impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}
impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    fn now(&self) -> TimeMs {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        TimeMs(since.map_or(0, |d| d.as_millis() as i64))
    }
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
    #[cfg(target_os = "linux")]
    fn boottime(&self) -> Duration {
        since_boot().saturating_sub(self.boot)
    }
}

/// A clock that moves only when told, for tests.
#[derive(Debug, Default)]
pub struct ManualClock {
    wall_ms: AtomicI64,
    monotonic_ms: AtomicI64,
}

impl ManualClock {
    /// Starts at this wall time, monotonic zero.
    pub fn at(now: TimeMs) -> Self {
        Self { wall_ms: AtomicI64::new(now.0), monotonic_ms: AtomicI64::new(0) }
    }
    /// Both clocks go on by `duration`.
    pub fn advance(&self, duration: Duration) {
        let ms = duration.as_millis() as i64;
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
        self.monotonic_ms.fetch_add(ms, Ordering::SeqCst);
    }
    /// Only the wall clock jumps.
    pub fn jump(&self, ms: i64) {
        self.wall_ms.fetch_add(ms, Ordering::SeqCst);
    }
}
impl Clock for ManualClock {
    fn now(&self) -> TimeMs {
        TimeMs(self.wall_ms.load(Ordering::SeqCst))
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.monotonic_ms.load(Ordering::SeqCst).max(0) as u64)
    }
}
