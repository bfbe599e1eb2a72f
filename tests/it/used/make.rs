//! Makes a used database of the server at hand: how the folders of `tests/compat/databases` came about.
//!
//! Run with the server of the commit whose database is to be kept, once for each database:
//! `HEXA_BIN=… HEXA_MAKE_USED=<folder> cargo test -p hexa-tests --test it -- --ignored --exact used::make::a_used_database`
//! (and `HEXA_TEST_DB=postgres` for the other one).

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::GzEncoder;
use hexa_tests::machine::FakeClock;
use hexa_tests::server::PASSWORD;
use hexa_tests::{Client, Identity, Options, TestServer, User, eventually};
use reqwest::Method;
use serde_json::{Value, json};

/// How long ago the server was first started.
const BEGAN: &str = "-400d";

/// What is found there later.
#[derive(Default)]
struct Facts {
    accounts: Vec<Value>,
    devices: Vec<Value>,
    tokens: Vec<Value>,
    grants: Vec<Value>,
    commands: Vec<Value>,
    replays: Vec<Value>,
    refresh: Vec<Value>,
}

async fn register(server: &TestServer, email: &str, name: &str, secret: Option<&str>) -> User {
    let mut body = json!({ "email": email, "password": PASSWORD, "name": name });
    if let Some(secret) = secret {
        body["bootstrap_secret"] = secret.into();
    }
    let answer = server.client().post("/api/v1/auth/register", &body).await.expect(201);
    User::new(server.client(), email, &answer)
}

async fn sign_in(server: &TestServer, email: &str) -> User {
    let body = json!({ "email": email, "password": PASSWORD });
    User::new(server.client(), email, &server.client().post("/api/v1/auth/login", &body).await.expect(200))
}

impl Facts {
    async fn device(&mut self, server: &TestServer, owner: Option<&User>, name: &str, relays: &[&str]) -> Identity {
        let count = u16::try_from(relays.len().max(1)).unwrap();
        let serial = format!("SN-{}", self.devices.len() + 1);
        let body = json!({ "device_class": "relay_controller", "model": "T4", "serial": serial,
                           "relay_count": count, "input_count": count });
        let identity = server.provision_with(&body).await;
        if let Some(owner) = owner {
            owner.client.post("/api/v1/devices/claim", &json!({ "code": identity.claim_code })).await.expect(200);
            let relays: Vec<_> = relays.iter().enumerate().map(|(i, n)| json!({ "index": i, "name": n })).collect();
            let names = json!({ "name": name, "relays": relays });
            owner.client.patch(&format!("/api/v1/devices/{}", identity.uid), &names).await.expect(200);
        }
        self.devices.push(json!({
            "uid": identity.uid, "token": identity.token, "serial": serial, "owner": owner.map(|o| &o.email),
            "name": owner.map(|_| name), "relay_names": relays, "relays": vec![Value::Null; usize::from(count)],
            "claim_code": owner.is_none().then_some(&identity.claim_code),
        }));
        identity
    }
    fn fact(&mut self, uid: &str) -> &mut Value {
        self.devices.iter_mut().find(|d| d["uid"] == uid).unwrap()
    }
    /// Switches relays of a device that acknowledges; the last one is not answered in time.
    async fn switch(
        &mut self,
        server: &TestServer,
        (by, owner): (&User, &User),
        identity: &Identity,
        states: &[bool],
        late: bool,
    ) {
        let mut device = server.connect(identity).await;
        let off: Vec<_> = (0..u16::try_from(states.len()).unwrap()).map(|i| (i, false)).collect();
        device.report(&off).await;
        device.settled().await;
        for (i, state) in states.iter().enumerate() {
            let index = u16::try_from(i).unwrap();
            let asked = tokio::spawn({
                let (by, uid) = (by.clone(), identity.uid.clone());
                async move { by.set_relay(&uid, index, true).await }
            });
            let sent = device.expect_command().await;
            let relays = json!([{ "index": index, "state": true }]);
            device.ack_with(&sent, &json!({ "status": "executed", "relays": relays })).await;
            asked.await.unwrap().expect(200);
            self.commands.push(json!({ "id": sent.id, "by": by.email, "status": "executed" }));
            if !state {
                device.report(&[(index, false)]).await;
                device.settled().await;
            }
            self.fact(&identity.uid)["relays"][i] = json!(state);
        }
        if late {
            let answer = by.set_relay(&identity.uid, 0, !states[0]).await;
            let id = answer.expect(504)["details"]["command_id"].as_str().unwrap().to_owned();
            self.commands.push(json!({ "id": id, "by": by.email, "status": "timeout" }));
        }
        device.socket.close().await;
        eventually("the device is seen to be gone", || async {
            let shown = owner.client.get(&format!("/api/v1/devices/{}", identity.uid)).await.expect(200);
            (shown["online"] == false).then_some(())
        })
        .await;
    }
    async fn token(&mut self, user: &User, name: &str, scopes: &[&str], revoked: bool) {
        let made =
            user.client.post("/api/v1/auth/tokens", &json!({ "name": name, "scopes": scopes })).await.expect(201);
        if revoked {
            let path = format!("/api/v1/auth/tokens/{}", made["id"].as_str().unwrap());
            user.client.delete(&path).await.expect(204);
        }
        self.tokens.push(json!({ "owner": user.email, "name": name, "token": made["token"], "revoked": revoked }));
    }
    async fn grant(&mut self, owner: &User, uid: &str, body: Value, living: bool) -> String {
        let made = owner.client.post(&format!("/api/v1/devices/{uid}/grants"), &body).await.expect(201);
        let id = made["id"].as_str().unwrap().to_owned();
        self.grants.push(json!({ "id": id, "device": uid, "guest": body["email"], "living": living,
                                 "access": body["access"], "relays": body["relays"] }));
        id
    }
    async fn keyed(&mut self, user: &User, key: &str, method: Method, path: &str, body: Value) {
        let request = user.client.request(method.clone(), path).header("idempotency-key", key).json(&body);
        let reply = user.client.send(request).await;
        assert!(reply.status < 300, "{}", reply.text);
        self.replays.push(json!({ "by": user.email, "key": key, "method": method.as_str(), "path": path, "body": body,
                                  "status": reply.status, "answer": reply.text }));
    }
}

