//! What the house does, free of transport: the relay path, devices, accounts, audit, metrics.
//!
//! Called by the doors (`api`, later `script`, `transport`, `cluster`); calls `store`, `crypto`, `model`.
//! Invariants: relay state changes in `command/acknowledge.rs` and `relay/report.rs` only; a command ends exactly once;
//! nothing that must not be lost travels only on the bus; no socket is opened here.
//! Start at [`command::path`], the nine steps of a command.

pub mod audit;
pub mod auth;
pub mod authorize;
pub mod bus;
mod change;
pub mod clock_guard;
pub mod command;
pub mod config;
mod detached;
pub mod device;
pub mod error;
pub mod housekeeping;
pub mod idempotency;
pub mod limit;
mod memory;
pub mod ops;
pub mod plugins;
pub mod ports;
pub mod preferences;
pub mod relay;
mod services;

pub use error::{Error, Result};
pub use services::Services;

pub use hexa_crypto::{hex, random_bytes};

/// Compares two secrets in constant time.
pub fn same_secret(a: &str, b: &str) -> bool {
    hexa_crypto::token::same_text(a, b)
}

/// Random bits for ids that must only differ, for example between two starts.
pub fn random_u32() -> u32 {
    u32::from_le_bytes(hexa_crypto::random_bytes())
}
