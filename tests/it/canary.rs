//! Secrets that must not be found anywhere: each is recognisable, all are driven through every flow that takes or
//! gives one, and then everything that the server wrote or said is searched.

use std::path::Path;

use hexa_tests::device::Socket;
use hexa_tests::server::User;
use hexa_tests::{Client, Options, Reply, TestServer};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const PASSWORD: &str = "canary-password-Zaunkoenig-77";
const FRESH: &str = "canary-fresh-password-Rotkehlchen-88";
const WRONG: &str = "canary-wrong-password-Amsel-99";
const KEYS: [(&str, &str); 4] = [
    ("JWT_SECRET", "canary-jwt-secret-canary-jwt-secret-1"),
    ("DEVICE_PROVISION_KEY", "canary-provision-key-2"),
    ("METRICS_TOKEN", "canary-metrics-token-3"),
    ("KEY_ENCRYPTION_KEY", "canary-key-encryption-key-canary-4"),
];

/// What was given out or typed, and what the server said that should hold none of it.
#[derive(Default)]
struct Nest {
    secrets: Vec<(String, String)>,
    /// Of secrets that are short enough to be tried one by one.
    plain_hashes: Vec<[u8; 32]>,
    said: Vec<String>,
}

impl Nest {
    fn hide(&mut self, what: &str, value: &Value) -> String {
        let text = value.as_str().unwrap_or_else(|| panic!("{what}: {value}")).to_owned();
        self.secrets.push((what.to_owned(), text.clone()));
        text
    }
    /// An error, or anything else that gives out no secret of its own.
    fn hear(&mut self, reply: &Reply) {
        self.said.push(reply.text.clone());
    }
    fn search(&self, place: &str, bytes: &[u8]) {
        for (what, secret) in &self.secrets {
            let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
            assert!(!found, "{what} is in {place}");
        }
        for hash in &self.plain_hashes {
            assert!(!bytes.windows(32).any(|w| w == hash), "the plain hash of a claim code is in {place}");
        }
    }
}

fn files(dir: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        // Where they are kept, readable by the server's user only.
        if path.ends_with("secrets") || path.ends_with("plugin-cache") {
            continue;
        }
        // The maintenance socket is no file.
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => files(&path, found),
            kind if kind.is_file() => found.push(path),
            _ => {}
        }
    }
}

async fn accounts(server: &TestServer, nest: &mut Nest) -> User {
    let open = server.client();
    let email = "canary@example.org";
    for (password, path) in [(WRONG, "login"), (WRONG, "refresh")] {
        let body = json!({ "email": email, "password": password, "refresh_token": password });
        nest.hear(&open.post(&format!("/api/v1/auth/{path}"), &body).await);
    }
    nest.hear(&open.post("/api/v1/auth/login", &json!({ "email": email, "password": WRONG })).await);
    nest.hear(&open.post("/api/v1/auth/register", &json!({ "email": WRONG, "password": WRONG, "name": 5 })).await);
    nest.hear(&open.with_token(WRONG).get("/api/v1/auth/me").await);
    let register = open.request(Method::POST, "/api/v1/auth/register").header("idempotency-key", "canary-1");
    let answer = open.send(register.json(&json!({ "email": email, "password": PASSWORD }))).await.expect(201);
    nest.hide("the access token", &answer["access_token"]);
    let first = nest.hide("the refresh token", &answer["refresh_token"]);
    let spent = json!({ "refresh_token": first });
    let renewed = open.post("/api/v1/auth/refresh", &spent).await.expect(200);
    let next = json!({ "refresh_token": nest.hide("the second refresh token", &renewed["refresh_token"]) });
    let third = open.post("/api/v1/auth/refresh", &next).await.expect(200);
    nest.hide("the third refresh token", &third["refresh_token"]);
    nest.hear(&open.post("/api/v1/auth/refresh", &spent).await);
    let login = json!({ "email": email, "password": PASSWORD });
    let user = User::new(server.client(), email, &open.post("/api/v1/auth/login", &login).await.expect(200));
    nest.hide("an access token", &json!(user.access_token));
    let change = json!({ "current_password": WRONG, "new_password": FRESH });
    nest.hear(&user.client.post("/api/v1/auth/password", &change).await);
    let change = json!({ "current_password": PASSWORD, "new_password": FRESH });
    let answer = user.client.post("/api/v1/auth/password", &change).await.expect(200);
    let user = User::new(server.client(), email, &answer);
    let body = json!({ "name": "script", "scopes": ["devices:read"] });
    let request = user.client.request(Method::POST, "/api/v1/auth/tokens").header("idempotency-key", "canary-2");
    let made = user.client.send(request.json(&body)).await.expect(201);
    let token = nest.hide("a personal access token", &made["token"]);
    nest.hear(&user.client.with_token(&token).get("/api/v1/auth/tokens").await);
    nest.hear(&user.client.get("/api/v1/auth/tokens").await);
    nest.hear(&user.client.get("/api/v1/auth/sessions").await);
    let ticket = nest.hide("a ticket", &user.client.post_empty("/api/v1/ws/ticket").await.expect(201)["ticket"]);
    let path = format!("/ws/client?ticket={ticket}");
    drop(Socket::open(server.address, &path, None).await.expect("it opens the socket"));
    nest.said.push(Socket::open(server.address, &path, None).await.expect_err("once").body.to_string());
    user
}

