//! What gives access and how it ends: sessions, passwords, personal access tokens, tickets, and admins over
//! accounts.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use hexa_tests::Frame;
use hexa_tests::server::{PASSWORD, User};
use hexa_tests::{Client, Options, Shared, TestServer, WsClient, eventually};
use serde_json::{Value, json};

const FRESH: &str = "another horse with a battery";

fn server() -> Shared {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    TestServer::shared(&SERVER)
}

async fn login(client: &Client, email: &str, password: &str) -> hexa_tests::Reply {
    client.post("/api/v1/auth/login", &json!({ "email": email, "password": password })).await
}

async fn signed_in(server: &TestServer, user: &User) -> User {
    User::new(server.client(), &user.email, &login(&server.client(), &user.email, PASSWORD).await.expect(200))
}

async fn token(user: &User, scopes: &[&str]) -> (String, Client) {
    let made =
        user.client.post("/api/v1/auth/tokens", &json!({ "name": "a script", "scopes": scopes })).await.expect(201);
    let token = made["token"].as_str().unwrap();
    (made["id"].as_str().unwrap().to_owned(), user.client.with_token(token))
}

/// The socket is closed with 4003, within a second of what closed it.
async fn closed_with_4003(mut socket: WsClient, since: Instant) {
    loop {
        match socket.socket.next().await {
            Frame::Text(_) => {}
            Frame::Close(code, reason) => {
                assert_eq!(code, 4003, "{reason}");
                assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
                return;
            }
            Frame::Gone => panic!("gone without a close frame"),
        }
    }
}

#[tokio::test]
async fn a_user_sees_and_ends_sessions_and_an_ended_one_is_out_at_once() {
    let server = server();
    let first = server.user().await;
    let (second, third) = (signed_in(&server, &first).await, signed_in(&server, &first).await);
    let list = first.client.get("/api/v1/auth/sessions").await.expect(200);
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 3, "{list}");
    assert_eq!(items.iter().filter(|s| s["current"] == true).count(), 1);
    for session in items {
        assert_eq!(session["ip"], "127.0.0.1");
        hexa_tests::shapes::assert_time(&session["last_used_at"], "last_used_at");
    }
    let own = second.client.get("/api/v1/auth/sessions").await.expect(200);
    let own = own["items"].as_array().unwrap().iter().find(|s| s["current"] == true).unwrap()["id"].clone();
    let path = format!("/api/v1/auth/sessions/{}", own.as_str().unwrap());
    // Not by a stranger.
    server.user().await.client.delete(&path).await.expect_error(404, "not_found");
    let (socket, _) = WsClient::subscribed(&server, &second).await;
    let (kept, _) = WsClient::subscribed(&server, &third).await;
    let since = Instant::now();
    first.client.delete(&path).await.expect(204);
    closed_with_4003(socket, since).await;
    second.client.get("/api/v1/auth/me").await.expect_error(401, "invalid_token");
    let spent = json!({ "refresh_token": second.refresh_token });
    server.client().post("/api/v1/auth/refresh", &spent).await.expect_error(401, "invalid_token");
    first.client.delete(&path).await.expect_error(404, "not_found");
    first.client.delete("/api/v1/auth/sessions/nonsense").await.expect_error(404, "not_found");
    // All others at once.
    let since = Instant::now();
    assert_eq!(first.client.delete("/api/v1/auth/sessions").await.expect(200), json!({ "ended": 1 }));
    closed_with_4003(kept, since).await;
    third.client.get("/api/v1/auth/me").await.expect_error(401, "invalid_token");
    first.client.get("/api/v1/auth/me").await.expect(200);
}

#[tokio::test]
async fn an_ended_session_stays_ended_over_a_restart() {
    let mut server = TestServer::start(Options::new());
    let user = server.user().await;
    let other = signed_in(&server, &user).await;
    user.client.delete("/api/v1/auth/sessions").await.expect(200);
    server.kill9();
    server.restart();
    let client = server.client();
    client.with_token(&other.access_token).get("/api/v1/auth/me").await.expect_error(401, "invalid_token");
    client.with_token(&user.access_token).get("/api/v1/auth/me").await.expect(200);
}

