//! The relay path (docs/PLATFORM.md#a-relay-command): every way a command can end, and what it leaves behind.

use std::sync::OnceLock;
use std::time::Instant;

use hexa_tests::{AutoDevice, FakeDevice, Options, Shared, TestServer, User, WsClient, eventually};
use serde_json::{Value, json};

fn server() -> Shared {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    TestServer::shared(&SERVER)
}

/// One whose commands time out soon.
fn impatient() -> TestServer {
    TestServer::start(Options::new().env("COMMAND_TIMEOUT_MS", "400"))
}

/// A command under way: the answer will come to the join handle.
fn begin(user: &User, uid: &str, relay: u16, state: bool) -> tokio::task::JoinHandle<hexa_tests::Reply> {
    let (user, uid) = (user.clone(), uid.to_owned());
    tokio::spawn(async move { user.set_relay(&uid, relay, state).await })
}

fn command_id(answer: &Value) -> String {
    let id = answer["command_id"].as_str().or(answer["details"]["command_id"].as_str());
    id.unwrap_or_else(|| panic!("no command id: {answer}")).to_owned()
}

#[tokio::test]
async fn a_command_reaches_the_device_and_its_answer_comes_after_the_commit() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 4).await;
    let (mut dashboard, _) = WsClient::subscribed(&server, &user).await;

    let answer = begin(&user, device.uid(), 2, true);
    let command = device.expect_command().await;
    assert_eq!((command.kind.as_str(), command.relay(), command.state()), ("set_relay", 2, true));
    assert!(command.frame["expires_at_ms"].as_u64().is_some_and(|ms| ms > 1_700_000_000_000));
    assert!(command.frame.get("for_ms").is_none());
    device.ack(&command).await;

    let answer = answer.await.unwrap().expect(200);
    assert_eq!(answer["command_id"], command.id);
    assert_eq!(answer["status"], "executed");
    assert_eq!(answer["relays"], json!([{ "index": 2, "state": true, "version": 1 }]));
    assert!(answer["latency_ms"].as_f64().is_some_and(|ms| ms > 0.0));

    // Durable, audited once, and shown over REST and the socket.
    let db = server.db();
    assert_eq!(db.relay(device.uid(), 2), Some((true, 1)));
    let audit = db.command(&command.id);
    assert_eq!(audit.len(), 1, "{audit:?}");
    assert_eq!((audit[0].action.as_str(), audit[0].source.as_str()), ("set_relay", "api"));
    assert_eq!((audit[0].outcome.as_str(), audit[0].relay), ("executed", Some(2)));
    let shown = dashboard.expect("device_state").await;
    assert_eq!((&shown["device_uid"], &shown["command_id"]), (&json!(device.uid()), &json!(command.id)));
    assert_eq!((&shown["source"], &shown["relays"]), (&json!("api"), &answer["relays"]));
    let view = user.client.get(&format!("/api/v1/devices/{}", device.uid())).await.expect(200);
    assert_eq!((&view["relays"][2]["state"], &view["relays"][2]["version"]), (&json!(true), &json!(1)));
    assert_eq!(view["last_action"]["command_id"], command.id);
    let status = user.command(&command.id).await;
    assert_eq!((&status["status"], &status["device_uid"]), (&json!("executed"), &json!(device.uid())));
    assert_eq!((&status["action"], &status["follow_up"]), (&json!("set_relay"), &Value::Null));
    hexa_tests::shapes::assert_time(&status["at"], "a command's time");
}

#[tokio::test]
async fn a_noop_succeeds_and_an_unchanged_state_keeps_its_version() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    for (n, status) in ["executed", "noop"].into_iter().enumerate() {
        let answer = begin(&user, device.uid(), 0, true);
        let command = device.expect_command().await;
        device.ack_with(&command, &json!({ "status": status })).await;
        let answer = answer.await.unwrap().expect(200);
        assert_eq!((&answer["status"], &answer["relays"][0]["version"]), (&json!(status), &json!(1)), "answer {n}");
        assert_eq!(server.db().command(&command.id)[0].outcome, status);
    }
}

