//! Results of `hexa:driver@0.1` as the platform's values. Whatever does not fit them is an invalid output.

use bytes::Bytes;
use hexa_model::driver::{
    Ack, AckOutcome, AckPolicy, CommandEnvelope, Decoded, DeviceEvent, DriverError, Encoded, EventMeta, Frame, Hello,
    InputEvent, NewState, Reading, ReportedRelay, StateReport, Value,
};
use hexa_model::{RejectReason, TimeMs};

use crate::contract::output_validation::{self as validate, OutputError, OutputValidator, cut};
use crate::contract::v0_1::raw::hexa::core::types as core;
use crate::contract::v0_1::raw::hexa::driver::types;

type Checked<T> = Result<T, OutputError>;

pub(super) fn decoded(raw: types::Decoded, validator: &OutputValidator<'_>) -> Checked<Decoded> {
    validate::counts(raw.events.len(), raw.replies.len())?;
    let decoded = Decoded {
        events: raw.events.into_iter().map(|e| event(e, validator)).collect::<Checked<_>>()?,
        replies: raw.replies.into_iter().map(frame).collect(),
        state: state(raw.state),
    };
    validator.replies(&decoded.replies)?;
    validator.state(&decoded.state)?;
    Ok(decoded)
}

pub(super) fn encoded(
    raw: types::Encoded,
    validator: &OutputValidator<'_>,
    envelope: &CommandEnvelope,
) -> Checked<Encoded> {
    validate::counts(0, raw.frames.len())?;
    let ack = match raw.ack {
        types::AckPolicy::None => AckPolicy::None,
        types::AckPolicy::CommandId => AckPolicy::CommandId,
        types::AckPolicy::Token(token) => AckPolicy::Token(validate::token(token)?),
        types::AckPolicy::StateReport => AckPolicy::StateReport,
    };
    let encoded = Encoded { frames: raw.frames.into_iter().map(frame).collect(), ack, state: state(raw.state) };
    validate::encoded(&encoded, envelope)?;
    validator.state(&encoded.state)?;
    Ok(encoded)
}

pub(super) fn codec_error(raw: types::CodecError, validator: &OutputValidator<'_>) -> Checked<DriverError> {
    Ok(match raw {
        types::CodecError::Unsupported(what) => DriverError::Unsupported(cut(what)),
        types::CodecError::InvalidArgument(what) => DriverError::InvalidArgument(cut(what)),
        types::CodecError::Malformed(m) => {
            let reply = m.reply.map(frame);
            validator.replies(reply.as_slice())?;
            DriverError::Malformed { message: cut(m.message), reply }
        }
        types::CodecError::NotReady(what) => DriverError::NotReady(cut(what)),
        types::CodecError::Other(other) => DriverError::Other { code: cut(other.code), message: cut(other.message) },
    })
}

fn frame(raw: types::FrameResult) -> Frame {
    match raw {
        types::FrameResult::Text(text) => Frame::Text(text),
        types::FrameResult::Binary(bytes) => Frame::Binary(Bytes::from(bytes)),
    }
}

fn state(raw: types::NewState) -> NewState {
    NewState { volatile: raw.volatile, durable: raw.durable }
}

fn event(raw: types::DeviceEvent, validator: &OutputValidator<'_>) -> Checked<DeviceEvent> {
    use types::DeviceEvent as Raw;
    Ok(match raw {
        Raw::Ack(a) => DeviceEvent::Ack(ack(a, validator)?),
        Raw::StateReport(report) => DeviceEvent::StateReport(StateReport {
            relays: relays(report.relays, validator)?,
            complete: report.complete,
            firmware: validate::opt_name("firmware", report.firmware)?,
            meta: meta(report.meta)?,
        }),
        Raw::Heartbeat(m) => DeviceEvent::Heartbeat(meta(m)?),
        Raw::Hello(hello) => DeviceEvent::Hello(Hello {
            firmware: validate::opt_name("firmware", hello.firmware)?,
            hardware: validate::opt_name("hardware", hello.hardware)?,
            security_version: hello.security_version,
            boot_reason: validate::opt_name("boot-reason", hello.boot_reason)?,
            config_version: hello.config_version,
            meta: meta(hello.meta)?,
        }),
        Raw::Input(input) => DeviceEvent::Input(InputEvent {
            input: validator.input(input.input)?,
            kind: validate::name("kind", input.kind)?,
            duration_ms: input.duration_ms,
            meta: meta(input.meta)?,
        }),
        Raw::Readings(readings) => {
            validate::reading_count(readings.len())?;
            DeviceEvent::Readings(readings.into_iter().map(|r| reading(r, validator)).collect::<Checked<_>>()?)
        }
        Raw::Bye(until) => DeviceEvent::Bye(until.map(time).transpose()?),
        Raw::Error(error) => DeviceEvent::Error {
            code: validate::name("code", error.code)?,
            message: cut(error.message),
            token: error.token.map(validate::token).transpose()?,
        },
        Raw::Ignored(why) => DeviceEvent::Ignored(cut(why)),
        Raw::IrProgress(_) => DeviceEvent::Other("ir_progress"),
        Raw::IrLearned(_) => DeviceEvent::Other("ir_learned"),
        Raw::ConfigResult(_) => DeviceEvent::Other("config_result"),
        Raw::OtaStatus(_) => DeviceEvent::Other("ota_status"),
        Raw::Custom(_) => DeviceEvent::Other("custom"),
    })
}

