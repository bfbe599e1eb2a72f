//! The wasmtime engine, hardened, and the thread that ticks its epoch.

use std::num::NonZeroUsize;

use wasmtime::{
    Config, Enabled, Engine, EngineWeak, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, Strategy,
};

pub(crate) mod limits;
pub(crate) mod store;

use limits::{MAX_MEMORY_BYTES, TABLE_ELEMENTS, TICK};

/// The plugin host cannot exist on this machine.
#[derive(Debug, thiserror::Error)]
#[error("no WASM engine can be made here: {reason}. Plugins need a 64-bit CPU and the right to map memory")]
pub struct EngineError {
    reason: String,
}

impl EngineError {
    pub(crate) fn new(reason: &dyn std::fmt::Display) -> Self {
        Self { reason: reason.to_string() }
    }
}

/// An engine with its ticking thread, which ends soon after the engine and everything made from it are gone.
pub(crate) fn new() -> Result<Engine, EngineError> {
    let config = hardened();
    let mut pooled = config.clone();
    pooled.allocation_strategy(InstanceAllocationStrategy::Pooling(pool()));
    let engine = match Engine::new(&pooled) {
        Ok(engine) => engine,
        Err(reason) => {
            tracing::warn!(%reason, "plugins run without pooled memory, which is slower: too little address space");
            Engine::new(&config).map_err(|e| EngineError::new(&e))?
        }
    };
    let weak = engine.weak();
    // An OS thread and not a task: a blocked runtime must not stop the guests' clock.
    std::thread::Builder::new()
        .name("plugin-epoch".into())
        .spawn(move || tick(&weak))
        .map_err(|e| EngineError::new(&e))?;
    Ok(engine)
}

/// An engine that makes the same code and runs none: no pool, whose address space is beyond a compiler's limit, no
/// ticks, and one thread, so that processor time and memory of a compilation are what its component costs.
pub(crate) fn for_compiling() -> wasmtime::Result<Engine> {
    Engine::new(hardened().parallel_compilation(false))
}

fn tick(engine: &EngineWeak) {
    while let Some(engine) = engine.upgrade() {
        engine.increment_epoch();
        drop(engine);
        std::thread::sleep(TICK);
    }
}

/// What a plugin may use of WebAssembly: what Rust and C compilers emit, and nothing that is new or rare.
fn hardened() -> Config {
    let mut c = Config::new();
    c.strategy(Strategy::Cranelift)
        .cranelift_opt_level(OptLevel::Speed)
        .debug_info(false)
        .wasm_backtrace_max_frames(NonZeroUsize::new(16))
        .epoch_interruption(true)
        .concurrency_support(false)
        .shared_memory(false)
        .wasm_threads(false)
        .wasm_shared_everything_threads(false)
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .wasm_relaxed_simd(false)
        .wasm_wide_arithmetic(false)
        .wasm_custom_page_sizes(false)
        .wasm_stack_switching(false)
        .wasm_gc(false)
        .wasm_function_references(false)
        .wasm_exceptions(false)
        .wasm_component_model_error_context(false)
        .wasm_component_model_map(false)
        .wasm_component_model_memory64(false)
        .wasm_component_model_fixed_length_lists(false)
        .wasm_component_model_implements(false)
        // A driver call runs on its caller's stack, which is a tokio worker's 2 MiB.
        .max_wasm_stack(512 << 10);
    c
}

fn pool() -> PoolingAllocationConfig {
    let mut p = PoolingAllocationConfig::new();
    p.total_component_instances(1_024)
        .total_core_instances(1_024)
        .max_core_instances_per_component(16)
        .total_memories(256)
        .max_memories_per_component(4)
        .total_tables(768)
        .max_tables_per_component(8)
        .max_tables_per_module(8)
        .table_elements(TABLE_ELEMENTS)
        .max_memory_size(MAX_MEMORY_BYTES)
        .max_component_instance_size(1 << 20)
        .max_unused_warm_slots(32)
        .linear_memory_keep_resident(128 << 10)
        .table_keep_resident(16 << 10)
        .pagemap_scan(Enabled::Auto);
    p
}