#[tokio::test]
async fn for_ms_travels_to_the_device_and_its_turning_back_is_a_report() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let path = format!("/api/v1/devices/{}/relays/0", device.uid());
    let (client, body) = (user.client.clone(), json!({ "state": true, "for_ms": 1500 }));
    let answer = tokio::spawn(async move { client.post(&path, &body).await });
    let command = device.expect_command().await;
    assert_eq!(command.frame["for_ms"], 1500);
    device.ack(&command).await;
    answer.await.unwrap().expect(200);
    device.report(&[(0, false)]).await;
    eventually("the relay off again", || async {
        (server.db().relay(device.uid(), 0) == Some((false, 2))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_passed_on_with_its_reason_and_changes_nothing() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    for reason in ["interlock", "locked", "overload", "expired", "busy", "unsupported", "bad_index"] {
        let answer = begin(&user, device.uid(), 0, true);
        let command = device.expect_command().await;
        device.ack_with(&command, &json!({ "status": "rejected", "reason": reason })).await;
        let error = answer.await.unwrap().expect_error(502, "device_rejected");
        assert_eq!((&error["details"]["reason"], command_id(&error)), (&json!(reason), command.id.clone()));
        assert_eq!(server.db().relay(device.uid(), 0), None);
        assert_eq!(server.db().command(&command.id)[0].outcome, "rejected");
        assert_eq!(user.command(&command.id).await["status"], "rejected");
    }
}

#[tokio::test]
async fn an_ack_that_claims_another_state_is_a_mismatch_and_the_reported_state_is_stored() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 2).await;
    let answer = begin(&user, device.uid(), 1, true);
    let command = device.expect_command().await;
    device.ack_with(&command, &json!({ "status": "executed", "relays": [{ "index": 1, "state": false }] })).await;
    let error = answer.await.unwrap().expect_error(502, "device_state_mismatch");
    assert_eq!(error["details"]["relays"], json!([{ "index": 1, "state": false, "version": 1 }]));
    assert_eq!(server.db().relay(device.uid(), 1), Some((false, 1)));
    assert_eq!(user.command(&command.id).await["status"], "mismatch");
}

#[tokio::test]
async fn a_command_to_an_offline_device_fails_at_once_and_is_audited() {
    let server = server();
    let user = server.user().await;
    let device = server.device(&user, 1).await;
    let uid = device.uid().to_owned();
    device.socket.close().await;
    eventually("the device offline", || async {
        let view = user.client.get(&format!("/api/v1/devices/{uid}")).await.expect(200);
        (view["online"] == false).then_some(())
    })
    .await;
    let start = Instant::now();
    let error = user.set_relay(&uid, 0, true).await.expect_error(409, "device_offline");
    assert!(start.elapsed().as_secs() < 5, "no wait for the command timeout of 8 s");
    let id = command_id(&error);
    assert_eq!(user.command(&id).await["status"], "offline");
    assert_eq!(server.db().command(&id)[0].outcome, "offline");
    assert_eq!(server.db().relay(&uid, 0), None);
}

#[tokio::test]
async fn the_thirty_third_open_command_is_refused_with_device_busy() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let open: Vec<_> = (0..32).map(|n| begin(&user, device.uid(), 0, n % 2 == 0)).collect();
    let mut commands = Vec::new();
    for _ in 0..32 {
        commands.push(device.expect_command().await);
    }
    let refused = user.set_relay(device.uid(), 0, true).await;
    refused.expect_error(429, "device_busy");
    assert!(refused.header("retry-after").is_some());
    for command in &commands {
        device.ack(command).await;
    }
    for answer in open {
        answer.await.unwrap().expect(200);
    }
    let answer = begin(&user, device.uid(), 0, true);
    let command = device.expect_command().await;
    device.ack(&command).await;
    answer.await.unwrap().expect(200);
}

#[tokio::test]
async fn commands_of_one_device_are_pipelined_in_the_order_they_were_accepted() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let (mut dashboard, _) = WsClient::subscribed(&server, &user).await;
    // Over one socket, so that the order of acceptance is known.
    for n in 0..20 {
        let frame = json!({ "type": "set_relay", "id": n.to_string(), "device_uid": device.uid(), "relay": 0,
            "state": n % 2 == 0 });
        dashboard.send(&frame).await;
    }
    let mut commands = Vec::new();
    for n in 0..20 {
        let command = device.expect_command().await;
        assert_eq!(command.state(), n % 2 == 0, "command {n}");
        commands.push(command);
    }
    let mut ids: Vec<_> = commands.iter().map(|c| c.id.clone()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 20, "every command has an id of its own");
    for command in &commands {
        device.ack(command).await;
    }
    let mut version = 0;
    for _ in 0..20 {
        let state = dashboard.expect("device_state").await;
        let next = state["relays"][0]["version"].as_u64().unwrap();
        assert_eq!(next, version + 1, "versions have no gap and no step back");
        version = next;
    }
    assert_eq!(server.db().relay(device.uid(), 0), Some((false, 20)));
}

