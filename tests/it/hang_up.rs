//! A caller that hangs up cancels nothing (docs/PLATFORM.md#command-hang-up).

use std::time::Duration;

use hexa_tests::{Options, TestServer, WsClient, eventually};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Sends the command and closes the connection after `delay`, the rude way (a reset) every other time.
async fn post_and_hang_up(server: &TestServer, token: &str, uid: &str, state: bool, delay: Duration, reset: bool) {
    let body = json!({ "state": state }).to_string();
    let request = format!(
        "POST /api/v1/devices/{uid}/relays/0 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    // The point of the test is the moment at which the caller leaves.
    tokio::time::sleep(delay).await;
    if reset {
        stream.set_zero_linger().unwrap();
    }
    drop(stream);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_hangs_up_after_its_post_leaves_everything_consistent() {
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let device = server.device(&user, 1).await.automatic(1);
    let uid = device.uid().to_owned();
    let (mut dashboard, _) = WsClient::subscribed(&server, &user).await;
    // A request that is reset before it was read never was one; all others must run to their end.
    for n in 0..30u64 {
        let delay = Duration::from_micros([0, 200, 500, 1_000, 2_000, 5_000][n as usize % 6]);
        post_and_hang_up(&server, &user.access_token, &uid, n % 2 == 0, delay, n % 4 == 3).await;
    }
    // One that stays, so that there is an end to wait for.
    user.set_relay(&uid, 0, true).await.expect(200);
    let started = |m: &hexa_tests::Metrics| m.count("hexa_commands_total", &[("source", "api")]);
    let seen = eventually("every command at its end", || async {
        let seen = device.seen();
        (started(&server.metrics().await) == seen.len() as u64).then_some(seen)
    })
    .await;
    assert!(seen.len() >= 20, "most callers stayed long enough to be heard: {}", seen.len());

    // Device, database, audit, REST and broadcast tell the same story.
    let db = server.db();
    let count = seen.len() as i64;
    let (state, version) = db.relay(&uid, 0).unwrap();
    assert_eq!((state, version), (device.states()[0], count));
    for id in &seen {
        let rows = db.command(id);
        assert_eq!(rows.len(), 1, "{id}: {rows:?}");
        assert_eq!(rows[0].outcome, "executed");
    }
    let recorded = db.device_audit(&uid).iter().filter(|r| r.action == "set_relay").count();
    assert_eq!(recorded, seen.len(), "no command without an audit row, no row without a command");
    assert_eq!(user.relay(&uid, 0).await, Some((state, version as u64)));
    let metrics = server.metrics().await;
    assert_eq!(metrics.count("hexa_commands_total", &[("source", "api"), ("outcome", "success")]), seen.len() as u64);
    let mut last = 0;
    while last < version as u64 {
        let frame = dashboard.expect("device_state").await;
        let next = frame["relays"][0]["version"].as_u64().unwrap();
        assert!(next > last, "versions never go down");
        last = next;
    }
    assert_eq!(last, version as u64);
}
