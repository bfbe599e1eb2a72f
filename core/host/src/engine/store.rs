//! Stores whose guest is held to its limits, whatever else the host keeps for it.

use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store};

use crate::engine::limits::{Budget, CallLimiter, HANDLES, IO_BYTES};

/// The state of an instance whose calls are limited.
pub(crate) trait Limited: Send + 'static {
    fn limiter(&mut self) -> &mut CallLimiter;
}

/// A store that is armed for the start of its instance.
pub(crate) fn limited<S: Limited>(engine: &Engine, state: S, budget: Budget) -> Store<S> {
    let mut store = Store::new(engine, state);
    store.limiter(|state| state.limiter());
    store.set_hostcall_fuel(IO_BYTES);
    store.set_max_component_handles(HANDLES);
    store.epoch_deadline_callback(|mut cx| cx.data_mut().limiter().tick());
    arm(&mut store, budget);
    store
}

/// Before every call: a limit armed once would be used up by the calls before.
pub(crate) fn arm<S: Limited>(store: &mut Store<S>, budget: Budget) {
    store.data_mut().limiter().arm(budget);
    store.set_epoch_deadline(1);
}

/// A table for the host's own resources, as large as a guest may fill it.
pub(crate) fn handle_table() -> ResourceTable {
    let mut table = ResourceTable::new();
    table.set_max_capacity(HANDLES);
    table
}
