//! Starting and stopping, and every start that must not happen.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use hexa_tests::db::LockedOut;
use hexa_tests::process::{Finished, finish};
use hexa_tests::server::ScratchDir;
use hexa_tests::{Db, FakeDevice, Frame, Options, TestServer, User, WsClient, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Runs a server that is expected to end by itself.
async fn refused(options: &Options, dir: &std::path::Path) -> Finished {
    finish(options.command(dir), Duration::from_secs(30)).await
}

#[tokio::test]
async fn a_stop_ends_open_commands_closes_sockets_with_1012_and_exits_with_0() {
    let mut server = TestServer::start(Options::new().env("COMMAND_TIMEOUT_MS", "2000"));
    let user = server.user().await;
    let mut acking = server.device(&user, 1).await;
    let mut silent = server.device(&user, 1).await;
    let (mut dashboard, _) = WsClient::subscribed(&server, &user).await;
    let send = |uid: &str| {
        let (user, uid) = (user.clone(), uid.to_owned());
        tokio::spawn(async move { user.set_relay(&uid, 0, true).await })
    };
    let (answered, lost) = (send(acking.uid()), send(silent.uid()));
    let command = acking.expect_command().await;
    silent.expect_command().await;
    server.terminate();
    acking.ack(&command).await;
    answered.await.unwrap().expect(200);
    lost.await.unwrap().expect_error(504, "device_timeout");
    let (code, reason) = acking.socket.expect_close().await;
    assert_eq!(code, 1012);
    let reason: Value = serde_json::from_str(&reason).expect("a reason that a device can read");
    assert!(reason["reconnect_after_ms"].as_u64().is_some_and(|ms| ms <= 60_000), "{reason}");
    assert_eq!(silent.socket.expect_close().await.0, 1012);
    assert_eq!(dashboard.socket.expect_close().await.0, 1012);
    let (code, took) = server.ended().await;
    assert_eq!(code, 0);
    assert!(took < Duration::from_secs(15), "{took:?}");
    let db = server.db();
    assert_eq!(db.relay(acking.uid(), 0), Some((true, 1)));
    db.assert_sound();
    assert!(!server.data_dir().join("hexa.unclean").exists(), "a clean stop is marked as one");
}

/// A command that the device has done while the database took nothing: its caller was told that the row is kept, and stored
/// as soon as the database takes it. Gives what locks it, and the command's id.
async fn promised<'a>(db: &'a Db, user: &User, device: &mut FakeDevice) -> (LockedOut<'a>, String) {
    let answer = tokio::spawn({
        let (user, uid) = (user.clone(), device.uid().to_owned());
        async move { user.set_relay(&uid, 0, true).await }
    });
    let command = device.expect_command().await;
    let locked = db.lock_out_writers();
    device.ack(&command).await;
    answer.await.unwrap().expect_error(503, "storage_unavailable");
    (locked, command.id)
}

#[tokio::test]
async fn a_stop_that_loses_a_promised_row_is_no_ordinary_one_and_the_log_has_the_row() {
    let mut server = TestServer::start(Options::new().env("COMMAND_TIMEOUT_MS", "2000"));
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let db = server.db();
    let (locked, command) = promised(&db, &user, &mut device).await;
    server.terminate();
    let (code, took) = server.ended().await;
    assert_eq!(code, 1, "whoever supervises it has to hear of it");
    assert!(took < Duration::from_secs(15), "{took:?}");
    let log = server.log().text();
    let lost = log.lines().find(|line| line.contains("audit row lost")).expect("the log says what is lost");
    for part in [command.as_str(), "executed", "set_relay", "RelaySet"] {
        assert!(lost.contains(part), "{part}: {lost}");
    }
    for part in ["DeviceHandle", "durable", "owner"] {
        assert!(!lost.contains(part), "no more of the device than its states: {lost}");
    }
    drop(locked);
}

