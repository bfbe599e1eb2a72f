//! Databases that an earlier version used (`tests/compat/databases`), on the server of today: everything is there, and
//! works.

mod make;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::GzDecoder;
use hexa_tests::process::{finish, hexa};
use hexa_tests::server::ScratchDir;
use hexa_tests::{Body, Client, Identity, Options, TestServer, User};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Both databases of one commit weigh less than this.
const MAX_BYTES: usize = 300 << 10;

fn folders() -> Vec<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat/databases");
    let mut dirs: Vec<_> = std::fs::read_dir(&corpus).unwrap().flatten().map(|e| e.path()).collect();
    dirs.retain(|path| path.is_dir());
    dirs.sort();
    assert!(!dirs.is_empty(), "there is no used database in {}", corpus.display());
    dirs
}

fn unpacked(file: &Path) -> Vec<u8> {
    let packed = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    assert!(packed.len() <= MAX_BYTES, "{} has {} bytes", file.display(), packed.len());
    let mut bytes = Vec::new();
    GzDecoder::new(packed.as_slice()).read_to_end(&mut bytes).unwrap();
    bytes
}

/// The newest of the files that are kept.
pub(crate) fn sqlite_file() -> Vec<u8> {
    unpacked(&folders().pop().unwrap().join("sqlite.db.gz"))
}

/// A data directory as it was left, ready to be started.
struct Fixture {
    dir: ScratchDir,
    facts: Value,
    options: Options,
}

