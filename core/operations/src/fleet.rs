//! The fleet in numbers: what the console's first page shows.

use hexa_platform::worker::{self, RunsOn, WorkerSpec};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hexa_model::TimeMs;
use parking_lot::Mutex;

use crate::Operations;
use hexa_platform::error::Result;
use hexa_platform::metrics::{Interval, Metrics};
use hexa_platform::principal::Principal;

/// Time between two samples.
pub const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// Samples that are kept: five minutes of them.
const SAMPLES: usize = 60;

/// What happened in one interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// When the interval ended, by the wall clock.
    pub at: TimeMs,
    /// Commands that ended in it, with and without success.
    pub commands: u64,
    /// Of those, not with success.
    pub failed: u64,
    /// Half of the successful ones took at most this; none without any.
    pub p50_ms: Option<f64>,
    /// And 95 percent of them this, likewise in milliseconds.
    pub p95_ms: Option<f64>,
}

/// The samples of the last five minutes, in memory: a restart begins afresh.
#[derive(Debug, Default)]
pub struct Recent(Mutex<VecDeque<Sample>>);

impl Recent {
    /// Adds the sample of an interval that has ended; the oldest one goes when there are `SAMPLES`.
    fn sample(&self, at: TimeMs, ended: &Interval) {
        let sample = Sample {
            at,
            commands: ended.succeeded + ended.failed,
            failed: ended.failed,
            p50_ms: quantile(ended, 0.5),
            p95_ms: quantile(ended, 0.95),
        };
        let mut kept = self.0.lock();
        if kept.len() == SAMPLES {
            kept.pop_front();
        }
        kept.push_back(sample);
    }

    fn all(&self) -> Vec<Sample> {
        self.0.lock().iter().copied().collect()
    }
}

/// In milliseconds, to one percent.
fn quantile(ended: &Interval, q: f64) -> Option<f64> {
    (!ended.took.is_empty()).then(|| ended.took.value_at_quantile(q) as f64 / 1e3)
}

const SAMPLES_COMMANDS: WorkerSpec = WorkerSpec {
    name: "fleet_samples",
    purpose: "counts the commands of the last five minutes",
    runs_on: RunsOn::EveryNode,
};

/// Starts the worker that samples.
pub(crate) fn start(operations: &Arc<Operations>) {
    let shared = Arc::clone(operations);
    operations.workers.periodic(SAMPLES_COMMANDS, SAMPLE_EVERY, move |_| {
        let operations = Arc::clone(&shared);
        worker::run(async move {
            operations.recent.sample(operations.clock.now(), &operations.metrics.take_interval());
            Ok::<_, String>(())
        })
    });
}

/// The fleet in numbers at one moment, for the console of admins.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Devices that are provisioned, with and without an owner.
    pub devices: u64,
    /// Devices with an owner.
    pub claimed: u64,
    /// Devices that are connected to this process now.
    pub online: u64,
    /// Connected, but silent for longer than their heartbeat allows.
    pub stale: u64,
    /// All accounts, also those that may not sign in.
    pub users: u64,
    /// Accounts that may sign in.
    pub active_users: u64,
    /// Admins among the accounts that may sign in.
    pub admins: u64,
    /// Client sockets that are open at this process now.
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
pub async fn fleet(services: &Operations, by: &Principal) -> Result<Fleet> {
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
        recent.sample(TimeMs(5_000), &metrics.take_interval());
        for _ in 0..19 {
            ended(Outcome::Executed, 13);
        }
        ended(Outcome::Executed, 80);
        ended(Outcome::Timeout, 8_000);
        recent.sample(TimeMs(10_000), &metrics.take_interval());
        recent.sample(TimeMs(15_000), &metrics.take_interval());
        let [first, second, third] = recent.all()[..] else { panic!("three samples") };
        assert_eq!((first.commands, first.failed), (1, 0));
        assert_eq!((second.commands, second.failed), (21, 1));
        let (p50, p95) = (second.p50_ms.unwrap(), second.p95_ms.unwrap());
        assert!((12.8..13.2).contains(&p50) && (12.8..13.2).contains(&p95), "{p50} {p95}");
        assert_eq!((third.commands, third.p50_ms), (0, None));
    }

    #[test]
    fn five_minutes_are_kept() {
        let (metrics, recent) = (Metrics::new(), Recent::default());
        for n in 0..100 {
            recent.sample(TimeMs(n), &metrics.take_interval());
        }
        let all = recent.all();
        assert_eq!((all.len(), all[0].at), (SAMPLES, TimeMs(40)));
    }
}
