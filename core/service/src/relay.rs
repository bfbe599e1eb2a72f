//! The relay room: one path for every command, one for every report.

pub mod cache;
pub mod ending;
pub mod lookup;
pub mod machine;
pub mod open;
pub mod path;
pub mod pending;
pub mod report;
