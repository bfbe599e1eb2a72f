//! Results of `hexa:driver@0.1` as the house's values. Whatever does not fit them is an invalid output.

use bytes::Bytes;
use hexa_model::driver::{
    Ack, AckOutcome, AckPolicy, CommandEnvelope, Decoded, DeviceEvent, DriverError, Encoded, EventMeta, Frame, Hello,
    InputEvent, NewState, Reading, ReportedRelay, StateReport, Value,
};
use hexa_model::{RejectReason, TimeMs};

use crate::check::{self, Check, OutputError, cut};
use crate::wit::v0_1::raw::hexa::core::types as core;
use crate::wit::v0_1::raw::hexa::driver::types;

type Checked<T> = Result<T, OutputError>;

pub(super) fn decoded(raw: types::Decoded, check: &Check<'_>) -> Checked<Decoded> {
    check::counts(raw.events.len(), raw.replies.len())?;
    let decoded = Decoded {
        events: raw.events.into_iter().map(|e| event(e, check)).collect::<Checked<_>>()?,
        replies: raw.replies.into_iter().map(frame).collect(),
        state: state(raw.state),
    };
    check.replies(&decoded.replies)?;
    check.state(&decoded.state)?;
    Ok(decoded)
}

pub(super) fn encoded(raw: types::Encoded, check: &Check<'_>, envelope: &CommandEnvelope) -> Checked<Encoded> {
    check::counts(0, raw.frames.len())?;
    let ack = match raw.ack {
        types::AckPolicy::None => AckPolicy::None,
        types::AckPolicy::CommandId => AckPolicy::CommandId,
        types::AckPolicy::Token(token) => AckPolicy::Token(check::token(token)?),
        types::AckPolicy::StateReport => AckPolicy::StateReport,
    };
    let encoded = Encoded { frames: raw.frames.into_iter().map(frame).collect(), ack, state: state(raw.state) };
    check::encoded(&encoded, envelope)?;
    check.state(&encoded.state)?;
    Ok(encoded)
}

pub(super) fn codec_error(raw: types::CodecError, check: &Check<'_>) -> Checked<DriverError> {
    Ok(match raw {
        types::CodecError::Unsupported(what) => DriverError::Unsupported(cut(what)),
        types::CodecError::InvalidArgument(what) => DriverError::InvalidArgument(cut(what)),
        types::CodecError::Malformed(m) => {
            let reply = m.reply.map(frame);
            check.replies(reply.as_slice())?;
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

fn event(raw: types::DeviceEvent, check: &Check<'_>) -> Checked<DeviceEvent> {
    use types::DeviceEvent as Raw;
    Ok(match raw {
        Raw::Ack(a) => DeviceEvent::Ack(ack(a, check)?),
        Raw::StateReport(report) => DeviceEvent::StateReport(StateReport {
            relays: relays(report.relays, check)?,
            complete: report.complete,
            firmware: check::opt_name("firmware", report.firmware)?,
            meta: meta(report.meta)?,
        }),
        Raw::Heartbeat(m) => DeviceEvent::Heartbeat(meta(m)?),
        Raw::Hello(hello) => DeviceEvent::Hello(Hello {
            firmware: check::opt_name("firmware", hello.firmware)?,
            hardware: check::opt_name("hardware", hello.hardware)?,
            security_version: hello.security_version,
            boot_reason: check::opt_name("boot-reason", hello.boot_reason)?,
            config_version: hello.config_version,
            meta: meta(hello.meta)?,
        }),
        Raw::Input(input) => DeviceEvent::Input(InputEvent {
            input: check.input(input.input)?,
            kind: check::name("kind", input.kind)?,
            duration_ms: input.duration_ms,
            meta: meta(input.meta)?,
        }),
        Raw::Readings(readings) => {
            check::reading_count(readings.len())?;
            DeviceEvent::Readings(readings.into_iter().map(|r| reading(r, check)).collect::<Checked<_>>()?)
        }
        Raw::Bye(until) => DeviceEvent::Bye(until.map(time).transpose()?),
        Raw::Error(error) => DeviceEvent::Error {
            code: check::name("code", error.code)?,
            message: cut(error.message),
            token: error.token.map(check::token).transpose()?,
        },
        Raw::Ignored(why) => DeviceEvent::Ignored(cut(why)),
        Raw::IrProgress(_) => DeviceEvent::Other("ir_progress"),
        Raw::IrLearned(_) => DeviceEvent::Other("ir_learned"),
        Raw::ConfigResult(_) => DeviceEvent::Other("config_result"),
        Raw::OtaStatus(_) => DeviceEvent::Other("ota_status"),
        Raw::Custom(_) => DeviceEvent::Other("custom"),
    })
}

fn ack(raw: types::Ack, check: &Check<'_>) -> Checked<Ack> {
    let outcome = match raw.outcome {
        types::AckOutcome::Executed => AckOutcome::Executed,
        types::AckOutcome::Noop => AckOutcome::Noop,
        types::AckOutcome::Rejected(r) => AckOutcome::Rejected { reason: reason(r.reason), detail: r.detail.map(cut) },
    };
    let mut relays = Vec::with_capacity(raw.relays.len());
    for relay in raw.relays {
        relays.push(ReportedRelay {
            index: check.relay(relay.index)?,
            on: relay.on,
            source: None,
            timer_ends_in_ms: None,
        });
    }
    check::no_relay_twice(&relays)?;
    Ok(Ack { token: check::token(raw.token)?, outcome, relays })
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

fn relays(raw: Vec<types::RelayReport>, check: &Check<'_>) -> Checked<Vec<ReportedRelay>> {
    let mut relays = Vec::with_capacity(raw.len());
    for relay in raw {
        relays.push(ReportedRelay {
            index: check.relay(relay.index)?,
            on: relay.on,
            source: check::opt_name("source", relay.source)?,
            timer_ends_in_ms: relay.timer_ends_in_ms,
        });
    }
    check::no_relay_twice(&relays)?;
    Ok(relays)
}

fn meta(raw: types::EventMeta) -> Checked<EventMeta> {
    Ok(EventMeta {
        seq: raw.seq,
        boot_id: check::opt_name("boot-id", raw.boot_id)?,
        ip: check::opt_name("ip", raw.ip)?,
        rssi: raw.rssi,
        uptime_s: raw.uptime_s,
    })
}

fn reading(raw: core::Reading, check: &Check<'_>) -> Checked<Reading> {
    check.reading_key(&raw.key)?;
    let value = match raw.value {
        core::ValueResult::Boolean(b) => Value::Boolean(b),
        core::ValueResult::Integer(n) => Value::Integer(n),
        core::ValueResult::Number(n) if n.is_finite() => Value::Number(n),
        core::ValueResult::Number(n) => {
            return Err(OutputError::new(format!("the reading {:?} is {n}, not a finite number", raw.key)));
        }
        core::ValueResult::Text(text) => Value::Text(check::text("value", text)?),
    };
    Ok(Reading { key: raw.key, value, at: raw.at_ms.map(time).transpose()? })
}

fn time(ms: u64) -> Checked<TimeMs> {
    i64::try_from(ms).map(TimeMs).map_err(|_| OutputError::new(format!("{ms} is no time in epoch milliseconds")))
}
