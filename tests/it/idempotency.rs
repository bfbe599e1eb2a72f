//! Requests that come twice (docs/PLATFORM.md#idempotency).

use std::sync::OnceLock;

use hexa_tests::server::{PASSWORD, User};
use hexa_tests::{Client, Options, Reply, Shared, TestServer, eventually};
use reqwest::Method;
use serde_json::{Value, json};

fn server() -> Shared {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    TestServer::shared(&SERVER)
}

async fn send(client: &Client, method: Method, path: &str, key: &str, body: &Value) -> Reply {
    let request = client.request(method, path).header("idempotency-key", key);
    let request = if body.is_null() { request } else { request.json(body) };
    client.send(request).await
}

async fn post(client: &Client, path: &str, key: &str, body: &Value) -> Reply {
    send(client, Method::POST, path, key, body).await
}

fn replayed(reply: &Reply) -> bool {
    reply.header("idempotency-replayed") == Some("true")
}

/// The same request three times: one effect, one answer.
async fn thrice(client: &Client, method: Method, path: &str, body: &Value, status: u16) -> Value {
    let key = uuid::Uuid::now_v7().to_string();
    let first = send(client, method.clone(), path, &key, body).await;
    let answer = first.expect(status);
    assert!(!replayed(&first), "{path}");
    for _ in 0..2 {
        let again = send(client, method.clone(), path, &key, body).await;
        assert!(replayed(&again), "{path}: {} {}", again.status, again.text);
        assert_eq!((again.status, &again.text), (first.status, &first.text), "{path}");
        assert_eq!(again.header("content-type"), first.header("content-type"), "{path}");
    }
    answer
}

#[tokio::test]
async fn every_change_can_be_asked_for_again_and_happens_once() {
    let server = TestServer::start(Options::new());
    let open = server.client();
    let email = "twice@example.org";
    let account = json!({ "email": email, "password": PASSWORD });
    let answer = thrice(&open, Method::POST, "/api/v1/auth/register", &account, 201).await;
    let user = User::new(server.client(), email, &answer);
    thrice(&open, Method::POST, "/api/v1/auth/login", &account, 200).await;
    assert_eq!(user.client.get("/api/v1/auth/sessions").await.expect(200)["items"].as_array().unwrap().len(), 2);
    let refresh = json!({ "refresh_token": answer["refresh_token"] });
    let renewed = thrice(&open, Method::POST, "/api/v1/auth/refresh", &refresh, 200).await;
    let user = User::new(server.client(), email, &renewed);
    let token = json!({ "name": "script", "scopes": ["devices:read"] });
    let made = thrice(&user.client, Method::POST, "/api/v1/auth/tokens", &token, 201).await;
    assert_eq!(user.client.get("/api/v1/auth/tokens").await.expect(200)["items"].as_array().unwrap().len(), 1);
    let path = format!("/api/v1/auth/tokens/{}", made["id"].as_str().unwrap());
    thrice(&user.client, Method::DELETE, &path, &Value::Null, 204).await;

    let key = server.provision_key();
    let body = json!({ "device_class": "relay_controller", "relay_count": 2 });
    let provision = async |idempotency: &str| {
        let request = open.request(Method::POST, "/api/v1/provision/register").header("x-provision-key", &key);
        open.send(request.header("idempotency-key", idempotency).json(&body)).await
    };
    let (first, second) = (provision("factory-1").await, provision("factory-1").await);
    assert_eq!(first.expect(201), second.expect(201));
    assert!(replayed(&second));
    let (uid, code) = (first.json()["device_uid"].clone(), first.json()["claim_code"].clone());
    assert_eq!(server.db().value::<i64>("select count(*) from devices"), 1);
    let claimed = thrice(&user.client, Method::POST, "/api/v1/devices/claim", &json!({ "code": code }), 200).await;
    assert_eq!(claimed["uid"], uid);
    let path = format!("/api/v1/devices/{}", uid.as_str().unwrap());
    thrice(&user.client, Method::PATCH, &path, &json!({ "name": "Lamp" }), 200).await;
    let rotated = thrice(&user.client, Method::POST, &format!("{path}/token/rotate"), &Value::Null, 200).await;
    thrice(&user.client, Method::POST, &format!("{path}/release"), &Value::Null, 200).await;
    let device = open.request(Method::POST, "/api/v1/devices/claim-code");
    let credentials = format!("Device {}:{}", uid.as_str().unwrap(), rotated["device_token"].as_str().unwrap());
    let device = || device.try_clone().unwrap().header("authorization", &credentials).header("idempotency-key", "d-1");
    let (first, second) = (open.send(device()).await, open.send(device()).await);
    assert_eq!(first.expect(200), second.expect(200));
    assert!(replayed(&second));

    let admin = server.admin().await;
    thrice(&admin, Method::DELETE, &path, &Value::Null, 204).await;
    let other = server.user().await;
    let who = format!("/api/v1/admin/users/{}", other.id);
    thrice(&admin, Method::PATCH, &who, &json!({ "role": "admin" }), 200).await;
    let theirs = other.client.post("/api/v1/auth/login", &json!({ "email": other.email, "password": PASSWORD })).await;
    let script = User::new(server.client(), &other.email, &theirs.expect(200)).client;
    let made = script.post("/api/v1/auth/tokens", &json!({ "name": "script", "scopes": ["devices:read"] })).await;
    let path = format!("{who}/tokens/{}", made.expect(201)["id"].as_str().unwrap());
    thrice(&admin, Method::DELETE, &path, &Value::Null, 204).await;
    let session = admin.get(&format!("{who}/sessions")).await.expect(200)["items"][0]["id"].clone();
    thrice(&admin, Method::DELETE, &format!("{who}/sessions/{}", session.as_str().unwrap()), &Value::Null, 204).await;
    let ended = ["user.token_revoked", "user.session_ended"].map(|action| server.db().actions(action).len());
    assert_eq!(ended, [1, 1], "a row each, however often it is asked for");
    thrice(&admin, Method::DELETE, &format!("{who}/sessions"), &Value::Null, 200).await;
    thrice(&admin, Method::POST, "/api/v1/admin/plugins/hexa.relay-controller/reset", &Value::Null, 200).await;
    let fresh = json!({ "current_password": PASSWORD, "new_password": "another horse with a battery" });
    let key = "password-1";
    let first = post(&user.client, "/api/v1/auth/password", key, &fresh).await;
    first.expect(200);
    // The session that asked is over: whoever asks again must show that he may.
    post(&user.client, "/api/v1/auth/password", key, &fresh).await.expect_error(401, "invalid_token");
    let user = User::new(server.client(), email, &first.json());
    let again = post(&user.client, "/api/v1/auth/password", key, &fresh).await;
    assert_eq!((again.text.as_str(), replayed(&again)), (first.text.as_str(), true));
    let gone = json!({ "refresh_token": user.refresh_token });
    thrice(&open, Method::POST, "/api/v1/auth/logout", &gone, 204).await;
}

