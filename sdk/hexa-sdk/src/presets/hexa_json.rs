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
pub use encode::encode;

use crate::types::Frame;
use encode::{Outgoing, frame};

/// What a device may call the event of an input.
pub const INPUT_EVENTS: [&str; 9] =
    ["press", "release", "click", "double_click", "triple_click", "hold", "release_after_hold", "on", "off"];

/// Relays in one frame, the platform's limit per device.
pub const MAX_RELAYS: usize = 64;

/// The frame that says to a device what was wrong with its message.
pub fn error_frame(message: &str) -> Frame {
    frame(&Outgoing::Error { code: "validation_error", message })
}
