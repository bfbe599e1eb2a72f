//! The fleet in numbers: what the console's first page shows.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hexa_model::TimeMs;
use parking_lot::Mutex;

use crate::Services;
use crate::auth::principal::Principal;
use crate::error::Result;
use crate::ops::metrics::{LATENCY_BUCKETS, Metrics, Tally};

/// Time between two samples.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// Five minutes.
const SAMPLES: usize = 60;

/// What happened in one interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Its end.
    pub at: TimeMs,
    /// Commands that ended.
    pub commands: u64,
    /// Of those, not with success.
    pub failed: u64,
    /// Half of the successful ones took at most this; none without any.
    pub p50_ms: Option<f64>,
    /// And 95 % this.
    pub p95_ms: Option<f64>,
}

/// The last minutes.
#[derive(Debug, Default)]
pub struct Recent(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    samples: VecDeque<Sample>,
    before: Tally,
}

impl Recent {
    /// Ends an interval.
    fn sample(&self, at: TimeMs, now: Tally) {
        let mut kept = self.0.lock();
        let ended = now.since(&kept.before);
        let sample = Sample {
            at,
            commands: ended.succeeded + ended.failed,
            failed: ended.failed,
            p50_ms: quantile(&ended.buckets, 0.5),
            p95_ms: quantile(&ended.buckets, 0.95),
        };
        kept.before = now;
        if kept.samples.len() == SAMPLES {
            kept.samples.pop_front();
        }
        kept.samples.push_back(sample);
    }

    fn all(&self) -> Vec<Sample> {
        self.0.lock().samples.iter().copied().collect()
    }
}

/// In milliseconds, by linear interpolation within a bucket, as Prometheus does it. `buckets` counts up.
fn quantile(buckets: &[u64], q: f64) -> Option<f64> {
    let total = *buckets.last()?;
    if total == 0 {
        return None;
    }
    let rank = q * total as f64;
    let n = buckets.iter().position(|count| *count as f64 >= rank)?;
    let (below, lower) = if n == 0 { (0, 0.0) } else { (buckets[n - 1], LATENCY_BUCKETS[n - 1]) };
    let upper = LATENCY_BUCKETS.get(n).copied().unwrap_or(lower);
    let within = buckets[n] - below;
    let part = if within == 0 { 1.0 } else { (rank - below as f64) / within as f64 };
    Some((lower + (upper - lower) * part) * 1e3)
}

/// Samples until the server stops.
pub async fn keep(services: Arc<Services>) {
    let mut tick = tokio::time::interval(SAMPLE_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = services.stop.cancelled() => return,
            _ = tick.tick() => services.recent.sample(services.clock.now(), services.metrics.tally()),
        }
    }
}

/// The fleet, now.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Devices there are.
    pub devices: u64,
    /// Devices with an owner.
    pub claimed: u64,
    /// Connected.
    pub online: u64,
    /// Connected, but silent for longer than their heartbeat allows.
    pub stale: u64,
    /// Accounts.
    pub users: u64,
    /// Accounts that may sign in.
    pub active_users: u64,
    /// Active admins.
    pub admins: u64,
    /// Open client sockets.
    pub clients: u64,
    /// A connected device that was silent for so long counts as stale.
    pub stale_after: Duration,
    /// The last minutes, oldest first.
    pub recent: Vec<Sample>,
}

/// How it stands; for admins.
///
/// # Errors
/// `forbidden`; when the database does not answer.
pub async fn fleet(services: &Services, by: &Principal) -> Result<Fleet> {
    by.require_admin()?;
    let (devices, claimed) = services.store.device_counts().await?;
    let (users, active_users, admins) = services.store.user_counts().await?;
    let stale_after = services.config.device.stale_after();
    let (online, stale) = services.registry.presence(stale_after);
    Ok(Fleet {
        devices,
        claimed,
        online,
        stale,
        users,
        active_users,
        admins,
        clients: gauge(&services.metrics),
        stale_after,
        recent: services.recent.all(),
    })
}

fn gauge(metrics: &Metrics) -> u64 {
    u64::try_from(metrics.client_sessions.get()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use hexa_model::{Outcome, Source};

    use super::*;

    #[test]
    fn a_sample_is_what_happened_since_the_last_one() {
        let (metrics, recent) = (Metrics::new(), Recent::default());
        let ended = |outcome, ms| metrics.command_ended(Source::Api, outcome, None, Duration::from_millis(ms));
        ended(Outcome::Executed, 3);
        recent.sample(TimeMs(5_000), metrics.tally());
        for _ in 0..19 {
            ended(Outcome::Executed, 3);
        }
        ended(Outcome::Executed, 80);
        ended(Outcome::Timeout, 8_000);
        recent.sample(TimeMs(10_000), metrics.tally());
        recent.sample(TimeMs(15_000), metrics.tally());
        let [first, second, third] = recent.all()[..] else { panic!("three samples") };
        assert_eq!((first.commands, first.failed), (1, 0));
        assert_eq!((second.commands, second.failed), (21, 1));
        let (p50, p95) = (second.p50_ms.unwrap(), second.p95_ms.unwrap());
        assert!((2.5..5.0).contains(&p50) && (2.5..=5.0).contains(&p95), "{p50} {p95}");
        assert_eq!((third.commands, third.p50_ms), (0, None));
    }

    #[test]
    fn five_minutes_are_kept() {
        let (metrics, recent) = (Metrics::new(), Recent::default());
        for n in 0..100 {
            recent.sample(TimeMs(n), metrics.tally());
        }
        let all = recent.all();
        assert_eq!((all.len(), all[0].at), (SAMPLES, TimeMs(40)));
    }

    #[test]
    fn a_quantile_lies_in_its_bucket() {
        let up_to = |n: usize| (0..LATENCY_BUCKETS.len()).map(|i| u64::from(i >= n)).collect::<Vec<_>>();
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(quantile(&up_to(LATENCY_BUCKETS.len()), 0.5), None);
        assert_eq!(quantile(&up_to(0), 0.5), Some(0.25));
        let last = quantile(&up_to(LATENCY_BUCKETS.len() - 1), 0.95).unwrap();
        assert!((5_000.0..=10_000.0).contains(&last), "{last}");
    }
}