#[tokio::test]
async fn a_relay_is_switched_once_however_often_it_is_asked_for() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 2).await;
    let path = format!("/api/v1/devices/{}/relays/0", device.uid());
    let body = json!({ "state": true });
    let (first, command) = tokio::join!(post(&user.client, &path, "on-1", &body), async {
        let command = device.expect_command().await;
        // While it runs, nobody else starts it.
        let busy = post(&user.client, &path, "on-1", &body).await;
        busy.expect_error(409, "idempotency_in_progress");
        assert_eq!(busy.header("retry-after"), Some("1"));
        post(&user.client, &path, "on-1", &json!({ "state": false })).await.expect_error(409, "idempotency_conflict");
        device.ack(&command).await;
        command
    });
    assert_eq!(first.expect(200)["command_id"], command.id);
    for _ in 0..3 {
        let again = post(&user.client, &path, "on-1", &body).await;
        assert_eq!((again.status, &again.text, replayed(&again)), (200, &first.text, true));
    }
    device.assert_nothing_sent().await;
    // Other body, path or method.
    post(&user.client, &path, "on-1", &json!({ "state": false })).await.expect_error(409, "idempotency_conflict");
    let other = format!("/api/v1/devices/{}/relays/1", device.uid());
    post(&user.client, &other, "on-1", &body).await.expect_error(409, "idempotency_conflict");
    // Also one that does not come as far as its key.
    let none = format!("/api/v1/devices/{}/relays/7", device.uid());
    let refused = post(&user.client, &none, "on-1", &body).await.expect_error(409, "idempotency_conflict");
    assert!(refused["message"].as_str().unwrap().contains("take a fresh key"), "{refused}");
    let patch = send(&user.client, Method::PATCH, &format!("/api/v1/devices/{}", device.uid()), "on-1", &body).await;
    patch.expect_error(409, "idempotency_conflict");
    // Another user's key of the same name is another key.
    let stranger = server.user().await;
    post(&stranger.client, &path, "on-1", &body).await.expect_error(404, "not_found");
    device.assert_nothing_sent().await;
}

