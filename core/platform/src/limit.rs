//! Rate limits: `governor` buckets per key, swept so that they cannot grow without bound.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use parking_lot::Mutex;

use crate::error::Error;

/// Swept after this many checks, so that idle keys go away while the limiter is in use.
const SWEEP_EVERY: u32 = 4096;

/// The place that an address stands for wherever addresses are counted or compared: an IPv6 subscriber has a whole /64.
pub fn network(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        other => other,
    }
}

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
    ///
    /// # Errors
    /// `rate_limited`, with how long to wait.
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
/// An attempt takes its place when it begins, so that many at the same time are no more than one after the other. Fixed
/// windows, because a GCRA bucket cannot be asked without taking from it. Time is monotonic and handed in.
#[derive(Debug)]
pub struct FailureLimiter<K: Hash + Eq + Clone> {
    what: &'static str,
    rate: Rate,
    windows: Windows<K>,
}

type Windows<K> = Arc<Mutex<HashMap<K, Window>>>;

#[derive(Clone, Copy, Debug)]
struct Window {
    ends: Duration,
    failures: u32,
    under_way: u32,
    /// Somebody was told that it is used up.
    told: bool,
}

/// Keys kept at the most. When even sweeping leaves it full, further keys are not counted: memory stays bounded, and
/// an attacker with that many addresses is beyond what a per-address count can stop.
const MAX_KEYS: usize = 65_536;

/// An attempt under way: a failure when it is dropped, unless it is [forgiven](Self::forgive).
#[derive(Debug)]
#[must_use = "dropping it counts a failure"]
pub struct Attempt<K: Hash + Eq + Clone> {
    /// None when it is not counted, or no more.
    counted: Option<(Windows<K>, K)>,
}

impl<K: Hash + Eq + Clone> FailureLimiter<K> {
    /// `what` completes the sentence "too many …".
    pub fn new(what: &'static str, rate: Rate) -> Self {
        Self { what, rate, windows: Arc::default() }
    }

    /// Begins an attempt.
    ///
    /// # Errors
    /// `rate_limited` for a key whose failures, with the attempts under way, are used up.
    pub fn attempt(&self, key: &K, now: Duration) -> Result<Attempt<K>, Error> {
        let most = self.rate.burst.get();
        let mut windows = self.windows.lock();
        if windows.len() >= MAX_KEYS && !windows.contains_key(key) {
            windows.retain(|_, w| w.ends > now || w.under_way > 0);
            if windows.len() >= MAX_KEYS {
                return Ok(Attempt { counted: None });
            }
        }
        let ends = now + self.rate.per;
        let window = windows.entry(key.clone()).or_insert(Window { ends, failures: 0, under_way: 0, told: false });
        if window.ends <= now {
            (window.ends, window.failures, window.told) = (ends, 0, false);
        }
        if window.failures >= most {
            let seconds = (window.ends - now).as_millis().div_ceil(1000) as u64;
            return Err(Error::rate_limited(format!("too many {}; try again in {seconds} s", self.what), seconds));
        }
        if window.failures + window.under_way >= most {
            // Those under way may all be right.
            return Err(Error::rate_limited(format!("too many {} may be under way; try again", self.what), 1));
        }
        window.under_way += 1;
        Ok(Attempt { counted: Some((Arc::clone(&self.windows), key.clone())) })
    }

    /// How long a key whose failures are used up is refused from now on; only once in a window, so that whoever is told of
    /// it is told once, however often somebody tries.
    pub fn tell_once(&self, key: &K, now: Duration) -> Option<Duration> {
        let mut windows = self.windows.lock();
        let used_up = |w: &&mut Window| w.ends > now && w.failures >= self.rate.burst.get() && !w.told;
        let window = windows.get_mut(key).filter(used_up)?;
        window.told = true;
        Some(window.ends - now)
    }
}

impl<K: Hash + Eq + Clone> Attempt<K> {
    /// It was right, or came to no answer for a reason that is not the caller's.
    pub fn forgive(mut self) {
        self.end(0);
    }

    fn end(&mut self, failures: u32) {
        let Some((windows, key)) = self.counted.take() else { return };
        let mut windows = windows.lock();
        let Some(window) = windows.get_mut(&key) else { return };
        window.under_way = window.under_way.saturating_sub(1);
        window.failures = window.failures.saturating_add(failures);
        if window.under_way == 0 && window.failures == 0 {
            windows.remove(&key);
        }
    }
}

impl<K: Hash + Eq + Clone> Drop for Attempt<K> {
    fn drop(&mut self) {
        self.end(1);
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
            drop(limiter.attempt(&1, at(second)).unwrap());
        }
        let refused = limiter.attempt(&1, at(5)).unwrap_err();
        assert_eq!(refused.retry_after_s, Some(595));
        limiter.attempt(&2, at(5)).expect("another key is not concerned").forgive();
        assert!(limiter.attempt(&1, at(600)).is_ok());
    }

    #[test]
    fn that_failures_are_used_up_is_told_once_in_a_window() {
        let limiter = FailureLimiter::new("wrong codes", Rate::new(2, Duration::from_secs(600)));
        let at = Duration::from_secs;
        for start in [0, 1_000] {
            drop(limiter.attempt(&1, at(start)).unwrap());
            assert_eq!(limiter.tell_once(&1, at(start + 1)), None, "one is left");
            drop(limiter.attempt(&1, at(start + 1)).unwrap());
            assert_eq!(limiter.tell_once(&1, at(start + 2)), Some(at(598)));
            assert_eq!(limiter.tell_once(&1, at(start + 3)), None, "it was told");
            assert_eq!(limiter.tell_once(&2, at(start + 3)), None, "another key is not concerned");
        }
    }

    #[test]
    fn attempts_at_the_same_time_are_no_more_than_one_after_the_other() {
        let limiter = FailureLimiter::new("wrong codes", Rate::new(5, Duration::from_secs(600)));
        let now = Duration::from_secs(1);
        let mut under_way: Vec<_> = (0..40).filter_map(|_| limiter.attempt(&1, now).ok()).collect();
        assert_eq!(under_way.len(), 5);
        assert_eq!(limiter.attempt(&1, now).unwrap_err().retry_after_s, Some(1), "those may still be right");
        under_way.pop().unwrap().forgive();
        drop(limiter.attempt(&1, now).expect("a right one costs nothing"));
        drop(under_way);
        assert_eq!(limiter.attempt(&1, now).unwrap_err().retry_after_s, Some(600));
        let right = FailureLimiter::new("wrong codes", Rate::new(1, Duration::from_secs(600)));
        for _ in 0..10 {
            right.attempt(&1, now).unwrap().forgive();
        }
        assert!(right.windows.lock().is_empty(), "nothing is kept of whoever made no mistake");
    }

    #[test]
    fn an_ipv6_subscriber_is_one_place_and_an_ipv4_address_another() {
        let of = |text: &str| network(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("2001:db8:1:2::77"), of("2001:db8:1:2:ffff::1"));
        assert_ne!(of("2001:db8:1:3::77"), of("2001:db8:1:2::77"));
        assert_eq!((of("::ffff:192.0.2.1"), of("192.0.2.1")), ("192.0.2.1".into(), "192.0.2.1".into()));
        assert_eq!(of("::1"), "::1");
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
