//! What a driver's faults lead to (plugins.md 4.10): first the device is quarantined, then the plugin, then for good.
//!
//! A pure state machine behind one atomic word: a healthy plugin without a poisoned device costs a call one load. Time is
//! monotonic and handed in.

mod breaker;
mod recent;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hexa_model::DeviceUid;
use parking_lot::Mutex;

pub(crate) use breaker::{Change, Function, Refusal};

use breaker::{Breaker, Pass};

/// The health of one plugin.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Something is not as it should be: only then calls look closer.
    troubled: AtomicBool,
    /// Devices with a session, for the share of them that is in trouble.
    active: AtomicUsize,
    breaker: Mutex<Breaker>,
}

/// Leave for one call. Dropped without a word, a probe is given back for the next caller.
#[derive(Debug)]
pub(crate) struct CallPermit<'h> {
    health: &'h Health,
    pass: Pass,
}

impl Health {
    /// Whether this device's call may enter the plugin now. The time is asked for in trouble only.
    pub(crate) fn admit(
        &self,
        device: Option<&DeviceUid>,
        now: impl FnOnce() -> Duration,
    ) -> Result<CallPermit<'_>, Refusal> {
        if !self.troubled.load(Ordering::Acquire) {
            return Ok(CallPermit { health: self, pass: Pass::Free });
        }
        let mut breaker = self.breaker.lock();
        let pass = breaker.admit(device, now());
        self.troubled.store(breaker.troubled(), Ordering::Release);
        pass.map(|pass| CallPermit { health: self, pass })
    }

    /// A session began (`true`) or ended.
    pub(crate) fn session(&self, began: bool) {
        if began {
            self.active.fetch_add(1, Ordering::Relaxed);
        } else {
            // Never below zero: an end without a beginning is a host's mistake that must not look like a huge fleet.
            let _ = self.active.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        }
    }

    /// The word for people and metrics: `active`, `degraded`, `quarantined`, `half_open` or `faulted`.
    pub(crate) fn state(&self, now: Duration) -> &'static str {
        if self.troubled.load(Ordering::Acquire) { self.breaker.lock().state(now) } else { "active" }
    }

    /// Why calls of devices that are not quarantined are refused now, if they are.
    pub(crate) fn refusal(&self, now: Duration) -> Option<Refusal> {
        self.breaker.lock().refusal(now)
    }

    /// Sessions that it serves.
    pub(crate) fn sessions(&self) -> usize {
        self.active.load(Ordering::Relaxed)
    }

    /// Devices that are quarantined now.
    pub(crate) fn poisoned(&self, now: Duration) -> usize {
        self.breaker.lock().poisoned(now)
    }

    /// An admin says that it is well: everything is forgotten.
    pub(crate) fn reset(&self) {
        self.breaker.lock().reset();
        self.troubled.store(false, Ordering::Release);
    }
}

impl CallPermit<'_> {
    /// The call ended in a fault of the plugin. Gives what changed, to be told.
    pub(crate) fn fault(mut self, device: Option<&DeviceUid>, function: Function, now: Duration) -> Vec<Change> {
        let pass = std::mem::take(&mut self.pass);
        let mut breaker = self.health.breaker.lock();
        let changes = breaker.fault(device, function, pass, self.health.active.load(Ordering::Relaxed), now);
        self.health.troubled.store(breaker.troubled(), Ordering::Release);
        changes
    }

    /// The call ended well, or with the driver's own no.
    pub(crate) fn well(mut self, now: impl FnOnce() -> Duration) -> Option<Change> {
        let Pass::Probe(probe) = std::mem::take(&mut self.pass) else { return None };
        let mut breaker = self.health.breaker.lock();
        let change = breaker.recovered(probe, now());
        self.health.troubled.store(breaker.troubled(), Ordering::Release);
        change
    }
}

impl Drop for CallPermit<'_> {
    fn drop(&mut self) {
        if let Pass::Probe(probe) = self.pass {
            self.health.breaker.lock().probe_lost(probe);
        }
    }
}
