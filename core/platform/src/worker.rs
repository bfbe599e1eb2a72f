//! What goes on beside requests: every loop of the server is a worker of this registry. It is supervised, started again
//! after a panic, and shown.

use std::any::Any;
use std::fmt::Display;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use hexa_model::{Clock, TimeMs};
use parking_lot::Mutex;
use prometheus::{IntCounterVec, IntGaugeVec};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;

/// The first pause before a worker that broke off is started again; each further one in a row is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause; one that ran for longer than this starts with the first pause again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Characters of an error that is shown.
const SHOWN_ERROR: usize = 512;

/// On which nodes a worker runs when there is more than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunsOn {
    /// On each: it looks after what this process has in memory.
    EveryNode,
    /// On one: whoever holds the worker's term.
    OneNode,
    /// On each, and each claims the rows that it works on.
    ClaimsWork,
}

impl RunsOn {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EveryNode => "every_node",
            Self::OneNode => "one_node",
            Self::ClaimsWork => "claims_work",
        }
    }
}

/// Under which turn a worker writes. The store compares the node's generation in every transaction, so that what a worker
/// of a process does whose place was taken is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// The name of the worker, as in [`WorkerSpec`].
    pub worker: &'static str,
    /// How often it was started in this process, from 1.
    pub start: u64,
}

/// What a worker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerSpec {
    /// Its name, in metrics, the log and the API.
    pub name: &'static str,
    /// What it does, in a few words, for the API.
    pub purpose: &'static str,
    /// On which nodes it runs, for the API.
    pub runs_on: RunsOn,
}

/// How a worker stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WorkerState {
    /// It has not been started.
    #[default]
    New,
    /// It waits for its time, or for something to do.
    Idle,
    /// It is at work.
    Running,
    /// It broke off, and is started again after a pause.
    BackingOff,
    /// It ended because the server stops, and does not start again.
    Stopped,
}

impl WorkerState {
    /// As in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Idle => "idle",
            Self::Running => "running",
            Self::BackingOff => "backing_off",
            Self::Stopped => "stopped",
        }
    }
}

/// One worker, as it is shown.
#[derive(Clone, Debug)]
pub struct WorkerView {
    /// Its name, its purpose and where it runs.
    pub spec: WorkerSpec,
    /// Time between two runs; none for one that waits for something to do.
    pub period: Option<Duration>,
    /// What it is doing at this moment.
    pub state: WorkerState,
    /// Runs since the start of the process; of one without a period, how often it was started.
    pub runs: u64,
    /// Runs that ended with an error or a panic since the start of the process.
    pub failures: u64,
    /// When the last run ended, or one without a period was started.
    pub last_run: Option<TimeMs>,
    /// How long the last run took.
    pub last_took: Option<Duration>,
    /// When a run failed last, and why.
    pub last_error: Option<(TimeMs, String)>,
}

/// Every worker of this process.
pub struct Workers {
    clock: Arc<dyn Clock>,
    tasks: TaskTracker,
    stop: CancellationToken,
    list: Mutex<Vec<Arc<Worker>>>,
    failures: IntCounterVec,
    last_run: IntGaugeVec,
}

struct Worker {
    spec: WorkerSpec,
    period: Option<Duration>,
    status: Mutex<Status>,
}

#[derive(Default)]
struct Status {
    state: WorkerState,
    runs: u64,
    failures: u64,
    last_run: Option<TimeMs>,
    last_took: Option<Duration>,
    last_error: Option<(TimeMs, String)>,
}

/// What a worker does in one run.
pub type Run = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Makes a run of a worker whose errors are shown as they are.
pub fn run<E: Display>(work: impl Future<Output = Result<(), E>> + Send + 'static) -> Run {
    Box::pin(async move { work.await.map_err(|error| error.to_string()) })
}

impl Workers {
    pub(crate) fn new(clock: Arc<dyn Clock>, metrics: &Metrics, tasks: TaskTracker, stop: CancellationToken) -> Self {
        Self {
            clock,
            tasks,
            stop,
            list: Mutex::default(),
            failures: metrics.counter_vec(
                "hexa_worker_failures_total",
                "Runs of background workers that failed or broke off.",
                &["worker"],
            ),
            last_run: metrics.gauge_vec(
                "hexa_worker_last_run_timestamp_seconds",
                "When a background worker ended its last run; one without a period, when it was last started.",
                &["worker"],
            ),
        }
    }

