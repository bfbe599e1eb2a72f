//! State reports and input events of devices (docs/PLATFORM.md#state-report).

use std::sync::OnceLock;

use hexa_tests::{Options, Shared, TestServer, WsClient, eventually};
use serde_json::{Value, json};

fn server() -> Shared {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    TestServer::shared(&SERVER)
}

#[tokio::test]
async fn a_report_is_reconciled_stored_shown_and_audited_once() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 3).await;
    let uid = device.uid().to_owned();
    let (mut dashboard, _) = WsClient::subscribed(&server, &user).await;
    let source = json!([{ "index": 0, "state": true, "source": "button" }, { "index": 2, "state": false }]);
    device.send(&json!({ "type": "state_report", "relays": source, "firmware_version": "2.1.0" })).await;
    let shown = dashboard.expect("device_state").await;
    let expected = json!([{ "index": 0, "state": true, "version": 1 }, { "index": 2, "state": false, "version": 1 }]);
    assert_eq!((&shown["relays"], &shown["source"]), (&expected, &json!("device")));
    assert_eq!(shown["command_id"], Value::Null);
    let db = server.db();
    assert_eq!((db.relay(&uid, 0), db.relay(&uid, 1), db.relay(&uid, 2)), (Some((true, 1)), None, Some((false, 1))));
    let rows: Vec<_> = db.device_audit(&uid).into_iter().filter(|r| r.action == "state_report").collect();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0].source, "device");
    assert!(rows[0].details.as_ref().is_some_and(|d| d.contains("button")));
    let view = user.client.get(&format!("/api/v1/devices/{uid}")).await.expect(200);
    assert_eq!((&view["firmware_version"], &view["online"]), (&json!("2.1.0"), &json!(true)));
    assert_eq!((&view["ip"], &view["relays"][1]["state"]), (&json!("127.0.0.1"), &Value::Null));
    hexa_tests::shapes::assert_time(&view["last_seen_at"], "last_seen_at");
}

#[tokio::test]
async fn an_unchanged_report_writes_nothing_of_its_own() {
    // Alone on its server, so that every write is counted to the right cause.
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let mut device = server.device(&user, 2).await;
    let uid = device.uid().to_owned();
    device.report(&[(0, true), (1, false)]).await;
    eventually("the first report stored", || async { server.db().relay(&uid, 1).map(|_| ()) }).await;
    let reports = |m: &hexa_tests::Metrics, result: &str| m.count("hexa_state_reports_total", &[("result", result)]);
    let before = server.metrics().await;
    assert_eq!(reports(&before, "changed"), 1);
    let rows = server.db().device_audit(&uid).len();
    for _ in 0..50 {
        device.report(&[(0, true), (1, false)]).await;
    }
    device.settled().await;
    let after = server.metrics().await;
    assert_eq!(reports(&after, "unchanged") - reports(&before, "unchanged"), 50);
    assert_eq!(reports(&after, "changed"), 1);
    // The only transactions in between are the coalesced flushes of last_seen_at, not one for each report.
    let transactions = |m: &hexa_tests::Metrics| m.count("hexa_writer_transactions_total", &[]);
    assert!(
        transactions(&after) - transactions(&before) <= 5,
        "50 reports, {} transactions",
        transactions(&after) - transactions(&before)
    );
    assert_eq!(server.db().device_audit(&uid).len(), rows);
    assert_eq!(server.db().relay(&uid, 0), Some((true, 1)), "the version stays");
    device.report(&[(0, false), (1, false)]).await;
    device.settled().await;
    assert_eq!(server.db().relay(&uid, 0), Some((false, 2)), "only what changed is written");
    assert_eq!(server.db().relay(&uid, 1), Some((false, 1)));
}

