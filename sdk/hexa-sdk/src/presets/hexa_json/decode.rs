//! Device to server: which message it is, and the messages about the device itself.

use super::encode::{Outgoing, error_frame, frame};
use super::fields::{MAX_TEXT, bounded, meta, name, required};
use super::{config, input, ir, ota, relay, sensor};
use crate::driver::{Channel, Context, Driver, Message};
use crate::error::{Error, Result};
use crate::json::excerpt::{SHOWN, shorten};
use crate::json::{Document, Json};
use crate::types::{DeviceError, DeviceEvent, Hello, StateReport};

const KINDS: &str = "hello, heartbeat, ack, state_report, input_event, sensor_report, ir_learned, ir_progress, \
                     config_result, ota_status, bye, error";

/// Understands one message. Malformed ones carry an `error` frame as their reply, on the WebSocket.
///
/// # Errors
/// `malformed` and `unsupported`, as [`Driver::decode`].
pub fn decode<D: Driver>(cx: &mut Context<'_, D>, channel: Channel<'_>, message: Message<'_>) -> Result<()> {
    let understood = message.text().and_then(Document::parse).and_then(|document| one(cx, channel, document.root()));
    match channel {
        Channel::Ws => understood.map_err(|e| e.with_reply(error_frame)),
        Channel::Ingest(_) => understood,
    }
}

fn one<D: Driver>(cx: &mut Context<'_, D>, channel: Channel<'_>, m: Json<'_>) -> Result<()> {
    let kind = match channel {
        Channel::Ws => m.kind()?,
        // The route says what it is; a `type` in the body is not needed.
        Channel::Ingest("http:sensor-report") => "sensor_report",
        Channel::Ingest(other) => return Err(Error::malformed(format!("nothing is expected on {other}"))),
    };
    let event = match kind {
        "ack" => DeviceEvent::Ack(relay::ack(cx, m)?),
        "state_report" => DeviceEvent::StateReport(relay::state_report(cx, m)?),
        "heartbeat" => DeviceEvent::Heartbeat(meta(m)?),
        "input_event" => DeviceEvent::Input(input::input_event(cx, m)?),
        "sensor_report" => DeviceEvent::Readings(sensor::readings::<D>(m)?),
        "hello" => return hello(cx, m),
        "bye" => DeviceEvent::Bye(m.opt_whole("until_ms")?),
        "error" => DeviceEvent::Error(device_error(m)?),
        "ir_learned" => DeviceEvent::IrLearned(ir::ir_learned(m)?),
        "ir_progress" => DeviceEvent::IrProgress(ir::ir_progress(m)?),
        "config_result" => DeviceEvent::ConfigResult(config::config_result(m)?),
        "ota_status" => DeviceEvent::OtaStatus(ota::ota_status(m)?),
        other => {
            let other = shorten(other, SHOWN);
            return Err(Error::malformed(format!("unknown message type {other:?}; allowed are {KINDS}")));
        }
    };
    cx.event(event);
    Ok(())
}

fn hello<D: Driver>(cx: &mut Context<'_, D>, m: Json<'_>) -> Result<()> {
    let firmware = name(m, "firmware_version")?;
    let relays = relay::relays(cx, m)?;
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
        let ack = Outgoing::HelloAck {
            server_time_ms: cx.now_ms(),
            session_id: &session.id,
            heartbeat_s: session.heartbeat_s,
            config_version: session.desired_config_version,
        };
        cx.reply(frame(&ack));
    }
    Ok(())
}

fn device_error(m: Json<'_>) -> Result<DeviceError> {
    Ok(DeviceError {
        code: required(m, "code")?,
        message: bounded(m, "message", MAX_TEXT)?.unwrap_or_default(),
        token: name(m, "command_id")?,
    })
}
