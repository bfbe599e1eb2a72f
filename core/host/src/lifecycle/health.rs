//! What a driver's faults lead to: first the device is quarantined, then the plugin, then the plugin is stopped (ADR
//! 0018).
//!
//! A pure state machine behind one atomic word: a healthy plugin without a quarantined device costs a call one load.
//! Time is monotonic and handed in.

mod breaker;
mod recent;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hexa_model::DeviceUid;
use parking_lot::Mutex;

pub(crate) use breaker::{Change, Refusal};
pub(crate) use recent::FaultOrigin;

use breaker::{Admission, Breaker};

/// The health of one plugin.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// A device is quarantined or the plugin is: only then calls take the lock.
    unhealthy: AtomicBool,
    /// Devices with a session, for the share of them that fails.
    active: AtomicUsize,
    breaker: Mutex<Breaker>,
}

/// Permission for one call. Dropped without a result, a probe is given back for the next caller.
#[derive(Debug)]
pub(crate) struct CallPermit<'h> {
    health: &'h Health,
    admission: Admission,
}

impl Health {
    /// Whether this device's call may enter the plugin now. The time is asked for only while a quarantine is on.
    pub(crate) fn admit(
        &self,
        device: Option<&DeviceUid>,
        now: impl FnOnce() -> Duration,
    ) -> Result<CallPermit<'_>, Refusal> {
        if !self.unhealthy.load(Ordering::Acquire) {
            return Ok(CallPermit { health: self, admission: Admission::Free });
        }
        let mut breaker = self.breaker.lock();
        let admission = breaker.admit(device, now());
        self.unhealthy.store(breaker.unhealthy(), Ordering::Release);
        admission.map(|admission| CallPermit { health: self, admission })
    }

    /// A session began (`true`) or ended.
    pub(crate) fn session(&self, began: bool) {
        if began {
            self.active.fetch_add(1, Ordering::Relaxed);
        } else {
            // Never below zero: an end without a beginning is a mistake of the host's that must not look like a huge
            // fleet.
            let _ = self.active.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        }
    }

    /// The word for people and metrics: `active`, `degraded`, `quarantined`, `half_open` or `faulted`.
    pub(crate) fn state(&self, now: Duration) -> &'static str {
        if self.unhealthy.load(Ordering::Acquire) { self.breaker.lock().state(now) } else { "active" }
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
    pub(crate) fn quarantined_devices(&self, now: Duration) -> usize {
        self.breaker.lock().quarantined_devices(now)
    }

    /// An admin resets the plugin: every fault and quarantine is cleared.
    pub(crate) fn reset(&self) {
        self.breaker.lock().reset();
        self.unhealthy.store(false, Ordering::Release);
    }
}

impl CallPermit<'_> {
    /// The call ended in a fault of the plugin. Gives what changed, for the observer.
    pub(crate) fn fault(mut self, device: Option<&DeviceUid>, origin: FaultOrigin, now: Duration) -> Vec<Change> {
        let admission = std::mem::take(&mut self.admission);
        let mut breaker = self.health.breaker.lock();
        let changes = breaker.fault(device, origin, admission, self.health.active.load(Ordering::Relaxed), now);
        self.health.unhealthy.store(breaker.unhealthy(), Ordering::Release);
        changes
    }

    /// The call ended with a result or with the driver's own refusal.
    pub(crate) fn succeeded(mut self, now: impl FnOnce() -> Duration) -> Option<Change> {
        let Admission::Probe(probe) = std::mem::take(&mut self.admission) else { return None };
        let mut breaker = self.health.breaker.lock();
        let change = breaker.recovered(probe, now());
        self.health.unhealthy.store(breaker.unhealthy(), Ordering::Release);
        change
    }
}

impl Drop for CallPermit<'_> {
    fn drop(&mut self) {
        if let Admission::Probe(probe) = self.admission {
            self.health.breaker.lock().probe_lost(probe);
        }
    }
}
