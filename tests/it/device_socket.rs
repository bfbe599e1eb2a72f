//! `/ws/device`: who may connect, which connection counts, and when one is given up.

use std::sync::OnceLock;
use std::time::Duration;

use hexa_tests::device::Socket;
use hexa_tests::{FakeDevice, Frame, Identity, Options, Shared, TestServer, WsClient, eventually};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

fn server() -> Shared {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    TestServer::shared(&SERVER)
}

async fn is_online(client: &hexa_tests::Client, uid: &str) -> bool {
    client.get(&format!("/api/v1/devices/{uid}")).await.expect(200)["online"] == true
}

#[tokio::test]
async fn an_unknown_uid_and_a_wrong_token_get_the_same_401_before_the_upgrade() {
    let server = server();
    let known = server.provision(1).await;
    let other = server.provision(1).await;
    let wrong = [
        Identity { token: "hxd_wrong".into(), ..known.clone() },
        Identity { token: other.token.clone(), ..known.clone() },
        Identity { uid: "hx-unknown".into(), ..known.clone() },
        Identity { uid: "%00%0a".into(), ..known.clone() },
        Identity { uid: String::new(), ..known.clone() },
        Identity { token: " ".into(), ..known.clone() },
    ];
    let mut bodies = Vec::new();
    for identity in wrong {
        let refused = FakeDevice::connect(server.address, &identity).await.expect_err("no upgrade");
        assert_eq!(refused.status, 401, "{identity:?}");
        hexa_tests::shapes::assert_error(&refused.body, "invalid_token", &format!("{identity:?}"));
        let mut body = refused.body;
        body["request_id"] = "".into();
        bodies.push(body);
    }
    bodies.dedup();
    assert_eq!(bodies.len(), 1, "the answer does not tell which of the two is wrong");
    // The token in the query is the other form of the same.
    let path = format!("/ws/device?uid={}&token={}", known.uid, known.token);
    Socket::open(server.address, &path, None).await.expect("token in the query").close().await;
    let path = format!("/ws/device?uid={}", known.uid);
    let refused = Socket::open(server.address, &path, None).await.expect_err("no token at all");
    assert_eq!(refused.status, 401);
}

#[tokio::test]
async fn a_token_never_reaches_the_log() {
    // Everything that handles tokens, at its loudest; the compiler of plugins would only drown it.
    let loud = "info,hexa=trace,hexa_api=trace,hexa_listen=trace,hexa_platform=trace,hexa_accounts=trace,hexa_devices=trace,hexa_operations=trace,hexa_machine=trace,hexa_store=trace,hexa_host=trace,sqlx=trace,\
                hyper=trace,axum=trace,tower=trace,tungstenite=trace,tokio_tungstenite=trace";
    let mut server = TestServer::start(Options::new().env("HEXA_LOG", loud));
    let identity = server.provision(1).await;
    let canary = "hxd_canary-4711-canary";
    let path = format!("/ws/device?uid={}&token={canary}", identity.uid);
    assert_eq!(Socket::open(server.address, &path, None).await.expect_err("a wrong token").status, 401);
    let path = format!("/ws/device?uid={}&token={}", identity.uid, identity.token);
    Socket::open(server.address, &path, None).await.expect("the right one").close().await;
    let user = server.user().await;
    server.stop().await;
    let log = server.log().text();
    for secret in [canary, &identity.token, &user.access_token, &user.refresh_token, hexa_tests::server::PASSWORD] {
        assert!(!log.contains(secret), "a secret in the log");
    }
    assert!(!log.contains(&server.provision_key()));
}

#[tokio::test]
async fn a_plain_get_on_the_socket_route_is_told_to_upgrade() {
    let server = server();
    let identity = server.provision(1).await;
    let client = server.client().with_token(&identity.token);
    let reply = client.get(&format!("/ws/device?uid={}", identity.uid)).await;
    let body = reply.expect_error(400, "validation_error");
    assert!(body["message"].as_str().unwrap().contains("Upgrade"));
}

#[tokio::test]
async fn the_newest_session_wins_and_a_takeover_is_not_an_offline_event() {
    let server = server();
    let user = server.user().await;
    let mut first = server.device(&user, 1).await;
    let uid = first.uid().to_owned();
    let (mut dashboard, devices) = WsClient::subscribed(&server, &user).await;
    assert_eq!(devices[0]["online"], true);
    let mut second = server.connect(&first.identity).await;
    assert_eq!(first.socket.expect_close().await.0, 4001);
    assert!(is_online(&user.client, &uid).await);
    let (client, to) = (user.clone(), uid.clone());
    let answer = tokio::spawn(async move { client.set_relay(&to, 0, true).await });
    let command = second.expect_command().await;
    second.ack(&command).await;
    answer.await.unwrap().expect(200);
    let frames = dashboard.drained().await;
    assert!(frames.iter().all(|f| f["type"] != "device_offline"), "{frames:?}");
    second.socket.close().await;
    assert_eq!(dashboard.expect("device_offline").await["device_uid"], json!(uid));
    server.connect(&first.identity).await;
    assert_eq!(dashboard.expect("device_online").await["device_uid"], json!(uid));
}

