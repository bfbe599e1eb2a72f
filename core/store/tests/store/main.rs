//! The store on a real file in a temporary folder.

#![expect(clippy::unwrap_used, reason = "a test ends where something unexpected comes")]

mod opening;
mod rig;
mod writing;
