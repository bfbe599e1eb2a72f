//! Relays beside their commands: what a device reports of them by itself.

pub mod report;