#[tokio::test]
async fn a_commands_answer_is_heard_again_whatever_became_of_the_device_and_counts_once() {
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let path = format!("/api/v1/devices/{}/relays/0", device.uid());
    let body = json!({ "state": true });
    let (first, command) = tokio::join!(post(&user.client, &path, "on-1", &body), async {
        let command = device.expect_command().await;
        device.ack(&command).await;
        command
    });
    assert_eq!(first.expect(200)["command_id"], command.id);
    let samples = async || server.metrics().await.count("hexa_commands_total", &[]);
    let counted = samples().await;
    let again = post(&user.client, &path, "on-1", &body).await;
    assert_eq!((&again.text, replayed(&again)), (&first.text, true));
    assert_eq!(samples().await, counted, "one command, however often it is asked for");
    // Whatever else is wrong with a request, its key was used for another one.
    let beyond = format!("/api/v1/devices/{}/relays/7", device.uid());
    for (path, body) in [(&beyond, json!({ "state": true })), (&path, json!({ "state": "on" }))] {
        post(&user.client, path, "on-1", &body).await.expect_error(409, "idempotency_conflict");
    }
    let released = format!("/api/v1/devices/{}/release", device.uid());
    user.client.post(&released, &json!({})).await.expect(200);
    let again = post(&user.client, &path, "on-1", &body).await;
    assert_eq!((again.status, &again.text, replayed(&again)), (200, &first.text, true));
    post(&user.client, &path, "on-2", &body).await.expect_error(404, "not_found");
}

#[tokio::test]
async fn how_a_command_failed_is_told_again_and_what_never_began_can_be_mended() {
    let server = TestServer::start(Options::new().env("COMMAND_TIMEOUT_MS", "100"));
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let path = format!("/api/v1/devices/{}/relays/0", device.uid());
    let body = json!({ "state": true });
    let first = post(&user.client, &path, "slow", &body).await;
    first.expect_error(504, "device_timeout");
    let command = device.expect_command().await;
    let again = post(&user.client, &path, "slow", &body).await;
    assert_eq!(
        (again.status, &again.text, replayed(&again)),
        (504, &first.text, true),
        "the id of the first request too"
    );
    // A late acknowledgement changes the state and not what was answered.
    device.ack(&command).await;
    eventually("the late state", || async { user.relay(device.uid(), 0).await.filter(|(on, _)| *on) }).await;
    assert_eq!(post(&user.client, &path, "slow", &body).await.text, first.text);
    device.assert_nothing_sent().await;
    // Refused before anything was done: the key is as good as unused.
    for bad in [json!({ "state": "on" }), json!({})] {
        post(&user.client, &path, "mend", &bad).await.expect_error(400, "validation_error");
    }
    drop(device);
    let offline = eventually("the device is gone", || async {
        let reply = post(&user.client, &path, "off-1", &body).await;
        (reply.status == 409).then_some(reply)
    });
    let offline = offline.await;
    offline.expect_error(409, "device_offline");
    assert_eq!(post(&user.client, &path, "off-1", &body).await.text, offline.text);
}

#[tokio::test]
async fn a_pulse_whose_result_could_not_be_stored_is_never_sent_again() {
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let path = format!("/api/v1/devices/{}/relays/0", device.uid());
    let pulse = json!({ "state": true, "for_ms": 500 });
    let first = tokio::spawn({
        let (client, path, pulse) = (user.client.clone(), path.clone(), pulse.clone());
        async move { post(&client, &path, "garage", &pulse).await }
    });
    let command = device.expect_command().await;
    let db = server.db();
    let locked = db.lock_out_writers();
    device.ack(&command).await;
    let answer = first.await.unwrap().expect_error(503, "storage_unavailable");
    assert_eq!(answer["details"]["command_id"], command.id);
    // As it is told to do by the documentation.
    let again = post(&user.client, &path, "garage", &pulse).await;
    let known = again.json();
    assert_eq!((again.status, &known["code"], replayed(&again)), (503, &json!("storage_unavailable"), true));
    assert_eq!((&known["details"]["command_id"], &known["details"]["sent"]), (&json!(command.id), &json!(true)));
    device.assert_nothing_sent().await;
    drop(locked);
    let stored = eventually("it is stored", || async {
        let reply = post(&user.client, &path, "garage", &pulse).await;
        (reply.status == 200).then_some(reply)
    });
    let stored = stored.await;
    assert_eq!((&stored.json()["command_id"], replayed(&stored)), (&json!(command.id), true));
    device.assert_nothing_sent().await;
    let rows = server.db().command(&command.id);
    assert_eq!((rows.len(), rows[0].outcome.as_str()), (1, "executed"));
}

