//! The room itself, over the accounts.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use hexa_accounts::Accounts;
use hexa_model::DeviceClass;
use secrecy::SecretString;
use tokio::sync::Semaphore;

use crate::command::path::CommandService;
use crate::config::Config;
use crate::grant::{self, Grants};
use crate::memory::Memory;
use crate::ports::{Cluster, Drivers, OneNode};
use crate::provision::Provision;
use crate::registry::{self, Registry};

/// Cold driver calls of one class at the same time.
const COLD_CALLS: usize = 2;

/// Devices and their commands.
pub struct Devices {
    /// Accounts, and the platform below them.
    pub accounts: Arc<Accounts>,
    /// Settings of commands, device sessions and provisioning; set at the start.
    pub config: Config,
    /// Translates commands into frames of each device class, and frames back; `host` runs plugins for it.
    pub drivers: Arc<dyn Drivers>,
    /// Devices of this process.
    pub registry: Arc<Registry>,
    /// Every grant by which an owner shares a device, in memory.
    pub grants: Arc<Grants>,
    /// How devices come in and change hands.
    pub provision: Provision,
    /// Where devices are held.
    pub cluster: Arc<dyn Cluster>,
    /// Turns for calls into a driver that may take long, by class: a fleet that comes back, or a driver that is slow
    /// over its devices' configurations, takes no more threads than these, and none from other classes.
    pub(crate) cold_calls: HashMap<DeviceClass, Semaphore>,
}

impl Deref for Devices {
    type Target = Arc<Accounts>;

    fn deref(&self) -> &Arc<Accounts> {
        &self.accounts
    }
}

impl Devices {
    /// Over these accounts; claim codes are kept under a key derived from `key_encryption_key`.
    pub fn new(
        config: Config,
        key_encryption_key: &SecretString,
        accounts: Arc<Accounts>,
        drivers: Arc<dyn Drivers>,
    ) -> Arc<Self> {
        let grants = Arc::new(Grants::new(config.provision.claim_failures));
        let registry = Arc::new(Registry::new(
            accounts.store.clone(),
            Arc::clone(&accounts.clock),
            Arc::clone(&accounts.bus),
            Arc::clone(&accounts.metrics),
            Arc::clone(&grants),
            &config.device,
        ));
        Arc::new(Self {
            provision: Provision::new(config.provision.clone(), key_encryption_key),
            cold_calls: DeviceClass::ALL.into_iter().map(|c| (c, Semaphore::new(COLD_CALLS))).collect(),
            cluster: Arc::new(OneNode),
            accounts,
            config,
            drivers,
            registry,
            grants,
        })
    }

    /// From now on every change that the store commits is applied to what this process has in memory. Called once, before
    /// the first request.
    pub fn keep_in_step(self: &Arc<Self>) {
        self.store.observe(Memory::of(self));
    }

    /// Starts what this room and those below it do beside requests.
    pub fn start_workers(self: &Arc<Self>) {
        self.accounts.start_workers();
        registry::start(self);
        grant::start(self);
    }

    /// The path of every command, for an entry point.
    pub fn commands(self: &Arc<Self>) -> CommandService {
        CommandService::new(Arc::clone(self))
    }
}

impl std::fmt::Debug for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Devices").field("registry", &self.registry).finish_non_exhaustive()
    }
}
