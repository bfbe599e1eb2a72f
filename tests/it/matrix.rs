//! Who may do what: every route of the server against every kind of caller. The routes come from the server
//! itself; one that is not in the table here fails the test.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use hexa_tests::server::{PASSWORD, User};
use hexa_tests::{Client, Options, TestServer};
use reqwest::Method;
use serde_json::{Value, json};

/// What the kinds of callers get, from the one who knows nothing to the one who may do everything.
struct Row {
    body: Value,
    /// The owner of the object, or any user where there is none.
    owner: u16,
    /// A user to whom the object does not belong.
    other: u16,
    /// Somebody with whom the device is shared for control; 0 = as another user.
    guest: u16,
    admin: u16,
    /// The owner's token without the scope; 0 = as the owner.
    unscoped: u16,
    /// It is for the scope `preferences`, so the token without the scope has another one.
    other_scope: bool,
}

fn row(owner: u16, other: u16, admin: u16) -> Row {
    Row { body: Value::Null, owner, other, guest: 0, admin, unscoped: 403, other_scope: false }
}

impl Row {
    fn with(self, body: Value) -> Self {
        Self { body, ..self }
    }
    /// With another answer for somebody whom the device is shared with.
    fn guest(self, guest: u16) -> Self {
        Self { guest, ..self }
    }
    /// Any token will do.
    fn any_token(self) -> Self {
        Self { unscoped: 0, ..self }
    }
    /// The token without the others has this scope.
    fn any_scope(self) -> Self {
        Self { other_scope: true, ..self }
    }
}

/// Routes that take no account: what they answer to everybody, with an empty body.
const OPEN: &[(&str, u16)] = &[
    ("GET /api/v1/auth/registration", 200),
    ("POST /api/v1/auth/register", 400),
    ("POST /api/v1/auth/login", 400),
    ("POST /api/v1/auth/refresh", 400),
    ("POST /api/v1/auth/logout", 400),
    ("POST /api/v1/provision/register", 400),
    ("POST /api/v1/devices/claim-code", 401),
    ("GET /ws/device", 401),
    ("GET /health", 200),
    ("GET /ready", 200),
    ("GET /dashboard", 200),
    ("GET /api/openapi.json", 200),
    ("GET /api/docs", 200),
    // Over loopback.
    ("GET /metrics", 200),
];

