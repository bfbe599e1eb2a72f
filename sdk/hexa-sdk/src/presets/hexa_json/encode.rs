//! Server to device: the frame of each command and of each reply.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::driver::{Context, Driver};
use crate::error::{Error, Result};
use crate::json;
use crate::types::{AckPolicy, Command, CommandEnvelope, Encoded, Frame, IrCode};

/// Every frame of the protocol that goes to a device, its members in this order.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Outgoing<'a> {
    SetRelay {
        command_id: &'a str,
        relay: u32,
        state: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        for_ms: Option<u32>,
        expires_at_ms: u64,
    },
    SetAllRelays {
        command_id: &'a str,
        state: bool,
        expires_at_ms: u64,
    },
    RequestState {
        command_id: &'a str,
    },
    Identify {
        command_id: &'a str,
    },
    Custom {
        command_id: &'a str,
        name: &'a str,
        args: &'a RawValue,
    },
    Config {
        command_id: &'a str,
        config_version: u64,
        config: &'a RawValue,
    },
    IrLearn {
        command_id: &'a str,
        slot: &'a str,
        captures: u32,
        timeout_ms: u32,
    },
    IrTransmit {
        command_id: &'a str,
        code: Code<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        repeat: Option<u32>,
    },
    OtaAvailable {
        release_id: &'a str,
        version: &'a str,
        manifest_url: &'a str,
    },
    HelloAck {
        server_time_ms: u64,
        session_id: &'a str,
        heartbeat_s: u32,
        config_version: u64,
    },
    Error {
        code: &'a str,
        message: &'a str,
    },
}

/// An infrared code: `data` in base64, or `timings_us`.
#[derive(Serialize)]
pub(super) struct Code<'a> {
    protocol: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    carrier_hz: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timings_us: Option<&'a [u32]>,
}

/// A frame as text.
pub(super) fn frame(outgoing: &Outgoing<'_>) -> Frame {
    Frame::Text(serde_json::to_string(outgoing).expect("texts, numbers and objects with text keys always serialise"))
}

/// The frame that says to a device what was wrong with its message.
pub fn error_frame(message: &str) -> Frame {
    frame(&Outgoing::Error { code: "validation_error", message })
}

/// The frame of a command. Relay commands, `identify` and `custom` end with the device's `ack`; `request_state` ends
/// with the next state report; an OTA offer is answered by `ota_status`, so it ends as sent.
///
/// # Errors
/// `unsupported` for a command that the protocol does not have.
pub fn encode<D: Driver>(cx: &Context<'_, D>, envelope: &CommandEnvelope) -> Result<Encoded> {
    let (command_id, expires_at_ms) = (envelope.id.as_str(), envelope.expires_at_ms);
    let (outgoing, ack) = match &envelope.command {
        Command::SetRelay(target) => {
            if target.index >= cx.relay_count() {
                let (index, count) = (target.index, cx.relay_count());
                return Err(Error::invalid_argument(format!("there is no relay {index}; the device has {count}")));
            }
            let (relay, state, for_ms) = (target.index, target.on, target.for_ms);
            (Outgoing::SetRelay { command_id, relay, state, for_ms, expires_at_ms }, AckPolicy::CommandId)
        }
        Command::SetAllRelays(on) => {
            (Outgoing::SetAllRelays { command_id, state: *on, expires_at_ms }, AckPolicy::CommandId)
        }
        Command::RequestState => (Outgoing::RequestState { command_id }, AckPolicy::StateReport),
        Command::Identify => (Outgoing::Identify { command_id }, AckPolicy::CommandId),
        Command::Custom(custom) => {
            let args = object(&custom.args, "args")?;
            (Outgoing::Custom { command_id, name: &custom.name, args }, AckPolicy::CommandId)
        }
        Command::SyncConfig(push) => {
            let config = object(&push.json, "config")?;
            (Outgoing::Config { command_id, config_version: push.version, config }, AckPolicy::CommandId)
        }
        Command::IrLearn(request) => {
            let (slot, captures, timeout_ms) = (request.slot.as_str(), request.captures, request.timeout_ms);
            (Outgoing::IrLearn { command_id, slot, captures, timeout_ms }, AckPolicy::CommandId)
        }
        Command::IrTransmit(code) => {
            let repeat = (code.repeat > 0).then_some(code.repeat);
            (Outgoing::IrTransmit { command_id, code: ir_code(code), repeat }, AckPolicy::CommandId)
        }
        Command::OtaAvailable(offer) => {
            let (release_id, version, manifest_url) = (&*offer.release_id, &*offer.version, &*offer.manifest_url);
            (Outgoing::OtaAvailable { release_id, version, manifest_url }, AckPolicy::None)
        }
    };
    Ok(Encoded::frame(frame(&outgoing), ack))
}

/// `text` goes to the device as it is, so it must be one whole object.
fn object<'t>(text: &'t str, what: &str) -> Result<&'t RawValue> {
    json::parse(text).map_err(|_| Error::invalid_argument(format!("`{what}` must be a JSON object")))
}

fn ir_code(code: &IrCode) -> Code<'_> {
    let decoded = code.timings_us.is_empty();
    Code {
        protocol: &code.protocol,
        carrier_hz: code.carrier_hz,
        data: decoded.then(|| BASE64.encode(&code.data)),
        timings_us: (!decoded).then_some(code.timings_us.as_slice()),
    }
}
