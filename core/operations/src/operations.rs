//! The room itself, over the devices.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use hexa_accounts::Accounts;
use hexa_devices::Devices;
use hexa_devices::ports::Drivers;
use hexa_model::Clock;
use hexa_platform::Platform;
use hexa_store::Store;

use crate::config::Config;
use crate::fleet::{self, Recent};
use crate::plugins::{self, PluginEventReceiver};
use crate::{housekeeping, set_right};

/// Everything that an entry point may need.
pub struct Operations {
    /// Devices, and the rooms below them.
    pub devices: Arc<Devices>,
    /// Commands of the last minutes.
    pub recent: Recent,
}

impl Deref for Operations {
    type Target = Arc<Devices>;

    fn deref(&self) -> &Arc<Devices> {
        &self.devices
    }
}

impl Operations {
    /// Builds the rooms, one over the other.
    pub fn new(config: Config, clock: Arc<dyn Clock>, store: Store, drivers: Arc<dyn Drivers>) -> Arc<Self> {
        let Config { devices, accounts, key_encryption_key } = config;
        let platform = Platform::new(&key_encryption_key, clock, store);
        let accounts = Arc::new(Accounts::new(accounts, &key_encryption_key, platform));
        let devices = Devices::new(devices, &key_encryption_key, accounts, drivers);
        Arc::new(Self { devices, recent: Recent::default() })
    }

    /// Starts what this room and those below it do beside requests: everything is a worker of the one registry.
    pub fn start_workers(self: &Arc<Self>, events: PluginEventReceiver, audit_retention: Option<Duration>) {
        self.devices.start_workers();
        fleet::start(self);
        plugins::start(self, events);
        set_right::start(self);
        housekeeping::start(self, audit_retention);
    }
}

impl std::fmt::Debug for Operations {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Operations").field("devices", &self.devices).finish_non_exhaustive()
    }
}
