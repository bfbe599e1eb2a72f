//! Operations: what the house counts.

pub mod metrics;
pub mod writer;