#[tokio::test]
async fn a_second_ack_changes_nothing() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let answer = begin(&user, device.uid(), 0, true);
    let command = device.expect_command().await;
    let before = server.metrics().await.count("hexa_duplicate_acks_total", &[]);
    for _ in 0..3 {
        device.ack(&command).await;
    }
    // Nor does one that says something else.
    device.ack_with(&command, &json!({ "relays": [{ "index": 0, "state": false }] })).await;
    answer.await.unwrap().expect(200);
    device.settled().await;
    assert_eq!(server.db().relay(device.uid(), 0), Some((true, 1)));
    assert_eq!(server.db().command(&command.id).len(), 1);
    assert!(server.metrics().await.count("hexa_duplicate_acks_total", &[]) >= before + 3);
}

#[tokio::test]
async fn an_ack_of_another_device_changes_nothing_and_is_a_security_event() {
    let server = server();
    let user = server.user().await;
    let mut victim = server.device(&user, 1).await;
    let mut liar = server.device(&user, 1).await;
    let before = server.metrics().await.count("hexa_unexpected_acks_total", &[]);
    let answer = begin(&user, victim.uid(), 0, true);
    let command = victim.expect_command().await;
    liar.ack(&command).await;
    liar.settled().await;
    assert_eq!(user.command(&command.id).await["status"], "pending", "the command is still open");
    assert_eq!(server.db().relay(victim.uid(), 0), None);
    assert_eq!(server.db().relay(liar.uid(), 0), None);
    assert!(server.metrics().await.count("hexa_unexpected_acks_total", &[]) > before);
    victim.ack(&command).await;
    answer.await.unwrap().expect(200);
    assert_eq!(server.db().command(&command.id).len(), 1);
    let rows = eventually("the security event", || async {
        let rows = server.db().device_audit(liar.uid());
        rows.iter().any(|r| r.action == "security.unexpected_ack").then_some(rows)
    })
    .await;
    assert_eq!(rows.iter().filter(|r| r.action == "security.unexpected_ack").count(), 1);
}

#[tokio::test]
async fn set_all_relays_is_one_frame_one_transaction_and_one_audit_row() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 3).await;
    let (client, uid) = (user.clone(), device.uid().to_owned());
    let answer = tokio::spawn(async move { client.set_all(&uid, true).await });
    let command = device.expect_command().await;
    assert_eq!((command.kind.as_str(), command.state()), ("set_all_relays", true));
    device.ack(&command).await;
    let answer = answer.await.unwrap().expect(200);
    let relays: Vec<_> = (0..3).map(|i| json!({ "index": i, "state": true, "version": 1 })).collect();
    assert_eq!(answer["relays"], json!(relays));
    assert_eq!(server.db().command(&command.id).len(), 1);
    assert_eq!(server.db().relay(device.uid(), 2), Some((true, 1)));
}

#[tokio::test]
async fn a_partial_ack_of_set_all_relays_stores_what_the_device_said() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 4).await;
    let (client, uid) = (user.clone(), device.uid().to_owned());
    let answer = tokio::spawn(async move { client.set_all(&uid, true).await });
    let command = device.expect_command().await;
    let partial = json!([{ "index": 0, "state": true }, { "index": 1, "state": false }, { "index": 2, "state": true }]);
    device.ack_with(&command, &json!({ "status": "executed", "relays": partial })).await;
    let error = answer.await.unwrap().expect_error(502, "device_state_mismatch");
    let stored = error["details"]["relays"].as_array().unwrap();
    assert_eq!(stored.iter().map(|r| r["state"].as_bool().unwrap()).collect::<Vec<_>>(), [true, false, true]);
    let db = server.db();
    assert_eq!((db.relay(device.uid(), 1), db.relay(device.uid(), 3)), (Some((false, 1)), None));
    assert_eq!(db.command(&command.id).len(), 1);
}

/// Sends a command that is not acknowledged in time; gives its id after the 504.
async fn timed_out(user: &User, device: &mut FakeDevice, state: bool) -> hexa_tests::Command {
    let answer = begin(user, device.uid(), 0, state);
    let command = device.expect_command().await;
    let error = answer.await.unwrap().expect_error(504, "device_timeout");
    assert_eq!(command_id(&error), command.id);
    assert_eq!(user.command(&command.id).await["status"], "timeout");
    command
}

