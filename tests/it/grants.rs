//! Sharing a device or single relays of it: what a guest sees, may do and hears, and how it ends.

use std::sync::OnceLock;

use hexa_tests::{Options, Shared, TestServer, User, WsClient, eventually};
use serde_json::{Value, json};

fn server() -> Shared {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    TestServer::shared(&SERVER)
}

/// In so many milliseconds.
fn soon(ms: i64) -> String {
    (jiff::Timestamp::now() + jiff::SignedDuration::from_millis(ms)).to_string()
}

async fn share(owner: &User, uid: &str, guest: &User, more: Value) -> Value {
    let mut body = json!({ "email": guest.email, "access": "control" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    owner.client.post(&format!("/api/v1/devices/{uid}/grants"), &body).await.expect(201)
}

async fn revoke(by: &User, uid: &str, grant: &Value) -> u16 {
    by.client.delete(&format!("/api/v1/devices/{uid}/grants/{}", grant["id"].as_str().unwrap())).await.status
}

fn uids(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|d| d["uid"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_guest_sees_and_switches_the_shared_relay_and_nothing_else() {
    let server = server();
    let (owner, guest, other) = (server.user().await, server.user().await, server.user().await);
    let own = server.device(&guest, 1).await.automatic(1);
    let mut device = server.device(&owner, 3).await;
    device.report(&[(0, false), (1, true), (2, false)]).await;
    device.settled().await;
    let uid = device.uid().to_owned();
    let names = json!({ "name": "Porch", "relays": [{ "index": 0, "name": "Lamp" }, { "index": 1, "name": "Door" }] });
    owner.client.patch(&format!("/api/v1/devices/{uid}"), &names).await.expect(200);
    let device = device.automatic(3);
    guest.client.get(&format!("/api/v1/devices/{uid}")).await.expect_error(404, "not_found");

    let grant = share(&owner, &uid, &guest, json!({ "relays": [1] })).await;
    assert_eq!((&grant["access"], &grant["relays"]), (&json!("control"), &json!([1])));
    assert_eq!(grant["user"]["email"], json!(guest.email));

    let seen = guest.client.get(&format!("/api/v1/devices/{uid}")).await.expect(200);
    assert_eq!((&seen["access"], &seen["name"]), (&json!("control"), &json!("Porch")));
    assert_eq!((&seen["ip"], &seen["serial"]), (&Value::Null, &Value::Null), "no guest's business");
    let relays = seen["relays"].as_array().unwrap();
    assert_eq!((relays.len(), &relays[0]["index"], &relays[0]["name"]), (1, &json!(1), &json!("Door")));
    let state = guest.client.get(&format!("/api/v1/devices/{uid}/state")).await.expect(200);
    assert_eq!(state["relays"].as_array().unwrap().len(), 1);

    let list = guest.client.get("/api/v1/devices").await.expect(200);
    assert_eq!(uids(&list), [own.uid(), uid.as_str()], "both, in order");
    let first = guest.client.get("/api/v1/devices?limit=1").await.expect(200);
    assert_eq!(uids(&first), [own.uid()]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = guest.client.get(&format!("/api/v1/devices?limit=1&cursor={cursor}")).await.expect(200);
    assert_eq!((uids(&second), &second["next_cursor"]), (vec![uid.as_str()], &Value::Null));
    assert_eq!(uids(&other.client.get("/api/v1/devices").await.expect(200)), [""; 0]);

    let done = guest.set_relay(&uid, 1, false).await.expect(200);
    assert_eq!((&done["status"], &done["relays"][0]["state"]), (&json!("executed"), &json!(false)));
    guest.command(done["command_id"].as_str().unwrap()).await;
    guest.set_relay(&uid, 0, true).await.expect_error(403, "forbidden");
    guest.set_all(&uid, true).await.expect_error(403, "forbidden");
    assert_eq!(device.states(), [false, false, false], "nothing else was switched");
    for (method, path) in [
        (reqwest::Method::PATCH, format!("/api/v1/devices/{uid}")),
        (reqwest::Method::POST, format!("/api/v1/devices/{uid}/grants")),
    ] {
        let body = json!({ "name": "mine" });
        let body = if path.ends_with("grants") { json!({ "email": other.email, "access": "read" }) } else { body };
        guest.client.send(guest.client.request(method, &path).json(&body)).await.expect_error(403, "forbidden");
    }
    guest.client.post_empty(&format!("/api/v1/devices/{uid}/release")).await.expect_error(403, "forbidden");
    guest.client.post_empty(&format!("/api/v1/devices/{uid}/token/rotate")).await.expect_error(403, "forbidden");
    // Refusals are written without anybody waiting for them.
    let refused = eventually("both refused commands are in the audit", || async {
        let rows = server.db().device_audit(&uid).into_iter().filter(|r| r.outcome == "rejected");
        let refused: Vec<_> = rows.collect();
        (refused.len() == 2).then_some(refused)
    });
    let refused = refused.await;
    assert!(refused.iter().all(|r| r.details.as_deref().unwrap().contains("not_shared")));
    assert!(server.db().device_audit(&uid).iter().any(|r| r.action == "device.shared"));
}

#[tokio::test]
async fn who_may_only_look_does_not_switch_and_sees_its_own_grant_only() {
    let server = server();
    let (owner, guest, second) = (server.user().await, server.user().await, server.user().await);
    let device = server.device(&owner, 2).await.automatic(2);
    let uid = device.uid();
    let grant = share(&owner, uid, &guest, json!({ "access": "read" })).await;
    share(&owner, uid, &second, json!({ "relays": [0] })).await;
    let path = format!("/api/v1/devices/{uid}/grants");
    let count = |list: Value| list["items"].as_array().unwrap().len();
    assert_eq!(count(owner.client.get(&path).await.expect(200)), 2);
    let own = guest.client.get(&path).await.expect(200);
    assert_eq!((count(own.clone()), &own["items"][0]["id"]), (1, &grant["id"]));
    assert_eq!(guest.client.get(&format!("/api/v1/devices/{uid}")).await.expect(200)["access"], "read");
    guest.set_relay(uid, 0, true).await.expect_error(403, "forbidden");
    // Nobody ends what is another's.
    let of_second = second.client.get(&path).await.expect(200)["items"][0].clone();
    assert_eq!(revoke(&guest, uid, &of_second).await, 404);
    // A guest may leave.
    assert_eq!(revoke(&guest, uid, &grant).await, 204);
    guest.client.get(&format!("/api/v1/devices/{uid}")).await.expect_error(404, "not_found");
    assert_eq!(revoke(&owner, uid, &grant).await, 404, "it has ended");
    second.set_relay(uid, 0, true).await.expect(200);
}

#[tokio::test]
async fn a_guest_hears_of_the_shared_relays_until_it_ends() {
    let server = server();
    let (owner, guest) = (server.user().await, server.user().await);
    let mut device = server.device(&owner, 3).await;
    let uid = device.uid().to_owned();
    let (mut socket, devices) = WsClient::subscribed(&server, &guest).await;
    assert!(devices.is_empty());
    let (mut owners, _) = WsClient::subscribed(&server, &owner).await;

    let grant = share(&owner, &uid, &guest, json!({ "relays": [0, 2] })).await;
    assert_eq!(socket.next().await, json!({ "type": "device_added", "device_uid": uid }));
    device.report(&[(0, true), (1, true), (2, false)]).await;
    let frame = socket.next().await;
    assert_eq!(frame["type"], "device_state");
    let indexes = |frame: &Value| -> Vec<u64> {
        frame["relays"].as_array().unwrap().iter().map(|r| r["index"].as_u64().unwrap()).collect()
    };
    assert_eq!(indexes(&frame), [0, 2]);
    assert_eq!(indexes(&owners.next().await), [0, 1, 2]);
    // Of another relay nothing comes; of an input neither, as it is the device's.
    device.report(&[(1, false)]).await;
    device.send(&json!({ "type": "input_event", "input": 0, "event": "click" })).await;
    device.report(&[(2, true)]).await;
    assert_eq!(indexes(&socket.next().await), [2]);

    let (_, snapshot) = WsClient::subscribed(&server, &guest).await;
    assert_eq!((snapshot.len(), &snapshot[0]["access"], indexes(&snapshot[0])), (1, &json!("control"), vec![0, 2]));

    socket.send(&json!({ "type": "set_relay", "id": "a", "device_uid": uid, "relay": 1, "state": true })).await;
    let refused = socket.next().await;
    assert_eq!(
        (&refused["type"], &refused["code"], &refused["id"]),
        (&json!("error"), &json!("forbidden"), &json!("a"))
    );

    assert_eq!(revoke(&owner, &uid, &grant).await, 204);
    assert_eq!(socket.next().await, json!({ "type": "device_removed", "device_uid": uid }));
    device.report(&[(0, false)]).await;
    device.settled().await;
    socket.send(&json!({ "type": "subscribe", "devices": [uid] })).await;
    let refused = socket.next().await;
    assert_eq!((&refused["type"], &refused["code"]), (&json!("error"), &json!("not_found")), "and no state before");
}

#[tokio::test]
async fn a_window_opens_and_closes_by_itself_with_an_audit_row() {
    let server = server();
    let (owner, guest) = (server.user().await, server.user().await);
    let device = server.device(&owner, 1).await.automatic(1);
    let uid = device.uid().to_owned();
    let (mut socket, _) = WsClient::subscribed(&server, &guest).await;
    let grant = share(&owner, &uid, &guest, json!({ "starts_at": soon(1500), "expires_at": soon(4000) })).await;
    guest.set_relay(&uid, 0, true).await.expect_error(404, "not_found");
    assert_eq!(socket.expect("device_added").await["device_uid"], json!(uid));
    guest.set_relay(&uid, 0, true).await.expect(200);
    assert_eq!(socket.expect("device_removed").await["device_uid"], json!(uid));
    guest.set_relay(&uid, 0, false).await.expect_error(404, "not_found");
    let ended = server.db().actions("device.grant_expired");
    let id = grant["id"].as_str().unwrap();
    assert_eq!(ended.iter().filter(|r| r.details.as_deref().unwrap().contains(id)).count(), 1);
    let list = owner.client.get(&format!("/api/v1/devices/{uid}/grants")).await.expect(200);
    assert_eq!(list["items"], json!([]));
    assert_eq!(device.states(), [true]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn uses_are_counted_before_the_command_is_sent() {
    let server = server();
    let (owner, guest) = (server.user().await, server.user().await);
    let identity = server.provision(1).await;
    owner.client.post("/api/v1/devices/claim", &json!({ "code": identity.claim_code })).await.expect(200);
    share(&owner, &identity.uid, &guest, json!({ "max_uses": 3 })).await;
    let path = format!("/api/v1/devices/{}/grants", identity.uid);
    let left = async || owner.client.get(&path).await.expect(200)["items"][0]["uses_left"].clone();
    guest.set_relay(&identity.uid, 0, true).await.expect_error(409, "device_offline");
    assert_eq!(left().await, 3, "nothing was sent, nothing was used");
    let device = server.connect(&identity).await.automatic(1);
    guest.set_relay(&identity.uid, 0, true).await.expect(200);
    assert_eq!(left().await, 2);
    // Ten at once: two get through, whatever the order.
    let asks = (0..10).map(|_| guest.set_relay(&identity.uid, 0, true));
    let statuses: Vec<_> = futures_util::future::join_all(asks).await.into_iter().map(|r| r.status).collect();
    assert_eq!(statuses.iter().filter(|s| **s == 200).count(), 2, "{statuses:?}");
    assert!(statuses.iter().all(|s| [200, 403, 404].contains(s)), "{statuses:?}");
    assert_eq!(device.seen().len(), 3);
    guest.client.get(&format!("/api/v1/devices/{}", identity.uid)).await.expect_error(404, "not_found");
    let rows = server.db().device_audit(&identity.uid);
    assert_eq!(rows.iter().filter(|r| r.action == "device.grant_used_up").count(), 1);
}

#[tokio::test]
async fn a_release_ends_what_was_shared_and_the_next_owner_begins_alone() {
    let server = server();
    let (owner, guest, next) = (server.user().await, server.user().await, server.user().await);
    let identity = server.provision(1).await;
    owner.client.post("/api/v1/devices/claim", &json!({ "code": identity.claim_code })).await.expect(200);
    let uid = &identity.uid;
    share(&owner, uid, &guest, json!({})).await;
    guest.client.get(&format!("/api/v1/devices/{uid}")).await.expect(200);
    let released = owner.client.post_empty(&format!("/api/v1/devices/{uid}/release")).await.expect(200);
    guest.client.get(&format!("/api/v1/devices/{uid}")).await.expect_error(404, "not_found");
    next.client.post("/api/v1/devices/claim", &json!({ "code": released["claim_code"] })).await.expect(200);
    guest.client.get(&format!("/api/v1/devices/{uid}")).await.expect_error(404, "not_found");
    assert_eq!(uids(&guest.client.get("/api/v1/devices").await.expect(200)), [""; 0]);
    let list = next.client.get(&format!("/api/v1/devices/{uid}/grants")).await.expect(200);
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn what_was_shared_is_there_after_a_crash_and_so_is_its_end() {
    let mut server = TestServer::start(Options::new());
    let (owner, guest) = (server.user().await, server.user().await);
    let (kept, ended) = (server.provision(2).await, server.provision(1).await);
    for identity in [&kept, &ended] {
        owner.client.post("/api/v1/devices/claim", &json!({ "code": identity.claim_code })).await.expect(200);
    }
    share(&owner, &kept.uid, &guest, json!({ "relays": [1], "max_uses": 2, "expires_at": soon(3_600_000) })).await;
    let gone = share(&owner, &ended.uid, &guest, json!({})).await;
    assert_eq!(revoke(&owner, &ended.uid, &gone).await, 204);
    server.kill9();
    server.restart();
    let (owner, guest) = (owner.at(&server), guest.at(&server));
    let list = guest.client.get("/api/v1/devices").await.expect(200);
    assert_eq!(uids(&list), [kept.uid.as_str()]);
    let device = server.connect(&kept).await.automatic(2);
    guest.set_relay(&kept.uid, 1, true).await.expect(200);
    guest.set_relay(&kept.uid, 0, true).await.expect_error(403, "forbidden");
    let grants = owner.client.get(&format!("/api/v1/devices/{}/grants", kept.uid)).await.expect(200);
    assert_eq!(grants["items"][0]["uses_left"], 1);
    assert_eq!(device.states(), [false, true]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queued_command_of_a_guest_is_not_sent_after_the_revocation() {
    // The task that writes to the device stands still behind the first frame, so that the next command waits for its
    // turn; once more than both requests take.
    let server = TestServer::start(Options::new().env("FAILPOINTS", "cmd.after_ws_write=1*sleep(3000)"));
    let (owner, guest) = (server.user().await, server.user().await);
    let device = server.device(&owner, 1).await.automatic(1);
    let uid = device.uid().to_owned();
    let grant = share(&owner, &uid, &guest, json!({})).await;
    let first = tokio::spawn({
        let (owner, uid) = (owner.clone(), uid.clone());
        async move { owner.set_relay(&uid, 0, true).await }
    });
    eventually("the first frame", || async { (device.seen().len() == 1).then_some(()) }).await;
    let queued = tokio::spawn({
        let request = guest.client.request(reqwest::Method::POST, &format!("/api/v1/devices/{uid}/relays/0"));
        let request = request.header("idempotency-key", "queued").json(&json!({ "state": false }));
        let client = guest.client.clone();
        async move { client.send(request).await }
    });
    // Its key is stored with its id, and then it is queued.
    let id = eventually("the guest's command", || async {
        let rows = server.db().rows::<Value>("select command_id from idempotency where command_id is not null");
        rows.first().map(|row| row["command_id"].as_str().unwrap().trim_start_matches("\\x").to_owned())
    })
    .await;
    assert_eq!(revoke(&owner, &uid, &grant).await, 204);
    assert!(!queued.is_finished() && !first.is_finished(), "both still waited when the grant was revoked");
    first.await.unwrap().expect(200);
    queued.await.unwrap().expect_error(404, "not_found");
    assert_eq!((device.seen().len(), device.states()), (1, vec![true]), "the guest's command was not sent");
    // It had been authorized: one that is refused there has another row.
    let rows = server.db().command(&id);
    let reason = rows[0].details.as_deref().unwrap_or_default();
    assert_eq!((rows.len(), rows[0].outcome.as_str()), (1, "error"), "{rows:?}");
    assert!(reason.contains("not_found"), "{rows:?}");
}

#[tokio::test]
async fn wrong_wishes_are_refused_in_words_and_share_nothing() {
    let server = server();
    let (owner, guest, admin) = (server.user().await, server.user().await, server.admin().await);
    let identity = server.provision(2).await;
    let path = format!("/api/v1/devices/{}/grants", identity.uid);
    let wish = |more: Value| {
        let mut body = json!({ "email": guest.email, "access": "control" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    admin.post(&path, &wish(json!({}))).await.expect_error(409, "device_not_ready");
    owner.client.post("/api/v1/devices/claim", &json!({ "code": identity.claim_code })).await.expect(200);
    for (bad, field) in [
        (json!({ "access": "own" }), "access"),
        (json!({ "relays": [] }), "relays"),
        (json!({ "relays": [2] }), "relays"),
        (json!({ "expires_at": soon(-1000) }), "expires_at"),
        (json!({ "expires_at": "tomorrow" }), "expires_at"),
        (json!({ "expires_at": "2286-11-20T17:46:39Z" }), "expires_at"),
        (json!({ "starts_at": soon(9000), "expires_at": soon(8000) }), "starts_at"),
        (json!({ "max_uses": 0 }), "max_uses"),
        (json!({ "max_uses": 2_000_000 }), "max_uses"),
        (json!({ "access": "read", "max_uses": 3 }), "max_uses"),
        (json!({ "email": owner.email }), "email"),
    ] {
        let error = owner.client.post(&path, &wish(bad.clone())).await.expect_error(400, "validation_error");
        assert_eq!(error["details"]["field"], field, "{bad}");
    }
    owner.client.post(&path, &wish(json!({ "unknown": 1 }))).await.expect_error(400, "validation_error");
    let list = owner.client.get(&path).await.expect(200);
    assert_eq!(list["items"], json!([]));
    // E-mails are not to be tried out.
    for n in 0..5 {
        let body = wish(json!({ "email": format!("nobody{n}@example.org") }));
        owner.client.post(&path, &body).await.expect_error(404, "not_found");
    }
    owner.client.post(&path, &wish(json!({ "email": "nobody@example.org" }))).await.expect_error(429, "rate_limited");
}

#[tokio::test]
async fn an_admin_shares_for_others_and_a_deactivated_guest_is_out() {
    let server = server();
    let (owner, guest, admin) = (server.user().await, server.user().await, server.admin().await);
    let device = server.device(&owner, 1).await.automatic(1);
    let body = json!({ "email": guest.email.to_uppercase(), "access": "control" });
    let path = format!("/api/v1/devices/{}/grants", device.uid());
    admin.post(&path, &body).await.expect(201);
    guest.set_relay(device.uid(), 0, true).await.expect(200);
    admin.patch(&format!("/api/v1/admin/users/{}", guest.id), &json!({ "active": false })).await.expect(200);
    guest.set_relay(device.uid(), 0, false).await.expect_error(401, "account_disabled");
    owner.client.post(&path, &body).await.expect_error(404, "not_found");
    assert_eq!(device.states(), [true]);
}
