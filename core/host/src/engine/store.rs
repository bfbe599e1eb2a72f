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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wasmtime::{Instance, Module};

    use super::*;
    use crate::engine;
    use crate::engine::limits::{LimitError, Limits};

    /// A state with nothing in it but its limits, as another kind of plugin may have.
    struct Bare(CallLimiter);

    impl Limited for Bare {
        fn limiter(&mut self) -> &mut CallLimiter {
            &mut self.0
        }
    }

    #[test]
    fn a_state_of_any_kind_is_held_to_the_limits_of_each_call() {
        let engine = engine::new().unwrap();
        let text = r#"(module (memory 1)
            (func (export "loop") (loop (br 0)))
            (func (export "grow") (drop (memory.grow (i32.const 16)))))"#;
        let module = Module::new(&engine, wat::parse_str(text).unwrap()).unwrap();
        let limits = Limits { memory_bytes: 1 << 20, ..Limits::default() };
        let budget = Budget { cpu: Duration::from_millis(5), wall: Duration::from_secs(60) };
        let mut store = limited(&engine, Bare(CallLimiter::new(&limits)), budget);
        let instance = Instance::new(&mut store, &module, &[]).unwrap();
        let mut ends = |function: &str| {
            arm(&mut store, budget);
            let call = instance.get_typed_func::<(), ()>(&mut store, function).unwrap();
            let error = call.call(&mut store, ()).expect_err("a limit ends it");
            error.downcast_ref::<LimitError>().expect("of ours").limit.limit
        };
        assert_eq!((ends("loop"), ends("grow"), ends("loop")), ("cpu_ms", "memory_bytes", "cpu_ms"));
        assert!(store.data_mut().0.count_io(IO_BYTES).is_ok());
        assert!(store.data_mut().0.count_io(1).is_err());
        arm(&mut store, budget);
        assert!(store.data_mut().0.count_io(1).is_ok());
    }
}