impl Fixture {
    fn new(folder: &Path) -> Self {
        let dir = ScratchDir::new();
        let kind = if hexa_testpg::chosen() { "postgres" } else { "sqlite" };
        let facts: Value =
            serde_json::from_slice(&std::fs::read(folder.join(format!("{kind}.json"))).unwrap()).unwrap();
        let secrets = dir.path().join("secrets");
        std::fs::create_dir(&secrets).unwrap();
        std::fs::set_permissions(&secrets, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        for (name, secret) in facts["secrets"].as_object().unwrap() {
            let file = secrets.join(name);
            std::fs::write(&file, secret.as_str().unwrap()).unwrap();
            std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
        if hexa_testpg::chosen() {
            let address = hexa_testpg::database();
            let file = dir.path().join("dump.sql");
            std::fs::write(&file, unpacked(&folder.join("postgres.sql.gz"))).unwrap();
            let mut psql = std::process::Command::new("psql");
            psql.arg(&address).args(["--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--file"]).arg(&file);
            let done = psql.output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            hexa_tests::db::use_address(dir.path(), &address);
        } else {
            std::fs::write(dir.path().join("hexa.db"), unpacked(&folder.join("sqlite.db.gz"))).unwrap();
        }
        // Whatever the year is, its rows stay.
        let options = Options::new().data_dir(dir.path()).env("AUDIT_RETENTION_DAYS", "0");
        Self { dir, facts, options }
    }
    fn list(&self, name: &str) -> &[Value] {
        let list = self.facts[name].as_array().unwrap();
        assert!(!list.is_empty(), "no {name}");
        list
    }
    async fn user(&self, server: &TestServer, email: &Value) -> User {
        let account = self.list("accounts").iter().find(|a| a["email"] == *email).unwrap();
        let email = email.as_str().unwrap();
        let body = json!({ "email": email, "password": account["password"] });
        User::new(server.client(), email, &server.client().post("/api/v1/auth/login", &body).await.expect(200))
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

async fn found(client: &Client, path: &str, search: &str) -> Vec<Value> {
    let encoded = search.bytes().map(|b| format!("%{b:02X}")).collect::<Vec<_>>().concat();
    client.get(&format!("{path}?search={encoded}")).await.expect(200)["items"].as_array().unwrap().clone()
}

async fn accounts_are_there(fixture: &Fixture, server: &TestServer) {
    let admin = fixture.list("accounts").iter().find(|a| a["role"] == "admin").unwrap();
    let admin = fixture.user(server, &admin["email"]).await.client;
    for account in fixture.list("accounts") {
        let email = text(&account["email"]);
        if account["active"] == true {
            let user = fixture.user(server, &account["email"]).await;
            let me = user.client.get("/api/v1/auth/me").await.expect(200);
            assert_eq!([&me["id"], &me["name"], &me["role"]], [&account["id"], &account["name"], &account["role"]]);
        } else {
            let body = json!({ "email": email, "password": account["password"] });
            let refused = server.client().post("/api/v1/auth/login", &body).await;
            assert!(matches!(refused.status, 401 | 403), "{}", refused.text);
        }
        for search in [text(&account["name"]).to_owned(), text(&account["name"]).to_uppercase(), email.to_uppercase()] {
            let ids: Vec<_> = found(&admin, "/api/v1/admin/users", &search).await;
            assert!(
                ids.iter().any(|u| u["id"] == account["id"] && u["active"] == account["active"]),
                "{search}: {ids:?}"
            );
        }
    }
    for token in fixture.list("tokens") {
        let reply = server.client().with_token(text(&token["token"])).get("/api/v1/devices").await;
        // One of them is for something else.
        assert_eq!(reply.status == 401, token["revoked"] == true, "{}: {}", token["name"], reply.text);
    }
    let preferences = &fixture.facts["preferences"];
    let user = fixture.user(server, &preferences["by"]).await;
    for name in preferences["names"].as_array().unwrap() {
        let document = user.client.get(&format!("/api/v1/preferences/{}", text(name))).await.expect(200);
        assert_eq!(document["von"], *name);
    }
}

async fn devices_are_there(fixture: &Fixture, server: &TestServer, admin: &Client) {
    for device in fixture.list("devices") {
        let uid = text(&device["uid"]);
        let shown = admin.get(&format!("/api/v1/devices/{uid}")).await.expect(200);
        assert_eq!([&shown["serial"], &shown["owner"]["email"]], [&device["serial"], &device["owner"]], "{shown}");
        let relays = shown["relays"].as_array().unwrap();
        let states: Vec<_> = relays.iter().map(|r| r["state"].clone()).collect();
        assert_eq!(Value::from(states), device["relays"], "{shown}");
        assert_eq!(shown["name"], device["name"], "{shown}");
        if device["owner"].is_null() {
            continue;
        }
        let owner = fixture.user(server, &device["owner"]).await;
        let names = device["relay_names"].as_array().unwrap();
        let kept: Vec<_> = relays.iter().map(|r| r["name"].clone()).collect();
        assert_eq!(&kept, names, "{shown}");
        for name in names.iter().chain([&device["name"]]).map(text) {
            for search in [name.to_owned(), name.to_uppercase(), name.to_lowercase()] {
                let items = found(&owner.client, "/api/v1/devices", &search).await;
                assert!(items.iter().any(|d| d["uid"] == uid), "{search}: {items:?}");
            }
        }
        // It connects with the token that it had, and does what it is told.
        let relays = u16::try_from(names.len()).unwrap();
        let identity =
            Identity { uid: uid.to_owned(), token: text(&device["token"]).to_owned(), claim_code: String::new() };
        let living = server.connect(&identity).await.automatic_as(&Body::new(relays));
        for state in [true, false] {
            owner.set_relay(uid, 0, state).await.expect(200);
            assert_eq!(living.states()[0], state);
        }
    }
}

async fn shares_and_commands_are_there(fixture: &Fixture, server: &TestServer) {
    for grant in fixture.list("grants") {
        let device = fixture.list("devices").iter().find(|d| d["uid"] == grant["device"]).unwrap();
        let (owner, guest) =
            (fixture.user(server, &device["owner"]).await, fixture.user(server, &grant["guest"]).await);
        let uid = text(&grant["device"]);
        let listed = owner.client.get(&format!("/api/v1/devices/{uid}/grants")).await.expect(200);
        let living = listed["items"].as_array().unwrap().iter().any(|g| g["id"] == grant["id"]);
        assert_eq!(living, grant["living"] == true, "{grant}: {listed}");
        if living {
            let seen = guest.client.get(&format!("/api/v1/devices/{uid}")).await.expect(200);
            assert_eq!(seen["access"], grant["access"]);
        }
    }
    for command in fixture.list("commands") {
        let by = fixture.user(server, &command["by"]).await;
        let reply = by.client.get(&format!("/api/v1/commands/{}", text(&command["id"]))).await;
        match command["status"].as_str() {
            Some(status) => assert_eq!(reply.expect(200)["status"], status, "{command}"),
            None => drop(reply.expect(404)),
        }
    }
}

async fn audit_verifies(server: &TestServer) {
    let dir = server.data_dir();
    let mut command = std::process::Command::new(hexa());
    command.args(["audit", "verify", "--data-dir"]).arg(dir).current_dir(dir).env_remove("DATABASE_URL");
    if let Some(address) = hexa_tests::db::address(dir) {
        command.env("DATABASE_URL", address);
    }
    let done = finish(command, Duration::from_secs(60)).await;
    assert_eq!(done.code, 0, "{} {}", done.stdout, done.stderr);
    assert!(done.stdout.contains("the audit is whole"), "{}", done.stdout);
}

/// SHA-256 of the claim codes that were open: what a version kept that had no key for them.
fn plain_hashes(fixture: &Fixture) -> Vec<[u8; 32]> {
    let codes = fixture.list("devices").iter().filter_map(|d| d["claim_code"].as_str());
    let hashes: Vec<_> = codes.map(|code| Sha256::digest(code.replace('-', "")).into()).collect();
    assert!(!hashes.is_empty(), "no open code");
    hashes
}

fn has_part(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|w| w == part)
}

fn codes_are_kept_under_a_key(fixture: &Fixture, server: &TestServer) {
    let waiting = "select count(*) from devices where claim_hash is not null";
    assert!(server.db().value::<i64>(waiting) >= plain_hashes(fixture).len() as i64, "open codes are still kept");
    assert_eq!(server.db().value::<i64>(&format!("{waiting} and claim_key is null")), 0);
    for hash in plain_hashes(fixture) {
        let hex = hash.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat();
        let value = if server.db().is_sqlite() { format!("x'{hex}'") } else { format!("'\\x{hex}'::bytea") };
        assert_eq!(server.db().value::<i64>(&format!("{waiting} and claim_hash = {value}")), 0, "the plain hash");
    }
}

fn copies(dir: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(dir).unwrap().flatten().map(|e| e.path());
    names.filter(|p| p.file_name().unwrap().to_string_lossy().starts_with("hexa.db.before-")).collect()
}

#[test]
fn used_databases_are_what_they_were() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("compat/databases");
    let sums = std::fs::read_to_string(corpus.join("SHA256SUMS")).unwrap();
    let mut files = 0;
    for folder in folders() {
        for file in std::fs::read_dir(&folder).unwrap().flatten() {
            let sum = Sha256::digest(std::fs::read(file.path()).unwrap());
            let hex: String = sum.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat();
            let name = format!("{}/{}", folder.file_name().unwrap().display(), file.file_name().display());
            let line = format!("{hex}  {name}");
            assert!(sums.lines().any(|l| l == line), "{name} was made anew or is new; see the README there: {line}");
            files += 1;
        }
    }
    assert_eq!(sums.lines().count(), files, "a file is gone that SHA256SUMS names");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_database_is_brought_up_to_date_and_everything_is_there() {
    for folder in folders() {
        let fixture = Fixture::new(&folder);
        let mut server = TestServer::start(fixture.options.clone());
        if server.db().is_sqlite() {
            let made = copies(fixture.dir.path());
            let [copy] = made.as_slice() else { panic!("{made:?}") };
            server.log().wait_for(&copy.to_string_lossy()).await;
            let old = rusqlite::Connection::open(copy).unwrap();
            let whole: String = old.query_row("pragma integrity_check", [], |row| row.get(0)).unwrap();
            let rows = |sql: &str| old.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
            let devices = rows("select count(*) from devices");
            assert_eq!((whole.as_str(), devices), ("ok", fixture.list("devices").len() as i64));
            let schema = rows("select max(version) from _sqlx_migrations");
            assert!(schema < server.db().value("select max(version) from _sqlx_migrations"), "{schema}");
            let kept = std::fs::read(copy).unwrap();
            assert!(
                plain_hashes(&fixture).iter().all(|hash| has_part(&kept, hash)),
                "they were where we look for them"
            );
        }
        codes_are_kept_under_a_key(&fixture, &server);
        audit_verifies(&server).await;
        accounts_are_there(&fixture, &server).await;
        let admin = fixture.list("accounts").iter().find(|a| a["role"] == "admin").unwrap();
        let admin = fixture.user(&server, &admin["email"]).await.client;
        shares_and_commands_are_there(&fixture, &server).await;
        devices_are_there(&fixture, &server, &admin).await;
        let exported = admin.get("/api/v1/admin/audit/export?format=jsonl").await.text.lines().count();
        assert!(exported > fixture.facts["audit_rows"].as_u64().unwrap() as usize, "{exported} rows");
        server.stop().await;
        for edit in [
            "delete from audit",
            "delete from audit_tail",
            "update audit set seq = seq",
            "update audit_tail set seq = seq",
        ] {
            let refused = server.db().try_tamper(edit).unwrap_err();
            assert!(refused.contains("append-only"), "{edit}: {refused}");
        }
        if server.db().is_sqlite() {
            // Not even between the rows.
            let file = std::fs::read(fixture.dir.path().join("hexa.db")).unwrap();
            assert!(!plain_hashes(&fixture).iter().any(|hash| has_part(&file, hash)), "the file has a plain hash");
        }
        // With the rows of before and of now; the oldest went under a checkpoint then.
        audit_verifies(&server).await;
        // Nothing is left to do at the next start, so nothing is copied.
        let before = copies(fixture.dir.path());
        server.restart();
        assert_eq!(copies(fixture.dir.path()), before);
        assert!(!server.log().text().split("\"stopped\"").last().unwrap().contains("names were folded"));
        server.stop().await;
    }
}

/// At the time at which it was left, with what does not live long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_under_way_goes_on() {
    let clock = hexa_tests::machine::clock("used::what_was_under_way_goes_on");
    let Some(clock) = clock else { return };
    for folder in folders() {
        let fixture = Fixture::new(&folder);
        let left = fixture.facts["made_at_ms"].as_i64().unwrap() / 1_000;
        let now = i64::try_from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
        clock.set(&format!("{:+}", left + 60 - now));
        let mut server = TestServer::start(clock.options(fixture.options.clone()));
        for session in fixture.list("refresh") {
            let body = json!({ "refresh_token": session["refresh_token"] });
            let reply = server.client().post("/api/v1/auth/refresh", &body).await;
            assert_eq!(reply.status, if session["living"] == true { 200 } else { 401 }, "{}", reply.text);
        }
        for replay in fixture.list("replays") {
            let by = fixture.user(&server, &replay["by"]).await;
            let method: Method = text(&replay["method"]).parse().unwrap();
            let request =
                by.client.request(method, text(&replay["path"])).header("idempotency-key", text(&replay["key"]));
            // Not held to the contract of today: what was answered stays what it was for a day.
            let reply = request.json(&replay["body"]).send().await.unwrap();
            assert_eq!(reply.headers().get("idempotency-replayed").unwrap(), "true");
            assert_eq!(u64::from(reply.status().as_u16()), replay["status"].as_u64().unwrap());
            assert_eq!(reply.text().await.unwrap(), text(&replay["answer"]));
        }
        for device in fixture.list("devices").iter().filter(|d| d["owner"].is_null()) {
            let user = server.user().await;
            let claimed = user.client.post("/api/v1/devices/claim", &json!({ "code": device["claim_code"] })).await;
            assert_eq!(claimed.expect(200)["uid"], device["uid"]);
        }
        server.stop().await;
    }
}