    /// Starts a worker that runs at once and then every `period`, until the server stops. A run that fails, or panics, is
    /// noted, and the next one comes at its time.
    pub fn periodic(&self, spec: WorkerSpec, period: Duration, mut work: impl FnMut(Term) -> Run + Send + 'static) {
        let (worker, failures, last_run) = self.enter(spec, Some(period));
        let (clock, stop) = (Arc::clone(&self.clock), self.stop.clone());
        self.tasks.spawn(async move {
            let mut tick = tokio::time::interval(period);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut former = None;
            for start in 1.. {
                worker.status.lock().state = WorkerState::Idle;
                tokio::select! {
                    () = stop.cancelled() => break,
                    _ = tick.tick() => {}
                }
                worker.status.lock().state = WorkerState::Running;
                let began = clock.monotonic();
                let ended = guarded(work(Term { worker: spec.name, start })).await;
                let (now, took) = (clock.now(), clock.monotonic().saturating_sub(began));
                last_run.set(now.0 / 1_000);
                let failed = worker.ended(now, Some(took), ended);
                match &failed {
                    None => {}
                    // One line for a row of the same: a database that is away for an hour is said by others.
                    Some(error) if failed != former => {
                        failures.inc();
                        tracing::warn!(
                            worker = spec.name,
                            error,
                            "a run of this worker failed; the next one comes at its time"
                        );
                    }
                    Some(error) => {
                        failures.inc();
                        tracing::debug!(worker = spec.name, error, "a run of this worker failed again");
                    }
                }
                former = failed;
            }
            worker.status.lock().state = WorkerState::Stopped;
        });
    }

    /// Starts a worker that goes on until the server stops, and waits for things to do by itself. One that breaks off
    /// before that, by an error or a panic, is started again after a pause.
    pub fn ongoing(&self, spec: WorkerSpec, mut work: impl FnMut(Term) -> Run + Send + 'static) {
        let (worker, failures, last_run) = self.enter(spec, None);
        let (clock, stop) = (Arc::clone(&self.clock), self.stop.clone());
        self.tasks.spawn(async move {
            let mut pause = FIRST_PAUSE;
            for start in 1.. {
                let now = clock.now();
                {
                    let mut status = worker.status.lock();
                    status.state = WorkerState::Running;
                    status.runs += 1;
                    status.last_run = Some(now);
                }
                last_run.set(now.0 / 1_000);
                let began = clock.monotonic();
                let ended = guarded(work(Term { worker: spec.name, start })).await;
                if stop.is_cancelled() {
                    break;
                }
                let lived = clock.monotonic().saturating_sub(began);
                let why = ended.err().unwrap_or_else(|| "it ended by itself".to_owned());
                failures.inc();
                {
                    let mut status = worker.status.lock();
                    status.failures += 1;
                    status.state = WorkerState::BackingOff;
                    status.last_error = Some((clock.now(), shown(&why)));
                }
                // One that went on for long did not break off because of how it was started.
                pause = if lived > LONGEST_PAUSE { FIRST_PAUSE } else { pause };
                tracing::error!(
                    worker = spec.name,
                    error = why,
                    pause_s = pause.as_secs(),
                    "a worker broke off; it is started again"
                );
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            worker.status.lock().state = WorkerState::Stopped;
        });
    }

    fn enter(
        &self,
        spec: WorkerSpec,
        period: Option<Duration>,
    ) -> (Arc<Worker>, prometheus::IntCounter, prometheus::IntGauge) {
        let worker = Arc::new(Worker { spec, period, status: Mutex::default() });
        self.list.lock().push(Arc::clone(&worker));
        (worker, self.failures.with_label_values(&[spec.name]), self.last_run.with_label_values(&[spec.name]))
    }

    /// All of them, in the order of their start.
    pub fn list(&self) -> Vec<WorkerView> {
        self.list.lock().iter().map(|worker| worker.view()).collect()
    }
}

impl Worker {
    /// Notes the end of a run; gives why it failed.
    fn ended(&self, now: TimeMs, took: Option<Duration>, ended: Result<(), String>) -> Option<String> {
        let mut status = self.status.lock();
        status.runs += 1;
        status.last_run = Some(now);
        status.last_took = took;
        let error = ended.err()?;
        status.failures += 1;
        status.last_error = Some((now, shown(&error)));
        Some(error)
    }

    fn view(&self) -> WorkerView {
        let status = self.status.lock();
        WorkerView {
            spec: self.spec,
            period: self.period,
            state: status.state,
            runs: status.runs,
            failures: status.failures,
            last_run: status.last_run,
            last_took: status.last_took,
            last_error: status.last_error.clone(),
        }
    }
}

fn shown(error: &str) -> String {
    error.chars().take(SHOWN_ERROR).collect()
}

/// A panic is an error like any other: it ends the run, not the worker.
async fn guarded(run: Run) -> Result<(), String> {
    AssertUnwindSafe(run).catch_unwind().await.unwrap_or_else(|panic| Err(words_of(&*panic)))
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let words = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("it panicked: {}", words.unwrap_or("without words"))
}

impl std::fmt::Debug for Workers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Workers").field("workers", &self.list.lock().len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
