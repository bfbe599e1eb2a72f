//! Access that ended, ends on open sockets too, whatever ended it and whether or not the client says anything.

use std::time::{Duration, Instant, SystemTime};

use hexa_tests::server::{PASSWORD, User};
use hexa_tests::{Frame, Options, TestServer, WsClient, eventually};
use serde_json::{Value, json};

const REFRESH: &str = "/api/v1/auth/refresh";

/// The socket is closed with 4003, within this time of what closed it. It sends nothing meanwhile.
async fn closed(mut socket: WsClient, since: Instant, within: Duration) {
    loop {
        match socket.socket.next().await {
            Frame::Text(_) => {}
            Frame::Close(code, reason) => {
                assert_eq!(code, 4003, "{reason}");
                assert!(since.elapsed() < within, "{:?}", since.elapsed());
                return;
            }
            Frame::Gone => panic!("gone without a close frame"),
        }
    }
}

async fn refresh(server: &TestServer, token: &str) -> Value {
    server.client().post(REFRESH, &json!({ "refresh_token": token })).await.expect(200)
}

async fn signed_in(server: &TestServer, user: &User) -> User {
    let body = json!({ "email": user.email, "password": PASSWORD });
    User::new(server.client(), &user.email, &server.client().post("/api/v1/auth/login", &body).await.expect(200))
}

fn now_ms() -> i64 {
    SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64
}

#[tokio::test]
async fn a_refresh_token_that_comes_again_closes_the_sockets_of_its_session() {
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let other = signed_in(&server, &user).await;
    let first = refresh(&server, &user.refresh_token).await;
    refresh(&server, first["refresh_token"].as_str().unwrap()).await;
    let (socket, _) = WsClient::subscribed(&server, &user).await;
    let (mut kept, _) = WsClient::subscribed(&server, &other).await;
    let since = Instant::now();
    let again = server.client().post(REFRESH, &json!({ "refresh_token": user.refresh_token })).await;
    again.expect_error(401, "refresh_token_reused");
    closed(socket, since, Duration::from_secs(1)).await;
    user.client.get("/api/v1/auth/me").await.expect_error(401, "invalid_token");
    assert_eq!(kept.drained().await, Vec::<Value>::new(), "the other session goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_revoked_while_its_socket_opens_closes_it() {
    // The socket is upgraded, and its task comes to the hub a second later.
    let server = TestServer::start(Options::new().env("FAILPOINTS", "ws.before_join=1*off->1*sleep(1500)->off"));
    let user = server.user().await;
    drop(WsClient::open(&server, &user.access_token).await.unwrap());
    let made = user.client.post("/api/v1/auth/tokens", &json!({ "name": "x", "scopes": ["devices:read"] })).await;
    let made = made.expect(201);
    let socket = WsClient::open(&server, made["token"].as_str().unwrap()).await.unwrap();
    let path = format!("/api/v1/auth/tokens/{}", made["id"].as_str().unwrap());
    user.client.delete(&path).await.expect(204);
    closed(socket, Instant::now(), Duration::from_secs(4)).await;
}

#[tokio::test]
async fn keys_that_are_replaced_at_once_close_the_sockets_of_every_session() {
    let server = TestServer::start(Options::new());
    let (admin, user) = (server.admin().await, server.user().await);
    let made = user.client.post("/api/v1/auth/tokens", &json!({ "name": "x", "scopes": ["devices:read"] })).await;
    let (socket, _) = WsClient::subscribed(&server, &user).await;
    let made = made.expect(201);
    let mut kept = WsClient::open(&server, made["token"].as_str().unwrap()).await.unwrap();
    let since = Instant::now();
    admin.post("/api/v1/admin/keys/rotate", &json!({ "at_once": true })).await.expect(200);
    closed(socket, since, Duration::from_secs(1)).await;
    user.client.get("/api/v1/auth/me").await.expect_error(401, "invalid_token");
    assert!(!kept.drained().await.iter().any(|m| m["type"] == "error"), "a personal token is no session");
}

#[tokio::test]
async fn a_socket_ends_with_its_access_token() {
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let request = json!({ "name": "x", "scopes": ["devices:read"], "expires_in_days": 1 });
    let made = user.client.post("/api/v1/auth/tokens", &request).await.expect(201);
    let sql = format!(
        "update access_tokens set expires_at = {} where uid = '{}'",
        now_ms() + 2500,
        made["id"].as_str().unwrap()
    );
    server.db().tamper(&sql);
    let since = Instant::now();
    let socket = WsClient::open(&server, made["token"].as_str().unwrap()).await.unwrap();
    closed(socket, since, Duration::from_millis(2500 + 1500)).await;
    assert!(since.elapsed() > Duration::from_secs(2), "{:?}", since.elapsed());
}

#[tokio::test]
async fn a_socket_ends_with_its_session_and_lives_with_it_when_it_is_renewed() {
    let server = TestServer::start(Options::new());
    let (idle, old, renewed) = (server.user().await, server.user().await, server.user().await);
    let of = |user: &User| format!("(select id from users where email = '{}')", user.email);
    let tokens = |user: &User| format!("family_id in (select id from refresh_families where user_id = {})", of(user));
    let ends = now_ms() + 2500;
    let db = server.db();
    db.tamper(&format!("update refresh_tokens set expires_at = {ends} where {}", tokens(&idle)));
    db.tamper(&format!("update refresh_families set expires_at = {ends} where user_id = {}", of(&old)));
    db.tamper(&format!("update refresh_tokens set expires_at = {ends} where {}", tokens(&renewed)));
    let since = Instant::now();
    let open = async |user: &User| WsClient::open(&server, &user.access_token).await.unwrap();
    let (first, second, mut third) = (open(&idle).await, open(&old).await, open(&renewed).await);
    refresh(&server, &renewed.refresh_token).await;
    let within = Duration::from_millis(2500 + 1500);
    closed(first, since, within).await;
    closed(second, since, within).await;
    // Past the end that it had when it was opened.
    eventually("a while later", || async { (since.elapsed() > within).then_some(()) }).await;
    assert_eq!(third.drained().await, Vec::<Value>::new());
}
