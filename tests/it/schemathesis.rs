//! The contract against a generator that reads it: thousands of requests, right and wrong, from docs/openapi.json. No
//! answer is a fault of the server, of an undocumented status, media type or shape.

use std::process::Command;
use std::time::Duration;

use hexa_tests::machine::is_long;
use hexa_tests::process::{finish, target_dir};
use hexa_tests::server::ScratchDir;
use hexa_tests::{Options, TestServer};

const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";

/// These end the access with which the rest of the run is made.
const OWN_END: &[&str] = &[
    "logout",
    "revokeOwnToken",
    "changePassword",
    "endSession",
    "endOtherSessions",
    "endUserSessions",
    "endUserSession",
    "patchUser",
    "rotateKeys",
];
/// These take the device away that the others are about; the run without a device has them.
const DEVICE_END: &[&str] = &["deleteDevice", "releaseDevice"];

async fn run(who: &str, server: &TestServer, token: &str, device: Option<&str>) {
    let program = target_dir().join("venv/bin/schemathesis");
    assert!(program.is_file(), "there is no {}: run `cargo xtask test`", program.display());
    let scratch = ScratchDir::new();
    if let Some(uid) = device {
        // Alternately with made-up ones it would find the device too rarely.
        let config = format!("[parameters]\n\"path.uid\" = \"{uid}\"\n");
        std::fs::write(scratch.path().join("schemathesis.toml"), config).unwrap();
    }
    let seconds = if is_long() { 300 } else { 25 };
    let mut command = Command::new(program);
    command
        .current_dir(scratch.path())
        .args(["run", &format!("http://{}/api/openapi.json", server.address), "--no-color"])
        .args(["--checks", CHECKS, "--max-time", &seconds.to_string()])
        .args(["-H", &format!("Authorization: Bearer {token}")])
        .args(["-H", &format!("x-provision-key: {}", server.provision_key())])
        // Upgrades are not for it.
        .args(["--exclude-path-regex", "^/ws/"]);
    for id in OWN_END.iter().chain(DEVICE_END.iter().filter(|_| device.is_some())) {
        command.args(["--exclude-operation-id", id]);
    }
    let done = finish(command, Duration::from_secs(seconds + 120)).await;
    let summary = done.stdout.split("=== SUMMARY").nth(1).unwrap_or(&done.stdout);
    eprintln!("as {who}:{summary}");
    assert_eq!(done.code, 0, "as {who}:\n{}\n{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("No issues found") || done.stdout.contains("passed"), "{}", done.stdout);
}

fn options() -> Options {
    let many = "100000";
    Options::new().env("LIMIT_CLAIM_FAILURES", many).env("LIMIT_PROVISION_FAILURES", many)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_a_device_gets_documented_answers_only() {
    let server = TestServer::start(options());
    let user = server.user().await;
    let device = server.device(&user, 4).await.automatic(4);
    run("a user", &server, &user.access_token, Some(device.uid())).await;
    assert!(!device.seen().is_empty(), "commands reached the device");
    assert!(!server.log().contains("panicked"), "{}", server.log().text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_gets_documented_answers_only() {
    let server = TestServer::start(options());
    let admin = server.admin().await;
    run("an admin", &server, admin.token(), None).await;
    assert!(!server.log().contains("panicked"), "{}", server.log().text());
}
