//! `hexa sim` against the real server.

use std::process::{Command, Stdio};
use std::time::Duration;

use hexa_tests::process::{Finished, Lines, code, ended, finish, hexa, signal, spawn};
use hexa_tests::server::ScratchDir;
use hexa_tests::{Options, TestServer, User, eventually};
use serde_json::{Value, json};

fn sim(server: &TestServer, args: &[&str]) -> Command {
    let mut command = Command::new(hexa());
    command
        .args(["sim", "--server", &format!("http://{}", server.address), "--provision-key-file"])
        .arg(server.data_dir().join("secrets/device_provision_key"))
        .args(args)
        .env_remove("DEVICE_PROVISION_KEY")
        .env_remove("HEXA_TOKEN")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

async fn devices(user: &User) -> Vec<Value> {
    let page = user.client.get("/api/v1/devices?limit=100").await.expect(200);
    page["items"].as_array().cloned().unwrap_or_default()
}

/// Runs until `enough` devices of the user are online, then does something, then ends by SIGTERM.
async fn run_while<F: Future<Output = ()>>(
    server: &TestServer,
    user: &User,
    enough: usize,
    args: &[&str],
    then: impl FnOnce() -> F,
) -> Value {
    let mut command = sim(server, args);
    command.args(["--report", "-"]).env("HEXA_TOKEN", &user.access_token);
    let mut child = spawn(command).unwrap();
    let (out, err) = (Lines::default(), Lines::default());
    out.follow(child.stdout.take().unwrap());
    err.follow(child.stderr.take().unwrap());
    eventually("simulated devices online", || async {
        let online = devices(user).await.iter().filter(|d| d["online"] == true).count();
        (online >= enough).then_some(())
    })
    .await;
    then().await;
    signal(&child, libc::SIGTERM);
    let status = ended(&mut child, Duration::from_secs(20)).await;
    assert_eq!(code(status), 0, "{}", err.text());
    eventually("the report", || async { serde_json::from_str(&out.text()).ok() }).await
}

#[tokio::test]
async fn simulated_devices_are_claimed_and_switch() {
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let report = run_while(&server, &user, 5, &["--devices", "5", "--relays", "2", "--seed", "1"], || async {
        for device in devices(&user).await {
            let uid = device["uid"].as_str().unwrap();
            assert_eq!((&device["relay_count"], &device["model"]), (&json!(2), &json!("hexa-sim")));
            let answer = user.set_relay(uid, 1, true).await.expect(200);
            assert_eq!(answer["status"], "executed");
            user.set_relay(uid, 1, true).await.expect(200);
        }
    })
    .await;
    assert_eq!((&report["seed"], &report["devices"], &report["connected_max"]), (&json!(1), &json!(5), &json!(5)));
    assert_eq!((&report["commands_received"], &report["acks_sent"]), (&json!(10), &json!(10)));
    assert_eq!((&report["errors"], &report["resends_seen"]), (&json!(0), &json!(0)), "{report}");
    // They called from several addresses of this machine.
    let mut addresses: Vec<_> = devices(&user).await.iter().map(|d| d["ip"].as_str().unwrap().to_owned()).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses, ["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5", "127.0.0.6"]);
}

#[tokio::test]
async fn a_server_alone_has_its_drivers_in_the_program() {
    let empty = ScratchDir::new();
    let server = TestServer::start(Options::new().data_dir(empty.path()).without("HEXA_PLUGINS_DIR"));
    let user = server.user().await;
    run_while(&server, &user, 2, &["--devices", "2", "--relays", "1,2", "--seed", "4"], || async {
        let devices = devices(&user).await;
        let of = |relays: u16| devices.iter().find(|d| d["relay_count"] == relays).expect("one of each size");
        let uid = of(2)["uid"].as_str().unwrap();
        user.set_relay(uid, 1, true).await.expect(200);
        assert!(user.relay(uid, 1).await.is_some_and(|(on, _)| on));
        user.set_relay(of(1)["uid"].as_str().unwrap(), 1, true).await.expect_error(400, "validation_error");
    })
    .await;
    let plugins = server.admin().await.get("/api/v1/admin/plugins").await.expect(200);
    let of = |member: &str| plugins["items"][0][member].clone();
    assert_eq!((of("id"), of("state")), (json!("hexa.relay-controller"), json!("active")), "{plugins}");
    assert!(!empty.path().join("plugins").exists(), "nothing is unpacked");
    let log = server.log().text();
    assert!(!log.contains("no plugin") && !log.contains("HEXA_PLUGINS_DIR"), "nothing is missing: {log}");
}