fn table() -> BTreeMap<&'static str, Row> {
    let passwords = json!({ "current_password": PASSWORD, "new_password": "another horse with a battery" });
    let token = json!({ "name": "one more", "scopes": ["devices:read"] });
    BTreeMap::from([
        ("POST /api/v1/auth/password", row(200, 200, 200).with(passwords)),
        ("GET /api/v1/auth/me", row(200, 200, 200).any_token()),
        ("GET /api/v1/auth/sessions", row(200, 200, 200)),
        ("DELETE /api/v1/auth/sessions", row(200, 200, 200)),
        ("DELETE /api/v1/auth/sessions/{id}", row(204, 404, 404)),
        ("GET /api/v1/auth/tokens", row(200, 200, 200)),
        ("POST /api/v1/auth/tokens", row(201, 201, 201).with(token)),
        // A session is none; the token without the scope may end itself.
        ("DELETE /api/v1/auth/tokens/current", Row { unscoped: 204, ..row(404, 404, 404) }),
        ("DELETE /api/v1/auth/tokens/{id}", row(204, 404, 404)),
        ("POST /api/v1/ws/ticket", row(201, 201, 201)),
        ("GET /api/v1/devices", row(200, 200, 200)),
        ("POST /api/v1/devices/claim", row(404, 404, 404).with(json!({ "code": "00000-00000" }))),
        ("GET /api/v1/devices/{uid}", row(200, 404, 200).guest(200)),
        ("PATCH /api/v1/devices/{uid}", row(200, 404, 200).with(json!({ "name": "lamp" })).guest(403)),
        ("DELETE /api/v1/devices/{uid}", row(403, 403, 204)),
        ("GET /api/v1/devices/{uid}/state", row(200, 404, 200).guest(200)),
        ("POST /api/v1/devices/{uid}/release", row(200, 404, 200).guest(403)),
        ("POST /api/v1/devices/{uid}/token/rotate", row(200, 404, 200).guest(403)),
        ("POST /api/v1/devices/{uid}/reset", row(422, 404, 422).guest(403)),
        ("POST /api/v1/devices/{uid}/claim-code", row(403, 403, 409)),
        ("GET /api/v1/devices/{uid}/history", row(200, 404, 200).guest(200)),
        ("GET /api/v1/devices/{uid}/grants", row(200, 404, 200).guest(200)),
        (
            "POST /api/v1/devices/{uid}/grants",
            row(400, 404, 400).with(json!({ "email": "", "access": "own" })).guest(403),
        ),
        // By a guest: the owner's grant to somebody else.
        ("DELETE /api/v1/devices/{uid}/grants/{id}", row(204, 404, 204)),
        ("POST /api/v1/devices/{uid}/relays", row(409, 404, 409).with(json!({ "state": true })).guest(409)),
        ("POST /api/v1/devices/{uid}/relays/{index}", row(409, 404, 409).with(json!({ "state": true })).guest(409)),
        ("GET /api/v1/commands/{command_id}", row(200, 404, 200)),
        ("GET /api/v1/preferences", row(200, 200, 200).any_scope()),
        ("PUT /api/v1/preferences", row(200, 200, 200).with(json!({ "dashboard_layout": {} })).any_scope()),
        ("PATCH /api/v1/preferences", row(200, 200, 200).with(json!({ "dashboard_layout": {} })).any_scope()),
        ("GET /api/v1/preferences/{name}", row(404, 404, 404).any_scope()),
        ("PUT /api/v1/preferences/{name}", row(201, 201, 201).with(json!({ "a": 1 })).any_scope()),
        // The admin is the one who has stored it, the row before.
        ("DELETE /api/v1/preferences/{name}", row(404, 404, 204).any_scope()),
        ("GET /api/v1/admin/fleet", row(403, 403, 200)),
        ("GET /api/v1/admin/audit", row(403, 403, 200)),
        ("GET /api/v1/admin/audit/export", row(403, 403, 200)),
        ("GET /api/v1/admin/users", row(403, 403, 200)),
        ("GET /api/v1/admin/users/{id}", row(403, 403, 200)),
        ("PATCH /api/v1/admin/users/{id}", row(403, 403, 200).with(json!({ "name": "Somebody" }))),
        ("GET /api/v1/admin/users/{id}/sessions", row(403, 403, 200)),
        ("DELETE /api/v1/admin/users/{id}/sessions", row(403, 403, 200)),
        ("DELETE /api/v1/admin/users/{id}/sessions/{session_id}", row(403, 403, 204)),
        ("GET /api/v1/admin/users/{id}/tokens", row(403, 403, 200)),
        ("DELETE /api/v1/admin/users/{id}/tokens/{token_id}", row(403, 403, 204)),
        ("GET /api/v1/admin/invitations", row(403, 403, 200)),
        ("POST /api/v1/admin/invitations", row(403, 403, 201).with(json!({}))),
        ("DELETE /api/v1/admin/invitations/{id}", row(403, 403, 204)),
        ("GET /api/v1/admin/keys", row(403, 403, 200)),
        ("POST /api/v1/admin/keys/rotate", row(403, 403, 200).with(json!({}))),
        ("GET /api/v1/admin/plugins", row(403, 403, 200)),
        ("GET /api/v1/admin/plugins/{id}", row(403, 403, 200)),
        ("GET /api/v1/admin/plugins/{id}/faults", row(403, 403, 200)),
        ("POST /api/v1/admin/plugins/{id}/reset", row(403, 403, 200)),
        ("GET /api/v1/admin/workers", row(403, 403, 200)),
        // A request without an upgrade is authorized, or not.
        ("GET /ws/client", row(400, 400, 400)),
    ])
}

