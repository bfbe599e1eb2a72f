//! Capabilities: what a guest is linked to, one file each, and the state behind it.

pub(crate) mod guest_state;
pub(crate) mod log;
pub(crate) mod wasi;