#[tokio::test]
async fn a_plugin_in_the_directory_replaces_the_one_of_its_id_in_the_program() {
    let (own, folder) = (hexa_tests::process::plugins().join("hexa.relay-controller"), ScratchDir::new());
    let manifest = std::fs::read_to_string(own.join("plugin.toml")).unwrap();
    let newer = manifest.replace("version     = \"0.1.0\"", "version = \"9.9.9\"");
    assert_ne!(manifest, newer);
    std::fs::create_dir(folder.path().join("mine")).unwrap();
    std::fs::write(folder.path().join("mine/plugin.toml"), newer).unwrap();
    std::fs::copy(own.join("plugin.wasm"), folder.path().join("mine/plugin.wasm")).unwrap();
    let options = Options::new().env("HEXA_PLUGINS_DIR", folder.path().to_str().unwrap());
    let server = TestServer::start(options);
    let user = server.user().await;
    run_while(&server, &user, 1, &["--devices", "1", "--seed", "5"], || async {
        let uid = devices(&user).await[0]["uid"].as_str().unwrap().to_owned();
        user.set_relay(&uid, 0, true).await.expect(200);
    })
    .await;
    let plugins = server.admin().await.get("/api/v1/admin/plugins").await.expect(200);
    let versions: Vec<_> = plugins["items"].as_array().unwrap().iter().map(|p| (&p["version"], &p["state"])).collect();
    assert_eq!(versions, [(&json!("9.9.9"), &json!("active"))], "{plugins}");
    let log = server.log().text();
    assert!(log.contains("replaces the embedded one"), "{log}");
}

#[tokio::test]
async fn lost_and_doubled_acks_are_what_was_asked_for_and_the_server_takes_no_harm() {
    let server = TestServer::start(Options::new().env("COMMAND_TIMEOUT_MS", "300"));
    let user = server.user().await;
    let lossy = ["--devices", "1", "--drop-ack", "100", "--seed", "2"];
    let report = run_while(&server, &user, 1, &lossy, || async {
        let uid = devices(&user).await[0]["uid"].as_str().unwrap().to_owned();
        eventually("the first report", || async { user.relay(&uid, 0).await }).await;
        user.set_relay(&uid, 0, true).await.expect_error(504, "device_timeout");
    })
    .await;
    assert_eq!(
        (&report["acks_dropped"], &report["acks_sent"], &report["commands_received"]),
        (&json!(1), &json!(0), &json!(1))
    );

    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let echo = ["--devices", "1", "--duplicate-ack", "100", "--ack-delay-ms", "20", "--jitter", "20", "--seed", "3"];
    let report = run_while(&server, &user, 1, &echo, || async {
        let uid = devices(&user).await[0]["uid"].as_str().unwrap().to_owned();
        eventually("the first report", || async { user.relay(&uid, 0).await }).await;
        for n in 0..4 {
            let answer = user.set_relay(&uid, 0, n % 2 == 0).await.expect(200);
            assert!(answer["latency_ms"].as_f64().unwrap() >= 20.0, "{answer}");
        }
        assert_eq!(user.relay(&uid, 0).await, Some((false, 5)), "four commands after the first report");
        eventually("the doubles at the server", || async {
            (server.metrics().await.count("hexa_duplicate_acks_total", &[]) == 4).then_some(())
        })
        .await;
    })
    .await;
    assert_eq!((&report["acks_duplicated"], &report["acks_sent"]), (&json!(4), &json!(8)));
}

