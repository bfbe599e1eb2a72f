//! The first-party driver through the whole host.

use hexa_devices::ports::Drivers;
use hexa_host::{CallOutcome, PluginHost};
use hexa_model::driver::{
    Ack, AckOutcome, AckPolicy, CommandEnvelope, Decoded, DeviceEvent, DeviceIdent, DriverCall, DriverCommand,
    DriverError, Frame, Reading, SessionInfo, Value,
};
use hexa_model::{DeviceClass, DeviceUid, RejectReason, TimeMs};

use crate::support::{PluginsFolder, RELAY_CONTROLLER, call, set_relay, stats_of, text, uid};

/// A host and a device that its driver prepared.
struct Bench {
    host: PluginHost,
    uid: DeviceUid,
    prepared: Vec<u8>,
    _plugins: PluginsFolder,
}

impl Bench {
    fn new() -> Self {
        let plugins = PluginsFolder::new().with_relay_controller();
        let host = plugins.host();
        let accepted = host.validate_config(&ident(), "{}").expect("a driver").expect("a valid configuration");
        Self { host, uid: uid(), prepared: accepted.prepared, _plugins: plugins }
    }

    fn call(&self) -> DriverCall<'_> {
        call(&self.uid, DeviceClass::RelayController, &self.prepared)
    }

    fn decode(&self, frame: &str) -> Result<Decoded, DriverError> {
        self.host.decode_message(&self.call(), "ws", &text(frame))
    }

    fn event(&self, frame: &str) -> DeviceEvent {
        self.decode(frame).expect("understood").events.remove(0)
    }
}

fn ident() -> DeviceIdent {
    DeviceIdent {
        uid: uid(),
        class: DeviceClass::RelayController,
        model: Some("R4".into()),
        hardware: None,
        firmware: None,
        relay_count: 4,
        input_count: 2,
    }
}

