//! The command machine without the house around it: against a reference model, and under every interleaving of its locks.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected comes")]

mod property;
mod races;
mod reference;
