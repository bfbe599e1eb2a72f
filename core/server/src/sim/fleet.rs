//! A run as a whole: starts the devices, shows how they do, ends, reports.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use hexa_model::{Clock, SystemClock};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::args::Plan;
use super::credential_store::CredentialStore;
use super::enroll::Enrolment;
use super::link::Device;
use super::screen::{self, Screen};
use super::stats::Stats;
use crate::lifecycle;

/// Upgrades under way at once.
const HANDSHAKES_AT_ONCE: usize = 64;
/// A run in which nothing ever connected gives up after this time.
const NEVER_CONNECTED: Duration = Duration::from_secs(30);
/// How long the devices may take to close their connections at the end.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// What all devices of a run share.
pub(super) struct Fleet {
    pub(super) plan: Plan,
    pub(super) address: SocketAddr,
    pub(super) enrolment: Enrolment,
    pub(super) handshakes: Semaphore,
    pub(super) stats: Stats,
    pub(super) stop: CancellationToken,
    screen: Screen,
    clock: SystemClock,
    started_ms: u64,
}

impl Fleet {
    /// Epoch milliseconds that never go back: the wall clock at the start, and monotonic time since.
    pub(super) fn now_ms(&self) -> u64 {
        self.started_ms + self.clock.monotonic().as_millis() as u64
    }
    /// Counts an error, and shows it unless it was shown before.
    pub(super) fn complain(&self, what: &str) {
        if self.stats.error(what) {
            self.screen.error(what);
        }
    }
    /// Shows something that is no error.
    pub(super) fn note(&self, what: &str) {
        self.screen.note(what);
    }
    fn summary(&self) -> String {
        self.stats.summary(self.plan.devices)
    }
}

/// Runs to the end; gives the exit code.
pub(super) async fn run(plan: Plan) -> Result<i32> {
    let signals = lifecycle::Signals::new().context("cannot listen for signals")?;
    let address = resolve(&plan).await?;
    let book = CredentialStore::open(plan.state.clone(), plan.devices)?;
    let clock = SystemClock::new();
    let started_ms = u64::try_from(clock.now().0).unwrap_or_default();
    let fleet = Arc::new(Fleet {
        address,
        enrolment: Enrolment::new(&plan, book)?,
        handshakes: Semaphore::new(HANDSHAKES_AT_ONCE),
        stats: Stats::default(),
        stop: CancellationToken::new(),
        screen: Screen::new(plan.quiet),
        clock,
        started_ms,
        plan,
    });
    let plan = &fleet.plan;
    let (devices, relays) = (plan.devices, plan.relays_in_words());
    fleet.note(&format!("{devices} devices of {relays} relays on {}, seed {}", plan.server, plan.seed));
    for note in &plan.notes {
        fleet.note(note);
    }
    let mut tasks = JoinSet::new();
    for index in 0..plan.devices {
        tasks.spawn(Device::new(Arc::clone(&fleet), index).live());
    }
    watch(&fleet, &mut tasks, signals).await;
    fleet.stop.cancel();
    // What has not said goodbye by then is cut off with its task.
    let _ = timeout(END_PATIENCE, async { while tasks.join_next().await.is_some() {} }).await;
    tasks.shutdown().await;
    save(&fleet);
    fleet.screen.finish(&fleet.summary());
    report(&fleet).await?;
    if fleet.stats.ever_connected() {
        return Ok(0);
    }
    let why = fleet.stats.last_error().unwrap_or_else(|| "the run was stopped before".into());
    fleet.screen.error(&format!("no device could connect: {why}"));
    Ok(1)
}

/// Until a signal, the given duration, the end of every device, or [`NEVER_CONNECTED`].
async fn watch(fleet: &Fleet, tasks: &mut JoinSet<()>, mut signals: lifecycle::Signals) {
    let start = Instant::now();
    let end = fleet.plan.duration.map(|d| start + d);
    let signal = signals.wait();
    tokio::pin!(signal);
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seconds = 0;
    loop {
        tokio::select! {
            () = &mut signal => return,
            () = sleep_until(end.unwrap_or(start)), if end.is_some() => return,
            ended = tasks.join_next() => match ended {
                Some(Ok(())) => {}
                Some(Err(error)) => fleet.complain(&format!("a simulated device failed: {error}")),
                None => return,
            },
            _ = second.tick() => {
                save(fleet);
                fleet.screen.progress(seconds, &fleet.summary());
                seconds += 1;
                if !fleet.stats.ever_connected() && start.elapsed() >= NEVER_CONNECTED {
                    return;
                }
            }
        }
    }
}

async fn resolve(plan: &Plan) -> Result<SocketAddr> {
    let host = plan.server.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let port = plan.server.port_or_known_default().unwrap_or(80);
    let found = tokio::net::lookup_host((host, port)).await.with_context(|| format!("--server: {host} is unknown"))?;
    let all: Vec<SocketAddr> = found.collect();
    // `localhost` names both; the server listens on IPv4 unless it is told otherwise.
    let best = all.iter().find(|a| a.is_ipv4()).or(all.first());
    best.copied().with_context(|| format!("--server: {host} has no address"))
}

fn save(fleet: &Fleet) {
    if let Err(error) = fleet.enrolment.book.save() {
        fleet.complain(&format!("cannot keep the credentials of the devices: {error:#}"));
    }
}

async fn report(fleet: &Fleet) -> Result<()> {
    let Some(target) = &fleet.plan.report else { return Ok(()) };
    let text = serde_json::to_string_pretty(&fleet.stats.report(fleet.plan.seed, fleet.plan.devices))?;
    if target == "-" {
        screen::report(&text);
        return Ok(());
    }
    let written = tokio::fs::write(Path::new(target), text + "\n").await;
    written.with_context(|| format!("--report: cannot write {target}"))
}
