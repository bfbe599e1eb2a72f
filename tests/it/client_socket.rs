//! `/ws/client`: snapshot first, versions that never go down, nobody else's devices, slow clients that harm nobody.

use std::collections::HashMap;
use std::os::fd::AsRawFd;
use std::sync::OnceLock;
use std::time::Duration;

use hexa_tests::device::Socket;
use hexa_tests::{Frame, Options, Shared, TestServer, WsClient, eventually};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

fn server() -> Shared {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    TestServer::shared(&SERVER)
}

#[tokio::test]
async fn a_token_is_needed_before_the_upgrade() {
    let server = server();
    for authorization in [None, Some("Bearer nonsense"), Some("Basic dTpw")] {
        let refused = Socket::open(server.address, "/ws/client", authorization).await.expect_err("no upgrade");
        assert_eq!(refused.status, 401);
        hexa_tests::shapes::assert_error(&refused.body, "invalid_token", "the client socket");
    }
    let user = server.user().await;
    user.client.get("/ws/client").await.expect_error(400, "validation_error");
}

#[tokio::test]
async fn a_foreign_page_cannot_open_a_socket_in_a_users_name() {
    let server = server();
    let user = server.user().await;
    let client = &user.client;
    let upgrade = |origin: String| {
        client
            .request(reqwest::Method::GET, "/ws/client")
            .header("origin", origin)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")
    };
    for foreign in ["https://evil.example", "null", "http://127.0.0.1:1", "https://hexa.example.evil.example"] {
        client.send(upgrade(foreign.to_owned())).await.expect_error(403, "origin_not_allowed");
    }
    for own in [format!("http://{}", server.address), hexa_tests::server::PUBLIC_URL.to_owned()] {
        let answer = upgrade(own.clone()).send().await.unwrap();
        assert_eq!(answer.status(), 101, "{own}");
    }
}

#[tokio::test]
async fn the_snapshot_comes_first_and_holds_what_is_known() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 3).await;
    let offline = server.provision(1).await;
    user.client.post("/api/v1/devices/claim", &json!({ "code": offline.claim_code })).await.expect(200);
    device.report(&[(0, true), (2, false)]).await;
    device.settled().await;
    let (_, devices) = WsClient::subscribed(&server, &user).await;
    assert_eq!(devices.len(), 2);
    let of = |uid: &str| devices.iter().find(|d| d["device_uid"] == uid).unwrap_or_else(|| panic!("{devices:?}"));
    let relays = json!([{ "index": 0, "state": true, "version": 1 }, { "index": 2, "state": false, "version": 1 }]);
    assert_eq!((&of(device.uid())["online"], &of(device.uid())["relays"]), (&json!(true), &relays));
    assert_eq!((&of(&offline.uid)["online"], &of(&offline.uid)["relays"]), (&json!(false), &json!([])));
}

#[tokio::test]
async fn nothing_is_heard_before_subscribing_and_only_of_what_was_named() {
    let server = server();
    let user = server.user().await;
    let mut one = server.device(&user, 1).await;
    let mut two = server.device(&user, 1).await;
    let mut client = WsClient::open(&server, &user.access_token).await.unwrap();
    one.report(&[(0, true)]).await;
    one.settled().await;
    assert_eq!(client.drained().await, Vec::<Value>::new());
    client.send(&json!({ "type": "subscribe", "devices": [one.uid()] })).await;
    let snapshot = client.next().await;
    assert_eq!((&snapshot["type"], snapshot["devices"].as_array().unwrap().len()), (&json!("snapshot"), 1));
    two.report(&[(0, true)]).await;
    two.settled().await;
    one.report(&[(0, false)]).await;
    let state = client.next().await;
    assert_eq!((&state["type"], &state["device_uid"]), (&json!("device_state"), &json!(one.uid())));
    assert_eq!(state["relays"], json!([{ "index": 0, "state": false, "version": 2 }]));
}