#[test]
fn a_command_goes_out_and_its_ack_comes_back() {
    let bench = Bench::new();
    assert_eq!(bench.host.open_session(&bench.call()), Ok(Decoded::default()));
    let encoded = bench.host.encode_command(&bench.call(), &set_relay(2)).expect("encoded");
    let frame = r#"{"type":"set_relay","command_id":"c-1","relay":2,"state":true,"expires_at_ms":1760000005000}"#;
    assert_eq!((encoded.frames, encoded.ack), (vec![text(frame)], AckPolicy::CommandId));
    let ack = |outcome| DeviceEvent::Ack(Ack { token: "c-1".into(), outcome, relays: vec![] });
    assert_eq!(bench.event(r#"{"type":"ack","command_id":"c-1"}"#), ack(AckOutcome::Executed));
    let rejected = AckOutcome::Rejected { reason: RejectReason::Interlock, detail: None };
    let said = bench.event(r#"{"type":"ack","command_id":"c-1","status":"rejected","reason":"interlock"}"#);
    assert_eq!(said, ack(rejected));
    assert_eq!(bench.host.version_for(DeviceClass::RelayController).as_deref(), Some("hexa.relay-controller@0.1.0"));
}

#[test]
fn hello_is_greeted_with_the_session() {
    let bench = Bench::new();
    let session = SessionInfo { id: "s-1".into(), heartbeat_s: 30, desired_config_version: 3 };
    let call = DriverCall { session: Some(&session), ..bench.call() };
    let frame = text(r#"{"type":"hello","firmware_version":"1.2.0","relays":[{"index":0,"state":true}]}"#);
    let decoded = bench.host.decode_message(&call, "ws", &frame).expect("understood");
    assert!(matches!(&decoded.events[..], [DeviceEvent::Hello(_), DeviceEvent::StateReport(_)]), "{decoded:?}");
    let reply =
        r#"{"type":"hello_ack","server_time_ms":1760000000000,"session_id":"s-1","heartbeat_s":30,"config_version":3}"#;
    assert_eq!(decoded.replies, [text(reply)]);
}

#[test]
fn events_arrive_as_values_of_the_platform() {
    let bench = Bench::new();
    let DeviceEvent::StateReport(report) = bench.event(
        r#"{"type":"state_report","complete":true,"relays":[{"index":3,"state":true,"source":"button","timer_ends_in_ms":9}],"seq":4}"#,
    ) else {
        panic!()
    };
    assert_eq!(
        (report.relays[0].index, report.relays[0].on, report.complete, report.meta.seq),
        (3, true, true, Some(4))
    );
    let DeviceEvent::Input(input) = bench.event(r#"{"type":"input_event","input":1,"event":"click"}"#) else {
        panic!()
    };
    assert_eq!((input.input, input.kind.as_str()), (1, "click"));
    let reading = |value| Reading { key: "power".into(), value, at: None };
    let report =
        bench.event(r#"{"type":"sensor_report","readings":[{"key":"power","value":7},{"key":"power","value":7.5}]}"#);
    assert_eq!(report, DeviceEvent::Readings(vec![reading(Value::Integer(7)), reading(Value::Number(7.5))]));
    assert_eq!(bench.event(r#"{"type":"bye","until_ms":5}"#), DeviceEvent::Bye(Some(TimeMs(5))));
    let later = bench.event(r#"{"type":"ota_status","release_id":"r","state":"failed"}"#);
    assert_eq!(later, DeviceEvent::Other("ota_status"));
}

#[test]
fn what_the_driver_refuses_is_no_fault() {
    let bench = Bench::new();
    let Err(DriverError::Malformed { message, reply: Some(Frame::Text(reply)) }) =
        bench.decode(r#"{"type":"state_report","relays":[{"index":4,"state":true}]}"#)
    else {
        panic!()
    };
    assert_eq!(message, "relays[0]: there is no relay 4; the device has 4, 0 to 3");
    assert!(reply.contains("validation_error") && reply.contains(&message), "{reply}");
    assert!(matches!(bench.decode("?"), Err(DriverError::Malformed { reply: Some(_), .. })));

    let encode = |command| {
        let envelope = CommandEnvelope { id: "c".into(), command, expires_at: TimeMs(1) };
        bench.host.encode_command(&bench.call(), &envelope)
    };
    let custom = DriverCommand::Custom { name: "dance".into(), args: "{}".into() };
    let undeclared = "the driver declares no command \"dance\"";
    assert_eq!(encode(custom), Err(DriverError::Unsupported(undeclared.into())));
    assert_eq!(encode(set_relay(1).command).map(|e| e.frames.len()), Ok(1));
    assert!(matches!(encode(set_relay(9).command), Err(DriverError::InvalidArgument(_))));
    let wrong = bench.host.validate_config(&ident(), r#"{"relays":[{"dead_time_ms":5}]}"#).expect("a driver");
    assert_eq!(wrong.expect_err("refused")[0].path, "/relays/0/dead_time_ms");
    assert_eq!(bench.host.status()[0].faults, 0);
}

#[test]
fn large_and_odd_messages_are_answered_not_obeyed() {
    let bench = Bench::new();
    let padded = |n: usize| format!("{{\"type\":\"heartbeat\",\"pad\":\"{}\"}}", "x".repeat(n));
    assert!(matches!(bench.decode(&padded(60_000)).map(|d| d.events.len()), Ok(1)));
    assert!(matches!(bench.decode(&padded(70_000)), Err(DriverError::Malformed { .. })));
    let deep = format!("{{\"type\":\"heartbeat\",\"x\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
    assert!(matches!(bench.decode(&deep), Err(DriverError::Malformed { .. })));
    let members = (0..6_000).map(|i| format!("\"{i}\":0,")).collect::<Vec<_>>().concat();
    assert!(matches!(bench.decode(&format!("{{{members}\"type\":\"heartbeat\"}}")).map(|d| d.events.len()), Ok(1)));
    assert_eq!(bench.host.status()[0].faults, 0);
}

#[test]
fn calls_are_counted_per_function_and_outcome() {
    let bench = Bench::new();
    let _ = bench.decode(r#"{"type":"heartbeat"}"#);
    let _ = bench.decode("?");
    let stats = stats_of(&bench.host, RELAY_CONTROLLER);
    let decode = stats.functions.iter().find(|f| f.function.as_str() == "decode_message").expect("counted");
    assert_eq!(decode.outcomes[CallOutcome::Ok as usize], 1);
    assert_eq!(decode.outcomes[CallOutcome::CodecError as usize], 1);
    assert_eq!(decode.buckets.iter().sum::<u64>(), 2);
    assert_eq!((stats.live, stats.idle), (1, 1));
}
