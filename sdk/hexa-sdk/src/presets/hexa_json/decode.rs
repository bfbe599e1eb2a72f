//! Device to server.

use std::fmt::Write as _;

use super::{INPUT_EVENTS, MAX_RELAYS, error_frame, later};
use crate::bindings::hexa::core::types::{Reading, RelayState};
use crate::driver::{Channel, Context, Driver, Message};
use crate::error::{Error, Result};
use crate::json::{Json, shorten};
use crate::types::{
    Ack, AckOutcome, DeviceError, DeviceEvent, EventMeta, Frame, Hello, InputEvent, RejectReason, Rejection,
    RelayReport, StateReport,
};

/// Longest firmware version, boot id, slot and the like, in bytes.
const MAX_NAME: usize = 128;
/// Longest text reading or error message, in bytes.
const MAX_TEXT: usize = 1024;
/// Readings in one report.
const MAX_READINGS: usize = 64;

const KINDS: &str = "hello, heartbeat, ack, state_report, input_event, sensor_report, ir_learned, ir_progress, \
                     config_result, ota_status, bye, error";

/// Understands one message. Malformed ones carry an `error` frame as their reply, on the WebSocket.
///
/// # Errors
/// `malformed` and `unsupported`, as [`Driver::decode`].
pub fn decode<D: Driver>(cx: &mut Context<'_, D>, channel: Channel<'_>, message: Message<'_>) -> Result<()> {
    let understood = message.json().and_then(|document| one(cx, channel, document.root()));
    match channel {
        Channel::Ws => understood.map_err(|e| e.with_reply(error_frame)),
        Channel::Ingest(_) => understood,
    }
}

fn one<D: Driver>(cx: &mut Context<'_, D>, channel: Channel<'_>, m: Json<'_>) -> Result<()> {
    let kind = match channel {
        Channel::Ws => m.type_()?,
        // The route says what it is; a `type` in the body is not needed.
        Channel::Ingest("http:sensor-report") => "sensor_report",
        Channel::Ingest(other) => return Err(Error::malformed(format!("nothing is expected on {other}"))),
    };
    let event = match kind {
        "ack" => DeviceEvent::Ack(ack(cx, m)?),
        "state_report" => DeviceEvent::StateReport(state_report(cx, m)?),
        "heartbeat" => DeviceEvent::Heartbeat(meta(m)?),
        "input_event" => DeviceEvent::Input(input_event(cx, m)?),
        "sensor_report" => DeviceEvent::Readings(readings::<D>(m)?),
        "hello" => return hello(cx, m),
        "bye" => DeviceEvent::Bye(m.opt_whole("until_ms")?),
        "error" => DeviceEvent::Error(device_error(m)?),
        "ir_learned" => DeviceEvent::IrLearned(later::ir_learned(m)?),
        "ir_progress" => DeviceEvent::IrProgress(later::ir_progress(m)?),
        "config_result" => DeviceEvent::ConfigResult(later::config_result(m)?),
        "ota_status" => DeviceEvent::OtaStatus(later::ota_status(m)?),
        other => {
            let other = shorten(other);
            return Err(Error::malformed(format!("unknown message type {other:?}; allowed are {KINDS}")));
        }
    };
    cx.event(event);
    Ok(())
}

