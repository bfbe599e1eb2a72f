//! What every room stands on.
//!
//! Called by the rooms (`accounts`, `devices`, and those above them); calls `store`, `crypto`, `model`.
//! Invariants: nothing changes the database but through [`change`](mod@change); nothing that must not be lost travels only
//! on the bus; every loop is a worker.
//! Start at [`Platform`], then [`change`](mod@change).

pub mod audit;
pub mod bus;
pub mod change;
pub mod clock_guard;
pub mod detached;
pub mod error;
pub mod idempotency;
pub mod limit;
pub mod metrics;
pub mod open_commands;
mod platform;
pub mod principal;
pub mod worker;
mod writer_metrics;

pub use error::{Error, Result};
pub use platform::Platform;

pub use hexa_crypto::{hex, random_bytes};

/// Compares two secrets in constant time.
pub fn same_secret(a: &str, b: &str) -> bool {
    hexa_crypto::token::same_text(a, b)
}

/// Random bits for ids that must only differ, for example between two starts.
pub fn random_u32() -> u32 {
    u32::from_le_bytes(hexa_crypto::random_bytes())
}