#[tokio::test]
async fn an_open_command_survives_a_takeover_when_its_ack_comes_on_the_new_socket() {
    let server = server();
    let user = server.user().await;
    let mut first = server.device(&user, 1).await;
    let (client, uid) = (user.clone(), first.uid().to_owned());
    let answer = tokio::spawn(async move { client.set_relay(&uid, 0, true).await });
    let command = first.expect_command().await;
    let mut second = server.connect(&first.identity).await;
    assert_eq!(first.socket.expect_close().await.0, 4001);
    second.ack(&command).await;
    let answer = answer.await.unwrap().expect(200);
    assert_eq!(answer["command_id"], command.id);
    assert_eq!(server.db().relay(second.uid(), 0), Some((true, 1)));
}

#[tokio::test]
async fn many_takeovers_at_once_leave_one_session_that_works() {
    let server = TestServer::start(Options::new().env("LIMIT_FLAP", "1000"));
    let user = server.user().await;
    let device = server.device(&user, 1).await;
    let identity = device.identity.clone();
    let mut tasks = Vec::new();
    for _ in 0..12 {
        let (address, identity) = (server.address, identity.clone());
        tasks.push(tokio::spawn(async move { FakeDevice::connect(address, &identity).await.expect("connects") }));
    }
    let mut open = vec![device];
    for task in tasks {
        open.push(task.await.unwrap());
    }
    // All but one are told that they were replaced; the one that is left answers.
    let (client, uid) = (user.clone(), identity.uid.clone());
    let answer = tokio::spawn(async move { client.set_relay(&uid, 0, true).await });
    let mut replaced = 0;
    for mut device in open {
        match device.socket.next().await {
            Frame::Close(4001, _) => replaced += 1,
            Frame::Text(frame) => {
                let ack = json!({ "type": "ack", "command_id": frame["command_id"] });
                device.send(&ack).await;
                // Kept open until the answer is there.
                tokio::spawn(async move { while let Frame::Text(_) = device.socket.next().await {} });
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(replaced, 12);
    answer.await.unwrap().expect(200);
    assert_eq!(server.metrics().await.count("hexa_device_sessions", &[]), 1);
}

#[tokio::test]
async fn the_sixteenth_connect_in_a_minute_is_refused_for_five_minutes() {
    let server = server();
    let identity = server.provision(1).await;
    for n in 0..15 {
        let device = FakeDevice::connect(server.address, &identity).await;
        device.unwrap_or_else(|r| panic!("connect {n}: {r:?}")).socket.close().await;
    }
    for _ in 0..2 {
        let refused = FakeDevice::connect(server.address, &identity).await.expect_err("one too many");
        assert_eq!(refused.status, 429);
        hexa_tests::shapes::assert_error(&refused.body, "rate_limited", "the flapping device");
        let after: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((280..=300).contains(&after), "{after}");
    }
    // Others are not concerned.
    let other = server.provision(1).await;
    server.connect(&other).await;
}

#[tokio::test]
async fn a_silent_half_open_connection_is_given_up_after_two_heartbeats() {
    let server = TestServer::start(Options::new().env("HEXA_HEARTBEAT_SECONDS", "1"));
    let user = server.user().await;
    let silent = server.device(&user, 1).await;
    let mut lively = server.device(&user, 1).await;
    let (silent_uid, lively_uid) = (silent.uid().to_owned(), lively.uid().to_owned());
    let (mut dashboard, _) = WsClient::subscribed(&server, &user).await;
    // The lively one reads, and so answers the server's pings; the silent one never looks at its socket.
    let reading = tokio::spawn(async move { lively.socket.next().await });
    let start = std::time::Instant::now();
    let offline = dashboard.expect("device_offline").await;
    assert_eq!(offline["device_uid"], json!(silent_uid));
    assert!(start.elapsed() < Duration::from_secs(10), "2.25 heartbeats of one second: {:?}", start.elapsed());
    assert!(!is_online(&user.client, &silent_uid).await);
    assert!(is_online(&user.client, &lively_uid).await && !reading.is_finished());
    user.set_relay(&silent_uid, 0, true).await.expect_error(409, "device_offline");
    drop(silent);
}

#[tokio::test]
async fn a_rotated_token_closes_the_socket_and_the_old_one_ends_with_the_first_use_of_the_new() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let old = device.identity.clone();
    let path = format!("/api/v1/devices/{}/token/rotate", old.uid);
    let rotated = user.client.post_empty(&path).await.expect(200);
    assert_eq!(device.socket.expect_close().await.0, 4002);
    hexa_tests::shapes::assert_time(&rotated["previous_valid_until"], "previous_valid_until");
    let new = Identity { token: rotated["device_token"].as_str().unwrap().to_owned(), ..old.clone() };
    assert_ne!(new.token, old.token);
    // The old one still works: the new one may not have reached the device.
    server.connect(&old).await.socket.close().await;
    server.connect(&new).await.socket.close().await;
    assert_eq!(FakeDevice::connect(server.address, &old).await.expect_err("spent").status, 401);
    server.connect(&new).await;
}

#[tokio::test]
async fn a_release_closes_the_socket_and_gives_a_new_code() {
    let server = server();
    let (user, next) = (server.user().await, server.user().await);
    let mut device = server.device(&user, 1).await;
    let uid = device.uid().to_owned();
    let (mut dashboard, _) = WsClient::subscribed(&server, &user).await;
    let released = user.client.post_empty(&format!("/api/v1/devices/{uid}/release")).await.expect(200);
    assert_eq!(device.socket.expect_close().await.0, 4002);
    assert_eq!(dashboard.expect("device_removed").await["device_uid"], json!(uid));
    user.client.get(&format!("/api/v1/devices/{uid}")).await.expect_error(404, "not_found");
    next.client.post("/api/v1/devices/claim", &json!({ "code": released["claim_code"] })).await.expect(200);
    // Its token is still its own; from now on only the new owner hears of it.
    let mut device = server.connect(&device.identity).await;
    device.report(&[(0, true)]).await;
    device.settled().await;
    let heard = dashboard.drained().await;
    assert!(heard.iter().all(|f| f["type"] != "device_state" && f["type"] != "device_online"), "{heard:?}");
    assert_eq!(next.relay(&uid, 0).await, Some((true, 1)));
}

#[tokio::test]
async fn a_deleted_device_is_closed_and_cannot_come_back() {
    let server = server();
    let admin = server.admin().await;
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let uid = device.uid().to_owned();
    device.report(&[(0, true)]).await;
    device.settled().await;
    assert_eq!(admin.delete(&format!("/api/v1/devices/{uid}")).await.status, 204);
    assert_eq!(device.socket.expect_close().await.0, 4002);
    assert_eq!(FakeDevice::connect(server.address, &device.identity).await.expect_err("gone").status, 401);
    user.client.get(&format!("/api/v1/devices/{uid}")).await.expect_error(404, "not_found");
    admin.delete(&format!("/api/v1/devices/{uid}")).await.expect_error(404, "not_found");
    // The audit outlives it.
    assert_eq!(
        server.db().actions("device.deleted").iter().filter(|r| r.details.as_ref().unwrap().contains(&uid)).count(),
        1
    );
}

#[tokio::test]
async fn last_seen_follows_the_device_and_survives_a_stop() {
    let mut server = TestServer::start(Options::new());
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let path = format!("/api/v1/devices/{}", device.uid());
    device.send(&json!({ "type": "heartbeat", "uptime_s": 5, "rssi": -60 })).await;
    device.settled().await;
    let live = user.client.get(&path).await.expect(200);
    assert_eq!((&live["online"], &live["ip"]), (&json!(true), &json!("127.0.0.1")));
    let reading = tokio::spawn(async move { device.socket.expect_close().await });
    server.stop().await;
    assert_eq!(reading.await.unwrap().0, 1012);
    server.restart();
    let client = server.client().with_token(&user.access_token);
    let stored = client.get(&path).await.expect(200);
    assert_eq!((&stored["online"], &stored["ip"]), (&json!(false), &json!("127.0.0.1")));
    let (before, after) = (live["last_seen_at"].as_str().unwrap(), stored["last_seen_at"].as_str().unwrap());
    assert!(after >= before, "{after} is older than {before}");
}

#[tokio::test]
async fn a_good_bye_and_pings_are_part_of_an_ordinary_life() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    device.socket.send(Message::Ping(vec![1, 2, 3].into())).await.unwrap();
    device.send(&json!({ "type": "bye", "until_ms": 1_900_000_000_000_u64 })).await;
    device.settled().await;
    let uid = device.uid().to_owned();
    device.socket.close().await;
    eventually("the device offline", || async { (!is_online(&user.client, &uid).await).then_some(()) }).await;
}