struct Devices {
    kitchen: Identity,
    boiler: Identity,
    garage: Identity,
    attic: Identity,
    spare: Identity,
}

/// Who lives there, and what they brought.
async fn fixture(server: &mut TestServer, facts: &mut Facts) -> Devices {
    let secret = std::fs::read_to_string(server.data_dir().join("secrets/bootstrap_secret")).unwrap();
    let ada = register(server, "ada@example.org", "Ada", Some(secret.trim())).await;
    let anne = register(server, "änne.öztürk@example.org", "Änne Öztürk", None).await;
    let bert = register(server, "bert@example.org", "Bert 🦊", None).await;
    let clara = register(server, "clara@example.org", "Κλάρα Σοφός", None).await;
    for (user, role, active) in
        [(&ada, "admin", true), (&anne, "user", true), (&bert, "user", true), (&clara, "user", false)]
    {
        facts.accounts.push(json!({ "email": user.email, "id": user.id, "role": role, "active": active,
                                    "password": PASSWORD }));
    }
    for (fact, name) in facts.accounts.iter_mut().zip(["Ada", "Änne Öztürk", "Bert 🦊", "Κλάρα Σοφός"]) {
        fact["name"] = name.into();
    }
    let kitchen = facts.device(server, Some(&anne), "Küche 🍳", &["Öfen", "Licht über dem Herd"]).await;
    let boiler = facts.device(server, Some(&anne), "Ölheizung", &["Brenner"]).await;
    facts.switch(server, (&anne, &anne), &kitchen, &[true, false], true).await;
    let garage = facts.device(server, Some(&bert), "Гараж", &["Tor 🚪"]).await;
    // Decomposed, as a Mac types it.
    let attic = facts.device(server, Some(&bert), "Ku\u{308}che oben", &["İstanbul", "100 % _ \\"]).await;
    let spare = facts.device(server, None, "", &["", "", ""]).await;
    server.stop().await;
    Devices { kitchen, boiler, garage, attic, spare }
}