/// The writer waits for the lock with a patience that a stop does not have, one group commit after the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_while_commands_wait_for_the_database_ends_in_time_and_names_each() {
    let mut server = TestServer::start(Options::new().env("COMMAND_TIMEOUT_MS", "8000"));
    let user = server.user().await;
    let db = server.db();
    let (mut devices, mut commands, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..6 {
        let mut device = server.device(&user, 1).await;
        let (asking, uid) = (user.clone(), device.uid().to_owned());
        answers.push(tokio::spawn(async move { asking.set_relay(&uid, 0, true).await }));
        commands.push(device.expect_command().await);
        devices.push(device);
    }
    let locked = db.lock_out_writers();
    for (device, command) in devices.iter_mut().zip(&commands) {
        device.ack(command).await;
    }
    server.terminate();
    let (code, took) = server.ended().await;
    assert_eq!(code, 1, "whoever supervises it has to hear of it");
    assert!(took < Duration::from_secs(15), "{took:?}");
    for answer in answers {
        answer.await.unwrap().expect_error(503, "storage_unavailable");
    }
    let log = server.log().text();
    let lost: Vec<_> = log.lines().filter(|line| line.contains("audit row lost")).collect();
    for command in &commands {
        assert!(lost.iter().any(|line| line.contains(&command.id)), "{} is not among {lost:#?}", command.id);
    }
    drop(locked);
}

#[tokio::test]
async fn a_stop_waits_for_a_database_that_takes_the_rows_in_time() {
    let mut server = TestServer::start(Options::new().env("COMMAND_TIMEOUT_MS", "2000"));
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let db = server.db();
    let (locked, _) = promised(&db, &user, &mut device).await;
    server.terminate();
    assert_eq!(device.socket.expect_close().await.0, 1012);
    drop(locked);
    assert_eq!(server.ended().await.0, 0);
    assert_eq!(server.db().relay(device.uid(), 0), Some((true, 1)), "stored at the last moment");
}