fn hello<D: Driver>(cx: &mut Context<'_, D>, m: Json<'_>) -> Result<()> {
    let firmware = name(m, "firmware_version")?;
    let relays = relays(cx, m)?;
    let event = Hello {
        firmware: firmware.clone(),
        hardware: name(m, "hardware")?,
        security_version: m.opt_whole("ota_security_version")?,
        boot_reason: name(m, "boot_reason")?,
        config_version: m.opt_whole("config_version")?,
        meta: meta(m)?,
        attrs: Vec::new(),
    };
    cx.event(DeviceEvent::Hello(event));
    if !relays.is_empty() {
        let complete = relays.len() as u32 == cx.relay_count();
        let report = StateReport { relays, complete, firmware, meta: meta(m)?, attrs: Vec::new() };
        cx.event(DeviceEvent::StateReport(report));
    }
    if let Some(session) = cx.session() {
        let (now, heartbeat, version) = (cx.now_ms(), session.heartbeat_s, session.desired_config_version);
        let mut ack = format!(r#"{{"type":"hello_ack","server_time_ms":{now},"session_id":"#);
        crate::driver::push_json_str(&mut ack, &session.id);
        // Writing into a String cannot fail.
        let _ = write!(ack, r#","heartbeat_s":{heartbeat},"config_version":{version}}}"#);
        cx.reply(Frame::Text(ack));
    }
    Ok(())
}

fn ack<D: Driver>(cx: &Context<'_, D>, m: Json<'_>) -> Result<Ack> {
    let outcome = match m.opt_str("status")? {
        None | Some("executed") => AckOutcome::Executed,
        Some("noop") => AckOutcome::Noop,
        Some("rejected") => AckOutcome::Rejected(rejection(m)?),
        Some(_) => return Err(m.need("status")?.wrong("status", "executed, noop or rejected")),
    };
    let relays = relays(cx, m)?.into_iter().map(|r| RelayState { index: r.index, on: r.on }).collect();
    Ok(Ack { token: required(m, "command_id")?, outcome, relays })
}

fn rejection(m: Json<'_>) -> Result<Rejection> {
    let said = m.opt_str("reason")?;
    let reason = match said {
        Some("interlock") => RejectReason::Interlock,
        Some("locked") => RejectReason::Locked,
        Some("overload") => RejectReason::Overload,
        Some("expired") => RejectReason::Expired,
        Some("busy") => RejectReason::Busy,
        Some("unsupported") => RejectReason::Unsupported,
        Some("bad_index") => RejectReason::BadIndex,
        _ => RejectReason::Other,
    };
    let own_word = said.filter(|_| reason == RejectReason::Other).map(|s| shorten(s).into_owned());
    Ok(Rejection { reason, detail: bounded(m, "message", MAX_TEXT)?.or(own_word) })
}

fn state_report<D: Driver>(cx: &Context<'_, D>, m: Json<'_>) -> Result<StateReport> {
    m.need("relays")?;
    Ok(StateReport {
        relays: relays(cx, m)?,
        complete: m.opt_bool("complete")?.unwrap_or(false),
        firmware: name(m, "firmware_version")?,
        meta: meta(m)?,
        attrs: Vec::new(),
    })
}

/// The member `relays`; an absent one is empty.
fn relays<D: Driver>(cx: &Context<'_, D>, m: Json<'_>) -> Result<Vec<RelayReport>> {
    let (count, mut seen) = (cx.relay_count(), 0u64);
    let mut out = Vec::new();
    for (i, relay) in m.list("relays")?.enumerate() {
        if i >= MAX_RELAYS {
            return Err(Error::malformed(format!("`relays` may list {MAX_RELAYS} relays at most")));
        }
        let report = one_relay(relay, count).map_err(|e| e.within(&format!("relays[{i}]: ")))?;
        let bit = 1u64 << (report.index & 63);
        if seen & bit != 0 {
            return Err(Error::malformed(format!("relays[{i}]: relay {} is listed twice", report.index)));
        }
        seen |= bit;
        out.push(report);
    }
    Ok(out)
}

fn one_relay(relay: Json<'_>, count: u32) -> Result<RelayReport> {
    let index = relay.u32("index")?;
    if index >= count.min(MAX_RELAYS as u32) {
        return Err(no_such("relay", index, count));
    }
    Ok(RelayReport {
        index,
        on: relay.bool("state")?,
        source: name(relay, "source")?,
        timer_ends_in_ms: relay.opt_whole("timer_ends_in_ms")?,
    })
}

fn no_such(what: &str, index: u32, count: u32) -> Error {
    Error::malformed(match count {
        0 => format!("there is no {what} {index}; the device was registered without any"),
        1 => format!("there is no {what} {index}; the device has one, 0"),
        n => format!("there is no {what} {index}; the device has {n}, 0 to {}", n - 1),
    })
}

fn input_event<D: Driver>(cx: &Context<'_, D>, m: Json<'_>) -> Result<InputEvent> {
    let input = m.u32("input")?;
    if input >= cx.input_count() {
        return Err(no_such("input", input, cx.input_count()));
    }
    let kind = m.str("event")?;
    if !INPUT_EVENTS.contains(&kind) {
        return Err(m.need("event")?.wrong("event", &format!("one of {}", INPUT_EVENTS.join(", "))));
    }
    Ok(InputEvent { input, kind: kind.to_owned(), duration_ms: m.opt_whole("duration_ms")?, meta: meta(m)? })
}

fn readings<D: Driver>(m: Json<'_>) -> Result<Vec<Reading>> {
    m.need("readings")?;
    let descriptor = D::descriptor();
    let mut out = Vec::new();
    for (i, reading) in m.list("readings")?.enumerate() {
        if i >= MAX_READINGS {
            return Err(Error::malformed(format!("`readings` may list {MAX_READINGS} readings at most")));
        }
        let key = reading.str("key").map_err(|e| e.within(&format!("readings[{i}]: ")))?;
        if descriptor.find_reading(key).is_none() {
            let known: Vec<_> = descriptor.reading_keys().collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let key = shorten(key);
            return Err(Error::malformed(format!("readings[{i}]: unknown key {key:?}; this driver knows {known}")));
        }
        out.push(one_reading(key, reading).map_err(|e| e.within(&format!("readings[{i}]: ")))?);
    }
    Ok(out)
}

fn one_reading(key: &str, reading: Json<'_>) -> Result<Reading> {
    let value = reading.need("value")?;
    let scalar = value.to_value().ok_or_else(|| value.wrong("value", "true, false, a finite number or a text"))?;
    if let Ok(text) = value.as_str("value")
        && text.len() > MAX_TEXT
    {
        return Err(Error::malformed(format!("`value` may be {MAX_TEXT} bytes long at most, not {}", text.len())));
    }
    Ok(Reading { key: key.to_owned(), value: scalar, at_ms: reading.opt_whole("at_ms")? })
}

fn device_error(m: Json<'_>) -> Result<DeviceError> {
    Ok(DeviceError {
        code: required(m, "code")?,
        message: bounded(m, "message", MAX_TEXT)?.unwrap_or_default(),
        token: name(m, "command_id")?,
    })
}

/// What any message may say beside its own members.
fn meta(m: Json<'_>) -> Result<EventMeta> {
    Ok(EventMeta {
        seq: m.opt_whole("seq")?,
        boot_id: name(m, "boot_id")?,
        ip: name(m, "ip")?,
        rssi: m.opt_whole("rssi")?,
        uptime_s: m.opt_whole("uptime_s")?,
    })
}

fn name(m: Json<'_>, key: &str) -> Result<Option<String>> {
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