#[tokio::test]
async fn a_changed_password_ends_every_session_but_the_new_one() {
    let server = server();
    let user = server.user().await;
    let other = signed_in(&server, &user).await;
    let change = |current: &str, fresh: &str| json!({ "current_password": current, "new_password": fresh });
    let path = "/api/v1/auth/password";
    user.client.post(path, &change("not the right password", FRESH)).await.expect_error(401, "invalid_credentials");
    for weak in ["short", "password1234", &format!("{}x", user.email)] {
        user.client.post(path, &change(PASSWORD, weak)).await.expect_error(400, "validation_error");
    }
    user.client.get("/api/v1/auth/me").await.expect(200);
    let (socket, _) = WsClient::subscribed(&server, &other).await;
    let since = Instant::now();
    let answer = user.client.post(path, &change(PASSWORD, FRESH)).await.expect(200);
    closed_with_4003(socket, since).await;
    for old in [&user, &other] {
        old.client.get("/api/v1/auth/me").await.expect_error(401, "invalid_token");
        let spent = json!({ "refresh_token": old.refresh_token });
        server.client().post("/api/v1/auth/refresh", &spent).await.expect_error(401, "invalid_token");
    }
    let now = User::new(server.client(), &user.email, &answer);
    now.client.get("/api/v1/auth/me").await.expect(200);
    login(&server.client(), &user.email, PASSWORD).await.expect_error(401, "invalid_credentials");
    login(&server.client(), &user.email, FRESH).await.expect(200);
}

#[tokio::test]
async fn a_token_does_what_its_scopes_say_and_no_more() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 2).await;
    let device_path = format!("/api/v1/devices/{}", device.uid());
    let (_, reader) = token(&user, &["devices:read"]).await;
    reader.get(&device_path).await.expect(200);
    reader.get("/api/v1/auth/me").await.expect(200);
    let refused = reader.post(&format!("{device_path}/relays/0"), &json!({ "state": true })).await;
    assert_eq!(refused.expect_error(403, "insufficient_scope")["details"]["scope"], "relays:write");
    reader.patch(&device_path, &json!({ "name": "x" })).await.expect_error(403, "insufficient_scope");
    let (_, switcher) = token(&user, &["relays:write"]).await;
    switcher.get(&device_path).await.expect_error(403, "insufficient_scope");
    let path = format!("{device_path}/relays/0");
    let body = json!({ "state": true });
    let (reply, ()) = tokio::join!(switcher.post(&path, &body), async {
        let command = device.expect_command().await;
        device.ack(&command).await;
    });
    reply.expect(200);
    // A token makes no tokens, whatever its scopes.
    let (_, all) = token(&user, &["devices:read", "devices:write", "relays:write", "preferences"]).await;
    for reply in [
        all.get("/api/v1/auth/tokens").await,
        all.post("/api/v1/auth/tokens", &json!({ "name": "x", "scopes": ["devices:read"] })).await,
        all.get("/api/v1/auth/sessions").await,
        all.delete("/api/v1/auth/sessions").await,
        all.post("/api/v1/auth/password", &json!({ "current_password": PASSWORD, "new_password": FRESH })).await,
    ] {
        reply.expect_error(403, "insufficient_scope");
    }
    // It is stored as a hash, and listed without itself.
    let list = user.client.get("/api/v1/auth/tokens").await;
    assert_eq!(list.expect(200)["items"].as_array().unwrap().len(), 3);
    assert!(!list.text.contains("hxp_"));
}

#[tokio::test]
async fn an_admins_token_is_an_admin_only_with_that_scope() {
    let server = TestServer::start(Options::new());
    let admin = server.admin().await;
    let stranger = server.user().await;
    let device = server.device(&stranger, 1).await;
    let with = async |scopes: &[&str]| {
        let body = json!({ "name": "ops", "scopes": scopes, "expires_in_days": 30 });
        let made = admin.post("/api/v1/auth/tokens", &body).await.expect(201);
        hexa_tests::shapes::assert_time(&made["expires_at"], "expires_at");
        server.client().with_token(made["token"].as_str().unwrap())
    };
    let plain = with(&["devices:read"]).await;
    plain.get("/api/v1/admin/users").await.expect_error(403, "insufficient_scope");
    plain.get("/api/v1/devices?all=true").await.expect_error(403, "insufficient_scope");
    plain.get(&format!("/api/v1/devices/{}", device.uid())).await.expect_error(404, "not_found");
    let full = with(&["devices:read", "admin:*"]).await;
    full.get("/api/v1/admin/users").await.expect(200);
    full.get(&format!("/api/v1/devices/{}", device.uid())).await.expect(200);
    let body = json!({ "name": "x", "scopes": ["admin:*"] });
    stranger.client.post("/api/v1/auth/tokens", &body).await.expect_error(403, "forbidden");
}