#[tokio::test]
async fn a_snapshot_under_fire_is_never_followed_by_an_older_version() {
    let server = server();
    let user = server.user().await;
    let device = server.device(&user, 1).await.automatic(1);
    let uid = device.uid().to_owned();
    let busy = tokio::spawn({
        let (user, uid) = (user.clone(), uid.clone());
        async move {
            for n in 0..120 {
                user.set_relay(&uid, 0, n % 2 == 0).await.expect(200);
            }
        }
    });
    for _ in 0..10 {
        let (mut client, devices) = WsClient::subscribed(&server, &user).await;
        let mut last = devices[0]["relays"][0]["version"].as_u64().unwrap_or(0);
        for _ in 0..3 {
            if busy.is_finished() {
                break;
            }
            let state = client.expect("device_state").await;
            let next = state["relays"][0]["version"].as_u64().unwrap();
            assert!(next >= last, "{next} after {last}");
            last = next;
        }
        client.socket.close().await;
    }
    busy.await.unwrap();
    // Everybody ends at the newest version.
    let (_, devices) = WsClient::subscribed(&server, &user).await;
    assert_eq!(devices[0]["relays"][0]["version"], 120);
}

#[tokio::test]
async fn one_device_that_is_gone_does_not_silence_the_others() {
    let server = server();
    let (user, other) = (server.user().await, server.user().await);
    let mut device = server.device(&user, 1).await;
    let foreign = server.device(&other, 1).await;
    let mut client = WsClient::open(&server, user.client.token()).await.unwrap();
    client.send(&json!({ "type": "subscribe", "devices": ["hx-none", device.uid(), foreign.uid()] })).await;
    let snapshot = client.next().await;
    let shown: Vec<_> = snapshot["devices"].as_array().unwrap().iter().map(|d| d["device_uid"].clone()).collect();
    assert_eq!((&snapshot["type"], shown), (&json!("snapshot"), vec![json!(device.uid())]));
    let refused = client.next().await;
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("not_found")));
    assert_eq!(refused["details"]["device_uids"], json!(["hx-none", foreign.uid()]));
    device.report(&[(0, true)]).await;
    assert_eq!(client.expect("device_state").await["relays"][0]["state"], json!(true));
}

#[tokio::test]
async fn what_comes_and_goes_is_told_whatever_was_named() {
    let server = server();
    let (user, other) = (server.user().await, server.user().await);
    let named = server.device(&user, 1).await;
    let mut client = WsClient::open(&server, user.client.token()).await.unwrap();
    client.send(&json!({ "type": "subscribe", "devices": [named.uid()] })).await;
    client.expect("snapshot").await;
    let mut fresh = server.device(&user, 1).await;
    assert_eq!(client.expect("device_added").await["device_uid"], json!(fresh.uid()));
    // Its states are not: nobody asked for them.
    fresh.report(&[(0, true)]).await;
    fresh.settled().await;
    let foreign = server.device(&other, 1).await;
    let path = format!("/api/v1/devices/{}", fresh.uid());
    user.client.post_empty(&format!("{path}/release")).await.expect(200);
    assert_eq!(client.next().await, json!({ "type": "device_removed", "device_uid": fresh.uid() }));
    assert_eq!(client.drained().await, Vec::<Value>::new(), "and nothing of {}", foreign.uid());
}

#[tokio::test]
async fn users_hear_of_their_own_devices_only() {
    let server = server();
    let (owner, stranger) = (server.user().await, server.user().await);
    let mut device = server.device(&owner, 1).await;
    let uid = device.uid().to_owned();
    let (mut mine, _) = WsClient::subscribed(&server, &owner).await;
    let (mut theirs, devices) = WsClient::subscribed(&server, &stranger).await;
    assert_eq!(devices, Vec::<Value>::new());
    theirs.send(&json!({ "type": "subscribe", "devices": [uid] })).await;
    let refused = theirs.next().await;
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("not_found")));
    for frame in [
        json!({ "type": "set_relay", "id": "a", "device_uid": uid, "relay": 0, "state": true }),
        json!({ "type": "set_all_relays", "id": "b", "device_uid": uid, "state": true }),
        json!({ "type": "set_relay", "id": "c", "device_uid": "hx-none", "relay": 0, "state": true }),
    ] {
        theirs.send(&frame).await;
        let refused = theirs.next().await;
        assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("not_found")), "{frame}");
        assert_eq!(refused["id"], frame["id"]);
    }
    device.assert_nothing_sent().await;
    device.report(&[(0, true)]).await;
    mine.expect("device_state").await;
    assert_eq!(theirs.drained().await, Vec::<Value>::new(), "nothing of another's device");
    let rows = eventually("the attempts in the audit", || async {
        let rows = server.db().device_audit(&uid);
        let refused = rows.into_iter().filter(|r| r.outcome == "rejected" && r.source == "ws").count();
        (refused == 2).then_some(refused)
    });
    rows.await;
}