fn ack(raw: types::Ack, validator: &OutputValidator<'_>) -> Checked<Ack> {
    let outcome = match raw.outcome {
        types::AckOutcome::Executed => AckOutcome::Executed,
        types::AckOutcome::Noop => AckOutcome::Noop,
        types::AckOutcome::Rejected(r) => AckOutcome::Rejected { reason: reason(r.reason), detail: r.detail.map(cut) },
    };
    let mut relays = Vec::with_capacity(raw.relays.len());
    for relay in raw.relays {
        relays.push(ReportedRelay {
            index: validator.relay(relay.index)?,
            on: relay.on,
            source: None,
            timer_ends_in_ms: None,
        });
    }
    validate::no_relay_twice(&relays)?;
    Ok(Ack { token: validate::token(raw.token)?, outcome, relays })
}

fn reason(raw: types::RejectReason) -> RejectReason {
    match raw {
        types::RejectReason::Interlock => RejectReason::Interlock,
        types::RejectReason::Locked => RejectReason::Locked,
        types::RejectReason::Overload => RejectReason::Overload,
        types::RejectReason::Expired => RejectReason::Expired,
        types::RejectReason::Busy => RejectReason::Busy,
        types::RejectReason::Unsupported => RejectReason::Unsupported,
        types::RejectReason::BadIndex => RejectReason::BadIndex,
        types::RejectReason::Other => RejectReason::Other,
    }
}

fn relays(raw: Vec<types::RelayReport>, validator: &OutputValidator<'_>) -> Checked<Vec<ReportedRelay>> {
    let mut relays = Vec::with_capacity(raw.len());
    for relay in raw {
        relays.push(ReportedRelay {
            index: validator.relay(relay.index)?,
            on: relay.on,
            source: validate::opt_name("source", relay.source)?,
            timer_ends_in_ms: relay.timer_ends_in_ms,
        });
    }
    validate::no_relay_twice(&relays)?;
    Ok(relays)
}

fn meta(raw: types::EventMeta) -> Checked<EventMeta> {
    Ok(EventMeta {
        seq: raw.seq,
        boot_id: validate::opt_name("boot-id", raw.boot_id)?,
        ip: validate::opt_name("ip", raw.ip)?,
        rssi: raw.rssi,
        uptime_s: raw.uptime_s,
    })
}

fn reading(raw: core::Reading, validator: &OutputValidator<'_>) -> Checked<Reading> {
    validator.reading_key(&raw.key)?;
    let value = match raw.value {
        core::ValueResult::Boolean(b) => Value::Boolean(b),
        core::ValueResult::Integer(n) => Value::Integer(n),
        core::ValueResult::Number(n) if n.is_finite() => Value::Number(n),
        core::ValueResult::Number(n) => {
            return Err(OutputError::new(format!("the reading {:?} is {n}, not a finite number", raw.key)));
        }
        core::ValueResult::Text(text) => Value::Text(validate::text("value", text)?),
    };
    Ok(Reading { key: raw.key, value, at: raw.at_ms.map(time).transpose()? })
}

fn time(ms: u64) -> Checked<TimeMs> {
    i64::try_from(ms).map(TimeMs).map_err(|_| OutputError::new(format!("{ms} is no time in epoch milliseconds")))
}
