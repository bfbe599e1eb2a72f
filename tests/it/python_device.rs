//! The device in plain Python, the protocol by example, works against the real server.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use hexa_tests::process::{Lines, spawn, target_dir};
use hexa_tests::server::ScratchDir;
use hexa_tests::{Options, TestServer, eventually};
use serde_json::{Value, json};

fn python() -> PathBuf {
    let python = target_dir().join("venv/bin/python");
    assert!(python.is_file(), "there is no {}: run `cargo xtask test`", python.display());
    python
}

fn events(lines: &Lines, name: &str) -> Vec<Value> {
    let all = lines.all();
    let parsed = all.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    parsed.filter(|event| event["event"] == name).collect()
}

#[tokio::test]
async fn a_device_in_plain_python_switches_its_relays() {
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let scratch = ScratchDir::new();
    let example = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../examples/device/device.py");
    let mut command = Command::new(python());
    command
        .arg(&example)
        .args(["--server", &format!("http://{}", server.address)])
        .args(["--provision-key", &server.provision_key()])
        .arg("--state-file")
        .arg(scratch.path().join("device.json"))
        .args(["--relays", "2"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = spawn(command).expect("python starts");
    let (out, err) = (Lines::default(), Lines::default());
    out.follow(child.stdout.take().unwrap());
    err.follow(child.stderr.take().unwrap());
    let provisioned = eventually("the device provisioned", || async { events(&out, "provisioned").pop() }).await;
    let uid = provisioned["uid"].as_str().unwrap().to_owned();
    user.client.post("/api/v1/devices/claim", &json!({ "code": provisioned["claim_code"] })).await.expect(200);
    eventually("its first report", || async { user.relay(&uid, 1).await }).await;
    for (relay, state) in [(0, true), (1, true), (0, false)] {
        let answer = user.set_relay(&uid, relay, state).await.expect(200);
        assert_eq!(answer["relays"][0]["state"], state);
    }
    user.set_all(&uid, true).await.expect(200);
    assert_eq!(
        (user.relay(&uid, 0).await.map(|r| r.0), user.relay(&uid, 1).await.map(|r| r.0)),
        (Some(true), Some(true))
    );
    assert!(child.try_wait().unwrap().is_none(), "it still runs: {}", err.text());
    assert!(!err.contains("Traceback"), "{}", err.text());
    child.kill().unwrap();
    child.wait().unwrap();
}