#[tokio::test]
async fn commands_over_the_socket_take_the_same_path_and_answer_with_their_id() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 2).await;
    let uid = device.uid().to_owned();
    let (mut client, _) = WsClient::subscribed(&server, &user).await;
    client.send(&json!({ "type": "set_relay", "id": "r-1", "device_uid": uid, "relay": 1, "state": true })).await;
    let command = device.expect_command().await;
    device.ack(&command).await;
    let result = client.expect("command_result").await;
    assert_eq!((&result["id"], &result["status"]), (&json!("r-1"), &json!("executed")));
    assert_eq!((&result["command_id"], &result["relays"][0]["version"]), (&json!(command.id), &json!(1)));
    assert!(result["latency_ms"].is_number());
    assert_eq!(server.db().command(&command.id)[0].source, "ws");

    client.send(&json!({ "type": "set_all_relays", "id": "all", "device_uid": uid, "state": false })).await;
    let command = device.expect_command().await;
    assert_eq!(command.kind, "set_all_relays");
    device.ack_with(&command, &json!({ "status": "rejected", "reason": "locked" })).await;
    let refused = client.expect("error").await;
    assert_eq!((&refused["id"], &refused["code"]), (&json!("all"), &json!("device_rejected")));
    assert_eq!(
        (&refused["details"]["reason"], &refused["details"]["command_id"]),
        (&json!("locked"), &json!(command.id))
    );
    assert!(refused["request_id"].is_string() && refused["message"].is_string());
}