#[tokio::test]
async fn a_revoked_token_is_out_at_once_with_its_socket_and_after_a_crash() {
    let mut server = TestServer::start(Options::new());
    let user = server.user().await;
    let (id, client) = token(&user, &["devices:read"]).await;
    let (_, kept) = token(&user, &["devices:read"]).await;
    let secret = client.token().to_owned();
    let socket = WsClient::open(&server, &secret).await.expect("a token opens the socket");
    let path = format!("/api/v1/auth/tokens/{id}");
    server.user().await.client.delete(&path).await.expect_error(404, "not_found");
    let since = Instant::now();
    user.client.delete(&path).await.expect(204);
    closed_with_4003(socket, since).await;
    client.get("/api/v1/auth/me").await.expect_error(401, "invalid_token");
    assert_eq!(WsClient::open(&server, &secret).await.expect_err("refused").status, 401);
    user.client.delete(&path).await.expect_error(404, "not_found");
    user.client.delete("/api/v1/auth/tokens/nonsense").await.expect_error(404, "not_found");
    server.kill9();
    server.restart();
    server.client().with_token(&secret).get("/api/v1/auth/me").await.expect_error(401, "invalid_token");
    server.client().with_token(kept.token()).get("/api/v1/auth/me").await.expect(200);
}

#[tokio::test]
async fn a_token_request_is_checked() {
    let server = server();
    let user = server.user().await;
    for body in [
        json!({}),
        json!({ "name": "x", "scopes": [] }),
        json!({ "name": "", "scopes": ["devices:read"] }),
        json!({ "name": "x".repeat(65), "scopes": ["devices:read"] }),
        json!({ "name": "a\u{7}b", "scopes": ["devices:read"] }),
        json!({ "name": "x", "scopes": ["devices:explode"] }),
        json!({ "name": "x", "scopes": ["devices:read"], "expires_in_days": 0 }),
        json!({ "name": "x", "scopes": ["devices:read"], "expires_in_days": 3651 }),
        json!({ "name": "x", "scopes": ["devices:read"], "user": "somebody" }),
    ] {
        user.client.post("/api/v1/auth/tokens", &body).await.expect_error(400, "validation_error");
    }
    for _ in 0..50 {
        token(&user, &["devices:read"]).await;
    }
    let one_more = json!({ "name": "x", "scopes": ["devices:read"] });
    user.client.post("/api/v1/auth/tokens", &one_more).await.expect_error(400, "validation_error");
}

#[tokio::test]
async fn a_ticket_opens_the_socket_once() {
    let server = server();
    let user = server.user().await;
    let answer = user.client.post_empty("/api/v1/ws/ticket").await;
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let answer = answer.expect(201);
    assert_eq!(answer["expires_in"], 30);
    let path = format!("/ws/client?ticket={}", answer["ticket"].as_str().unwrap());
    let open = async || hexa_tests::device::Socket::open(server.address, &path, None).await;
    let mut socket = WsClient { socket: open().await.expect("a fresh ticket") };
    socket.send(&json!({ "type": "subscribe" })).await;
    assert_eq!(socket.next().await["type"], "snapshot");
    let refused = open().await.expect_err("a ticket works once");
    assert_eq!((refused.status, &refused.body["code"]), (401, &json!("invalid_token")));
    // One for a session that ended meanwhile opens nothing.
    let other = signed_in(&server, &user).await;
    let late = other.client.post_empty("/api/v1/ws/ticket").await.expect(201);
    user.client.delete("/api/v1/auth/sessions").await.expect(200);
    let path = format!("/ws/client?ticket={}", late["ticket"].as_str().unwrap());
    assert_eq!(hexa_tests::device::Socket::open(server.address, &path, None).await.expect_err("ended").status, 401);
    server.client().post_empty("/api/v1/ws/ticket").await.expect_error(401, "invalid_token");
    let too_many = eventually("the bound of tickets", || async {
        let reply = user.client.post_empty("/api/v1/ws/ticket").await;
        (reply.status != 201).then_some(reply)
    });
    too_many.await.expect_error(429, "rate_limited");
}