async fn devices(server: &TestServer, user: &User, nest: &mut Nest) {
    let open = server.client();
    let body = json!({ "device_class": "relay_controller", "relay_count": 1 });
    let with = |key: &str| open.request(Method::POST, "/api/v1/provision/register").header("x-provision-key", key);
    nest.hear(&open.send(with(WRONG).json(&body)).await);
    let made = open.send(with(KEYS[1].1).header("idempotency-key", "canary-3").json(&body)).await.expect(201);
    let uid = made["device_uid"].as_str().unwrap().to_owned();
    let token = nest.hide("a device token", &made["device_token"]);
    let code = nest.hide("a claim code", &made["claim_code"]);
    nest.plain_hashes.push(Sha256::digest(code.replace('-', "")).into());
    nest.secrets.push(("a claim code as it is typed".into(), code.replace('-', "")));
    for given in [WRONG, &token] {
        let path = format!("/ws/device?uid={uid}&token={given}");
        match Socket::open(server.address, &path, None).await {
            Ok(socket) => drop(socket),
            Err(refused) => nest.said.push(refused.body.to_string()),
        }
    }
    nest.hear(&user.client.post("/api/v1/devices/claim", &json!({ "code": "ZZZZZ-ZZZZZ" })).await);
    nest.hear(&user.client.post("/api/v1/devices/claim", &json!({ "code": code })).await);
    let path = format!("/api/v1/devices/{uid}");
    nest.hear(&user.client.post(&format!("{path}/relays/0"), &json!({ "state": token })).await);
    let rotated = user.client.post_empty(&format!("{path}/token/rotate")).await.expect(200);
    nest.hide("a rotated device token", &rotated["device_token"]);
    let released = user.client.post_empty(&format!("{path}/release")).await.expect(200);
    let code = nest.hide("a second claim code", &released["claim_code"]);
    nest.plain_hashes.push(Sha256::digest(code.replace('-', "")).into());
    nest.hear(&open.with_token(KEYS[2].1).get("/metrics").await);
}

async fn invitations(server: &TestServer, admin: &Client, nest: &mut Nest) {
    let path = "/api/v1/admin/invitations";
    let request = admin.request(Method::POST, path).header("idempotency-key", "canary-4");
    let made = admin.send(request.json(&json!({ "note": "canary" }))).await.expect(201);
    let token = nest.hide("an invitation", &made["token"]);
    nest.hear(&admin.get(path).await);
    let open = server.client();
    let register = |password: &str| {
        let body = json!({ "email": "invited@example.org", "password": password, "invitation": token });
        async move { server.client().post("/api/v1/auth/register", &body).await }
    };
    nest.hear(&register("short").await);
    register(PASSWORD).await.expect(201);
    nest.hear(&register(PASSWORD).await);
    nest.hear(
        &open
            .post("/api/v1/auth/register", &json!({ "email": "a@b.cd", "password": PASSWORD, "invitation": WRONG }))
            .await,
    );
    nest.hear(
        &open.post("/api/v1/auth/register", &json!({ "email": "a@b.cd", "password": PASSWORD, "role": token })).await,
    );
    nest.hear(&admin.get("/api/v1/admin/audit?limit=500").await);
}

