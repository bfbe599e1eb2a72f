//! One instance of a plugin: its store, its state in the host, and its exports.

use std::sync::Arc;
use std::time::Duration;

use hexa_model::DeviceUid;
use wasmtime::{Engine, Store};

use crate::cap::guest_state::GuestState;
use crate::cap::log::PluginLog;
use crate::contract::{Bound, Pre};
use crate::engine::limits::{Budget, Limits, USES};
use crate::engine::store;

/// A plugin instance, warm between calls.
pub(crate) struct Instance {
    pub(crate) store: Store<GuestState>,
    pub(crate) bound: Box<dyn Bound>,
    uses: u32,
    /// Uses when the pool last looked for unused instances.
    uses_seen: u32,
    /// Linear memory as the pool has counted it.
    pub(crate) counted_bytes: u64,
}

impl Instance {
    /// Starts an instance, within the budget.
    pub(crate) fn start(
        engine: &Engine,
        pre: &dyn Pre,
        limits: &Limits,
        log: &Arc<PluginLog>,
        budget: Budget,
    ) -> wasmtime::Result<Self> {
        let mut store = store::limited(engine, GuestState::new(limits, log), budget);
        let bound = pre.instantiate(&mut store)?;
        Ok(Self { store, bound, uses: 0, uses_seen: 0, counted_bytes: 0 })
    }

    /// Before every call: for which device it is, and how much time it has.
    pub(crate) fn begin(&mut self, device: Option<&DeviceUid>, budget: Budget) {
        self.store.data_mut().begin(device);
        self.uses += 1;
        store::arm(&mut self.store, budget);
    }

    /// Processor time of the current call, which has taken `wall` so far.
    pub(crate) fn cpu_used(&self, wall: Duration) -> Duration {
        self.store.data().used().cpu_used(wall)
    }

    /// Whether it was not used since this was called last.
    pub(crate) fn take_unused(&mut self) -> bool {
        std::mem::replace(&mut self.uses_seen, self.uses) == self.uses
    }

    /// Linear memory of the instance, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.store.data().used().memory_bytes() as u64
    }

    /// Used often enough, or grown too large: to be replaced by a fresh one.
    pub(crate) fn used_up(&self) -> bool {
        self.uses >= USES || self.store.data().used().memory_used_up()
    }
}
