//! The guest house: device drivers as sandboxed WebAssembly components.
//! Called by `server`, which loads a [`PluginHost`], and by `service` through its port `Drivers`; calls wasmtime only.
//! Invariants: a guest reaches nothing but its log, its output is untrusted input, an instance that ended any call other
//! than cleanly is never used again, no plugin can keep the server from starting, and only own compiled code is run.
//! Start at [`PluginHost`], then `call.rs` for the way of one call and `limits.rs` for what ends it.

mod cache;
mod call;
mod catalog;
mod check;
mod compile;
mod cpu_quota;
mod descriptor;
mod engine;
mod fault;
mod health;
mod host;
mod instance;
mod limits;
mod log;
mod manifest;
mod pool;
mod sample;
mod source;
mod stats;
mod wasi;
mod wit;

pub use compile::{ChildCompiler, CompileLimits, Compiler, compile_child};
pub use engine::EngineError;
pub use host::{HostConfig, PerCall, PluginHost};
pub use source::EmbeddedPlugin;
pub use stats::{BUCKETS_US, CallOutcome, FAULT_KINDS, Function, FunctionStats, PluginStats};