#[tokio::test]
async fn an_ack_after_the_timeout_heals_the_state_with_one_follow_up() {
    let server = impatient();
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let (mut dashboard, _) = WsClient::subscribed(&server, &user).await;
    let command = timed_out(&user, &mut device, true).await;
    assert_eq!(server.db().relay(device.uid(), 0), None);
    assert!(dashboard.drained().await.iter().all(|f| f["type"] != "device_state"), "nothing is known yet");

    device.ack(&command).await;
    device.ack(&command).await;
    let shown = dashboard.expect("device_state").await;
    assert_eq!((&shown["relays"][0]["state"], &shown["command_id"]), (&json!(true), &json!(command.id)));
    device.settled().await;
    let status = user.command(&command.id).await;
    assert_eq!((&status["status"], &status["follow_up"]["status"]), (&json!("timeout"), &json!("late_ack")));
    hexa_tests::shapes::assert_time(&status["follow_up"]["at"], "a follow-up's time");
    let rows = server.db().command(&command.id);
    let kinds: Vec<_> = rows.iter().map(|r| (r.outcome.as_str(), r.follow_up)).collect();
    assert_eq!(kinds, [("timeout", false), ("late_ack", true)]);
    assert_eq!(server.db().relay(device.uid(), 0), Some((true, 1)));
    // The caller had its 504: no success is counted.
    let metrics = server.metrics().await;
    assert_eq!(metrics.count("hexa_commands_total", &[("source", "api"), ("outcome", "success")]), 0);
    assert_eq!(metrics.count("hexa_commands_total", &[("source", "api"), ("outcome", "timeout")]), 1);
}

#[tokio::test]
async fn a_report_after_the_timeout_heals_the_command_that_it_shows() {
    let server = impatient();
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let command = timed_out(&user, &mut device, true).await;
    device.report(&[(0, true)]).await;
    device.settled().await;
    let status = eventually("the follow-up", || async {
        let status = user.command(&command.id).await;
        (!status["follow_up"].is_null()).then_some(status)
    })
    .await;
    assert_eq!(status["follow_up"]["status"], "healed");
    assert_eq!(server.db().relay(device.uid(), 0), Some((true, 1)));
    // Its ack after that is one too many.
    device.ack(&command).await;
    device.settled().await;
    assert_eq!(server.db().command(&command.id).len(), 2);
    assert_eq!(server.db().relay(device.uid(), 0), Some((true, 1)));
}

#[tokio::test]
async fn a_timeout_is_never_followed_by_a_second_sending() {
    let server = impatient();
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    timed_out(&user, &mut device, true).await;
    device.assert_nothing_sent().await;
    let identity = device.identity.clone();
    device.socket.close().await;
    let mut again = server.connect(&identity).await;
    again.assert_nothing_sent().await;
}

#[tokio::test]
async fn the_timeout_of_one_device_delays_no_other() {
    let server = server();
    let user = server.user().await;
    let mut silent = server.device(&user, 1).await;
    let busy: AutoDevice = server.device(&user, 1).await.automatic(1);
    let stuck = begin(&user, silent.uid(), 0, true);
    let command = silent.expect_command().await;
    for n in 0..20 {
        user.set_relay(busy.uid(), 0, n % 2 == 0).await.expect(200);
    }
    assert!(!stuck.is_finished());
    silent.ack(&command).await;
    stuck.await.unwrap().expect(200);
}

#[tokio::test]
async fn a_command_that_a_report_answers_while_open_is_executed() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let answer = begin(&user, device.uid(), 0, true);
    let command = device.expect_command().await;
    device.report(&[(0, true)]).await;
    let answer = answer.await.unwrap().expect(200);
    assert_eq!((&answer["status"], &answer["relays"][0]["version"]), (&json!("executed"), &json!(1)));
    assert_eq!(server.db().command(&command.id).len(), 1);
    assert_eq!(server.db().relay(device.uid(), 0), Some((true, 1)));
}

#[tokio::test]
async fn nobody_switches_a_device_after_its_release() {
    let server = server();
    let user = server.user().await;
    let device = server.device(&user, 1).await;
    let identity = device.identity.clone();
    user.client.post_empty(&format!("/api/v1/devices/{}/release", identity.uid)).await.expect(200);
    let mut device = server.connect(&identity).await;
    user.set_relay(&identity.uid, 0, true).await.expect_error(404, "not_found");
    device.assert_nothing_sent().await;
}
