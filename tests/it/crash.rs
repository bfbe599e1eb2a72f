//! Killed without warning: what was answered is there, what was not is not half there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hexa_tests::{FakeDevice, Options, TestServer};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_that_was_answered_survives_kill_9() {
    let mut server = TestServer::start(Options::new().env("LIMIT_FLAP", "1000"));
    let user = server.user().await;
    let mut identities = Vec::new();
    for _ in 0..4 {
        identities.push(server.device(&user, 2).await.identity);
    }
    let mut answered: Vec<Value> = Vec::new();
    for round in 0..4 {
        let mut workers = Vec::new();
        let mut devices = Vec::new();
        let stop = Arc::new(AtomicBool::new(false));
        for identity in &identities {
            devices.push(server.connect(identity).await.automatic(2));
            let (user, uid, stop) = (with_address(&server, &user), identity.uid.clone(), Arc::clone(&stop));
            workers.push(tokio::spawn(async move {
                let mut log = Vec::new();
                for n in 0u16.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let path = format!("/api/v1/devices/{uid}/relays/{}", n % 2);
                    let request = user.client.request(reqwest::Method::POST, &path);
                    let request = request.json(&serde_json::json!({ "state": n % 4 < 2 }));
                    match user.client.try_send(request).await {
                        Ok(reply) if reply.status == 200 => log.push((uid.clone(), reply.json())),
                        Ok(reply) => panic!("{}: {}", reply.status, reply.text),
                        // Cut off: nothing is known, nothing is claimed.
                        Err(_) => break,
                    }
                }
                log
            }));
        }
        // In the middle of it: as soon as enough went through, at a different count each time.
        let enough = 20 + round * 17;
        hexa_tests::eventually("commands under way", || async {
            let seen: usize = devices.iter().map(|d| d.seen().len()).sum();
            (seen >= enough).then_some(())
        })
        .await;
        server.kill9();
        stop.store(true, Ordering::Relaxed);
        let mut count = 0;
        for worker in workers {
            for (uid, mut answer) in worker.await.unwrap() {
                answer["uid"] = uid.into();
                answered.push(answer);
                count += 1;
            }
        }
        assert!(count > 0, "round {round} answered nothing");
        server.restart();
        check(&server, &answered);
    }
    assert!(answered.len() >= 60, "{}", answered.len());
    server.stop().await;
    check(&server, &answered);
}

fn with_address(server: &TestServer, user: &hexa_tests::User) -> hexa_tests::User {
    hexa_tests::User { client: server.client().with_token(&user.access_token), ..user.clone() }
}

/// Every answer's command has exactly one audit row that says the same, and its version is reached.
fn check(server: &TestServer, answered: &[Value]) {
    let db = server.db();
    db.assert_sound();
    for answer in answered {
        let rows = db.command(answer["command_id"].as_str().unwrap());
        assert_eq!(rows.len(), 1, "{answer}: {rows:?}");
        assert_eq!(rows[0].outcome, answer["status"].as_str().unwrap());
        let relay = &answer["relays"][0];
        let index = relay["index"].as_u64().unwrap() as u16;
        let (_, version) = db.relay(answer["uid"].as_str().unwrap(), index).expect("a stored state");
        assert!(version >= relay["version"].as_i64().unwrap(), "{answer}: version {version}");
    }
    // No version without its cause: each relay's version is the number of its changes in the audit.
    let stored: i64 = db.value("select coalesce(sum(version), 0) from relay_states");
    let causes: usize = server.evidence().audit.iter().map(|row| row.changed().len()).sum();
    assert_eq!(stored, causes as i64, "versions and their causes");
}

#[tokio::test]
async fn a_command_that_a_crash_cut_off_is_unknown_and_the_next_report_tells_the_truth() {
    let mut server = TestServer::start(Options::new());
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let uid = device.uid().to_owned();
    let cut = tokio::spawn({
        let (client, path) = (user.client.clone(), format!("/api/v1/devices/{uid}/relays/0"));
        async move {
            let request = client.request(reqwest::Method::POST, &path).json(&serde_json::json!({ "state": true }));
            client.try_send(request).await.is_err()
        }
    });
    let command = device.expect_command().await;
    server.kill9();
    assert!(cut.await.unwrap(), "the caller has no answer");
    server.restart();
    let user = with_address(&server, &user);
    user.client.get(&format!("/api/v1/commands/{}", command.id)).await.expect_error(404, "not_found");
    // Nothing is sent again by itself, and the device's ack of before is a stranger's now.
    let mut device = server.connect(&device.identity).await;
    device.assert_nothing_sent().await;
    device.ack(&command).await;
    device.settled().await;
    assert_eq!(server.db().relay(&uid, 0), None);
    assert_eq!(server.metrics().await.count("hexa_unexpected_acks_total", &[]), 1);
    device.report(&[(0, true)]).await;
    device.settled().await;
    assert_eq!(server.db().relay(&uid, 0), Some((true, 1)));
    server.db().assert_sound();
}

#[tokio::test]
async fn accounts_and_claims_survive_kill_9() {
    let mut server = TestServer::start(Options::new());
    let user = server.user().await;
    let device: FakeDevice = server.device(&user, 1).await;
    let name = serde_json::json!({ "name": "Kitchen" });
    user.client.patch(&format!("/api/v1/devices/{}", device.uid()), &name).await.expect(200);
    server.kill9();
    server.restart();
    let user = with_address(&server, &user);
    let page = user.client.get("/api/v1/devices").await.expect(200);
    assert_eq!((&page["items"][0]["uid"], &page["items"][0]["name"]), (&device.uid().into(), &"Kitchen".into()));
    assert_eq!(page["items"][0]["online"], false, "nobody is connected after a start");
    server.connect(&device.identity).await;
    server.db().assert_sound();
}
