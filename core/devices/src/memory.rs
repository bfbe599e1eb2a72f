//! Keeps what this process has in memory in step with what is committed: one function for every change, called by the
//! store between the end of a COMMIT and the next transaction. Another process could apply the same changes from a feed.
//!
//! Nothing here takes a value from a change: versions are compared, the rest was read from the database.

use std::sync::{Arc, Weak};

use hexa_model::{Change, DeviceChange, DeviceKey, DeviceUid};
use hexa_store::{DeviceAccess, Fact, Observer};

use crate::Devices;
use crate::access;

/// The memory of one process.
pub(crate) struct Memory(Weak<Devices>);

impl Memory {
    pub(crate) fn of(services: &Arc<Devices>) -> Arc<Self> {
        Arc::new(Self(Arc::downgrade(services)))
    }
}

impl Observer for Memory {
    fn apply(&self, facts: &[Fact]) {
        let Some(services) = self.0.upgrade() else { return };
        for fact in facts {
            services.apply(fact);
        }
    }
}

impl Devices {
    /// Applies a committed change to the memory of this process and tells the bus. Applying one late or twice does no
    /// harm; one of an unknown kind drops what it may concern.
    pub fn apply(self: &Arc<Self>, fact: &Fact) {
        match fact {
            Fact::Plain(change) => self.accounts.apply(change),
            Fact::Device(Change::Device { device, uid, version, what }, access) => {
                self.apply_device((*device, uid), *version, *what, access.as_ref());
            }
            Fact::Device(other, _) => self.accounts.apply(other),
        }
    }

    fn apply_device(
        self: &Arc<Self>,
        (device, uid): (DeviceKey, &DeviceUid),
        version: i64,
        what: DeviceChange,
        access: Option<&DeviceAccess>,
    ) {
        access::apply(self, (device, uid), version, what, access);
    }
}