#[tokio::test]
async fn devices_reconnect_press_buttons_and_keep_their_credentials() {
    let mut server = TestServer::start(Options::new().env("LIMIT_FLAP", "1000"));
    let user = server.user().await;
    let scratch = ScratchDir::new();
    let state = scratch.path().join("sim.json");
    let state = state.to_str().unwrap();
    let lively = ["--devices", "3", "--state", state, "--reconnect-every", "0.3", "--input-every", "0.1"];
    let report = run_while(&server, &user, 3, &lively, || async {
        let (mut dashboard, _) = hexa_tests::WsClient::subscribed(&server, &user).await;
        let gone = dashboard.expect("device_offline").await;
        while dashboard.expect("device_online").await["device_uid"] != gone["device_uid"] {}
        eventually("buttons, switches by hand and reconnects", || async {
            let metrics = server.metrics().await;
            let pressed = devices(&user).await.iter().all(|d| !d["last_input_event"].is_null());
            let switched = metrics.count("hexa_state_reports_total", &[("result", "changed")]) > 6;
            (pressed && switched).then_some(())
        })
        .await;
    })
    .await;
    assert!(report["reconnects"].as_u64().unwrap() > 0 && report["inputs"].as_u64().unwrap() > 6, "{report}");
    let first = devices(&user).await;
    // The second start brings the same devices, and one more.
    let more = ["--devices", "4", "--state", state];
    run_while(&server, &user, 4, &more, || async {}).await;
    let second = devices(&user).await;
    assert_eq!(second.len(), 4);
    assert!(first.iter().all(|d| second.iter().any(|e| e["uid"] == d["uid"])));
    // Credentials that the server does not know any more are replaced.
    server.stop().await;
    let fresh = TestServer::start(Options::new());
    let user = fresh.user().await;
    let report = run_while(&fresh, &user, 4, &more, || async {}).await;
    assert_eq!((&report["connected_max"], devices(&user).await.len()), (&json!(4), 4));
}

#[tokio::test]
async fn a_restarting_server_tells_its_devices_when_to_come_back_and_they_do() {
    let scratch = ScratchDir::new();
    let mut server = TestServer::start(Options::new().data_dir(scratch.path()));
    let user = server.user().await;
    let mut command = sim(&server, &["--devices", "3", "--report", "-"]);
    command.env("HEXA_TOKEN", &user.access_token);
    let mut child = spawn(command).unwrap();
    let out = Lines::default();
    out.follow(child.stdout.take().unwrap());
    let online = |user: User| async move {
        let online = devices(&user).await.iter().filter(|d| d["online"] == true).count();
        (online == 3).then_some(())
    };
    eventually("three devices online", || online(user.clone())).await;
    let listen = server.address.to_string();
    server.stop().await;
    drop(server);
    let again = TestServer::start(Options::new().data_dir(scratch.path()).env("HEXA_LISTEN", &listen));
    let user = User { client: again.client().with_token(&user.access_token), ..user };
    eventually("three devices back", || online(user.clone())).await;
    signal(&child, libc::SIGINT);
    assert_eq!(code(ended(&mut child, Duration::from_secs(20)).await), 0);
    let report: Value = eventually("the report", || async { serde_json::from_str(&out.text()).ok() }).await;
    assert_eq!(report["close_codes"]["1012"], 3, "{report}");
    assert_eq!(report["reconnects"], 3, "{report}");
}

async fn fails(command: Command) -> Finished {
    finish(command, Duration::from_secs(40)).await
}

#[tokio::test]
async fn a_run_in_which_nothing_connects_ends_with_1_and_the_servers_words() {
    let server = TestServer::start(Options::new());
    let mut command = Command::new(hexa());
    command
        .args(["sim", "--server", &format!("http://{}", server.address), "--provision-key", "a-wrong-key-0123456789"])
        .args(["--devices", "2", "--quiet"]);
    let ended = fails(command).await;
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("invalid_provision_key"), "{}", ended.stderr);
    let mut command = Command::new(hexa());
    command.args(["sim", "--server", "http://127.0.0.1:1", "--provision-key", "some-key", "--duration", "1"]);
    let ended = fails(command).await;
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("refused"), "{}", ended.stderr);
}

#[tokio::test]
async fn wrong_arguments_end_with_2() {
    for args in [vec!["--devices", "0"], vec!["--server", "nonsense"], vec!["--provision-key-file", "/nowhere"], vec![]]
    {
        let mut command = Command::new(hexa());
        command.arg("sim").args(&args).env_remove("DEVICE_PROVISION_KEY");
        let ended = fails(command).await;
        assert_eq!(ended.code, 2, "{args:?}: {}", ended.stderr);
    }
}