#[tokio::test]
async fn no_secret_is_found_in_anything_that_the_server_wrote_or_said() {
    let mut options = Options::new().env("HEXA_LOG", "debug");
    for (name, secret) in KEYS {
        options = options.env(name, secret);
    }
    let mut server = TestServer::start(options);
    let mut nest = Nest::default();
    for (what, secret) in
        KEYS.into_iter().chain([("a password", PASSWORD), ("a new password", FRESH), ("what was typed wrong", WRONG)])
    {
        nest.secrets.push((what.to_owned(), secret.to_owned()));
    }
    let user = accounts(&server, &mut nest).await;
    devices(&server, &user, &mut nest).await;
    let admin = server.admin().await;
    for path in
        ["/metrics", "/api/v1/admin/audit?limit=500", "/api/v1/admin/audit/export?format=csv", "/api/v1/admin/users"]
    {
        nest.hear(&admin.get(path).await);
    }
    invitations(&server, &admin, &mut nest).await;
    assert!(nest.said.len() > 15 && nest.secrets.len() > 15);
    for said in &nest.said {
        nest.search(&format!("an answer: {said}"), said.as_bytes());
    }
    let mut found = Vec::new();
    files(server.data_dir(), &mut found);
    // On SQLite the database and its write-ahead log are among them.
    assert!(!found.is_empty());
    for file in found {
        nest.search(&file.display().to_string(), &std::fs::read(&file).unwrap());
    }
    server.stop().await;
    let log = server.log().text();
    assert!(log.contains("request refused"), "debug lines are among what is searched");
    nest.search("the log", log.as_bytes());
}

#[tokio::test]
async fn the_servers_own_keys_are_in_their_file_and_nowhere_else() {
    let mut server = TestServer::start(Options::new().env("HEXA_LOG", "debug"));
    let mut nest = Nest::default();
    let (user, admin) = (server.user().await, server.admin().await);
    let keys = |nest: &mut Nest| {
        let text = std::fs::read_to_string(server.data_dir().join("secrets/jwt_keys")).unwrap();
        let ring: Value = serde_json::from_str(&text).unwrap();
        for key in ring["keys"].as_array().unwrap() {
            nest.hide("a signing key", &key["secret"]);
        }
    };
    keys(&mut nest);
    nest.hear(&admin.get("/api/v1/admin/keys").await);
    let rotate = |body: Value| admin.request(Method::POST, "/api/v1/admin/keys/rotate").json(&body);
    nest.hear(&admin.send(rotate(json!({})).header("idempotency-key", "canary-keys")).await);
    nest.hear(&admin.send(rotate(json!({})).header("idempotency-key", "canary-keys")).await);
    keys(&mut nest);
    // A secret where an e-mail belongs.
    let identity = server.provision(1).await;
    user.client.post("/api/v1/devices/claim", &json!({ "code": identity.claim_code })).await.expect(200);
    nest.secrets.push(("a password in a wrong place".into(), PASSWORD.to_owned()));
    let grants = format!("/api/v1/devices/{}/grants", identity.uid);
    nest.hear(&user.client.post(&grants, &json!({ "email": PASSWORD, "access": "read" })).await);
    nest.hear(&user.client.post(&grants, &json!({ "email": user.email, "access": "read", "relays": PASSWORD })).await);
    nest.hear(&admin.get("/metrics").await);
    nest.hear(&admin.get("/api/v1/admin/audit?limit=500").await);
    nest.hear(&admin.send(rotate(json!({ "at_once": true }))).await);
    keys(&mut nest);
    // A ring of two, a rotation that leaves three, and one that leaves two.
    assert!(nest.said.len() == 8 && nest.secrets.len() == 8, "{} {}", nest.said.len(), nest.secrets.len());
    for said in &nest.said {
        nest.search(&format!("an answer: {said}"), said.as_bytes());
    }
    let mut found = Vec::new();
    files(server.data_dir(), &mut found);
    for file in found {
        nest.search(&file.display().to_string(), &std::fs::read(&file).unwrap());
    }
    server.stop().await;
    nest.search("the log", server.log().text().as_bytes());
}