#[tokio::test]
async fn a_report_that_makes_no_sense_is_answered_and_stores_nothing() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 2).await;
    let uid = device.uid().to_owned();
    let many: Vec<_> = (0..10_000).map(|i| json!({ "index": i % 2, "state": true })).collect();
    let frames = [
        json!({ "type": "state_report", "relays": [{ "index": 2, "state": true }] }),
        json!({ "type": "state_report", "relays": [{ "index": -1, "state": true }] }),
        json!({ "type": "state_report", "relays": [{ "index": 0, "state": true }, { "index": 7, "state": true }] }),
        json!({ "type": "state_report", "relays": [{ "index": 0, "state": 1 }] }),
        json!({ "type": "state_report", "relays": [{ "index": "0", "state": true }] }),
        json!({ "type": "state_report", "relays": [{ "index": 0, "state": true }, { "index": 0, "state": false }] }),
        json!({ "type": "state_report" }),
    ];
    for frame in frames {
        device.send(&frame).await;
        let answer = device.expect_text().await;
        assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("validation_error")), "{frame}");
        assert!(answer["message"].as_str().is_some_and(|m| m.len() > 5), "{answer}");
    }
    for text in [
        r#"{"type":"state_report","relays":[{"index":0,"state":NaN}]}"#.to_owned(),
        json!({ "type": "state_report", "relays": &many[..1500] }).to_string(),
    ] {
        device.socket.send(tokio_tungstenite::tungstenite::Message::text(text)).await.unwrap();
        assert_eq!(device.expect_text().await["code"], "validation_error");
    }
    assert_eq!(server.db().relay(&uid, 0), None, "not even the good half of a bad report");
    device.report(&[(0, true)]).await;
    device.settled().await;
    assert_eq!(server.db().relay(&uid, 0), Some((true, 1)), "the connection goes on");
}

#[tokio::test]
async fn a_device_that_never_says_hello_is_served_like_any_other() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    device.report(&[(0, false)]).await;
    let (client, uid) = (user.clone(), device.uid().to_owned());
    let answer = tokio::spawn(async move { client.set_relay(&uid, 0, true).await });
    let command = device.expect_command().await;
    device.ack(&command).await;
    answer.await.unwrap().expect(200);
}

#[tokio::test]
async fn a_hello_is_answered_with_the_time_and_the_heartbeat() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 2).await;
    device
        .send(&json!({ "type": "hello", "firmware_version": "3.0.0", "hardware": "rev-b", "boot_reason": "power_on",
            "relays": [{ "index": 1, "state": true }] }))
        .await;
    let answer = device.expect_text().await;
    assert_eq!((&answer["type"], &answer["heartbeat_s"]), (&json!("hello_ack"), &json!(20)));
    assert!(answer["server_time_ms"].as_u64().is_some_and(|ms| ms > 1_700_000_000_000), "{answer}");
    assert!(answer["session_id"].as_str().is_some_and(|id| !id.is_empty()), "{answer}");
    eventually("the relay of the hello", || async { server.db().relay(device.uid(), 1).map(|_| ()) }).await;
    let view = user.client.get(&format!("/api/v1/devices/{}", device.uid())).await.expect(200);
    assert_eq!(view["firmware_version"], "3.0.0");
}

#[tokio::test]
async fn an_input_event_is_shown_to_the_owner() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 2).await;
    let (mut dashboard, _) = WsClient::subscribed(&server, &user).await;
    device.send(&json!({ "type": "input_event", "input": 1, "event": "hold", "duration_ms": 900 })).await;
    let shown = dashboard.expect("input_event").await;
    assert_eq!((&shown["input"], &shown["event"], &shown["duration_ms"]), (&json!(1), &json!("hold"), &json!(900)));
    assert_eq!(shown["device_uid"], device.uid());
    let view = user.client.get(&format!("/api/v1/devices/{}", device.uid())).await.expect(200);
    assert_eq!(view["last_input_event"]["event"], "hold");
    for bad in
        [json!({ "input": 2, "event": "press" }), json!({ "input": 0, "event": "tickle" }), json!({ "input": 0 })]
    {
        let mut frame = bad;
        frame["type"] = "input_event".into();
        device.send(&frame).await;
        assert_eq!(device.expect_text().await["code"], "validation_error", "{frame}");
    }
}

#[tokio::test]
async fn versions_stand_for_changes_without_gaps_whoever_made_them() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let uid = device.uid().to_owned();
    for _ in 0..5 {
        device.report(&[(0, true)]).await;
        device.settled().await;
        let (client, to) = (user.clone(), uid.clone());
        let answer = tokio::spawn(async move { client.set_relay(&to, 0, false).await });
        let command = device.expect_command().await;
        device.ack(&command).await;
        answer.await.unwrap().expect(200);
    }
    let (_, version) = server.db().relay(&uid, 0).unwrap();
    let causes = server.db().device_audit(&uid).into_iter().filter(|r| r.changes.is_some()).count();
    assert_eq!((version, causes), (10, 10), "every version has exactly one cause row");
}
