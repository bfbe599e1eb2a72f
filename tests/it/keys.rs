//! The keys of access tokens: rotation, restarts, and what an unknown key gets (docs/PLATFORM.md#signing-keys).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use hexa_tests::machine;
use hexa_tests::server::PASSWORD;
use hexa_tests::{Client, Options, TestServer, User};
use serde_json::{Value, json};

fn kid(token: &str) -> String {
    let header: Value = serde_json::from_slice(&B64.decode(token.split('.').next().unwrap()).unwrap()).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

async fn log_in(client: &Client, user: &User) -> User {
    let login = json!({ "email": user.email, "password": PASSWORD });
    User::new(client.clone(), &user.email, &client.post("/api/v1/auth/login", &login).await.expect(200))
}

async fn rotate(admin: &Client, body: Value) -> Value {
    admin.post("/api/v1/admin/keys/rotate", &body).await.expect(200)
}

fn kids(keys: &Value, state: &str) -> Vec<String> {
    let all = keys["keys"].as_array().unwrap().iter().filter(|k| k["state"] == state);
    all.map(|k| k["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn after_a_rotation_former_tokens_are_good_and_new_ones_carry_the_new_key() {
    let mut server = TestServer::start(Options::new());
    let (user, admin) = (server.user().await, server.admin().await);
    let before = admin.get("/api/v1/admin/keys").await.expect(200);
    assert_eq!(before["source"], "server");
    assert_eq!(kids(&before, "active"), [kid(&user.access_token)]);
    let after = rotate(&admin, json!({})).await;
    assert_eq!(kids(&after, "active"), kids(&before, "next"));
    assert_eq!(kids(&after, "retired"), kids(&before, "active"));
    user.client.get("/api/v1/auth/me").await.expect(200);
    let later = log_in(&server.client(), &user).await;
    assert_eq!(vec![kid(&later.access_token)], kids(&after, "active"));
    // What signs is on the disk: both tokens outlive a crash.
    server.kill9();
    server.restart();
    for token in [&user.access_token, &later.access_token] {
        server.client().with_token(token).get("/api/v1/auth/me").await.expect(200);
    }
    let shown = server.client().with_token(admin.token()).get("/api/v1/admin/keys").await.expect(200);
    assert_eq!(shown, after);
    assert_eq!(server.db().actions("keys.rotated").len(), 1);
    let text = std::fs::read_to_string(server.data_dir().join("secrets/jwt_keys")).unwrap();
    let secrets: Value = serde_json::from_str(&text).unwrap();
    for key in secrets["keys"].as_array().unwrap() {
        assert!(!shown.to_string().contains(key["secret"].as_str().unwrap()));
    }
}

#[tokio::test]
async fn a_key_that_leaked_is_dropped_at_once_and_clients_refresh() {
    let server = TestServer::start(Options::new());
    let (user, admin) = (server.user().await, server.admin().await);
    user.client.get("/api/v1/auth/me").await.expect(200);
    let key = json!({ "at_once": true });
    let request = admin.request(reqwest::Method::POST, "/api/v1/admin/keys/rotate").json(&key);
    admin.send(request.header("idempotency-key", "leak-1")).await.expect(200);
    user.client.get("/api/v1/auth/me").await.expect_error(401, "invalid_token");
    admin.get("/api/v1/admin/keys").await.expect_error(401, "invalid_token");
    let refresh = json!({ "refresh_token": user.refresh_token });
    let fresh = server.client().post("/api/v1/auth/refresh", &refresh).await.expect(200);
    let fresh = server.client().with_token(fresh["access_token"].as_str().unwrap());
    fresh.get("/api/v1/auth/me").await.expect(200);
    fresh.post("/api/v1/admin/keys/rotate", &json!({})).await.expect_error(403, "forbidden");
}

#[tokio::test]
async fn a_retired_key_is_over_after_the_last_token_of_its_time() {
    let Some(clock) = machine::clock("keys::a_retired_key_is_over_after_the_last_token_of_its_time") else { return };
    let mut server = TestServer::start(clock.options(Options::new()));
    let (user, admin) = (server.user().await, server.admin().await);
    let former = kids(&rotate(&admin, json!({})).await, "retired");
    clock.set("+17m");
    user.client.get("/api/v1/auth/me").await.expect_error(401, "invalid_token");
    server.stop().await;
    server.restart();
    let text = |server: &TestServer| std::fs::read_to_string(server.data_dir().join("secrets/jwt_keys")).unwrap();
    let later = log_in(&server.client(), &user).await;
    later.client.get("/api/v1/auth/me").await.expect(200);
    let kept = hexa_tests::eventually("the former key is gone from the file", || async {
        let ring: Value = serde_json::from_str(&text(&server)).unwrap();
        let keys = ring["keys"].as_array().unwrap().clone();
        (keys.len() == 2).then_some(keys)
    })
    .await;
    assert!(kept.iter().all(|k| k["state"] != "retired"), "{former:?} is over");
}

#[tokio::test]
async fn keys_of_the_configuration_are_rotated_there() {
    let (old, new) = ("an old secret of more than thirty-two bytes", "a new secret of more than thirty-two bytes");
    let mut server = TestServer::start(Options::new().env("JWT_SECRET", old));
    let (user, admin) = (server.user().await, server.admin().await);
    assert_eq!(admin.get("/api/v1/admin/keys").await.expect(200)["source"], "configuration");
    let refused = admin.post("/api/v1/admin/keys/rotate", &json!({})).await.expect_error(409, "set_by_configuration");
    assert!(refused["message"].as_str().unwrap().contains("JWT_SECRET"));
    assert!(!server.data_dir().join("secrets/jwt_keys").exists());
    server.stop().await;
    server.set_env("JWT_SECRET", Some(&format!("{new},{old}")));
    server.restart();
    server.client().with_token(&user.access_token).get("/api/v1/auth/me").await.expect(200);
    let later = log_in(&server.client(), &user).await;
    assert_ne!(kid(&later.access_token), kid(&user.access_token));
    server.stop().await;
    server.set_env("JWT_SECRET", Some(new));
    server.restart();
    let client = server.client();
    client.with_token(&user.access_token).get("/api/v1/auth/me").await.expect_error(401, "invalid_token");
    client.with_token(&later.access_token).get("/api/v1/auth/me").await.expect(200);
}
