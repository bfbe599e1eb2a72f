//! Rate limits: `governor` buckets per key, swept so that they cannot grow without bound.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use parking_lot::Mutex;

use crate::error::Error;

/// Swept after this many checks, so that idle keys go away while the limiter is in use.
const SWEEP_EVERY: u32 = 4096;

/// A limiter whose buckets are told apart by `K`.
pub struct Limiter<K: Hash + Eq + Clone + Send + Sync + 'static> {
    inner: DefaultKeyedRateLimiter<K>,
    clock: DefaultClock,
    checks: AtomicU32,
    what: &'static str,
}

/// So many events, refilled evenly over the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many at once.
    pub burst: NonZeroU32,
    /// Time in which a whole burst comes back.
    pub per: Duration,
}

impl Rate {
    /// `count` events per `per`; a count of 0 is taken as 1.
    pub fn new(count: u32, per: Duration) -> Self {
        Self { burst: NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN), per }
    }
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> Limiter<K> {
    /// `what` completes the sentence "too many …".
    pub fn new(what: &'static str, rate: Rate) -> Self {
        let one = (rate.per / rate.burst.get()).max(Duration::from_nanos(1));
        let quota = Quota::with_period(one).unwrap_or(Quota::per_second(NonZeroU32::MIN)).allow_burst(rate.burst);
        Self { inner: RateLimiter::keyed(quota), clock: DefaultClock::default(), checks: AtomicU32::new(0), what }
    }

    /// Takes one from the key's bucket, or says how long to wait (429 `rate_limited`).
    pub fn take(&self, key: &K) -> Result<(), Error> {
        if self.checks.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.inner.retain_recent();
        }
        self.inner.check_key(key).map_err(|until| {
            let wait = until.wait_time_from(self.clock.now());
            let seconds = wait.as_millis().div_ceil(1000).max(1) as u64;
            Error::rate_limited(format!("too many {}; try again in {seconds} s", self.what), seconds)
        })
    }
}

impl<K: Hash + Eq + Clone + Send + Sync + 'static> std::fmt::Debug for Limiter<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Limiter").field("what", &self.what).field("keys", &self.inner.len()).finish_non_exhaustive()
    }
}

/// A token bucket of one connection: no timer, no lock, time handed in.
#[derive(Clone, Debug)]
pub struct Bucket {
    per_second: f64,
    burst: f64,
    left: f64,
    at: Duration,
}

impl Bucket {
    /// Full, as of monotonic `now`.
    pub fn new(per_second: f64, burst: f64, now: Duration) -> Self {
        Self { per_second, burst, left: burst, at: now }
    }
    /// Takes one; false when there is none.
    pub fn take(&mut self, now: Duration) -> bool {
        let refill = now.saturating_sub(self.at).as_secs_f64() * self.per_second;
        self.at = now;
        self.left = (self.left + refill).min(self.burst);
        let fits = self.left >= 1.0;
        if fits {
            self.left -= 1.0;
        }
        fits
    }
    /// Puts one back: what it was taken for did not count.
    pub fn give_back(&mut self) {
        self.left = (self.left + 1.0).min(self.burst);
    }
}

/// Counts failures and refuses once there were too many: a right answer costs nothing, a wrong one a place.
///
/// Fixed windows, because a GCRA bucket cannot be asked without taking from it. Time is monotonic and handed in.
#[derive(Debug)]
pub struct FailureLimiter<K> {
    what: &'static str,
    rate: Rate,
    windows: Mutex<HashMap<K, Window>>,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    ends: Duration,
    failures: u32,
}

/// Keys kept at the most. When even sweeping leaves it full, further keys are not counted: memory stays bounded, and
/// an attacker with that many addresses is beyond what a per-address count can stop.
const MAX_KEYS: usize = 65_536;

impl<K: Hash + Eq + Clone> FailureLimiter<K> {
    /// `what` completes the sentence "too many …".
    pub fn new(what: &'static str, rate: Rate) -> Self {
        Self { what, rate, windows: Mutex::default() }
    }
    /// Before the attempt: refuses a key that has used up its failures.
    pub fn check(&self, key: &K, now: Duration) -> Result<(), Error> {
        let windows = self.windows.lock();
        match windows.get(key) {
            Some(w) if w.ends > now && w.failures >= self.rate.burst.get() => {
                let seconds = (w.ends - now).as_millis().div_ceil(1000) as u64;
                Err(Error::rate_limited(format!("too many {}; try again in {seconds} s", self.what), seconds))
            }
            _ => Ok(()),
        }
    }
    /// After a failed attempt.
    pub fn failed(&self, key: &K, now: Duration) {
        let mut windows = self.windows.lock();
        if windows.len() >= MAX_KEYS && !windows.contains_key(key) {
            windows.retain(|_, w| w.ends > now);
            if windows.len() >= MAX_KEYS {
                return;
            }
        }
        let fresh = Window { ends: now + self.rate.per, failures: 0 };
        let window = windows.entry(key.clone()).or_insert(fresh);
        if window.ends <= now {
            *window = fresh;
        }
        window.failures = window.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_failure_after_the_last_allowed_one_is_refused_until_the_window_ends() {
        let limiter = FailureLimiter::new("wrong codes", Rate::new(5, Duration::from_secs(600)));
        let at = Duration::from_secs;
        for second in 0..5 {
            assert!(limiter.check(&1, at(second)).is_ok());
            limiter.failed(&1, at(second));
        }
        let refused = limiter.check(&1, at(5)).unwrap_err();
        assert_eq!(refused.retry_after_s, Some(595));
        assert!(limiter.check(&2, at(5)).is_ok(), "another key is not concerned");
        assert!(limiter.check(&1, at(600)).is_ok());
    }

    #[test]
    fn a_connections_bucket_refills_with_time_and_holds_no_more_than_its_burst() {
        let at = Duration::from_millis;
        let mut bucket = Bucket::new(10.0, 3.0, at(0));
        assert_eq!((0..4).filter(|_| bucket.take(at(0))).count(), 3);
        assert!(!bucket.take(at(50)) && bucket.take(at(100)));
        bucket.give_back();
        assert!(bucket.take(at(100)) && !bucket.take(at(100)));
        assert_eq!((0..9).filter(|_| bucket.take(at(60_000))).count(), 3);
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_says_how_long_to_wait() {
        let limiter = Limiter::new("requests", Rate::new(3, Duration::from_secs(300)));
        for _ in 0..3 {
            assert!(limiter.take(&"a").is_ok());
        }
        let wait = limiter.take(&"a").unwrap_err().retry_after_s.unwrap();
        assert!((90..=100).contains(&wait), "{wait}");
        assert!(limiter.take(&"b").is_ok());
    }
}
