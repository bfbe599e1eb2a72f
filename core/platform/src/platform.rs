//! The things that every room uses, together.

use std::sync::Arc;

use hexa_model::Clock;
use hexa_store::Store;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::{Audit, waiting};
use crate::bus::Bus;
use crate::clock_guard::{self, ClockGuard};
use crate::idempotency::Idempotency;
use crate::metrics::Metrics;
use crate::open_commands::OpenCommands;
use crate::worker::Workers;

/// What every room stands on. A room holds the one below it and derefs to it, so that whoever has a room can call
/// everything below.
pub struct Platform {
    /// Wall clock and monotonic clock; tests bring their own.
    pub clock: Arc<dyn Clock>,
    /// How far the wall clock can be believed.
    pub guard: Arc<ClockGuard>,
    /// The database, SQLite or PostgreSQL, with its one writer.
    pub store: Store,
    /// Who hears of what happened.
    pub bus: Arc<Bus>,
    /// Counters that `/metrics` shows, of this process alone.
    pub metrics: Arc<Metrics>,
    /// Rows that stand alone.
    pub audit: Audit,
    /// Requests that may be sent twice.
    pub idempotency: Idempotency,
    /// Work under way; the stop waits for it.
    pub tasks: TaskTracker,
    /// Commands that have no end yet, by id.
    pub open: OpenCommands,
    /// Set when the server begins to stop.
    pub stop: CancellationToken,
    /// What goes on beside requests.
    pub workers: Workers,
}

impl Platform {
    /// Over this store; what is sealed is sealed under keys derived from `key_encryption_key`.
    pub fn new(key_encryption_key: &SecretString, clock: Arc<dyn Clock>, store: Store) -> Arc<Self> {
        let metrics = Arc::new(Metrics::new());
        crate::writer_metrics::register(&metrics, &store);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        Arc::new(Self {
            workers: Workers::new(Arc::clone(&clock), &metrics, tasks.clone(), stop.clone()),
            guard: Arc::new(ClockGuard::new(Arc::clone(&clock))),
            audit: Audit::new(store.clone(), Arc::clone(&metrics)),
            idempotency: Idempotency::new(key_encryption_key),
            bus: Arc::new(Bus::default()),
            tasks,
            open: OpenCommands::default(),
            stop,
            clock,
            store,
            metrics,
        })
    }

    /// Starts what this room does beside requests.
    pub fn start_workers(self: &Arc<Self>) {
        clock_guard::start(self);
        waiting::start(self);
    }

    /// Whether the server has begun to stop.
    pub fn stopping(&self) -> bool {
        self.stop.is_cancelled()
    }
}

impl std::fmt::Debug for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Platform").finish_non_exhaustive()
    }
}