/// Only PostgreSQL keeps readers out.
#[tokio::test]
async fn a_command_whose_row_cannot_be_read_is_never_said_to_have_done_nothing() {
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let path = format!("/api/v1/devices/{}/relays/0", device.uid());
    let pulse = json!({ "state": true, "for_ms": 500 });
    let first = tokio::spawn({
        let (client, path, pulse) = (user.client.clone(), path.clone(), pulse.clone());
        async move { post(&client, &path, "garage", &pulse).await }
    });
    let command = device.expect_command().await;
    let db = server.db();
    let Some(locked) = db.lock_out_readers() else {
        device.ack(&command).await;
        first.await.unwrap().expect(200);
        return;
    };
    device.ack(&command).await;
    for reply in [first.await.unwrap(), post(&user.client, &path, "garage", &pulse).await] {
        let told = reply.json();
        assert_eq!((reply.status, &told["details"]["command_id"]), (503, &json!(command.id)), "{told}");
        assert!(!reply.text.contains("nothing was changed"), "{}", reply.text);
    }
    device.assert_nothing_sent().await;
    drop(locked);
    let stored = eventually("it is stored", || async {
        let reply = post(&user.client, &path, "garage", &pulse).await;
        (reply.status == 200).then_some(reply)
    });
    assert_eq!(stored.await.json()["command_id"], command.id);
    device.assert_nothing_sent().await;
}

