//! Bad peers under load: whoever stands still, trickles, floods or lies, the others' commands go on.

use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hexa_tests::load::Fleet;
use hexa_tests::machine::{is_long, long};
use hexa_tests::process::{self, Lines};
use hexa_tests::raw::{self, RawSocket, opcode};
use hexa_tests::{Options, TestServer, User, WsClient, eventually, within};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

/// The header timeout is 10 s; a closed connection is noticed within 2 s more.
const CLOSED_WITHIN: Duration = Duration::from_secs(12);
/// For a server in release; a debug build shares two cores with its callers and gets more.
const CALM: Duration = if cfg!(debug_assertions) { Duration::from_secs(2) } else { Duration::from_millis(500) };

/// Sends half a head, and every other one a byte more each half second; gives the time until the server closes.
async fn slow_headers(server: &TestServer, trickle: bool) -> Duration {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let start = Instant::now();
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nx-slow: ").await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let closed = async {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = reading.read_to_end(&mut rest).await;
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 4"), "{}", String::from_utf8_lossy(&rest));
    };
    let trickling = async {
        let mut pace = tokio::time::interval(Duration::from_millis(500));
        if trickle {
            while writing.write_all(b"y").await.is_ok() {
                pace.tick().await;
            }
        }
        std::future::pending::<()>().await;
    };
    within("the header timeout", async {
        tokio::select! { () = closed => {}, () = trickling => {} }
    })
    .await;
    start.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_headers_are_closed_in_time_and_hold_up_nobody() {
    let count = if is_long() { 2000 } else { 200 };
    let server = std::sync::Arc::new(TestServer::start(Options::new()));
    let user = server.user().await;
    let device = server.device(&user, 1).await.automatic(1);
    let slow: Vec<_> = (0..count)
        .map(|n| {
            let server = std::sync::Arc::clone(&server);
            tokio::spawn(async move { slow_headers(&server, n % 2 == 0).await })
        })
        .collect();
    let mut took = Vec::new();
    while !slow.iter().all(tokio::task::JoinHandle::is_finished) {
        let start = Instant::now();
        user.set_relay(device.uid(), 0, took.len() % 2 == 0).await.expect(200);
        took.push(start.elapsed());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut longest = Duration::ZERO;
    for one in slow {
        longest = longest.max(one.await.unwrap());
    }
    took.sort();
    let p99 = took[took.len() * 99 / 100];
    eprintln!("{count} slow headers: last closed after {longest:?}; {} commands meanwhile, p99 {p99:?}", took.len());
    assert!(longest <= CLOSED_WITHIN, "{longest:?}");
    assert!(took.len() > 100 && p99 < CALM, "{} commands, p99 {p99:?}", took.len());
}

/// Simulated devices in a process of their own, owned by `user`.
fn simulated(server: &TestServer, user: &User, count: usize) -> (std::process::Child, Lines) {
    let mut command = Command::new(process::hexa());
    command
        .args(["sim", "--server", &format!("http://{}", server.address), "--provision-key-file"])
        .arg(server.data_dir().join("secrets/device_provision_key"))
        .args(["--devices", &count.to_string(), "--relays", "1", "--seed", "1"])
        .env_remove("DEVICE_PROVISION_KEY")
        .env("HEXA_TOKEN", &user.access_token)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = process::spawn(command).unwrap();
    let said = Lines::default();
    said.follow(child.stdout.take().unwrap());
    said.follow(child.stderr.take().unwrap());
    (child, said)
}

async fn online(user: &User) -> Vec<String> {
    let page = user.client.get("/api/v1/devices?limit=100").await.expect(200);
    let items = page["items"].as_array().cloned().unwrap_or_default();
    let uids = items.iter().filter(|d| d["online"] == true).map(|d| d["uid"].as_str().unwrap().to_owned());
    uids.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_stand_still_are_given_up_and_come_back() {
    let server = TestServer::start(Options::new().env("HEXA_HEARTBEAT_SECONDS", "1").env("LIMIT_FLAP", "1000"));
    let fleet = Fleet::new(&server, 2).await;
    let load = fleet.load(&server).await;
    let user = server.user().await;
    let (mut child, said) = simulated(&server, &user, 5);
    eventually("simulated devices online", || async { (online(&user).await.len() == 5).then_some(()) }).await;
    let uid = online(&user).await.remove(0);
    user.set_relay(&uid, 0, true).await.expect(200);
    // The sockets stay open, the kernel goes on acknowledging bytes, and nobody is behind them.
    let standing = process::pause(child.id());
    let start = Instant::now();
    eventually("all given up", || async { online(&user).await.is_empty().then_some(()) }).await;
    let took = start.elapsed();
    eprintln!("half-open: 5 devices given up {took:?} after their process stood still (2.25 heartbeats of 1 s)");
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(10), "{took:?}");
    user.set_relay(&uid, 0, false).await.expect_error(409, "device_offline");
    drop(standing);
    eventually("all back", || async { (online(&user).await.len() == 5).then_some(()) }).await;
    user.set_relay(&uid, 0, false).await.expect(200);
    load.end().await;
    fleet.judge(&server.evidence());
    assert_eq!(fleet.refused(), std::collections::BTreeMap::new(), "the others' commands");
    process::signal(&child, libc::SIGTERM);
    let ended = process::ended(&mut child, Duration::from_secs(20)).await;
    assert_eq!(process::code(ended), 0, "{}", said.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_talks_but_never_reads_is_closed_and_costs_bounded_memory() {
    let server = TestServer::start(Options::new().env("HEXA_HEARTBEAT_SECONDS", "4"));
    let fleet = Fleet::new(&server, 2).await;
    let user = server.user().await;
    let identity = server.provision(1).await;
    let uid = identity.uid.clone();
    user.client.post("/api/v1/devices/claim", &json!({ "code": identity.claim_code })).await.expect(200);
    let mut deaf = RawSocket::open(server.address, &format!("/ws/device?uid={uid}"), &identity.token).await;
    eventually("the device online", || async { online(&user).await.contains(&uid).then_some(()) }).await;
    // A small window, so that little is enough to fill it.
    small_window(deaf.stream());
    let load = fleet.load(&server).await;
    let (before, start) = (server.resident_bytes(), Instant::now());
    let talking = tokio::spawn(async move {
        // Each of these is owed an answer that cannot be left out, and so it is never silent; as fast as a device may.
        let hello = br#"{"type":"hello"}"#;
        let bytes = [&[0x80 | opcode::TEXT, 0x80 | hello.len() as u8, 0, 0, 0, 0], &hello[..]].concat();
        let mut pace = tokio::time::interval(Duration::from_millis(20));
        while deaf.stream().write_all(&bytes).await.is_ok() {
            pace.tick().await;
        }
    });
    let closed = async {
        while online(&user).await.contains(&uid) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(40), closed).await.expect("a device that takes nothing is closed");
    let (grown, took) = (server.resident_bytes().saturating_sub(before), start.elapsed());
    eprintln!("a device that never reads: closed after {took:?}, memory grew by {grown} bytes");
    // Its kernel may not hear of the end for long: it drops what does not fit, also the last packet.
    talking.abort();
    load.end().await;
    fleet.judge(&server.evidence());
    // 10 s in which nothing was taken or, where the device's own kernel has stopped sending too, 2.25 heartbeats.
    assert!(took > Duration::from_secs(8), "{took:?}");
    assert!(grown < 32 << 20, "{grown} bytes");
    assert_eq!(fleet.refused(), std::collections::BTreeMap::new(), "the others' commands");
}

fn small_window(stream: &TcpStream) {
    let bytes: libc::c_int = 2048;
    let size = size_of::<libc::c_int>() as libc::socklen_t;
    #[expect(unsafe_code, reason = "setsockopt has no safe wrapper in std")]
    // SAFETY: the descriptor is open for as long as its stream, and the value outlives the call.
    let done = unsafe {
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, (&raw const bytes).cast(), size)
    };
    assert_eq!(done, 0, "SO_RCVBUF");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dashboard_that_stands_still_is_given_up() {
    if !long("faults::a_dashboard_that_stands_still_is_given_up") {
        return;
    }
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    // It subscribes, and then reads nothing, so that it answers no ping: three of them, 20 s apart.
    let (still, _) = WsClient::subscribed(&server, &user).await;
    let start = Instant::now();
    while server.metrics().await.count("hexa_client_sessions", &[]) > 0 {
        assert!(start.elapsed() < Duration::from_secs(75), "after {:?}", start.elapsed());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    eprintln!("half-open: a dashboard given up after {:?}", start.elapsed());
    assert!(start.elapsed() > Duration::from_secs(30), "not before it had its chances");
    drop(still);
}

/// One of every kind of abuse; each has its answer.
async fn abuse(server: &TestServer, user: &User) {
    let head = "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    for (what, request) in [
        ("413", format!("{head}content-length: 1073741824\r\n\r\n")),
        ("400", format!("{head}content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")),
        ("400", format!("{head}content-length: 2\r\ncontent-length: 2\r\n\r\n{{}}")),
        ("400", "NONSENSE\r\n\r\n".into()),
        ("431", format!("GET /health HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(20 * 1024))),
    ] {
        let answer = raw::exchange(server.address, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {what}")), "{}: {answer}", &request[..request.len().min(120)]);
    }
    let client = server.client();
    for body in ["[".repeat(100_000), format!("{{\"email\":{}1", "[".repeat(100_000)), "{\"a\":1,\"a\":2}".into()] {
        client.post_text("/api/v1/auth/login", body).await.expect_error(400, "validation_error");
    }
    let login = r#"{"email":"a@b.cd","email":"a@b.cd","password":"x"}"#;
    client.post_text("/api/v1/auth/login", login).await.expect_error(400, "validation_error");
    let path = format!("/ws/device?uid={}", "x".repeat(300));
    client.get(&path).await.expect_error(401, "invalid_token");
    let identity = server.provision(2).await;
    let device = format!("/ws/device?uid={}", identity.uid);
    for (path, token) in [(device.as_str(), &identity.token), ("/ws/client", &user.access_token)] {
        let mut socket = RawSocket::open(server.address, path, token).await;
        socket.declare(opcode::TEXT, 1 << 30).await;
        assert_eq!(socket.close_code().await, Some(1009), "{path}");
    }
    let mut device = server.connect(&identity).await;
    let many: Vec<_> = (0..1000).map(|i| json!({ "index": i, "state": true })).collect();
    for text in [
        json!({ "type": "state_report", "relays": many }).to_string(),
        r#"{"type":"state_report","relays":[{"index":0,"state":NaN}]}"#.into(),
        r#"{"type":"dance"}"#.into(),
    ] {
        device.socket.send(Message::text(text)).await.unwrap();
        assert_eq!(device.expect_text().await["code"], "validation_error");
    }
    device.socket.send(Message::binary(vec![0u8, 159, 146, 150])).await.unwrap();
    assert_eq!(device.expect_text().await["code"], "validation_error");
    // An ack for a command of nobody.
    let ack: Value = json!({ "type": "ack", "command_id": "0195f3a0-0000-7000-8000-000000000000" });
    device.send(&ack).await;
    device.settled().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_under_load_disturbs_no_command() {
    let server = TestServer::start(Options::new());
    let mut fleet = Fleet::new(&server, 3).await;
    let user = server.user().await;
    let load = fleet.load(&server).await;
    // Once before measuring, for what is set up at its first use.
    abuse(&server, &user).await;
    let (before, started, answered) = (server.resident_bytes(), Instant::now(), load.answered());
    let rounds = if is_long() { 200 } else { 10 };
    for _ in 0..rounds {
        abuse(&server, &user).await;
    }
    let (grown, took) = (server.resident_bytes().saturating_sub(before), started.elapsed());
    let commands = load.answered() - answered;
    eprintln!("bad input: {rounds} rounds in {took:?}, {commands} commands meanwhile, memory grew by {grown} bytes");
    load.end().await;
    assert_eq!(fleet.refused(), std::collections::BTreeMap::new(), "no caller was refused anything");
    assert!(commands >= rounds, "{commands} commands");
    assert!(grown < 48 << 20, "{grown} bytes");
    let mut server = server;
    server.kill9();
    server.restart();
    fleet.check(&server).await;
}
