//! Operations: what the house counts.

pub mod fleet;
pub mod metrics;
pub mod writer;
