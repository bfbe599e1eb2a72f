//! `cargo xtask run`: what a stranger finds after the first start, and that a second one leaves it as it is.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use hexa_tests::process::{Finished, finish, hexa};
use hexa_tests::server::ScratchDir;
use hexa_tests::{Client, Options, TestServer};
use serde_json::{Value, json};

/// Starts the demo with the server of these tests, until it has said what to open.
async fn run(dir: &Path, devices: &str) -> Finished {
    let xtask = hexa().with_file_name("xtask");
    assert!(xtask.exists(), "{} is not built: run `cargo xtask test`", xtask.display());
    let mut command = Command::new(xtask);
    command.args(["run", "--once", "--listen", "127.0.0.1:0", "--data-dir"]).arg(dir).arg("--binary").arg(hexa());
    command.args(["--devices", devices]);
    command.env_remove("HEXA_PLUGINS_DIR").current_dir(dir);
    if let Some(address) = hexa_tests::db::address(dir) {
        command.env("DATABASE_URL", address);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let ended = finish(command, Duration::from_secs(120)).await;
    assert_eq!(ended.code, 0, "{}\n{}", ended.stdout, ended.stderr);
    ended
}

/// What it prints at its end: the log of the server is before it.
fn said(ended: &Finished) -> Vec<String> {
    let lines: Vec<_> = ended.stdout.lines().collect();
    let first = lines.iter().position(|line| line.starts_with("Open ")).unwrap_or_else(|| panic!("{}", ended.stdout));
    let own = lines[first..].iter().filter(|line| !line.starts_with('{'));
    own.map(|line| (*line).to_owned()).collect()
}

fn kept(dir: &Path, name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(dir.join(name)).unwrap()).unwrap()
}

async fn sign_in(server: &TestServer, login: &Value) -> (Value, Client) {
    let session = server.client().post("/api/v1/auth/login", login).await.expect(200);
    let client = server.client().with_token(session["access_token"].as_str().unwrap());
    (session["user"].clone(), client)
}

async fn items(client: &Client, path: &str) -> Vec<Value> {
    client.get(path).await.expect(200)["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_first_start_shows_a_home_and_the_second_leaves_it_as_it_is() {
    let scratch = ScratchDir::new();
    let dir = scratch.path();
    let first = run(dir, "12").await;
    let lines = said(&first);
    let heads: Vec<_> = lines.iter().map(|line| line.split("  ").next().unwrap_or_default()).collect();
    assert_eq!(heads, ["Open", "Sign in", "Or as", "Switch", "List", "Read"], "{lines:#?}");
    let (owner, guest) = (kept(dir, "demo-login.json"), kept(dir, "guest-login.json"));
    for (line, login) in [(&lines[1], &owner), (&lines[2], &guest)] {
        for part in ["email", "password"] {
            assert!(line.contains(login[part].as_str().unwrap()), "{line}");
        }
    }
    assert!(!first.stderr.contains("hexa sim:"), "nothing went wrong: {}", first.stderr);

    // More devices, and nothing else that is new.
    let second = run(dir, "20").await;
    assert_eq!(said(&second).len(), 6, "{}", second.stdout);
    assert_eq!((&kept(dir, "demo-login.json"), &kept(dir, "guest-login.json")), (&owner, &guest));
    assert!(!second.stderr.contains("hexa sim:"), "nothing went wrong: {}", second.stderr);

    let server = TestServer::start(Options::new().data_dir(dir));
    let (user, admin) = sign_in(&server, &owner).await;
    assert_eq!(user["role"], "admin");
    let devices = items(&admin, "/api/v1/devices?limit=100").await;
    assert_eq!(devices.len(), 20, "{devices:#?}");
    let (named, more): (Vec<_>, Vec<_>) = devices.iter().partition(|d| d["name"].is_string());
    let names: std::collections::BTreeSet<_> = named.iter().map(|d| d["name"].as_str()).collect();
    assert_eq!((named.len(), names.len(), more.len()), (12, 12, 8), "each name once: {devices:#?}");
    let mut relays = named.iter().flat_map(|d| d["relays"].as_array().unwrap());
    assert!(relays.all(|relay| relay["name"].is_string()), "{devices:#?}");
    let of = |name: &str| devices.iter().find(|d| d["name"] == name).unwrap_or_else(|| panic!("{name}: {devices:#?}"));
    let history = async |name: &str| {
        let uid = of(name)["uid"].as_str().unwrap();
        items(&admin, &format!("/api/v1/devices/{uid}/history?limit=100")).await
    };
    // Commands of the first start alone, each done by its device.
    let commands =
        |rows: &[Value]| rows.iter().filter(|row| row["action"] == "set_relay" && row["source"] == "api").count();
    let kitchen = history("Kitchen ceiling").await;
    assert_eq!(commands(&kitchen), 6, "{kitchen:#?}");
    // Offline since the first start: the second did not bring it back.
    let (kitchen, cabin) = (of("Kitchen ceiling"), of("Holiday cabin"));
    assert!(cabin["last_seen_at"].as_str().unwrap() < kitchen["last_seen_at"].as_str().unwrap(), "{cabin} {kitchen}");

    let (_, guest) = sign_in(&server, &guest).await;
    let shared = items(&guest, "/api/v1/devices").await;
    assert_eq!(
        shared.iter().map(|d| (&d["name"], &d["access"])).collect::<Vec<_>>(),
        [(&json!("Garage door"), &json!("control"))]
    );
    let rows = history("Garage door").await;
    assert_eq!(commands(&rows), 8, "six of the owner's and two of the guest's: {rows:#?}");

    // The token of the printed lines is good, and the same after the second start.
    let token = std::fs::read_to_string(dir.join("demo-token")).unwrap();
    let uid = of("Kitchen ceiling")["uid"].as_str().unwrap();
    assert!(lines[3].contains(uid) && lines[3].contains("/demo-token)"), "{}", lines[3]);
    server.client().with_token(token.trim()).get(&format!("/api/v1/devices/{uid}")).await.expect(200);
    assert_eq!(items(&admin, "/api/v1/auth/tokens").await.len(), 1);
}