#[tokio::test]
async fn frames_that_are_not_understood_are_answered_and_the_socket_goes_on() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let uid = device.uid().to_owned();
    let (mut client, _) = WsClient::subscribed(&server, &user).await;
    for text in [
        "not json".to_owned(),
        "{}".to_owned(),
        r#"{"type":"dance","id":"x"}"#.to_owned(),
        r#"{"type":"ping","extra":1}"#.to_owned(),
        r#"{"type":"subscribe","devices":"all"}"#.to_owned(),
        format!(r#"{{"type":"set_relay","id":"x","device_uid":"{uid}","relay":-1,"state":true}}"#),
        format!(r#"{{"type":"set_relay","id":"x","device_uid":"{uid}","relay":2147483648,"state":true}}"#),
        format!(r#"{{"type":"set_relay","id":"x","device_uid":"{uid}","relay":"0","state":true}}"#),
        format!(r#"{{"type":"set_relay","id":"x","device_uid":"{uid}","relay":0.5,"state":true}}"#),
        format!(r#"{{"type":"set_relay","id":"x","device_uid":"{uid}","relay":1,"state":true}}"#),
        format!(r#"{{"type":"set_relay","id":"x","device_uid":"{uid}","relay":0,"state":1}}"#),
        format!(r#"{{"type":"set_relay","id":"x","device_uid":"{uid}","relay":0,"state":true,"for_ms":0}}"#),
        format!(r#"{{"type":"set_relay","id":"x","device_uid":"{uid}","relay":0,"state":true,"state":false}}"#),
        format!("{}{}", "[".repeat(5000), "]".repeat(5000)),
    ] {
        client.socket.send(Message::text(text.clone())).await.unwrap();
        let answer = client.next().await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("validation_error")), "{text}");
        if text.contains(r#""id":"x""#) {
            assert_eq!(answer["id"], "x", "{text}");
        }
    }
    client.socket.send(Message::binary(vec![1u8, 2])).await.unwrap();
    assert_eq!(client.next().await["code"], "validation_error");
    client.socket.send(Message::text("x".repeat(100 * 1024))).await.unwrap();
    assert_eq!(client.socket.expect_close().await.0, 1009);
    device.assert_nothing_sent().await;
}

#[tokio::test]
async fn one_state_change_is_encoded_once_for_all_of_its_owners_sockets() {
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let mut clients = Vec::new();
    for _ in 0..5 {
        clients.push(WsClient::subscribed(&server, &user).await.0);
    }
    let before = server.metrics().await.count("hexa_broadcast_encodes_total", &[]);
    device.report(&[(0, true)]).await;
    for client in &mut clients {
        client.expect("device_state").await;
    }
    assert_eq!(server.metrics().await.count("hexa_broadcast_encodes_total", &[]) - before, 1);
}

/// Commands per device in the test below; with 64 relays each, the frames of all fill every buffer on the way.
const ROUNDS: u64 = 60;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_stops_reading_delays_nobody_and_costs_bounded_memory() {
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let mut devices = Vec::new();
    for _ in 0..8 {
        devices.push(server.device(&user, 64).await.automatic(64));
    }
    let mut stalled = Vec::new();
    for _ in 0..4 {
        let (client, _) = WsClient::subscribed(&server, &user).await;
        // A small window, so that little is enough to fill it.
        set_receive_buffer(&client, 4096);
        stalled.push(client);
    }
    let (mut reader, _) = WsClient::subscribed(&server, &user).await;
    let before = server.resident_bytes();
    let reading = tokio::spawn(async move {
        let mut newest = Newest::default();
        while newest.count_at(ROUNDS) < 8 {
            newest.take(&reader.expect("device_state").await);
        }
    });
    let mut workers = Vec::new();
    for device in &devices {
        let (user, uid) = (user.clone(), device.uid().to_owned());
        workers.push(tokio::spawn(async move {
            for n in 0..ROUNDS {
                user.set_all(&uid, n % 2 == 0).await.expect(200);
            }
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
    reading.await.unwrap();
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "four stalled clients cost {grown} bytes");
    // When they read again, versions never went down, and the last they hear is the newest, unless they were closed
    // for being too slow. A window of 4 KiB opens again by the kernel's probes, minutes apart in the worst case: what
    // has not come in 30 seconds is not waited for.
    let again = stalled.into_iter().map(|mut client| async move {
        set_receive_buffer(&client, 1 << 20);
        let mut newest = Newest::default();
        let reading_again = async {
            while newest.count_at(ROUNDS) < 8 {
                match client.socket.next().await {
                    Frame::Text(frame) if frame["type"] == "device_state" => newest.take(&frame),
                    Frame::Text(_) => {}
                    Frame::Close(code, _) => {
                        assert_eq!(code, 4008);
                        break;
                    }
                    Frame::Gone => break,
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_secs(30), reading_again).await;
    });
    futures_util::future::join_all(again).await;
}

/// The newest version of relay 0 that was heard of each device.
#[derive(Default)]
struct Newest(HashMap<String, u64>);

impl Newest {
    fn take(&mut self, state: &Value) {
        let version = state["relays"][0]["version"].as_u64().unwrap();
        let last = self.0.entry(state["device_uid"].as_str().unwrap().to_owned()).or_default();
        assert!(version >= *last, "{version} after {last}");
        *last = version;
    }
    fn count_at(&self, version: u64) -> usize {
        self.0.values().filter(|v| **v == version).count()
    }
}

fn set_receive_buffer(client: &WsClient, bytes: libc::c_int) {
    let socket = client.socket.stream().as_raw_fd();
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    #[expect(unsafe_code, reason = "setsockopt has no safe wrapper in std")]
    // SAFETY: the descriptor is open for as long as its client lives, and the value outlives the call.
    let done = unsafe { libc::setsockopt(socket, libc::SOL_SOCKET, libc::SO_RCVBUF, (&raw const bytes).cast(), size) };
    assert_eq!(done, 0, "SO_RCVBUF");
}