#[tokio::test]
async fn fifty_at_once_are_one() {
    let server = server();
    let user = server.user().await;
    let body = json!({ "name": "script", "scopes": ["devices:read"] });
    let asked = (0..50).map(|_| {
        let (client, body) = (user.client.clone(), body.clone());
        tokio::spawn(async move { post(&client, "/api/v1/auth/tokens", "fifty", &body).await })
    });
    let mut made = std::collections::HashSet::new();
    for task in asked.collect::<Vec<_>>() {
        let reply = task.await.unwrap();
        match reply.status {
            201 => drop(made.insert(reply.text)),
            _ => drop(reply.expect_error(409, "idempotency_in_progress")),
        }
    }
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(user.client.get("/api/v1/auth/tokens").await.expect(200)["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_key_is_checked_and_belongs_to_those_who_may() {
    let server = server();
    let user = server.user().await;
    let body = json!({ "name": "script", "scopes": ["devices:read"] });
    for bad in ["", "a b", &"k".repeat(256), "\"\""] {
        post(&user.client, "/api/v1/auth/tokens", bad, &body).await.expect_error(400, "validation_error");
    }
    post(&server.client(), "/api/v1/auth/tokens", "key", &body).await.expect_error(401, "invalid_token");
    post(&user.client, "/api/v1/admin/plugins/x/reset", "key", &Value::Null).await.expect_error(403, "forbidden");
    post(&user.client, "/api/v1/nowhere", "key", &body).await.expect_error(404, "not_found");
    let quoted = post(&user.client, "/api/v1/auth/tokens", "\"quoted\"", &body).await.expect(201);
    let bare = post(&user.client, "/api/v1/auth/tokens", "quoted", &body).await;
    assert_eq!((bare.expect(201), replayed(&bare)), (quoted, true));
    // Reads have nothing to repeat.
    let read = send(&user.client, Method::GET, "/api/v1/auth/me", "whatever", &Value::Null).await;
    assert_eq!((read.status, replayed(&read)), (200, false));
}

#[tokio::test]
async fn a_replay_is_only_for_an_account_that_is_still_welcome() {
    let server = TestServer::start(Options::new());
    let admin = server.admin().await;
    let user = server.user().await;
    let login = json!({ "email": user.email, "password": PASSWORD });
    post(&server.client(), "/api/v1/auth/login", "in", &login).await.expect(200);
    let body = json!({ "name": "script", "scopes": ["devices:read"] });
    post(&user.client, "/api/v1/auth/tokens", "t", &body).await.expect(201);
    admin.patch(&format!("/api/v1/admin/users/{}", user.id), &json!({ "active": false })).await.expect(200);
    post(&user.client, "/api/v1/auth/tokens", "t", &body).await.expect_error(401, "account_disabled");
    post(&server.client(), "/api/v1/auth/login", "in", &login).await.expect_error(401, "account_disabled");
}

#[tokio::test]
async fn answers_outlive_a_crash_and_are_sealed() {
    let mut server = TestServer::start(Options::new());
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let body = json!({ "name": "script", "scopes": ["devices:read"] });
    let token = post(&user.client, "/api/v1/auth/tokens", "t", &body).await;
    token.expect(201);
    let path = format!("/api/v1/devices/{}/relays/0", device.uid());
    let on = json!({ "state": true });
    let (switched, ()) = tokio::join!(post(&user.client, &path, "c", &on), async {
        let command = device.expect_command().await;
        device.ack(&command).await;
    });
    switched.expect(200);
    // One that is open when the lights go out: its outcome is unknown, and it is not sent again.
    let (client, open) = (user.client.clone(), path.clone());
    let pending = tokio::spawn(async move {
        let request = client.request(Method::POST, &open).header("idempotency-key", "dark");
        client.try_send(request.json(&json!({ "state": false }))).await
    });
    let command = device.expect_command().await;
    server.kill9();
    assert!(pending.await.unwrap().is_err());
    server.restart();
    let client = server.client().with_token(&user.access_token);
    let again = post(&client, "/api/v1/auth/tokens", "t", &body).await;
    assert_eq!((&again.text, replayed(&again)), (&token.text, true));
    let again = post(&client, &path, "c", &on).await;
    assert_eq!((&again.text, replayed(&again)), (&switched.text, true));
    let again = post(&client, &path, "dark", &json!({ "state": false })).await;
    assert_eq!((again.status, &again.json()["code"], replayed(&again)), (504, &json!("device_timeout"), true));
    assert_eq!(again.json()["details"]["command_id"], command.id);
    // What was answered cannot be read from the disk.
    let secret = token.json()["token"].as_str().unwrap().to_owned();
    for entry in std::fs::read_dir(server.data_dir()).unwrap().flatten().filter(|e| e.path().is_file()) {
        let bytes = std::fs::read(entry.path()).unwrap();
        assert!(!bytes.windows(secret.len()).any(|w| w == secret.as_bytes()), "{}", entry.path().display());
    }
    server.db().tamper("update idempotency set expires_at = 1");
    assert!(!replayed(&post(&client, "/api/v1/auth/tokens", "t", &body).await), "after a day the key is free");
}

/// Killed between the effect and its commit, and between the claim of a command and its frame: asked for again, an effect
/// happened once, and a command whose frame may have been written is not sent again.
#[tokio::test]
async fn killed_at_the_worst_moment_it_still_happens_once() {
    let mut server = TestServer::start(Options::new());
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let identity = device.identity.clone();
    let token = json!({ "name": "script", "scopes": ["devices:read"] });
    for round in 0..3 {
        for point in ["idem.after_effect", "cmd.after_claim"] {
            server.kill9();
            server.set_env("FAILPOINTS", Some(&format!("{point}=return")));
            server.restart();
            let before = server.connect(&identity).await;
            let client = server.client().with_token(&user.access_token);
            let key = format!("{point}-{round}");
            let (path, body) = if point.starts_with("idem") {
                ("/api/v1/auth/tokens".to_owned(), token.clone())
            } else {
                (format!("/api/v1/devices/{}/relays/0", identity.uid), json!({ "state": true }))
            };
            let request = client.request(Method::POST, &path).header("idempotency-key", &key).json(&body);
            assert!(client.try_send(request).await.is_err(), "{point} ends the server");
            server.ended().await;
            drop(before);
            server.set_env("FAILPOINTS", None);
            server.restart();
            device = server.connect(&identity).await;
            let client = server.client().with_token(&user.access_token);
            if point.starts_with("idem") {
                let again = post(&client, &path, &key, &body).await;
                assert!(!replayed(&again), "nothing had happened");
                let answer = again.expect(201);
                assert_eq!(post(&client, &path, &key, &body).await.expect(201), answer);
            } else {
                let again = post(&client, &path, &key, &body).await;
                assert_eq!((again.status, &again.json()["code"]), (504, &json!("device_timeout")));
                device.assert_nothing_sent().await;
            }
            let tokens = client.get("/api/v1/auth/tokens").await.expect(200);
            assert_eq!(tokens["items"].as_array().unwrap().len(), round + 1);
        }
    }
    device.assert_nothing_sent().await;
}
