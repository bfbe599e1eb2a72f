//! The driver natively, through the same functions that the component exports.

use hexa_sdk::guest;
use hexa_sdk::types::{CustomCommand, DeviceCtx, IrLearnRequest, RelayTarget};

use super::*;

fn ident() -> DeviceIdent {
    DeviceIdent {
        uid: "hx1".into(),
        class: "relay_controller".into(),
        model: None,
        hardware: None,
        firmware: None,
        relay_count: 2,
        input_count: 1,
        attrs: vec![],
    }
}

fn ctx() -> DeviceCtx {
    let prepared = guest::validate::<RelayController>(&ident(), "{}").expect("valid").prepared;
    DeviceCtx { now_ms: 1, session: None, prepared, volatile: vec![], durable: vec![] }
}

fn encode(command: Command) -> Result<Encoded> {
    let envelope = CommandEnvelope { id: "c-1".into(), command, expires_at_ms: 9 };
    guest::encode::<RelayController>(&ctx(), &envelope)
}

#[test]
fn a_relay_is_set_and_its_ack_understood() {
    let encoded = encode(Command::SetRelay(RelayTarget { index: 1, on: true, for_ms: None })).unwrap();
    let frame = r#"{"type":"set_relay","command_id":"c-1","relay":1,"state":true,"expires_at_ms":9}"#;
    assert_eq!(encoded.frames, [Frame::Text(frame.into())]);
    assert_eq!(encoded.ack, AckPolicy::CommandId);
    let ack = Frame::Text(r#"{"type":"ack","command_id":"c-1","status":"executed"}"#.into());
    let decoded = guest::decode::<RelayController>(&ctx(), "ws", &ack).unwrap();
    let expected = Ack { token: "c-1".into(), outcome: AckOutcome::Executed, relays: vec![] };
    assert_eq!(decoded.events, [DeviceEvent::Ack(expected)]);
}

#[test]
fn what_a_relay_board_cannot_do_is_unsupported() {
    let learn = IrLearnRequest { slot: "a".into(), captures: 1, timeout_ms: 1 };
    assert_eq!(encode(Command::IrLearn(learn)), Err(Error::unsupported("it has no infrared")));
    let custom = CustomCommand { name: "dance".into(), args: "{}".into() };
    assert_eq!(encode(Command::Custom(custom)), Err(Error::unsupported("it has no command \"dance\"")));
}

#[test]
fn a_configuration_gets_defaults_or_errors_with_a_pointer() {
    let accepted = guest::validate::<RelayController>(&ident(), r#"{"relays":[{"name":"Pump"}]}"#).unwrap();
    let config: serde_json::Value = serde_json::from_str(&accepted.config).unwrap();
    assert_eq!(config["relays"][0]["kind"], "switch");
    let errors = |config: &str| {
        let errors = guest::validate::<RelayController>(&ident(), config).unwrap_err();
        errors.into_iter().map(|e| e.path).collect::<Vec<_>>()
    };
    assert_eq!(errors(r#"{"relays":[{},{},{}],"inputs":[{"relay":2}]}"#), ["/relays", "/inputs/0/relay"]);
    assert_eq!(errors(r#"{"rellays":[]}"#), [""]);
}

#[test]
fn the_descriptor_says_what_the_host_checks() {
    let descriptor: serde_json::Value = serde_json::from_str(&RelayController::descriptor().to_json()).unwrap();
    assert_eq!(descriptor["schema"], "hexa.descriptor/1");
    assert_eq!(descriptor["classes"], serde_json::json!(["relay_controller"]));
    assert_eq!(descriptor["relays"]["max"], 64);
    let keys: Vec<_> = RelayController::descriptor().reading_keys().collect();
    assert_eq!(keys, ["temperature", "power", "energy"]);
}
