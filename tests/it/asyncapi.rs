//! The document of the sockets: its examples fit, and each of its messages goes over a real socket. That whatever a test
//! hears fits is checked with every frame (tests/src/device.rs).

use std::collections::BTreeSet;

use hexa_tests::contract::{check_in, hold_frame, messages, sockets};
use hexa_tests::{FakeDevice, Options, TestServer, WsClient};
use serde_json::{Value, json};

const OPERATIONS: [&str; 4] = ["deviceReports", "deviceIsTold", "clientAsks", "clientHears"];

#[test]
fn every_example_fits_and_every_message_is_of_an_operation() {
    let mut used = BTreeSet::new();
    for operation in OPERATIONS {
        for (name, message) in messages(operation) {
            for example in message["examples"].as_array().unwrap_or_else(|| panic!("{name} has no example")) {
                let payload = &example["payload"];
                check_in(&sockets()["components"]["schemas"], &message["payload"], payload)
                    .unwrap_or_else(|e| panic!("{name}: {e}: {payload}"));
                assert_eq!(payload["type"], message["name"], "{name}");
            }
            used.insert(message["summary"].as_str().unwrap_or_default().to_owned() + &message["name"].to_string());
        }
    }
    assert_eq!(used.len(), sockets()["components"]["messages"].as_object().unwrap().len());
}

#[test]
fn a_frame_that_is_not_documented_is_found() {
    let good = json!({ "type": "pong" });
    assert_eq!(hold_frame("clientHears", &good).as_deref(), Ok("pong"));
    for bad in [
        json!({ "type": "pong", "more": 1 }),
        json!({ "type": "device_added" }),
        json!({ "type": "device_added", "device_uid": "a b" }),
        json!({ "type": "nonsense" }),
        json!({}),
    ] {
        assert!(hold_frame("clientHears", &bad).is_err(), "{bad}");
    }
}

/// What went over the sockets.
#[derive(Default)]
struct Seen(BTreeSet<String>);

impl Seen {
    fn note(&mut self, operation: &str, frame: &Value) {
        let name = hold_frame(operation, frame).unwrap_or_else(|e| panic!("{operation}: {e}"));
        self.0.insert(format!("{operation}.{name}"));
    }
    async fn tell(&mut self, device: &mut FakeDevice, frame: Value) {
        self.note("deviceReports", &frame);
        device.send(&frame).await;
    }
    async fn told(&mut self, device: &mut FakeDevice) -> Value {
        let frame = device.expect_text().await;
        self.note("deviceIsTold", &frame);
        frame
    }
    async fn ask(&mut self, client: &mut WsClient, frame: Value) {
        self.note("clientAsks", &frame);
        client.send(&frame).await;
    }
    async fn hear(&mut self, client: &mut WsClient, kind: &str) -> Value {
        loop {
            let frame = client.next().await;
            self.note("clientHears", &frame);
            if frame["type"] == kind {
                return frame;
            }
        }
    }
}

#[tokio::test]
async fn every_message_of_the_document_goes_over_a_real_socket() {
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let mut seen = Seen::default();
    let mut client = WsClient::open(&server, &user.access_token).await.unwrap();
    let to = &mut client;
    seen.ask(to, json!({ "type": "subscribe" })).await;
    seen.hear(to, "snapshot").await;
    seen.ask(to, json!({ "type": "ping" })).await;
    seen.hear(to, "pong").await;

    let identity = server.provision(2).await;
    let uid = identity.uid.clone();
    user.client.post("/api/v1/devices/claim", &json!({ "code": identity.claim_code })).await.expect(200);
    seen.hear(to, "device_added").await;
    user.client.patch(&format!("/api/v1/devices/{uid}"), &json!({ "name": "Porch" })).await.expect(200);
    seen.hear(to, "device_updated").await;

    let mut device = server.connect(&identity).await;
    seen.hear(to, "device_online").await;
    let at = &mut device;
    seen.tell(at, json!({ "type": "hello", "firmware_version": "1.2.0", "boot_id": "b-1" })).await;
    seen.told(at).await;
    seen.tell(at, json!({ "type": "heartbeat", "uptime_s": 5, "rssi": -60 })).await;
    seen.tell(at, json!({ "type": "error", "code": "overheated", "message": "92 degrees" })).await;
    let relays = json!([{ "index": 0, "state": false }, { "index": 1, "state": false }]);
    seen.tell(at, json!({ "type": "state_report", "relays": relays, "complete": true })).await;
    seen.hear(to, "device_state").await;
    seen.tell(at, json!({ "type": "input_event", "input": 0, "event": "click" })).await;
    seen.hear(to, "input_event").await;
    // Not in the document: it is refused, and that is.
    at.send(&json!({ "type": "input_event", "input": 0, "event": "stroke" })).await;
    let refused = seen.told(at).await;
    assert_eq!(refused["type"], "error");

    seen.ask(
        to,
        json!({ "type": "set_relay", "id": "a", "device_uid": uid, "relay": 0, "state": true, "for_ms": 500 }),
    )
    .await;
    let command = seen.told(at).await;
    assert_eq!(command["for_ms"], 500);
    seen.tell(at, json!({ "type": "ack", "command_id": command["command_id"], "status": "executed" })).await;
    seen.hear(to, "command_result").await;
    seen.ask(to, json!({ "type": "set_all_relays", "id": "b", "device_uid": uid, "state": true })).await;
    let command = seen.told(at).await;
    seen.tell(
        at,
        json!({ "type": "ack", "command_id": command["command_id"], "status": "rejected", "reason": "locked" }),
    )
    .await;
    let error = seen.hear(to, "error").await;
    assert_eq!((&error["id"], &error["code"]), (&json!("b"), &json!("device_rejected")));

    seen.tell(at, json!({ "type": "bye", "until_ms": 1_790_000_000_000_i64 })).await;
    device.socket.close().await;
    seen.hear(to, "device_offline").await;
    user.client.post_empty(&format!("/api/v1/devices/{uid}/release")).await.expect(200);
    seen.hear(to, "device_removed").await;

    let documented =
        OPERATIONS.iter().flat_map(|o| messages(o).into_iter().map(move |(name, _)| format!("{o}.{name}")));
    let missing: Vec<_> = documented.filter(|name| !seen.0.contains(name)).collect();
    assert!(missing.is_empty(), "documented and never seen: {missing:?}");
}