fn routes() -> Vec<String> {
    let out = std::process::Command::new(hexa_tests::process::hexa()).args(["docs", "routes"]).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let rows = text.lines().filter(|l| l.starts_with("| ") && l.contains("| `/"));
    let cell = |line: &str, n: usize| line.split('|').nth(n).unwrap().trim().trim_matches('`').to_owned();
    rows.map(|line| format!("{} {}", cell(line, 1), cell(line, 2))).collect()
}

/// An owner with a device that is offline, and a command of his to it.
struct Fixture<'a> {
    server: &'a TestServer,
    owner: User,
    /// With whom each device is shared.
    guest: User,
}

impl Fixture<'_> {
    /// The path with the ids of fresh objects of the owner.
    async fn path(&self, route: &str) -> String {
        let mut path = route.split(' ').nth(1).unwrap().to_owned();
        if path.contains("{uid}") || path.contains("{command_id}") {
            let identity = self.server.provision(2).await;
            self.owner.client.post("/api/v1/devices/claim", &json!({ "code": identity.claim_code })).await.expect(200);
            path = path.replace("{uid}", &identity.uid);
            let grants = format!("/api/v1/devices/{}/grants", identity.uid);
            let share = json!({ "email": self.guest.email, "access": "control" });
            self.owner.client.post(&grants, &share).await.expect(201);
            if path.contains("{command_id}") {
                let refused = self.owner.set_relay(&identity.uid, 0, true).await.expect_error(409, "device_offline");
                path = path.replace("{command_id}", refused["details"]["command_id"].as_str().unwrap());
            }
        }
        if path.contains("{id}") {
            path = path.replace("{id}", &self.id(&path).await);
        }
        if path.contains("{session_id}") {
            path = path.replace("{session_id}", &self.session().await);
        }
        if path.contains("{token_id}") {
            path = path.replace("{token_id}", &self.token().await);
        }
        if path.ends_with("/export") {
            path.push_str("?format=jsonl");
        }
        path.replace("{index}", "0").replace("{name}", "device_view_state")
    }

    async fn id(&self, path: &str) -> String {
        if path.contains("/sessions/{id}") {
            return self.session().await;
        }
        if path.contains("/grants/{id}") {
            let body = json!({ "email": self.server.user().await.email, "access": "read" });
            return text(&self.owner.client.post(path.trim_end_matches("/{id}"), &body).await.expect(201)["id"]);
        }
        if path.contains("/invitations/{id}") {
            let admin = self.server.admin().await;
            return text(&admin.post("/api/v1/admin/invitations", &json!({})).await.expect(201)["id"]);
        }
        if path.contains("/tokens/{id}") {
            return self.token().await;
        }
        if path.contains("/plugins/") { "hexa.relay-controller".into() } else { self.owner.id.clone() }
    }

    /// A session of the owner beside the one that the owner calls with.
    async fn session(&self) -> String {
        let login = json!({ "email": self.owner.email, "password": PASSWORD });
        self.server.client().post("/api/v1/auth/login", &login).await.expect(200);
        let list = self.owner.client.get("/api/v1/auth/sessions").await.expect(200);
        let other = list["items"].as_array().unwrap().iter().find(|s| s["current"] == false).unwrap().clone();
        text(&other["id"])
    }

    async fn token(&self) -> String {
        let body = json!({ "name": "x", "scopes": ["devices:read"] });
        text(&self.owner.client.post("/api/v1/auth/tokens", &body).await.expect(201)["id"])
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

async fn send(client: &Client, route: &str, path: &str, body: &Value) -> u16 {
    let method: Method = route.split(' ').next().unwrap().parse().unwrap();
    let request = client.request(method, path);
    let request = if body.is_null() { request } else { request.json(body) };
    let reply = client.send(request).await;
    if reply.status >= 400 {
        hexa_tests::shapes::assert_error(&reply.json(), reply.json()["code"].as_str().unwrap(), route);
    }
    reply.status
}

async fn unscoped(user: &User, other: bool) -> Client {
    let scope = if other { "devices:read" } else { "preferences" };
    let body = json!({ "name": "matrix", "scopes": [scope] });
    let made = user.client.post("/api/v1/auth/tokens", &body).await.expect(201);
    user.client.with_token(made["token"].as_str().unwrap())
}

#[tokio::test]
async fn every_route_answers_every_kind_of_caller_as_the_table_says() {
    let server = TestServer::start(Options::new());
    let (admin, disabled) = (server.admin().await, server.user().await);
    admin.patch(&format!("/api/v1/admin/users/{}", disabled.id), &json!({ "active": false })).await.expect(200);
    let identity = server.provision(1).await;
    let device = server.client().with_token(&identity.token);
    let mut table = table();
    let mut shown =
        String::from("route | anonymous | device | disabled | without scope | other user | guest | owner | admin\n");
    for route in routes() {
        if let Some((_, expected)) = OPEN.iter().find(|(open, _)| *open == route) {
            let body = if route.starts_with("POST") { json!({}) } else { Value::Null };
            let path = route.split(' ').nth(1).unwrap();
            let status = send(&server.client(), &route, path, &body).await;
            assert_eq!(status, *expected, "{route} by anybody");
            let _ = writeln!(shown, "{route} | {status} whoever asks");
            continue;
        }
        let row = table.remove(route.as_str()).unwrap_or_else(|| panic!("{route} is not in the table"));
        let fixture = Fixture { server: &server, owner: server.user().await, guest: server.user().await };
        let other = server.user().await;
        let admin = if route.contains("/auth/") { second_admin(&server, &admin).await } else { admin.clone() };
        let path = fixture.path(&route).await;
        let scope = if row.unscoped == 0 { row.owner } else { row.unscoped };
        let guest = if row.guest == 0 { row.other } else { row.guest };
        let mut line = route.clone();
        for (who, client, expected) in [
            ("anonymous", server.client(), 401),
            ("a device", device.clone(), 401),
            ("a disabled user", disabled.client.clone(), 401),
            ("the owner's token without the scope", unscoped(&fixture.owner, row.other_scope).await, scope),
            ("another user", other.client.clone(), row.other),
            ("a guest", fixture.guest.client.clone(), guest),
        ] {
            let status = send(&client, &route, &path, &row.body).await;
            assert_eq!(status, expected, "{route} by {who}");
            let _ = write!(line, " | {status}");
        }
        // These may end what they are about: each gets its own.
        let for_admin = send(&admin, &route, &fixture.path(&route).await, &row.body).await;
        assert_eq!(for_admin, row.admin, "{route} by an admin");
        // An admin may have ended the owner's sessions.
        let login = json!({ "email": fixture.owner.email, "password": PASSWORD });
        let again = server.client().post("/api/v1/auth/login", &login).await.expect(200);
        let fixture = Fixture { owner: User::new(server.client(), &fixture.owner.email, &again), ..fixture };
        let own = send(&fixture.owner.client, &route, &fixture.path(&route).await, &row.body).await;
        assert_eq!(own, row.owner, "{route} by the owner");
        let _ = writeln!(shown, "{line} | {own} | {for_admin}");
    }
    assert!(table.is_empty(), "no such routes: {:?}", table.keys().collect::<Vec<_>>());
    eprintln!("{shown}");
}

/// One whose own password and sessions may be changed.
async fn second_admin(server: &TestServer, admin: &Client) -> Client {
    let user = server.user().await;
    admin.patch(&format!("/api/v1/admin/users/{}", user.id), &json!({ "role": "admin" })).await.expect(200);
    let login = json!({ "email": user.email, "password": PASSWORD });
    let answer = server.client().post("/api/v1/auth/login", &login).await.expect(200);
    User::new(server.client(), &user.email, &answer).client
}
