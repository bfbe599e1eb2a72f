//! Frames of `hexa-json/1`, exactly as they go over the wire.

use crate::bindings::hexa::core::types::{Reading, RelayState, Value};
use proptest::prelude::{ProptestConfig, any, prop, prop_assert, proptest};

use crate::prelude::*;
use crate::types::*;
use crate::{guest, presets::hexa_json};

struct Board;

impl Driver for Board {
    type Config = serde_json::Value;
    type State = ();
    fn descriptor() -> Descriptor {
        Descriptor::new("relay_controller").relays(64).reading(ReadingSpec::number("temperature", "°C", "temperature"))
    }
    fn decode(cx: &mut Context<'_, Self>, channel: Channel<'_>, message: Message<'_>) -> Result<()> {
        hexa_json::decode(cx, channel, message)
    }
    fn encode(cx: &mut Context<'_, Self>, command: &CommandEnvelope) -> Result<Encoded> {
        hexa_json::encode(cx, command)
    }
}

fn ctx() -> DeviceCtx {
    let ident = DeviceIdent {
        uid: "hx1".into(),
        class: "relay_controller".into(),
        model: None,
        hardware: None,
        firmware: None,
        relay_count: 4,
        input_count: 2,
        attrs: vec![],
    };
    let session = SessionInfo { id: "s-1".into(), heartbeat_s: 30, desired_config_version: 7 };
    let prepared = guest::validate::<Board>(&ident, "{}").expect("valid").prepared;
    DeviceCtx { now_ms: 1_760_000_000_000, session: Some(session), prepared, volatile: vec![], durable: vec![] }
}

fn decode(text: &str) -> Result<Decoded> {
    guest::decode::<Board>(&ctx(), "ws", &Frame::Text(text.into()))
}

fn event(text: &str) -> DeviceEvent {
    let mut decoded = decode(text).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    assert_eq!(decoded.events.len(), 1, "{text}");
    decoded.events.remove(0)
}

/// The message of a refusal, after checking that the reply to the device holds the same.
fn refusal(text: &str) -> String {
    let Err(Error::Malformed(m)) = decode(text) else { panic!("{text} was not refused") };
    let Some(Frame::Text(reply)) = m.reply else { panic!("no reply to {text}") };
    let reply: serde_json::Value = serde_json::from_str(&reply).unwrap();
    assert_eq!(reply, serde_json::json!({"type": "error", "code": "validation_error", "message": m.message}));
    m.message
}

fn encode(command: Command) -> Result<(String, AckPolicy)> {
    let envelope = CommandEnvelope { id: "c-1".into(), command, expires_at_ms: 1_760_000_005_000 };
    let encoded = guest::encode::<Board>(&ctx(), &envelope)?;
    let [Frame::Text(text)] = encoded.frames.as_slice() else { panic!("{encoded:?}") };
    assert!(crate::json::Document::parse(text).is_ok(), "{text}");
    Ok((text.clone(), encoded.ack))
}

const NO_META: EventMeta = EventMeta { seq: None, boot_id: None, ip: None, rssi: None, uptime_s: None };

