//! Adapters between versions of the contract and the house's own values, one file per released version.

pub(crate) mod v0_1;