#[tokio::test]
async fn a_deactivated_or_demoted_account_feels_it_on_the_next_request_and_on_open_sockets() {
    let server = TestServer::start(Options::new());
    let admin = server.admin().await;
    let user = server.user().await;
    let (_, script) = token(&user, &["devices:read"]).await;
    let path = format!("/api/v1/admin/users/{}", user.id);
    let mut device = server.device(&user, 1).await;
    let (socket, _) = WsClient::subscribed(&server, &user).await;
    let since = Instant::now();
    let changed = admin.patch(&path, &json!({ "active": false })).await.expect(200);
    assert_eq!((&changed["active"], &changed["email"]), (&json!(false), &json!(user.email)));
    closed_with_4003(socket, since).await;
    for out in [&user.client, &script] {
        out.get("/api/v1/auth/me").await.expect_error(401, "account_disabled");
    }
    user.set_relay(device.uid(), 0, true).await.expect_error(401, "account_disabled");
    login(&server.client(), &user.email, PASSWORD).await.expect_error(401, "account_disabled");
    admin.patch(&path, &json!({ "active": true, "role": "admin" })).await.expect(200);
    let back = signed_in(&server, &user).await;
    back.client.get("/api/v1/admin/users").await.expect(200);
    let (socket, _) = WsClient::subscribed(&server, &back).await;
    let since = Instant::now();
    admin.patch(&path, &json!({ "role": "user" })).await.expect(200);
    closed_with_4003(socket, since).await;
    // The token of an admin is dead; a renewed one is a user's.
    back.client.get("/api/v1/admin/users").await.expect_error(401, "invalid_token");
    let renewed = json!({ "refresh_token": back.refresh_token });
    let renewed = server.client().post("/api/v1/auth/refresh", &renewed).await.expect(200);
    let renewed = User::new(server.client(), &user.email, &renewed);
    renewed.client.get("/api/v1/admin/users").await.expect_error(403, "forbidden");
    device.assert_nothing_sent().await;
}

#[tokio::test]
async fn there_is_always_an_admin() {
    let server = TestServer::start(Options::new());
    let admin = server.admin().await;
    let id = admin.get("/api/v1/auth/me").await.expect(200)["id"].as_str().unwrap().to_owned();
    let own = format!("/api/v1/admin/users/{id}");
    for change in [json!({ "role": "user" }), json!({ "active": false })] {
        admin.patch(&own, &change).await.expect_error(409, "last_admin");
    }
    let second = server.user().await;
    admin.patch(&format!("/api/v1/admin/users/{}", second.id), &json!({ "role": "admin" })).await.expect(200);
    admin.patch(&own, &json!({ "role": "user" })).await.expect(200);
    let second = signed_in(&server, &second).await;
    let path = format!("/api/v1/admin/users/{}", second.id);
    second.client.patch(&path, &json!({ "active": false })).await.expect_error(409, "last_admin");
}

