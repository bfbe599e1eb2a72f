//! Members that several messages have, and their bounds.

use crate::error::{Error, Result};
use crate::json::Json;
use crate::types::EventMeta;

/// What a device may call the event of an input.
pub const INPUT_EVENTS: [&str; 9] =
    ["press", "release", "click", "double_click", "triple_click", "hold", "release_after_hold", "on", "off"];

/// Relays in one frame, the platform's limit per device.
pub const MAX_RELAYS: usize = 64;
/// Longest firmware version, boot id, slot and the like, in bytes.
const MAX_NAME: usize = 128;
/// Longest text reading, and longest message or reason for people, in bytes.
pub(super) const MAX_TEXT: usize = 1024;

/// What any message may say beside its own members.
pub(super) fn meta(m: Json<'_>) -> Result<EventMeta> {
    Ok(EventMeta {
        seq: m.opt_whole("seq")?,
        boot_id: name(m, "boot_id")?,
        ip: name(m, "ip")?,
        rssi: m.opt_whole("rssi")?,
        uptime_s: m.opt_whole("uptime_s")?,
    })
}

/// A firmware version, boot id, slot and the like, if the member is there.
pub(super) fn name(m: Json<'_>, key: &str) -> Result<Option<String>> {
    bounded(m, key, MAX_NAME)
}

/// A short text that must be there and not be empty.
pub(super) fn required(m: Json<'_>, key: &str) -> Result<String> {
    match name(m, key)? {
        Some(text) if !text.is_empty() => Ok(text),
        Some(_) => Err(Error::malformed(format!("`{key}` may not be empty"))),
        None => Err(Error::malformed(format!("`{key}` is missing"))),
    }
}

/// A text of at most `max` bytes, if the member is there.
pub(super) fn bounded(m: Json<'_>, key: &str, max: usize) -> Result<Option<String>> {
    match m.opt_str(key)? {
        Some(text) if text.len() > max => {
            Err(Error::malformed(format!("`{key}` may be {max} bytes long at most, not {}", text.len())))
        }
        text => Ok(text.map(str::to_owned)),
    }
}

/// One of the words that are allowed.
pub(super) fn one_of(value: Json<'_>, name: &str, allowed: &[&str]) -> Result<String> {
    let text = value.as_str(name)?;
    if allowed.contains(&text) {
        return Ok(text.to_owned());
    }
    Err(value.wrong(name, &format!("one of {}", allowed.join(", "))))
}

/// The error for an index that the device does not have.
pub(super) fn no_such(what: &str, index: u32, count: u32) -> Error {
    Error::malformed(match count {
        0 => format!("there is no {what} {index}; the device was registered without any"),
        1 => format!("there is no {what} {index}; the device has one, 0"),
        n => format!("there is no {what} {index}; the device has {n}, 0 to {}", n - 1),
    })
}
