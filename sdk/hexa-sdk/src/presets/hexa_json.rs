//! The protocol `hexa-json/1`: text frames that are JSON objects with a `type`.
//!
//! Unknown members of a known message are tolerated, because devices evolve; an unknown `type`, a missing or mistyped
//! member and an index that the device does not have are malformed and answered with an `error` frame that says what is
//! allowed. Indexes are zero based, states are JSON booleans, times are epoch milliseconds.

mod config;
mod decode;
mod encode;
mod fields;
mod input;
mod ir;
mod ota;
mod relay;
mod sensor;
#[cfg(test)]
mod tests;

pub use decode::decode;
pub use encode::{encode, error_frame};
pub use fields::{INPUT_EVENTS, MAX_RELAYS};