#[tokio::test]
async fn admins_find_people_and_end_their_sessions() {
    let server = TestServer::start(Options::new());
    let admin = server.admin().await;
    let mut users = Vec::new();
    for _ in 0..5 {
        users.push(server.user().await);
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = admin.get(&format!("/api/v1/admin/users?limit=2{cursor}")).await.expect(200);
        seen.extend(page["items"].as_array().unwrap().iter().map(|u| u["email"].clone()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen.len(), 6);
    let found = async |query: &str| -> Vec<Value> {
        let page = admin.get(&format!("/api/v1/admin/users?{query}")).await.expect(200);
        page["items"].as_array().unwrap().clone()
    };
    let part = &users[2].email[5..20].to_uppercase();
    assert_eq!(found(&format!("search={part}")).await.len(), 1);
    assert_eq!(found("search=a+tester").await.len(), 6, "by name");
    assert_eq!(found("search=%25").await.len(), 0, "a sign is a sign");
    assert_eq!(found("role=admin").await.len(), 1);
    admin.patch(&format!("/api/v1/admin/users/{}", users[0].id), &json!({ "active": false })).await.expect(200);
    assert_eq!(found("active=false").await.len(), 1);
    for bad in ["limit=0", "limit=501", "role=king", "active=perhaps", "cursor=zz", "nonsense=1"] {
        admin.get(&format!("/api/v1/admin/users?{bad}")).await.expect_error(400, "validation_error");
    }
    let path = format!("/api/v1/admin/users/{}/sessions", users[1].id);
    assert_eq!(admin.delete(&path).await.expect(200), json!({ "ended": 1 }));
    users[1].client.get("/api/v1/auth/me").await.expect_error(401, "invalid_token");
    for (id, code) in [("nonsense", "not_found"), ("01890a5d-ac96-774b-bcce-b302099a8057", "not_found")] {
        admin.get(&format!("/api/v1/admin/users/{id}")).await.expect_error(404, code);
        admin.patch(&format!("/api/v1/admin/users/{id}"), &json!({})).await.expect_error(404, code);
    }
    // Nobody else's business.
    users[2].client.get("/api/v1/admin/users").await.expect_error(403, "forbidden");
    users[2]
        .client
        .patch(&format!("/api/v1/admin/users/{}", users[2].id), &json!({ "role": "admin" }))
        .await
        .expect_error(403, "forbidden");
    users[2].client.delete(&path).await.expect_error(403, "forbidden");
}

/// Who did it to whom, newest first, as the audit says.
async fn audited(admin: &Client, action: &str) -> Vec<(Value, Value)> {
    let rows = admin.get(&format!("/api/v1/admin/audit?action={action}")).await.expect(200);
    let row = |row: &Value| (row["actor"]["id"].clone(), row["details"].clone());
    rows["items"].as_array().unwrap().iter().map(row).collect()
}

#[tokio::test]
async fn an_admin_sees_and_ends_single_sessions_of_an_account() {
    let server = server();
    let admin = server.admin().await;
    let (first, stranger) = (server.user().await, server.user().await);
    let (second, third) = (signed_in(&server, &first).await, signed_in(&server, &first).await);
    let list = format!("/api/v1/admin/users/{}/sessions", first.id);
    let seen = admin.get(&list).await.expect(200);
    let mut own = first.client.get("/api/v1/auth/sessions").await.expect(200);
    own["items"].as_array_mut().unwrap().iter_mut().for_each(|session| session["current"] = json!(false));
    assert_eq!((seen["items"].as_array().unwrap().len(), &seen), (3, &own), "the same, none of them the admin's");
    let me = admin.get("/api/v1/auth/me").await.expect(200)["id"].as_str().unwrap().to_owned();
    let mine = admin.get(&format!("/api/v1/admin/users/{me}/sessions")).await.expect(200);
    assert!(mine["items"].as_array().unwrap().iter().any(|s| s["current"] == true), "{mine}");

    let own = second.client.get("/api/v1/auth/sessions").await.expect(200);
    let id = own["items"].as_array().unwrap().iter().find(|s| s["current"] == true).unwrap()["id"].clone();
    let path = format!("{list}/{}", id.as_str().unwrap());
    let elsewhere = format!("/api/v1/admin/users/{}/sessions/{}", stranger.id, id.as_str().unwrap());
    admin.delete(&elsewhere).await.expect_error(404, "not_found");
    second.client.get("/api/v1/auth/me").await.expect(200);
    let (socket, _) = WsClient::subscribed(&server, &second).await;
    let since = Instant::now();
    admin.delete(&path).await.expect(204);
    closed_with_4003(socket, since).await;
    second.client.get("/api/v1/auth/me").await.expect_error(401, "invalid_token");
    let spent = json!({ "refresh_token": second.refresh_token });
    server.client().post("/api/v1/auth/refresh", &spent).await.expect_error(401, "invalid_token");
    for kept in [&first, &third] {
        kept.client.get("/api/v1/auth/me").await.expect(200);
    }
    assert_eq!(admin.get(&list).await.expect(200)["items"].as_array().unwrap().len(), 2);
    let row = (json!(me), json!({ "user": first.id, "session": id }));
    assert_eq!(audited(&admin, "user.session_ended").await.into_iter().filter(|r| *r == row).count(), 1);
    let nobody = "01890a5d-ac96-774b-bcce-b302099a8057";
    for gone in [path.as_str(), &format!("{list}/nonsense"), &format!("{list}/{nobody}")] {
        admin.delete(gone).await.expect_error(404, "not_found");
    }
    for user in [nobody, "nonsense"] {
        admin.get(&format!("/api/v1/admin/users/{user}/sessions")).await.expect_error(404, "not_found");
    }
    first.client.get(&list).await.expect_error(403, "forbidden");
    assert_eq!(audited(&admin, "user.session_ended").await.into_iter().filter(|r| *r == row).count(), 1);
}

#[tokio::test]
async fn an_admin_sees_and_revokes_tokens_of_an_account() {
    let server = server();
    let admin = server.admin().await;
    let (user, stranger) = (server.user().await, server.user().await);
    let (id, script) = token(&user, &["devices:read"]).await;
    let (_, kept) = token(&user, &["devices:read", "relays:write"]).await;
    let list = format!("/api/v1/admin/users/{}/tokens", user.id);
    let seen = admin.get(&list).await;
    assert_eq!(seen.expect(200), user.client.get("/api/v1/auth/tokens").await.expect(200));
    assert!(!seen.text.contains("hxp_"));
    let elsewhere = format!("/api/v1/admin/users/{}/tokens/{id}", stranger.id);
    admin.delete(&elsewhere).await.expect_error(404, "not_found");
    script.get("/api/v1/auth/me").await.expect(200);
    let socket = WsClient::open(&server, script.token()).await.expect("a token opens the socket");
    let since = Instant::now();
    admin.delete(&format!("{list}/{id}")).await.expect(204);
    closed_with_4003(socket, since).await;
    script.get("/api/v1/auth/me").await.expect_error(401, "invalid_token");
    kept.get("/api/v1/auth/me").await.expect(200);
    assert_eq!(admin.get(&list).await.expect(200)["items"].as_array().unwrap().len(), 1);
    let me = admin.get("/api/v1/auth/me").await.expect(200)["id"].clone();
    let row = (me, json!({ "user": user.id, "token": id }));
    assert_eq!(audited(&admin, "user.token_revoked").await.into_iter().filter(|r| *r == row).count(), 1);
    for gone in [&id, "nonsense", "01890a5d-ac96-774b-bcce-b302099a8057"] {
        admin.delete(&format!("{list}/{gone}")).await.expect_error(404, "not_found");
    }
    admin.get("/api/v1/admin/users/nonsense/tokens").await.expect_error(404, "not_found");
    // An admin's script does so with its scope only.
    let make = json!({ "name": "ops", "scopes": ["devices:read"] });
    let made = admin.post("/api/v1/auth/tokens", &make).await.expect(201);
    let plain = server.client().with_token(made["token"].as_str().unwrap());
    plain.get(&list).await.expect_error(403, "insufficient_scope");
    user.client.get(&list).await.expect_error(403, "forbidden");
}

#[tokio::test]
async fn the_sixth_wrong_password_is_told_to_wait() {
    let server = TestServer::start(Options::new().env("LIMIT_LOGIN_FAILURES", "5"));
    let (user, neighbour) = (server.user().await, server.user().await);
    let client = server.client();
    for _ in 0..5 {
        login(&client, &user.email, "not the right password").await.expect_error(401, "invalid_credentials");
    }
    let refused = login(&client, &user.email, PASSWORD).await;
    refused.expect_error(429, "rate_limited");
    assert!((1..=60).contains(&refused.header("retry-after").unwrap().parse::<u64>().unwrap()));
    login(&client, &neighbour.email, PASSWORD).await.expect(200);
    user.client.get("/api/v1/auth/me").await.expect(200);
}

#[tokio::test]
async fn after_a_hundred_wrong_passwords_only_known_places_may_try() {
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let set = |n: i64| {
        let now = hexa_model::Clock::now(&hexa_model::SystemClock::new()).0;
        let sql = format!("update users set failed_logins = {n}, failed_at = {now} where email = '{}'", user.email);
        server.db().tamper(&sql);
    };
    set(100);
    login(&server.client(), &user.email, PASSWORD).await.expect(200);
    let left: i64 = server.db().value(&format!("select failed_logins from users where email = '{}'", user.email));
    assert_eq!(left, 0, "the right password ends the row");
    set(100);
    server.db().tamper("update refresh_families set ip = '192.0.2.1'");
    login(&server.client(), &user.email, PASSWORD).await.expect_error(429, "rate_limited");
    user.client.get("/api/v1/auth/me").await.expect(200);
}
