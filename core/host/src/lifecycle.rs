//! What a plugin goes through: it is read, compiled and counted, and quarantined when it fails or takes too much.

pub(crate) mod cache;
pub(crate) mod compile;
pub(crate) mod cpu_quota;
pub(crate) mod health;
pub(crate) mod manifest;
pub(crate) mod stats;
