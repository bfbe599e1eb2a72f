//! One instance of a plugin: its store, its state in the host, and its exports.

use std::sync::Arc;
use std::time::Duration;

use hexa_model::DeviceUid;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store};

use crate::limits::{Budget, Fence, HANDLES, IO_BYTES, LimitError, Limits, USES};
use crate::log::{Level, PluginLog, Printed};
use crate::wit::{Bound, Pre};

/// What the host keeps for one instance; reachable from every host function that the guest calls.
pub(crate) struct GuestState {
    pub(crate) fence: Fence,
    pub(crate) table: ResourceTable,
    pub(crate) printed: Printed,
    pub(crate) log: Arc<PluginLog>,
    /// Of the current call; none while the instance starts.
    device: Option<DeviceUid>,
    /// Bytes that the current call's own calls into the host have moved.
    moved: usize,
}

impl GuestState {
    /// Counts what a call into the host moves: wasmtime bounds each of them, and this all of one call together.
    ///
    /// # Errors
    /// The end of the call.
    pub(crate) fn moves(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.moved = self.moved.saturating_add(bytes);
        if self.moved > IO_BYTES {
            return Err(LimitError::new("io", "io_bytes", IO_BYTES as u64, self.moved as u64).into());
        }
        Ok(())
    }

    /// A line in the plugin's log, with the device of the current call.
    pub(crate) fn say(&mut self, level: Level, text: &str) -> wasmtime::Result<()> {
        self.moves(text.len())?;
        self.log.write(level, self.device.as_ref().map_or("", DeviceUid::as_str), text);
        Ok(())
    }

    /// Bytes that the guest printed.
    pub(crate) fn print(&mut self, bytes: &[u8]) -> wasmtime::Result<()> {
        self.moves(bytes.len())?;
        let Self { printed, log, device, .. } = self;
        let device = device.as_ref().map_or("", DeviceUid::as_str);
        printed.take(bytes, |line| log.write(Level::Info, device, line));
        Ok(())
    }
}

/// A plugin instance, warm between calls.
pub(crate) struct Instance {
    pub(crate) store: Store<GuestState>,
    pub(crate) bound: Box<dyn Bound>,
    uses: u32,
    /// Uses when somebody last looked for idle instances.
    uses_seen: u32,
    /// Linear memory as the pool has counted it.
    pub(crate) counted_bytes: u64,
}

impl Instance {
    /// Starts one, within the budget.
    pub(crate) fn start(
        engine: &Engine,
        pre: &dyn Pre,
        limits: &Limits,
        log: &Arc<PluginLog>,
        budget: Budget,
    ) -> wasmtime::Result<Self> {
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLES);
        let state = GuestState {
            fence: Fence::new(limits),
            table,
            printed: Printed::default(),
            log: Arc::clone(log),
            device: None,
            moved: 0,
        };
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.fence);
        store.set_hostcall_fuel(IO_BYTES);
        store.set_max_component_handles(HANDLES);
        store.epoch_deadline_callback(|mut cx| cx.data_mut().fence.tick());
        arm(&mut store, budget);
        let bound = pre.instantiate(&mut store)?;
        Ok(Self { store, bound, uses: 0, uses_seen: 0, counted_bytes: 0 })
    }

    /// Before every call: a limit armed once would be used up by the calls before.
    pub(crate) fn begin(&mut self, device: Option<&DeviceUid>, budget: Budget) {
        self.store.data_mut().device = device.cloned();
        self.uses += 1;
        arm(&mut self.store, budget);
    }

    /// Processor time of the current call, which has taken `wall` so far.
    pub(crate) fn cpu_used(&self, wall: Duration) -> Duration {
        self.store.data().fence.cpu_used(wall)
    }

    /// Whether it was not used since this was asked last.
    pub(crate) fn idle(&mut self) -> bool {
        std::mem::replace(&mut self.uses_seen, self.uses) == self.uses
    }

    /// Linear memory, in bytes.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.store.data().fence.memory_bytes() as u64
    }

    /// Used enough, or grown too large: to be replaced by a fresh one.
    pub(crate) fn worn(&self) -> bool {
        self.uses >= USES || self.store.data().fence.memory_worn()
    }
}

fn arm(store: &mut Store<GuestState>, budget: Budget) {
    store.data_mut().fence.arm(budget);
    store.data_mut().moved = 0;
    store.set_epoch_deadline(1);
}
