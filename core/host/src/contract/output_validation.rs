//! What a driver returns is untrusted input: every value of it is validated here before it becomes one of the platform.

use hexa_model::RelayAction;
use hexa_model::driver::{
    Accepted, AckPolicy, CommandEnvelope, DriverCommand, Encoded, Frame, LimitBroken, NewState, ReportedRelay,
};

use crate::contract::descriptor::Descriptor;
use crate::contract::input_sample;
use crate::engine::limits::{CONFIG_BYTES, EVENTS, FRAME_BYTES, FRAMES, PREPARED_BYTES};

/// Longest version, id or kind, in bytes.
const NAME_BYTES: usize = 128;
/// Longest text for people, and longest text reading, in bytes.
const TEXT_BYTES: usize = 1024;
/// Most readings in one event.
const READINGS: usize = 64;

/// An output that is invalid: a fault of the plugin.
#[derive(Debug)]
pub(crate) struct OutputError {
    pub message: String,
    pub limit: Option<LimitBroken>,
}

impl OutputError {
    pub(crate) fn new(message: String) -> Self {
        Self { message, limit: None }
    }

    fn over(limit: &'static str, allowed: usize, actual: usize) -> Self {
        let limit = LimitBroken { limit, allowed: allowed as u64, actual: actual as u64 };
        Self { message: format!("the output breaks the limit {}", limit.limit), limit: Some(limit) }
    }
}

type Checked<T = ()> = Result<T, OutputError>;

/// What the output of one call is held to.
#[derive(Clone, Copy)]
pub(crate) struct OutputValidator<'a> {
    pub relay_count: u16,
    pub input_count: u16,
    pub state_bytes: usize,
    /// The call came from a channel that can be answered.
    pub may_reply: bool,
    pub descriptor: &'a Descriptor,
}

fn at_most(limit: &'static str, allowed: usize, actual: usize) -> Checked {
    if actual > allowed { Err(OutputError::over(limit, allowed, actual)) } else { Ok(()) }
}

impl OutputValidator<'_> {
    pub(crate) fn replies(&self, replies: &[Frame]) -> Checked {
        if !replies.is_empty() && !self.may_reply {
            return Err(OutputError::new("replies are only allowed on the channel \"ws\"".into()));
        }
        frames(replies)
    }

    pub(crate) fn state(&self, state: &NewState) -> Checked {
        let size = |blob: &Option<Vec<u8>>| blob.as_ref().map_or(0, Vec::len);
        at_most("volatile_bytes", self.state_bytes, size(&state.volatile))?;
        at_most("durable_bytes", self.state_bytes, size(&state.durable))
    }

    pub(crate) fn accepted(&self, accepted: &Accepted) -> Checked {
        at_most("config_bytes", CONFIG_BYTES, accepted.config.len())?;
        at_most("prepared_bytes", PREPARED_BYTES, accepted.prepared.len())?;
        at_most("durable_bytes", self.state_bytes, accepted.durable.len())
    }

    pub(crate) fn relay(&self, index: u32) -> Checked<u16> {
        below("relay", index, self.relay_count)
    }

    pub(crate) fn input(&self, index: u32) -> Checked<u16> {
        below("input", index, self.input_count)
    }

    pub(crate) fn reading_key(&self, key: &str) -> Checked {
        if self.descriptor.declares_reading(key) {
            return Ok(());
        }
        // A driver may take it from what the device sent.
        let key = input_sample::text(key);
        Err(OutputError::new(format!("the reading {key:?} is not declared in the driver's descriptor")))
    }
}

pub(crate) fn counts(events: usize, frames: usize) -> Checked {
    at_most("events", EVENTS, events)?;
    at_most("frames", FRAMES, frames)
}

pub(crate) fn encoded(encoded: &Encoded, envelope: &CommandEnvelope) -> Checked {
    frames(&encoded.frames)?;
    let DriverCommand::Relay(action) = &envelope.command else { return Ok(()) };
    let name = RelayAction::name(*action);
    if encoded.ack == AckPolicy::None {
        return Err(OutputError::new(format!("{name} has the ack policy `none`, so it could never end as executed")));
    }
    if encoded.frames.is_empty() {
        return Err(OutputError::new(format!("{name} was encoded into no frame at all")));
    }
    Ok(())
}

/// Indexes were checked before, so they are below 64 relays a device may have.
pub(crate) fn no_relay_twice(relays: &[ReportedRelay]) -> Checked {
    let mut seen = 0u64;
    for relay in relays {
        let bit = 1u64 << (relay.index & 63);
        if seen & bit != 0 {
            return Err(OutputError::new(format!("relay {} is reported twice in one event", relay.index)));
        }
        seen |= bit;
    }
    Ok(())
}

pub(crate) fn reading_count(count: usize) -> Checked {
    at_most("readings", READINGS, count)
}

pub(crate) fn token(token: String) -> Checked<String> {
    if token.is_empty() {
        return Err(OutputError::new("an acknowledgement token is empty".into()));
    }
    name("token", token)
}

pub(crate) fn name(what: &'static str, text: String) -> Checked<String> {
    at_most(what, NAME_BYTES, text.len())?;
    Ok(text)
}

pub(crate) fn opt_name(what: &'static str, text: Option<String>) -> Checked<Option<String>> {
    text.map(|t| name(what, t)).transpose()
}

pub(crate) fn text(what: &'static str, text: String) -> Checked<String> {
    at_most(what, TEXT_BYTES, text.len())?;
    Ok(text)
}

fn below(what: &str, index: u32, count: u16) -> Checked<u16> {
    u16::try_from(index)
        .ok()
        .filter(|i| *i < count)
        .ok_or_else(|| OutputError::new(format!("{what} {index} does not exist: the device has {count}")))
}

fn frames(frames: &[Frame]) -> Checked {
    frames.iter().try_for_each(|f| at_most("frame_bytes", FRAME_BYTES, f.size_bytes()))
}

/// A text for people, cut to what fits a log line.
pub(crate) fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES {
        let mut end = TEXT_BYTES;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_a_device_may_have_made_up_is_masked_like_a_sample() {
        let descriptor = Descriptor::default();
        let validator = OutputValidator {
            relay_count: 1,
            input_count: 1,
            state_bytes: 1,
            may_reply: true,
            descriptor: &descriptor,
        };
        let said = |key: &str| validator.reading_key(key).unwrap_err().message;
        assert!(said("humidity").contains("\"humidity\""));
        let token = "hxd_0123456789abcdef0123456789abcdef";
        assert!(!said(token).contains("0123456789"), "{}", said(token));
        assert!(said(&"a b ".repeat(10_000)).len() < 512);
    }
}