#[test]
fn commands_are_written_as_the_protocol_says() {
    let check = |command, frame: &str, ack| assert_eq!(encode(command).unwrap(), (frame.to_owned(), ack));
    check(
        Command::SetRelay(RelayTarget { index: 3, on: true, for_ms: None }),
        r#"{"type":"set_relay","command_id":"c-1","relay":3,"state":true,"expires_at_ms":1760000005000}"#,
        AckPolicy::CommandId,
    );
    check(
        Command::SetRelay(RelayTarget { index: 0, on: false, for_ms: Some(1500) }),
        r#"{"type":"set_relay","command_id":"c-1","relay":0,"state":false,"for_ms":1500,"expires_at_ms":1760000005000}"#,
        AckPolicy::CommandId,
    );
    check(
        Command::SetAllRelays(false),
        r#"{"type":"set_all_relays","command_id":"c-1","state":false,"expires_at_ms":1760000005000}"#,
        AckPolicy::CommandId,
    );
    check(Command::RequestState, r#"{"type":"request_state","command_id":"c-1"}"#, AckPolicy::StateReport);
    check(Command::Identify, r#"{"type":"identify","command_id":"c-1"}"#, AckPolicy::CommandId);
    check(
        Command::Custom(CustomCommand { name: "set\"led".into(), args: r#"{"on": true}"#.into() }),
        r#"{"type":"custom","command_id":"c-1","name":"set\"led","args":{"on": true}}"#,
        AckPolicy::CommandId,
    );
    check(
        Command::IrTransmit(IrCode {
            protocol: "nec".into(),
            carrier_hz: Some(38_000),
            data: vec![1, 2, 255],
            timings_us: vec![],
            repeat: 2,
        }),
        r#"{"type":"ir_transmit","command_id":"c-1","code":{"protocol":"nec","carrier_hz":38000,"data":"AQL/"},"repeat":2}"#,
        AckPolicy::CommandId,
    );
    check(
        Command::OtaAvailable(OtaOffer { release_id: "r".into(), version: "2.0.0".into(), manifest_url: "/m".into() }),
        r#"{"type":"ota_available","release_id":"r","version":"2.0.0","manifest_url":"/m"}"#,
        AckPolicy::None,
    );
}

#[test]
fn commands_that_the_device_cannot_follow_are_refused() {
    let missing = encode(Command::SetRelay(RelayTarget { index: 4, on: true, for_ms: None }));
    assert_eq!(missing, Err(Error::invalid_argument("there is no relay 4; the device has 4")));
    let not_json = Command::Custom(CustomCommand { name: "x".into(), args: "{},\"state\":true".into() });
    assert_eq!(encode(not_json), Err(Error::invalid_argument("`args` must be a JSON object")));
}

#[test]
fn acks_carry_outcome_reason_and_states() {
    let ack = |outcome, relays| DeviceEvent::Ack(Ack { token: "c-1".into(), outcome, relays });
    assert_eq!(event(r#"{"type":"ack","command_id":"c-1"}"#), ack(AckOutcome::Executed, vec![]));
    assert_eq!(
        event(r#"{"type":"ack","command_id":"c-1","status":"noop","relays":[{"index":1,"state":true}],"new":[{}]}"#),
        ack(AckOutcome::Noop, vec![RelayState { index: 1, on: true }])
    );
    let rejected =
        |reason, detail: Option<&str>| AckOutcome::Rejected(Rejection { reason, detail: detail.map(Into::into) });
    assert_eq!(
        event(r#"{"type":"ack","command_id":"c-1","status":"rejected","reason":"bad_index"}"#),
        ack(rejected(RejectReason::BadIndex, None), vec![])
    );
    assert_eq!(
        event(r#"{"type":"ack","command_id":"c-1","status":"rejected","reason":"on fire"}"#),
        ack(rejected(RejectReason::Other, Some("on fire")), vec![])
    );
    assert_eq!(refusal(r#"{"type":"ack"}"#), "`command_id` is missing");
    let bad = refusal(r#"{"type":"ack","command_id":"c","status":"done"}"#);
    assert_eq!(bad, "`status` must be executed, noop or rejected, not the text \"done\"");
}

#[test]
fn hello_is_answered_and_its_relays_are_a_report() {
    let text = r#"{"type":"hello","firmware_version":"1.2.3","hardware":"B","ota_security_version":4,"boot_id":"b1",
                   "boot_reason":"power","config_version":6,"relays":[{"index":0,"state":true}]}"#;
    let decoded = decode(text).unwrap();
    let meta = EventMeta { boot_id: Some("b1".into()), ..NO_META };
    let hello = Hello {
        firmware: Some("1.2.3".into()),
        hardware: Some("B".into()),
        security_version: Some(4),
        boot_reason: Some("power".into()),
        config_version: Some(6),
        meta: meta.clone(),
        attrs: vec![],
    };
    let relays = vec![RelayReport { index: 0, on: true, source: None, timer_ends_in_ms: None }];
    let report = StateReport { relays, complete: false, firmware: Some("1.2.3".into()), meta, attrs: vec![] };
    assert_eq!(decoded.events, [DeviceEvent::Hello(hello), DeviceEvent::StateReport(report)]);
    let ack =
        r#"{"type":"hello_ack","server_time_ms":1760000000000,"session_id":"s-1","heartbeat_s":30,"config_version":7}"#;
    assert_eq!(decoded.replies, [Frame::Text(ack.into())]);
    assert_eq!(decode(r#"{"type":"hello"}"#).unwrap().events.len(), 1);
}

#[test]
fn reports_are_checked_against_the_device() {
    let text = r#"{"type":"state_report","complete":true,"seq":9,"ip":"10.0.0.2","rssi":-61,"relays":
        [{"index":0,"state":true,"source":"button"},{"index":3,"state":false,"timer_ends_in_ms":250}]}"#;
    let DeviceEvent::StateReport(report) = event(text) else { panic!() };
    assert!(report.complete);
    assert_eq!((report.meta.seq, report.meta.rssi, report.meta.ip.as_deref()), (Some(9), Some(-61), Some("10.0.0.2")));
    assert_eq!(report.relays[0].source.as_deref(), Some("button"));
    assert_eq!((report.relays[1].index, report.relays[1].timer_ends_in_ms), (3, Some(250)));

    let refused = |relays: &str| refusal(&format!(r#"{{"type":"state_report","relays":{relays}}}"#));
    assert_eq!(refused(r#"[{"index":4,"state":true}]"#), "relays[0]: there is no relay 4; the device has 4, 0 to 3");
    assert_eq!(
        refused(r#"[{"index":-1,"state":true}]"#),
        "relays[0]: `index` must be a whole number from 0 to 4294967295, not the number -1"
    );
    assert_eq!(refused(r#"[{"index":0,"state":1}]"#), "relays[0]: `state` must be true or false, not the number 1");
    assert_eq!(
        refused(r#"[{"index":0,"state":true},{"index":0,"state":false}]"#),
        "relays[1]: relay 0 is listed twice"
    );
    assert!(refused(r#"[{"index":1.0,"state":true}]"#).contains("whole number"));
    assert_eq!(refused(r#"{"0":true}"#), "`relays` must be an array, not an object");
    assert_eq!(refusal(r#"{"type":"state_report"}"#), "`relays` is missing");
}

#[test]
fn more_relays_than_the_platform_allows_are_malformed() {
    let mut unprepared = ctx();
    unprepared.prepared.clear();
    let relays: Vec<_> = (0..65).map(|i| serde_json::json!({"index": i, "state": true})).collect();
    let text = serde_json::json!({"type": "state_report", "relays": relays}).to_string();
    let Err(Error::Malformed(m)) = guest::decode::<Board>(&unprepared, "ws", &Frame::Text(text)) else { panic!() };
    assert!(m.message.contains("64"), "{}", m.message);
}

#[test]
fn inputs_readings_and_signs_of_life() {
    let press = event(r#"{"type":"input_event","input":1,"event":"hold","duration_ms":900,"seq":2}"#);
    let meta = EventMeta { seq: Some(2), ..NO_META };
    let expected = InputEvent { input: 1, kind: "hold".into(), duration_ms: Some(900), meta };
    assert_eq!(press, DeviceEvent::Input(expected));
    assert!(refusal(r#"{"type":"input_event","input":2,"event":"press"}"#).contains("the device has 2, 0 to 1"));
    assert!(refusal(r#"{"type":"input_event","input":0,"event":"lick"}"#).contains("one of press, release"));

    let text = r#"{"type":"sensor_report","readings":[{"key":"temperature","value":21.5,"at_ms":5},{"key":"temperature","value":21}]}"#;
    let reading = |value, at_ms| Reading { key: "temperature".into(), value, at_ms };
    let expected = vec![reading(Value::Number(21.5), Some(5)), reading(Value::Integer(21), None)];
    assert_eq!(event(text), DeviceEvent::Readings(expected));
    let zero = event(r#"{"type":"sensor_report","readings":[{"key":"temperature","value":-0}]}"#);
    assert_eq!(zero, DeviceEvent::Readings(vec![reading(Value::Integer(0), None)]));
    let zero = event(r#"{"type":"heartbeat","rssi":-0}"#);
    assert_eq!(zero, DeviceEvent::Heartbeat(EventMeta { rssi: Some(0), ..NO_META }));
    assert!(refusal(r#"{"type":"input_event","input":-0,"event":"press"}"#).ends_with("not the number -0"));
    let unknown = refusal(r#"{"type":"sensor_report","readings":[{"key":"mood","value":1}]}"#);
    assert_eq!(unknown, "readings[0]: unknown key \"mood\"; this driver knows temperature");

    let beat = event(r#"{"type":"heartbeat","uptime_s":12,"rssi":-50}"#);
    assert_eq!(beat, DeviceEvent::Heartbeat(EventMeta { uptime_s: Some(12), rssi: Some(-50), ..NO_META }));
    assert_eq!(event(r#"{"type":"bye","until_ms":99}"#), DeviceEvent::Bye(Some(99)));
    assert_eq!(event(r#"{"type":"bye"}"#), DeviceEvent::Bye(None));
    let error = DeviceError { code: "e1".into(), message: "hot".into(), token: Some("c-1".into()) };
    assert_eq!(event(r#"{"type":"error","code":"e1","message":"hot","command_id":"c-1"}"#), DeviceEvent::Error(error));
}

#[test]
fn infrared_configuration_and_updates_are_understood() {
    let learned = event(r#"{"type":"ir_learned","slot":"tv","code":{"protocol":"raw","timings_us":[9000,4500]}}"#);
    let DeviceEvent::IrLearned(learned) = learned else { panic!("{learned:?}") };
    assert_eq!((learned.slot.as_str(), learned.code.timings_us.as_slice()), ("tv", [9000, 4500].as_slice()));
    assert!(refusal(r#"{"type":"ir_learned","slot":"tv","code":{"protocol":"raw","data":"*"}}"#).contains("base64"));
    let unknown = refusal(r#"{"type":"config_result","config_version":3,"results":{"relays":"fine"}}"#);
    assert!(unknown.starts_with("results: `relays` must be one of ok, unknown_key"), "{unknown}");
    let long =
        refusal(&format!(r#"{{"type":"config_result","config_version":3,"results":{{"{}":1}}}}"#, "k".repeat(60_000)));
    assert!(long.len() < 200, "{}", long.len());
    assert!(refusal(r#"{"type":"ota_status","release_id":"r","state":"failed","percent":101}"#).contains("0 to 100"));
    let progress = IrProgress { slot: "tv".into(), captures: 1, wanted: 3 };
    assert_eq!(
        event(r#"{"type":"ir_progress","slot":"tv","captures":1,"wanted":3}"#),
        DeviceEvent::IrProgress(progress)
    );
    let result = ConfigResult { version: 3, results: vec![("relays".into(), "ok".into())] };
    assert_eq!(
        event(r#"{"type":"config_result","config_version":3,"results":{"relays":"ok"}}"#),
        DeviceEvent::ConfigResult(result)
    );
    let status = OtaStatus { release_id: "r".into(), state: "confirmed".into(), percent: Some(100), reason: None };
    assert_eq!(
        event(r#"{"type":"ota_status","release_id":"r","state":"confirmed","percent":100}"#),
        DeviceEvent::OtaStatus(status)
    );
}

#[test]
fn what_is_no_message_is_refused_with_a_reply() {
    assert!(refusal("").contains("ends too early"));
    assert_eq!(refusal("not json"), "not valid JSON at line 1 column 2: expected ident");
    assert!(refusal("[1]").contains("JSON object"));
    assert!(refusal("{}").contains("`type` is missing"));
    assert!(refusal(r#"{"type":"toggle"}"#).contains("allowed are hello, heartbeat, ack"));
    assert!(refusal(&format!("{{\"type\":\"ack\",\"command_id\":\"{}\"}}", "x".repeat(129))).contains("128 bytes"));
    let binary = guest::decode::<Board>(&ctx(), "ws", &Frame::Binary(vec![255, 0]));
    assert!(matches!(binary, Err(Error::Malformed(Malformed { reply: Some(_), .. }))), "{binary:?}");
}

#[test]
fn ingest_takes_sensor_reports_only_and_never_replies() {
    let body = Frame::Text(r#"{"readings":[{"key":"temperature","value":1}]}"#.into());
    let decoded = guest::decode::<Board>(&ctx(), "http:sensor-report", &body).unwrap();
    assert_eq!((decoded.events.len(), decoded.replies.len()), (1, 0));
    let other = guest::decode::<Board>(&ctx(), "http:sensor-report", &Frame::Text("{}".into()));
    assert!(matches!(other, Err(Error::Malformed(Malformed { reply: None, .. }))), "{other:?}");
    assert!(guest::decode::<Board>(&ctx(), "http:else", &body).is_err());
}

const FRAMES: [&str; 7] = [
    r#"{"type":"ack","command_id":"c-1","status":"rejected","reason":"busy","relays":[{"index":0,"state":true}]}"#,
    r#"{"type":"hello","firmware_version":"1","config_version":6,"relays":[{"index":0,"state":true}]}"#,
    r#"{"type":"state_report","complete":true,"seq":9,"rssi":-61,"relays":[{"index":3,"state":false}]}"#,
    r#"{"type":"input_event","input":1,"event":"hold","duration_ms":900}"#,
    r#"{"type":"sensor_report","readings":[{"key":"temperature","value":21.5,"at_ms":5}]}"#,
    r#"{"type":"ir_learned","slot":"tv","code":{"protocol":"raw","timings_us":[9000,4500]}}"#,
    r#"{"type":"ota_status","release_id":"r","state":"confirmed","percent":100}"#,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]
    #[test]
    fn a_changed_frame_is_understood_or_refused_with_a_reply(
        frame in prop::sample::select(&FRAMES[..]),
        at in any::<prop::sample::Index>(),
        cut in 0usize..4,
        put in "[\\[\\]{}:,\"0-9.eE+a-z-]{0,3}",
    ) {
        let at = at.index(frame.len());
        let text = format!("{}{put}{}", &frame[..at], &frame[(at + cut).min(frame.len())..]);
        let understood = match decode(&text) {
            Ok(decoded) => !decoded.events.is_empty(),
            Err(Error::Malformed(m)) => m.reply.is_some(),
            Err(_) => false,
        };
        prop_assert!(understood, "{text}");
    }
}
