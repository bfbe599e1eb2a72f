//! The rooms together, behind one `Arc`. Built once by the server, handed to every door.

use std::collections::HashMap;
use std::sync::Arc;

use hexa_model::{Clock, DeviceClass};
use hexa_store::Store;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::audit::Audit;
use crate::auth::Auth;
use crate::bus::Bus;
use crate::clock_guard::ClockGuard;
use crate::command::open::OpenCommands;
use crate::command::path::CommandService;
use crate::config::Config;
use crate::device::grant::Grants;
use crate::device::provision::Provision;
use crate::device::registry::Registry;
use crate::idempotency::Idempotency;
use crate::memory::Memory;
use crate::ops::fleet::Recent;
use crate::ops::metrics::Metrics;
use crate::ports::{Cluster, Drivers, OneNode};

/// Cold driver calls of one class at the same time.
const COLD_CALLS: usize = 2;

/// Everything that a door may need.
pub struct Services {
    /// Settings.
    pub config: Config,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// How far it can be believed.
    pub guard: Arc<ClockGuard>,
    /// The cellar.
    pub store: Store,
    /// Device drivers.
    pub drivers: Arc<dyn Drivers>,
    /// Who hears of what happened.
    pub bus: Arc<Bus>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Commands of the last minutes.
    pub recent: Recent,
    /// Devices of this process.
    pub registry: Arc<Registry>,
    /// What owners share.
    pub grants: Arc<Grants>,
    /// Rows that stand alone.
    pub audit: Audit,
    /// Accounts.
    pub auth: Arc<Auth>,
    /// Devices come in and change hands.
    pub provision: Provision,
    /// Requests that may be sent twice.
    pub idempotency: Idempotency,
    /// Commands under way; the stop waits for them.
    pub tasks: TaskTracker,
    /// Those that have no end yet, by id.
    pub open: OpenCommands,
    /// Where devices are held.
    pub cluster: Arc<dyn Cluster>,
    /// Turns for calls into a driver that may take long, by class: a fleet that comes back, or a driver that is slow
    /// over its devices' configurations, takes no more threads than these, and none from other classes.
    pub(crate) cold_calls: HashMap<DeviceClass, Semaphore>,
    /// Set when the server begins to stop.
    pub stop: CancellationToken,
}

impl Services {
    /// Builds the rooms.
    pub fn new(config: Config, clock: Arc<dyn Clock>, store: Store, drivers: Arc<dyn Drivers>) -> Arc<Self> {
        let bus = Arc::new(Bus::default());
        let metrics = Arc::new(Metrics::new());
        crate::ops::writer::register(&metrics, &store);
        let grants = Arc::new(Grants::new(config.provision.claim_failures));
        let registry = Arc::new(Registry::new(
            store.clone(),
            Arc::clone(&clock),
            Arc::clone(&bus),
            Arc::clone(&metrics),
            Arc::clone(&grants),
            &config.device,
        ));
        let guard = Arc::new(ClockGuard::new(Arc::clone(&clock)));
        Arc::new(Self {
            audit: Audit::new(store.clone(), Arc::clone(&metrics)),
            auth: Arc::new(Auth::new(
                config.auth.clone(),
                &config.key_encryption_key,
                store.clone(),
                Arc::clone(&clock),
                Arc::clone(&guard),
            )),
            provision: Provision::new(config.provision.clone(), &config.key_encryption_key),
            cold_calls: DeviceClass::ALL.into_iter().map(|c| (c, Semaphore::new(COLD_CALLS))).collect(),
            idempotency: Idempotency::new(&config.key_encryption_key),
            tasks: TaskTracker::new(),
            open: OpenCommands::default(),
            cluster: Arc::new(OneNode),
            stop: CancellationToken::new(),
            config,
            guard,
            clock,
            store,
            drivers,
            bus,
            metrics,
            recent: Recent::default(),
            grants,
            registry,
        })
    }

    /// From now on every change that the store commits is applied to what these services have in memory. Called once,
    /// before the first request.
    pub fn keep_in_step(self: &Arc<Self>) {
        self.store.observe(Memory::of(self));
    }

    /// The path of every command, for a door.
    pub fn commands(self: &Arc<Self>) -> CommandService {
        CommandService::new(Arc::clone(self))
    }

    /// Whether the server has begun to stop.
    pub fn stopping(&self) -> bool {
        self.stop.is_cancelled()
    }
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Services").field("registry", &self.registry).finish_non_exhaustive()
    }
}