#[tokio::test]
async fn a_stopping_server_is_not_ready_and_takes_no_commands() {
    let mut server = TestServer::start(Options::new());
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let (mut dashboard, _) = WsClient::subscribed(&server, &user).await;
    let uid = device.uid().to_owned();
    // An open command keeps the server from stopping at once; an open connection still hears answers.
    let open = tokio::spawn({
        let (user, uid) = (user.clone(), uid.clone());
        async move { user.set_relay(&uid, 0, true).await }
    });
    let command = device.expect_command().await;
    // Half a request: new connections are not accepted any more, but this one is served to its end.
    let mut asking = tokio::net::TcpStream::connect(server.address).await.unwrap();
    asking.write_all(b"GET /ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n").await.unwrap();
    let own = asking.local_addr().unwrap();
    eventually("half a request read", || async { hexa_tests::raw::taken_by_server(server.address, own).then_some(()) })
        .await;
    server.terminate();
    let refused = loop {
        dashboard
            .send(&json!({ "type": "set_relay", "id": "late", "device_uid": uid, "relay": 0, "state": true }))
            .await;
        // Before the signal is handled the command is an ordinary one: it is acknowledged and tried again.
        tokio::select! {
            frame = dashboard.next() => {
                if frame["type"] == "error" {
                    break frame;
                }
            }
            another = device.expect_command() => device.ack(&another).await,
        }
    };
    assert_eq!((&refused["code"], &refused["id"]), (&json!("shutting_down"), &json!("late")));
    asking.write_all(b"\r\n").await.unwrap();
    let mut answer = String::new();
    hexa_tests::within("an answer", asking.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("shutting_down"), "{answer}");
    assert!(answer.to_lowercase().contains("retry-after"), "{answer}");
    device.ack(&command).await;
    open.await.unwrap().expect(200);
    let reading = tokio::spawn(async move { device.socket.expect_close().await.0 });
    assert_eq!(dashboard.socket.expect_close().await.0, 1012);
    assert_eq!(reading.await.unwrap(), 1012);
    assert_eq!(server.ended().await.0, 0);
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_peer_that_does_not_listen() {
    let mut server = TestServer::start(Options::new());
    let user = server.user().await;
    // Sockets that are open and never read, an idle keep-alive connection, and half a request.
    let device = server.device(&user, 1).await;
    let (dashboard, _) = WsClient::subscribed(&server, &user).await;
    let idle = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let mut half = tokio::net::TcpStream::connect(server.address).await.unwrap();
    half.write_all(b"POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\n").await.unwrap();
    server.terminate();
    let (code, took) = server.ended().await;
    assert_eq!(code, 0);
    assert!(took < Duration::from_secs(15), "{took:?}");
    drop((device, dashboard, idle, half));
}

#[tokio::test]
async fn a_second_process_on_the_same_data_directory_is_refused() {
    let scratch = ScratchDir::new();
    let server = TestServer::start(Options::new().data_dir(scratch.path()));
    let pid = server.pid();
    let second = refused(&Options::new(), scratch.path()).await;
    assert_ne!(second.code, 0);
    assert!(second.stderr.contains("in use") && second.stderr.contains(&pid.to_string()), "{}", second.stderr);
    assert!(second.stderr.contains("HEXA_DATA_DIR"), "what to do: {}", second.stderr);
    // The first one does not mind.
    server.client().get("/health").await.expect(200);
    server.user().await;
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_setting_to_change() {
    let server = TestServer::start(Options::new());
    let scratch = ScratchDir::new();
    let options = Options::new().env("HEXA_LISTEN", &server.address.to_string());
    let second = refused(&options, scratch.path()).await;
    assert_ne!(second.code, 0);
    assert!(second.stderr.contains(&server.address.to_string()), "{}", second.stderr);
    assert!(second.stderr.contains("HEXA_LISTEN"), "{}", second.stderr);
}

#[tokio::test]
async fn a_wrong_configuration_ends_with_78_and_names_the_setting() {
    let scratch = ScratchDir::new();
    for (name, value) in [
        ("COMMAND_TIMEOUT_MS", "9000"),
        ("COMMAND_TIMEOUT_MS", "soon"),
        ("HEXA_LISTEN", "everywhere"),
        ("HEXA_ENV", "staging"),
        ("JWT_SECRET", "short"),
        ("DEVICE_PROVISION_KEY", "short"),
        ("DEVICE_PROVISION_KEY", "key-number-one-0001,key-number-two-0002,key-number-three-03"),
        ("HEXA_DURABILITY", "perhaps"),
        ("PUBLIC_URL", "not an address"),
        ("LIMIT_FLAP", "0"),
        ("HEXA_HEARTBEAT_SECONDS", "-1"),
        ("HEXA_EMBEDDED_PLUGINS", "all of them"),
        ("DATABASE_URL", "mysql://elsewhere"),
    ] {
        let ended = refused(&Options::new().env(name, value), scratch.path()).await;
        assert_eq!(ended.code, 78, "{name}={value}: {}", ended.stderr);
        assert!(ended.stderr.contains(name), "{name}={value}: {}", ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
        if name == "JWT_SECRET" {
            assert!(!ended.stderr.contains("short"), "a secret is not repeated: {}", ended.stderr);
        }
    }
    assert!(!scratch.path().join("listen.addr").exists(), "no socket was opened");
}

#[tokio::test]
async fn a_configuration_file_is_read_and_what_is_wrong_in_it_is_named() {
    let scratch = ScratchDir::new();
    let file = scratch.path().join("custom.toml");
    let start = |text: Option<&str>| {
        if let Some(text) = text {
            std::fs::write(&file, text).unwrap();
        }
        let mut command = Options::new().command(scratch.path());
        command.args(["--config", file.to_str().unwrap()]).env_remove("COMMAND_TIMEOUT_MS");
        finish(command, Duration::from_secs(30))
    };
    let missing = start(None).await;
    assert_eq!(missing.code, 78, "{}", missing.stderr);
    assert!(missing.stderr.contains("custom.toml"), "{}", missing.stderr);
    for (text, named) in [
        ("command_timeout_ms = [", "custom.toml"),
        ("comand_timeout_ms = 100", "comand_timeout_ms"),
        ("command_timeout_ms = 99999", "COMMAND_TIMEOUT_MS"),
        ("[section]\nx = 1", "section"),
    ] {
        let ended = start(Some(text)).await;
        assert_eq!(ended.code, 78, "{text}: {}", ended.stderr);
        assert!(ended.stderr.to_lowercase().contains(&named.to_lowercase()), "{text}: {}", ended.stderr);
    }
    std::fs::write(&file, [0xff, 0xfe, 0x00]).unwrap();
    assert_eq!(start(None).await.code, 78);
}

#[tokio::test]
async fn config_check_shows_what_is_in_effect_and_no_secret() {
    let scratch = ScratchDir::new();
    let mut command = std::process::Command::new(hexa_tests::process::hexa());
    command
        .args(["config", "check", "--json"])
        .env_clear()
        .env("HEXA_DATA_DIR", scratch.path())
        .env("COMMAND_TIMEOUT_MS", "1234")
        .env("JWT_SECRET", "a secret of more than thirty-two bytes")
        .current_dir(scratch.path());
    let shown = finish(command, Duration::from_secs(30)).await;
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    assert!(!shown.stdout.contains("thirty-two"), "{}", shown.stdout);
    let effective: Value = serde_json::from_str(&shown.stdout).expect("JSON");
    assert_eq!(effective["COMMAND_TIMEOUT_MS"]["value"], "1234");
    assert_eq!(effective["LIMIT_FLAP"]["value"], "15");
    assert_ne!(effective["COMMAND_TIMEOUT_MS"]["from"], effective["LIMIT_FLAP"]["from"]);
}

#[tokio::test]
async fn secrets_are_made_once_private_and_kept() {
    let mut server = TestServer::start(Options::new());
    let dir = server.data_dir().to_owned();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    // The directory was there and stays as it is; what the server makes in it is for its own user.
    assert_eq!(mode(&dir.join("secrets")), 0o700);
    for entry in std::fs::read_dir(&dir).unwrap().flatten() {
        assert_eq!(mode(&entry.path()) & 0o077, 0, "{}", entry.path().display());
    }
    let names = ["jwt_keys", "device_provision_key", "bootstrap_secret"];
    let read = || names.map(|n| std::fs::read_to_string(dir.join("secrets").join(n)).unwrap());
    let before = read();
    for name in names {
        assert_eq!(mode(&dir.join("secrets").join(name)), 0o600, "{name}");
    }
    server.stop().await;
    server.restart();
    assert_eq!(read(), before, "the second start makes no new ones");
    assert_eq!(before.iter().filter(|s| s.len() >= 32).count(), 3);
}

#[tokio::test]
async fn rest_is_served_without_any_plugin_and_devices_are_told_why_not() {
    let scratch = ScratchDir::new();
    let empty = ScratchDir::new();
    let options = Options::new().data_dir(scratch.path()).env("HEXA_PLUGINS_DIR", empty.path().to_str().unwrap());
    // Of those in the program none is wanted, by a name that none of them has.
    let server = TestServer::start(options.env("HEXA_EMBEDDED_PLUGINS", "acme.none"));
    let log = server.log().text();
    assert!(log.contains("HEXA_EMBEDDED_PLUGINS names a plugin that is not in this program"), "{log}");
    let user = server.user().await;
    user.client.get("/api/v1/devices").await.expect(200);
    let identity = server.provision(1).await;
    user.client.post("/api/v1/devices/claim", &json!({ "code": identity.claim_code })).await.expect(200);
    match hexa_tests::FakeDevice::connect(server.address, &identity).await {
        Ok(mut device) => assert_eq!(device.socket.next().await, Frame::Close(1013, "driver_unavailable".into())),
        Err(refused) => assert_eq!(refused.status, 503, "{refused:?}"),
    }
    let offline = || async {
        let reply = user.set_relay(&identity.uid, 0, true).await;
        (reply.status == 409).then(|| reply.expect_error(409, "device_offline"))
    };
    eventually("the device offline", offline).await;
}

#[tokio::test]
async fn wrong_arguments_end_with_2_and_help_says_what_there_is() {
    let run = |args: &'static [&'static str]| {
        let mut command = std::process::Command::new(hexa_tests::process::hexa());
        command.args(args);
        finish(command, Duration::from_secs(30))
    };
    assert_eq!(run(&["dance"]).await.code, 2);
    assert_eq!(run(&["serve", "--no-such-option"]).await.code, 2);
    let help = run(&["--help"]).await;
    assert_eq!(help.code, 0);
    for command in ["serve", "config", "sim"] {
        assert!(help.stdout.contains(command), "{}", help.stdout);
    }
}
