//! The binary `hexa`: the only crate that knows all the others.
//!
//! Called by people and service managers; builds store, services, plugin host and API and runs them.
//! Invariants: only this crate reads the environment; everything is checked before the first socket opens.
//! Start at [`boot`].

mod boot;
mod cli;
mod config;
mod dashboard;
mod embedded_plugins;
mod key_ring_file;
mod lifecycle;
mod plugin_metrics;
mod secrets;
mod sim;
mod telemetry;
mod volume;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Gives memory back after a storm: without a background thread and a short decay, jemalloc keeps what 8,000 devices
/// needed.
#[expect(unsafe_code, reason = "jemalloc reads its settings from a symbol of this name")]
#[expect(non_upper_case_globals, reason = "the name is jemalloc's")]
#[unsafe(export_name = "_rjem_malloc_conf")]
static malloc_conf: &[u8] = b"background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0\0";

fn main() -> std::process::ExitCode {
    cli::main()
}
