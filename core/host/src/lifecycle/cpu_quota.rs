//! A plugin's quota of the processor: a token bucket of 25 % of one core over 10 s.
//!
//! A driver within every limit of a call can still be slow in each. Beyond its quota its calls go one at a time, off
//! the async threads, so that it slows down its own devices and no others. On the path of a call within the quota this
//! costs one atomic addition.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

/// Processor time that a plugin may use, in percent of one core.
const QUOTA_PERCENT: u64 = 25;
/// How long unused quota adds up.
const PERIOD: Duration = Duration::from_secs(10);
/// Capacity of the bucket.
const FULL_NS: u64 = PERIOD.as_nanos() as u64 * QUOTA_PERCENT / 100;
/// Time that is added up before it goes into the bucket, which costs a lock and a look at the clock.
const UNRECORDED_NS: u64 = 20_000_000;
/// Calls that wait for the one permit; more are answered `busy`.
const MAX_WAITING: usize = 16;

/// What one plugin has used of its quota.
#[derive(Debug, Default)]
pub(crate) struct CpuQuota {
    unrecorded_ns: AtomicU64,
    over: AtomicBool,
    bucket: Mutex<Bucket>,
    waiting: AtomicUsize,
    permit: Mutex<()>,
}

#[derive(Debug, Default)]
struct Bucket {
    used_ns: u64,
    at: Duration,
}

/// Permission for a call; beyond the quota, of the only one at a time.
pub(crate) struct OverQuotaPermit<'q> {
    _permit: Option<MutexGuard<'q, ()>>,
}

impl CpuQuota {
    /// A call took so much of the processor.
    pub(crate) fn spend(&self, cpu: Duration, now: impl FnOnce() -> Duration) {
        let ns = cpu.as_nanos() as u64;
        if self.unrecorded_ns.fetch_add(ns, Relaxed) + ns >= UNRECORDED_NS {
            self.record(now());
        }
    }

    /// Whether the quota is used up, and not half of it has come back yet.
    pub(crate) fn over(&self, now: impl FnOnce() -> Duration) -> bool {
        self.over.load(Relaxed) && {
            self.record(now());
            self.over.load(Relaxed)
        }
    }

    fn record(&self, now: Duration) {
        let mut bucket = self.bucket.lock();
        let earned = now.saturating_sub(bucket.at).as_nanos() as u64 / 100 * QUOTA_PERCENT;
        bucket.at = bucket.at.max(now);
        bucket.used_ns = bucket.used_ns.saturating_sub(earned) + self.unrecorded_ns.swap(0, Relaxed);
        if bucket.used_ns > FULL_NS {
            // The overrun is bounded too, so that a plugin that behaves again is not slowed down for minutes.
            bucket.used_ns = bucket.used_ns.min(2 * FULL_NS);
            self.over.store(true, Relaxed);
        } else if bucket.used_ns < FULL_NS / 2 {
            self.over.store(false, Relaxed);
        }
    }

    /// Waits for the permit when the quota is used up; none when too many calls wait already.
    pub(crate) fn acquire(&self, now: impl FnOnce() -> Duration) -> Option<OverQuotaPermit<'_>> {
        if !self.over(now) {
            return Some(OverQuotaPermit { _permit: None });
        }
        if self.waiting.fetch_add(1, Relaxed) >= MAX_WAITING {
            self.waiting.fetch_sub(1, Relaxed);
            return None;
        }
        let permit = self.permit.lock();
        self.waiting.fetch_sub(1, Relaxed);
        Some(OverQuotaPermit { _permit: Some(permit) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Calls of `cpu` every `every`, for `long`; whether it was ever over.
    fn busy(quota: &CpuQuota, from: Duration, cpu: Duration, every: Duration, long: Duration) -> bool {
        let mut now = from;
        let mut ever = false;
        while now < from + long {
            quota.spend(cpu, || now);
            now += every;
            ever |= quota.over(|| now);
        }
        ever
    }

    #[test]
    fn a_quarter_of_a_core_is_free_and_more_is_not_for_long() {
        let hour = Duration::from_secs(3600);
        assert!(!busy(&CpuQuota::default(), hour, 2 * MS, 10 * MS, Duration::from_secs(120)), "a fifth");
        let quota = CpuQuota::default();
        assert!(!busy(&quota, hour, 9 * MS, 10 * MS, Duration::from_secs(3)), "a burst of three seconds");
        assert!(busy(&quota, hour + Duration::from_secs(3), 9 * MS, 10 * MS, Duration::from_secs(3)));
        assert!(quota.over(|| hour + Duration::from_secs(7)));
        assert!(!quota.over(|| hour + Duration::from_secs(30)), "paid back");
    }

    #[test]
    fn beyond_the_quota_calls_go_one_at_a_time_and_few_wait() {
        let quota = CpuQuota::default();
        let now = || Duration::from_secs(1);
        quota.spend(Duration::from_secs(60), now);
        let first = quota.acquire(now).expect("the first one goes");
        assert!(quota.permit.is_locked());
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..MAX_WAITING).map(|_| scope.spawn(|| quota.acquire(now).is_some())).collect();
            while quota.waiting.load(Relaxed) < MAX_WAITING {
                std::thread::yield_now();
            }
            assert!(quota.acquire(now).is_none(), "one too many");
            drop(first);
            assert!(waiting.into_iter().all(|w| w.join().unwrap()));
        });
        assert_eq!(quota.waiting.load(Relaxed), 0);
    }
}