/// What happened there a year later.
async fn today(clock: &FakeClock, server: &mut TestServer, devices: &Devices, mut facts: Facts) -> Value {
    let Devices { kitchen, boiler, garage, attic, spare } = devices;
    // What is older than the retention goes, under a checkpoint.
    clock.set("+0");
    server.set_env("AUDIT_RETENTION_DAYS", Some("365"));
    server.restart();
    eventually("old audit rows removed", || async {
        (server.db().value::<i64>("select count(*) from audit_checkpoints") > 0).then_some(())
    })
    .await;
    // What became of those commands is not known any more.
    for command in &mut facts.commands {
        command["status"] = Value::Null;
    }
    let (ada, anne) = (sign_in(server, "ada@example.org").await, sign_in(server, "änne.öztürk@example.org").await);
    let bert = sign_in(server, "bert@example.org").await;
    // Sessions that ended, and one that lives, with its refresh token.
    for _ in 0..2 {
        let other = sign_in(server, "bert@example.org").await;
        let body = json!({ "refresh_token": other.refresh_token });
        server.client().post("/api/v1/auth/logout", &body).await.expect(204);
        facts.refresh.push(json!({ "refresh_token": other.refresh_token, "by": other.email, "living": false }));
    }
    let living = sign_in(server, "bert@example.org").await;
    facts.refresh.push(json!({ "refresh_token": living.refresh_token, "by": living.email, "living": true }));
    facts.token(&anne, "Skript für Öfen", &["devices:read", "relays:write"], false).await;
    facts.token(&anne, "verloren", &["devices:read"], true).await;
    facts.token(&ada, "monitoring", &["admin:*"], false).await;
    facts.switch(server, (&anne, &anne), boiler, &[true], false).await;
    let offline = anne.set_relay(&kitchen.uid, 0, false).await.expect(409);
    let id = offline["details"]["command_id"].as_str().unwrap();
    facts.commands.push(json!({ "id": id, "by": anne.email, "status": "offline" }));
    let guest = json!({ "email": "bert@example.org", "access": "read" });
    facts.grant(&anne, &boiler.uid, guest, true).await;
    let guest = json!({ "email": "bert@example.org", "access": "control", "relays": [1] });
    facts.grant(&anne, &kitchen.uid, guest, true).await;
    let guest = json!({ "email": "bert@example.org", "access": "control", "relays": [0] });
    let ended = facts.grant(&anne, &kitchen.uid, guest, false).await;
    anne.client.delete(&format!("/api/v1/devices/{}/grants/{ended}", kitchen.uid)).await.expect(204);
    let once = json!({ "email": "änne.öztürk@example.org", "access": "control", "relays": [0], "max_uses": 1 });
    facts.grant(&bert, &garage.uid, once, false).await;
    facts.switch(server, (&anne, &bert), garage, &[true], false).await;
    for name in ["dashboard_layout", "notification_settings"] {
        let path = format!("/api/v1/preferences/{name}");
        let document = json!({ "karten": ["Küche 🍳", 7], "von": name });
        facts.keyed(&anne, &format!("used-{name}"), Method::PUT, &path, document).await;
    }
    let path = format!("/api/v1/devices/{}", attic.uid);
    facts
        .keyed(&bert, "used-rename", Method::PATCH, &path, json!({ "relays": [{ "index": 0, "name": "İstanbul" }] }))
        .await;
    let rotated = bert.client.post_empty(&format!("/api/v1/devices/{}/token/rotate", attic.uid)).await.expect(200);
    facts.fact(&attic.uid)["token"] = rotated["device_token"].clone();
    facts.fact(&attic.uid)["rotated"] = json!(true);
    let renewed = ada.client.post_empty(&format!("/api/v1/devices/{}/claim-code", spare.uid)).await.expect(200);
    facts.fact(&spare.uid)["claim_code"] = renewed["claim_code"].clone();
    let path = format!("/api/v1/admin/users/{}", facts.accounts[3]["id"].as_str().unwrap());
    ada.client.patch(&path, &json!({ "active": false })).await.expect(200);
    // The older rows move out of the tail when there are more than a thousand; younger ones stay in it.
    let device = server.connect(boiler).await.automatic(1);
    for n in 0..1_000 {
        anne.set_relay(&boiler.uid, 0, n % 2 == 0).await.expect(200);
    }
    drop(device);
    eventually("rows in the table", || async {
        (server.db().value::<i64>("select count(*) from audit") > 0).then_some(())
    })
    .await;
    facts.switch(server, (&anne, &anne), boiler, &[true], false).await;
    json!({
        "made_at_ms": made_at(), "accounts": facts.accounts, "devices": facts.devices, "tokens": facts.tokens,
        "grants": facts.grants, "commands": facts.commands, "replays": facts.replays, "refresh": facts.refresh,
        "preferences": { "by": anne.email, "names": ["dashboard_layout", "notification_settings"] },
    })
}

