//! A plugin's share of the processor: a token bucket of 25 % of one core over 10 s (plugins.md 4.7).
//!
//! A driver that keeps every limit of a call can still be slow in each. Beyond its share its calls go one at a time, off
//! the async threads, so that it slows down its own devices and nobody else's. On the path of a call within the share
//! this costs one atomic addition.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

/// Of one core, in percent.
const SHARE_PERCENT: u64 = 25;
/// What may be saved up: the share of so long.
const OVER: Duration = Duration::from_secs(10);
const FULL_NS: u64 = OVER.as_nanos() as u64 * SHARE_PERCENT / 100;
/// So much is spent before anybody looks at the clock.
const UNSEEN_NS: u64 = 20_000_000;
/// Calls that wait for the one permit; more hear `busy`.
const WAITING: usize = 16;

/// What one plugin has used up.
#[derive(Debug, Default)]
pub(crate) struct CpuQuota {
    unseen_ns: AtomicU64,
    over: AtomicBool,
    ledger: Mutex<Ledger>,
    waiting: AtomicUsize,
    permit: Mutex<()>,
}

#[derive(Debug, Default)]
struct Ledger {
    used_ns: u64,
    at: Duration,
}

/// Leave for a call beyond the share.
pub(crate) struct OverQuotaPermit<'s> {
    _permit: Option<MutexGuard<'s, ()>>,
}

impl CpuQuota {
    /// A call took so much of the processor.
    pub(crate) fn spend(&self, cpu: Duration, now: impl FnOnce() -> Duration) {
        let ns = cpu.as_nanos() as u64;
        if self.unseen_ns.fetch_add(ns, Relaxed) + ns >= UNSEEN_NS {
            self.settle(now());
        }
    }

    /// Whether it used up its share and has not paid back half of it yet.
    pub(crate) fn over(&self, now: impl FnOnce() -> Duration) -> bool {
        self.over.load(Relaxed) && {
            self.settle(now());
            self.over.load(Relaxed)
        }
    }

    fn settle(&self, now: Duration) {
        let mut ledger = self.ledger.lock();
        let earned = now.saturating_sub(ledger.at).as_nanos() as u64 / 100 * SHARE_PERCENT;
        ledger.at = ledger.at.max(now);
        ledger.used_ns = ledger.used_ns.saturating_sub(earned) + self.unseen_ns.swap(0, Relaxed);
        if ledger.used_ns > FULL_NS {
            // What is owed is bounded too, so that a plugin that became well is not punished for minutes.
            ledger.used_ns = ledger.used_ns.min(2 * FULL_NS);
            self.over.store(true, Relaxed);
        } else if ledger.used_ns < FULL_NS / 2 {
            self.over.store(false, Relaxed);
        }
    }

    /// Waits for the permit when the share is used up; none when too many wait already.
    pub(crate) fn turn(&self, now: impl FnOnce() -> Duration) -> Option<OverQuotaPermit<'_>> {
        if !self.over(now) {
            return Some(OverQuotaPermit { _permit: None });
        }
        if self.waiting.fetch_add(1, Relaxed) >= WAITING {
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
    fn busy(share: &CpuQuota, from: Duration, cpu: Duration, every: Duration, long: Duration) -> bool {
        let mut now = from;
        let mut ever = false;
        while now < from + long {
            share.spend(cpu, || now);
            now += every;
            ever |= share.over(|| now);
        }
        ever
    }

    #[test]
    fn a_quarter_of_a_core_is_free_and_more_is_not_for_long() {
        let hour = Duration::from_secs(3600);
        assert!(!busy(&CpuQuota::default(), hour, 2 * MS, 10 * MS, Duration::from_secs(120)), "a fifth");
        let share = CpuQuota::default();
        assert!(!busy(&share, hour, 9 * MS, 10 * MS, Duration::from_secs(3)), "a burst of three seconds");
        assert!(busy(&share, hour + Duration::from_secs(3), 9 * MS, 10 * MS, Duration::from_secs(3)));
        assert!(share.over(|| hour + Duration::from_secs(7)));
        assert!(!share.over(|| hour + Duration::from_secs(30)), "paid back");
    }

    #[test]
    fn beyond_the_share_calls_go_one_at_a_time_and_few_wait() {
        let share = CpuQuota::default();
        let now = || Duration::from_secs(1);
        share.spend(Duration::from_secs(60), now);
        let first = share.turn(now).expect("the first one goes");
        assert!(share.permit.is_locked());
        std::thread::scope(|scope| {
            let waiting: Vec<_> = (0..WAITING).map(|_| scope.spawn(|| share.turn(now).is_some())).collect();
            while share.waiting.load(Relaxed) < WAITING {
                std::thread::yield_now();
            }
            assert!(share.turn(now).is_none(), "one too many");
            drop(first);
            assert!(waiting.into_iter().all(|w| w.join().unwrap()));
        });
        assert_eq!(share.waiting.load(Relaxed), 0);
    }
}
