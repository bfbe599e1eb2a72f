//! Server to device.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::driver::{Context, Driver, push_json_str, push_u64};
use crate::error::{Error, Result};
use crate::json::Document;
use crate::types::{AckPolicy, Command, CommandEnvelope, Encoded, IrCode};

/// The frame of a command. Relay commands, `identify` and `custom` end with the device's `ack`; `request_state` ends
/// with the next state report; an OTA offer is answered by `ota_status`, so it ends as sent.
///
/// # Errors
/// `unsupported` for a command that the protocol does not have.
pub fn encode<D: Driver>(cx: &Context<'_, D>, envelope: &CommandEnvelope) -> Result<Encoded> {
    let id = envelope.id.as_str();
    let frame = match &envelope.command {
        Command::SetRelay(target) => {
            if target.index >= cx.relay_count() {
                let (index, count) = (target.index, cx.relay_count());
                return Err(Error::invalid_argument(format!("there is no relay {index}; the device has {count}")));
            }
            let mut out = open("set_relay", id);
            number(&mut out, "relay", u64::from(target.index));
            flag(&mut out, "state", target.on);
            if let Some(ms) = target.for_ms {
                number(&mut out, "for_ms", u64::from(ms));
            }
            expiring(out, envelope)
        }
        Command::SetAllRelays(on) => {
            let mut out = open("set_all_relays", id);
            flag(&mut out, "state", *on);
            expiring(out, envelope)
        }
        Command::RequestState => return Ok(Encoded::text(close(open("request_state", id)), AckPolicy::StateReport)),
        Command::Identify => close(open("identify", id)),
        Command::Custom(custom) => {
            let mut out = open("custom", id);
            text(&mut out, "name", &custom.name);
            raw(&mut out, "args", object(&custom.args, "args")?);
            close(out)
        }
        Command::SyncConfig(push) => {
            let mut out = open("config", id);
            number(&mut out, "config_version", push.version);
            raw(&mut out, "config", object(&push.json, "config")?);
            close(out)
        }
        Command::IrLearn(request) => {
            let mut out = open("ir_learn", id);
            text(&mut out, "slot", &request.slot);
            number(&mut out, "captures", u64::from(request.captures));
            number(&mut out, "timeout_ms", u64::from(request.timeout_ms));
            close(out)
        }
        Command::IrTransmit(code) => {
            let mut out = open("ir_transmit", id);
            ir_code(&mut out, code);
            close(out)
        }
        Command::OtaAvailable(offer) => {
            let mut out = String::from(r#"{"type":"ota_available""#);
            text(&mut out, "release_id", &offer.release_id);
            text(&mut out, "version", &offer.version);
            text(&mut out, "manifest_url", &offer.manifest_url);
            return Ok(Encoded::text(close(out), AckPolicy::None));
        }
    };
    Ok(Encoded::text(frame, AckPolicy::CommandId))
}

fn open(kind: &str, command_id: &str) -> String {
    let mut out = String::with_capacity(160);
    out.push_str(r#"{"type":""#);
    out.push_str(kind);
    out.push_str(r#"","command_id":"#);
    push_json_str(&mut out, command_id);
    out
}

fn close(mut out: String) -> String {
    out.push('}');
    out
}

fn expiring(mut out: String, envelope: &CommandEnvelope) -> String {
    number(&mut out, "expires_at_ms", envelope.expires_at_ms);
    close(out)
}

fn name(out: &mut String, name: &str) {
    out.push_str(",\"");
    out.push_str(name);
    out.push_str("\":");
}

fn number(out: &mut String, key: &str, value: u64) {
    name(out, key);
    push_u64(out, value);
}

fn flag(out: &mut String, key: &str, value: bool) {
    name(out, key);
    out.push_str(if value { "true" } else { "false" });
}

fn text(out: &mut String, key: &str, value: &str) {
    name(out, key);
    push_json_str(out, value);
}

fn raw(out: &mut String, key: &str, json: &str) {
    name(out, key);
    out.push_str(json);
}

/// `json` goes to the device as it is, so it must be one whole object.
fn object<'t>(json: &'t str, what: &str) -> Result<&'t str> {
    match Document::parse(json) {
        Ok(_) => Ok(json.trim()),
        Err(_) => Err(Error::invalid_argument(format!("`{what}` must be a JSON object"))),
    }
}

fn ir_code(out: &mut String, code: &IrCode) {
    out.push_str(",\"code\":{\"protocol\":");
    push_json_str(out, &code.protocol);
    if let Some(hz) = code.carrier_hz {
        number(out, "carrier_hz", u64::from(hz));
    }
    if code.timings_us.is_empty() {
        text(out, "data", &BASE64.encode(&code.data));
    } else {
        out.push_str(",\"timings_us\":[");
        for (i, us) in code.timings_us.iter().enumerate() {
            if i > 0 {
                out.push(',');
            }
            push_u64(out, u64::from(*us));
        }
        out.push(']');
    }
    out.push('}');
    if code.repeat > 0 {
        number(out, "repeat", u64::from(code.repeat));
    }
}
