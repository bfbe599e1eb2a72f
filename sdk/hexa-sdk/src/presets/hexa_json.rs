//! The protocol `hexa-json/1`: text frames that are JSON objects with a `type`.
//!
//! Unknown members of a known message are tolerated, because devices evolve; an unknown `type`, a missing or mistyped
//! member and an index that the device does not have are malformed and answered with an `error` frame that says what is
//! allowed. Indexes are zero based, states are JSON booleans, times are epoch milliseconds.

mod decode;
mod encode;
mod later;
#[cfg(test)]
mod tests;

pub use decode::decode;
pub use encode::encode;

use crate::driver::push_json_str;
use crate::types::Frame;

/// What a device may call the event of an input.
pub const INPUT_EVENTS: [&str; 9] =
    ["press", "release", "click", "double_click", "triple_click", "hold", "release_after_hold", "on", "off"];

/// Relays in one frame, the platform's limit per device.
pub const MAX_RELAYS: usize = 64;

/// The frame that tells a device what was wrong with its message.
pub fn error_frame(message: &str) -> Frame {
    let mut out = String::with_capacity(64 + message.len());
    out.push_str(r#"{"type":"error","code":"validation_error","message":"#);
    push_json_str(&mut out, message);
    out.push('}');
    Frame::Text(out)
}
