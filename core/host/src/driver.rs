//! Drivers: their instances, and how a call goes through one.

pub(crate) mod call;
pub(crate) mod instance;
pub(crate) mod pool;
