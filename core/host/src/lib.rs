//! The plugin host: device drivers as sandboxed WebAssembly components.
//! Called by `server`, which loads a [`PluginHost`], and by `service` through its port `Drivers`; calls wasmtime only.
//! Invariants: a guest reaches nothing but its log, its output is untrusted input, an instance that ended any call other
//! than cleanly is never used again, no plugin can keep the server from starting, and only own compiled code is run.
//! Start at [`PluginHost`], then `driver/call.rs` for the way of one call and `engine/limits.rs` for what ends it.

mod cap;
mod catalog;
mod config;
mod contract;
mod driver;
mod engine;
mod host;
mod lifecycle;
mod source;

pub use config::{HostConfig, PerCall};
pub use engine::EngineError;
pub use host::PluginHost;
pub use lifecycle::compile::{ChildCompiler, CompileLimits, Compiler, compile_child};
pub use lifecycle::stats::{BUCKETS_US, CallOutcome, FAULT_KINDS, Function, FunctionStats, PluginStats};
pub use source::EmbeddedPlugin;