fn made_at() -> u64 {
    u64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis()).unwrap()
}

fn keep(folder: &Path, name: &str, bytes: &[u8]) {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(bytes).unwrap();
    std::fs::write(folder.join(name), packed.finish().unwrap()).unwrap();
}

async fn counted(client: &Client) -> usize {
    let export = client.get("/api/v1/admin/audit/export?format=jsonl").await;
    export.text.lines().count()
}

#[ignore = "makes a folder of tests/compat/databases, see its README"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_database() {
    let folder = PathBuf::from(std::env::var_os("HEXA_MAKE_USED").expect("HEXA_MAKE_USED names the folder"));
    std::fs::create_dir_all(&folder).unwrap();
    let clock = FakeClock::new().expect("libfaketime");
    let options = Options::new().env("COMMAND_TIMEOUT_MS", "500").env("AUDIT_RETENTION_DAYS", "0");
    clock.set(BEGAN);
    let mut server = TestServer::start(clock.options(options));
    let mut facts = Facts::default();
    let devices = fixture(&mut server, &mut facts).await;
    let mut facts = today(&clock, &mut server, &devices, facts).await;
    let ada = sign_in(&server, "ada@example.org").await;
    facts["audit_rows"] = json!(counted(&ada.client).await);
    let sqlite = server.db().is_sqlite();
    server.stop().await;
    let tail = server.db().value::<i64>("select count(*) from audit_tail");
    let table = server.db().value::<i64>("select count(*) from audit");
    assert!(tail > 0 && table > 0, "rows in the tail ({tail}) and in the table ({table})");
    let kind = if sqlite { "sqlite" } else { "postgres" };
    let mut all = serde_json::Map::new();
    for file in std::fs::read_dir(server.data_dir().join("secrets")).unwrap().flatten() {
        let text = std::fs::read_to_string(file.path()).unwrap();
        all.insert(file.file_name().to_string_lossy().into_owned(), text.into());
    }
    facts["secrets"] = all.into();
    if sqlite {
        keep(&folder, "sqlite.db.gz", &std::fs::read(server.data_dir().join("hexa.db")).unwrap());
    } else {
        let address = hexa_tests::db::address(server.data_dir()).unwrap();
        let dump = Command::new("pg_dump").arg(address).args(["--no-owner", "--no-privileges", "--inserts"]).output();
        let dump = dump.unwrap();
        assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
        // Older versions of psql do not know these lines.
        let known = |line: &&[u8]| !line.starts_with(b"\\restrict") && !line.starts_with(b"\\unrestrict");
        let text: Vec<_> = dump.stdout.split_inclusive(|b| *b == b'\n').filter(known).collect();
        keep(&folder, "postgres.sql.gz", &text.concat());
    }
    let text = serde_json::to_string_pretty(&facts).unwrap();
    std::fs::write(folder.join(format!("{kind}.json")), format!("{text}\n")).unwrap();
}
