//! Keeps what this process has in memory in step with what is committed: one function for every change, called by the
//! store between the end of a COMMIT and the next transaction. Another process could apply the same changes from a feed.
//!
//! Nothing here takes a value from a change: versions are compared, the rest was read from the database.

use std::sync::{Arc, Weak};

use hexa_model::event::AccessEnded;
use hexa_model::{Change, DeviceChange, DeviceKey, DeviceUid};
use hexa_store::{DeviceAccess, Fact, Observer};

use crate::Services;
use crate::device::access;

/// The memory of one process.
pub(crate) struct Memory(Weak<Services>);

impl Memory {
    pub(crate) fn of(services: &Arc<Services>) -> Arc<Self> {
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

impl Services {
    /// Applies a committed change to the memory of this process and tells the bus. Applying one late or twice does no
    /// harm; one of an unknown kind drops what it may concern.
    pub fn apply(self: &Arc<Self>, fact: &Fact) {
        match fact {
            Fact::Plain(change) => self.apply_plain(change),
            Fact::Device(Change::Device { device, uid, version, what }, access) => {
                self.apply_device((*device, uid), *version, *what, access.as_ref());
            }
            Fact::Device(other, _) => self.apply_plain(other),
        }
    }

    fn apply_plain(&self, change: &Change) {
        match change {
            Change::Account { user, id, epoch, ends_access } => {
                self.auth.account_changed(*id, *epoch);
                if *ends_access {
                    self.bus.access_ended(AccessEnded::Account(*user));
                }
            }
            Change::Sessions { user, ended } => {
                self.auth.sessions_ended(ended);
                for session in ended {
                    self.bus.access_ended(AccessEnded::Session(*user, *session));
                }
            }
            Change::Token { user, id } => {
                self.auth.forget_token(*id);
                self.bus.access_ended(AccessEnded::Token(*user, *id));
            }
            Change::SigningKeys { ends_access } => {
                self.auth.keys_changed(*ends_access);
                if *ends_access {
                    self.bus.access_ended(AccessEnded::Keys);
                }
            }
            // Without its facts nothing can be said of a device; the store always reads them.
            Change::Device { .. } => {}
            Change::TimesSetRight => self.auth.forget_tokens(),
            Change::Unknown => self.auth.forget_everything(),
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
