//! What one address, one account or one connection may take, and that the others go on meanwhile (docs/SECURITY.md, the
//! table of bounds).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hexa_tests::device::Socket;
use hexa_tests::raw::{self, RawSocket, opcode};
use hexa_tests::server::PASSWORD;
use hexa_tests::{Client, Frame, Options, Reply, TestServer, WsClient, eventually, within};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

const LOGIN: &str = "/api/v1/auth/login";
const REGISTER: &str = "/api/v1/auth/register";

/// The tests are a trusted proxy, and speak for whom they like.
fn behind_a_proxy() -> Options {
    Options::new().env("TRUST_PROXY", "true")
}

async fn post_from(client: &Client, from: &str, path: &str, body: &Value) -> Reply {
    let request = client.request(Method::POST, path).header("x-forwarded-for", from).json(body);
    client.send(request).await
}

/// Routes that anybody may post to, as the server's own table says.
fn public_posts() -> Vec<String> {
    let out = std::process::Command::new(hexa_tests::process::hexa()).args(["docs", "routes"]).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let cell = |line: &str, n: usize| line.split('|').nth(n).unwrap_or_default().trim().trim_matches('`').to_owned();
    let rows = text.lines().filter(|line| cell(line, 1) == "POST" && cell(line, 3) == "anybody");
    rows.map(|line| cell(line, 2)).collect()
}

#[tokio::test]
async fn every_public_post_has_one_rate_for_each_address() {
    let server = TestServer::start(behind_a_proxy().env("LIMIT_PUBLIC_RPS", "1"));
    let user = server.user().await;
    let client = server.client();
    let routes = public_posts();
    assert!(routes.len() >= 5 && routes.iter().any(|r| r == REGISTER), "{routes:?}");
    // One subscriber of IPv6 has a whole /64.
    for n in 0..10 {
        let reply = post_from(&client, &format!("2001:db8:1:2::{n}"), LOGIN, &json!({})).await;
        reply.expect_error(400, "validation_error");
    }
    for route in &routes {
        // One a second comes back, and this machine may be slow.
        let mut reply = post_from(&client, "2001:db8:1:2::ffff", route, &json!({})).await;
        for _ in 0..5 {
            if reply.status != 429 {
                reply = post_from(&client, "2001:db8:1:2::ffff", route, &json!({})).await;
            }
        }
        reply.expect_error(429, "rate_limited");
        assert!(reply.header("retry-after").is_some(), "{route}");
        let elsewhere = post_from(&client, "2001:db8:1:3::1", route, &json!({})).await;
        assert_ne!(elsewhere.status, 429, "{route}: {}", elsewhere.text);
    }
    // Who has an account has a rate of its own.
    let request = user.client.request(Method::POST, "/api/v1/ws/ticket").header("x-forwarded-for", "2001:db8:1:2::1");
    user.client.send(request).await.expect(201);
}

#[tokio::test]
async fn access_tokens_that_nobody_has_are_counted_for_each_address() {
    let server = TestServer::start(behind_a_proxy().env("LIMIT_TOKEN_FAILURES", "5"));
    let user = server.user().await;
    let made = user.client.post("/api/v1/auth/tokens", &json!({ "name": "x", "scopes": ["devices:read"] })).await;
    let good = server.client().with_token(made.expect(201)["token"].as_str().unwrap());
    let me = async |client: &Client, from: &str| {
        client.send(client.request(Method::GET, "/api/v1/auth/me").header("x-forwarded-for", from)).await
    };
    me(&good, "192.0.2.1").await.expect(200);
    for n in 0..5 {
        let made_up = server.client().with_token(&format!("hxp_{n}"));
        me(&made_up, "192.0.2.1").await.expect_error(401, "invalid_token");
    }
    let made_up = server.client().with_token("hxp_one-more");
    me(&made_up, "192.0.2.1").await.expect_error(429, "rate_limited");
    me(&made_up, "192.0.2.2").await.expect_error(401, "invalid_token");
    me(&good, "192.0.2.1").await.expect(200);
}

#[tokio::test]
async fn wrong_provisioning_keys_are_counted_for_a_whole_network() {
    let server = TestServer::start(behind_a_proxy());
    let client = server.client();
    let wrong = async |from: String| {
        let request = client.request(Method::POST, "/api/v1/provision/register").header("x-forwarded-for", from);
        client
            .send(request.header("x-provision-key", "made up").json(&json!({ "device_class": "relay_controller" })))
            .await
    };
    for n in 0..10 {
        wrong(format!("2001:db8:7:7::{n}")).await.expect_error(401, "invalid_provision_key");
    }
    wrong("2001:db8:7:7::abcd".into()).await.expect_error(429, "rate_limited");
    wrong("2001:db8:7:8::1".into()).await.expect_error(401, "invalid_provision_key");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_makes_accounts_does_not_stand_before_those_who_sign_in() {
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let flood = (0..80).map(|n| {
        let client = server.client();
        tokio::spawn(async move {
            let body = json!({ "email": format!("flood{n}@example.org"), "password": PASSWORD });
            client.post(REGISTER, &body).await.status
        })
    });
    let flood: Vec<_> = flood.collect();
    let mut sign_ins = Vec::new();
    for _ in 0..4 {
        let body = json!({ "email": user.email, "password": PASSWORD });
        sign_ins.push(server.client().post(LOGIN, &body).await.status);
    }
    let mut refused = 0;
    for one in flood {
        refused += u32::from(one.await.unwrap() == 503);
    }
    assert!(refused > 0, "the queue of registrations was full");
    assert_eq!(sign_ins, [200; 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guesses_at_the_same_time_are_no_more_than_one_after_the_other() {
    let server = TestServer::start(Options::new().env("LIMIT_LOGIN_FAILURES", "5"));
    let user = server.user().await;
    let guesses = (0..40).map(|n| {
        let (client, email) = (server.client(), user.email.clone());
        tokio::spawn(async move {
            client.post(LOGIN, &json!({ "email": email, "password": format!("a wrong one {n}") })).await.status
        })
    });
    let mut looked_at = 0;
    for guess in guesses.collect::<Vec<_>>() {
        match guess.await.unwrap() {
            401 => looked_at += 1,
            status => assert_eq!(status, 429),
        }
    }
    assert_eq!(looked_at, 5);
    let right = json!({ "email": user.email, "password": PASSWORD });
    server.client().post(LOGIN, &right).await.expect_error(429, "rate_limited");
}

#[tokio::test]
async fn a_guess_that_hangs_up_is_a_guess() {
    let server = TestServer::start(Options::new().env("LIMIT_LOGIN_FAILURES", "5"));
    let user = server.user().await;
    let body = json!({ "email": user.email, "password": "a wrong one that hangs up" }).to_string();
    let request = format!(
        "POST {LOGIN} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    for _ in 0..5 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let own = stream.local_addr().unwrap();
        let taken = || async { raw::taken_by_server(server.address, own).then_some(()) };
        eventually("the server has read the guess", taken).await;
    }
    let right = json!({ "email": user.email, "password": PASSWORD });
    server.client().post(LOGIN, &right).await.expect_error(429, "rate_limited");
}

#[tokio::test]
async fn a_refused_registration_writes_nothing_and_a_weak_password_tells_nothing() {
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let client = server.client();
    let taken = json!({ "email": user.email, "password": PASSWORD });
    for _ in 0..2 {
        let request = client.request(Method::POST, REGISTER).header("idempotency-key", "again").json(&taken);
        let reply = client.send(request).await;
        reply.expect_error(409, "email_taken");
        assert_eq!(reply.header("idempotency-replayed"), None);
    }
    assert_eq!(server.db().value::<i64>("select count(*) as n from idempotency"), 0);
    let mut told = Vec::new();
    for email in [user.email.as_str(), "nobody@example.org"] {
        let reply = client.post(REGISTER, &json!({ "email": email, "password": "passwordpassword" })).await;
        let error = reply.expect_error(400, "validation_error");
        told.push((error["message"].clone(), error["details"].clone()));
    }
    assert_eq!(told[0], told[1]);
}

#[tokio::test]
async fn a_made_up_refresh_token_waits_for_no_writer() {
    let server = TestServer::start(Options::new());
    let db = server.db();
    let locked = db.lock_out_writers();
    let begun = Instant::now();
    let made_up = json!({ "refresh_token": "hxr_made-up" });
    server.client().post("/api/v1/auth/refresh", &made_up).await.expect_error(401, "invalid_token");
    server.client().post("/api/v1/auth/logout", &made_up).await.expect(204);
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    drop(locked);
}

#[tokio::test]
async fn an_account_has_so_many_client_sockets() {
    let server = TestServer::start(Options::new().env("LIMIT_USER_SOCKETS", "3"));
    let (user, other) = (server.user().await, server.user().await);
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(WsClient::subscribed(&server, &user).await.0);
    }
    let refused = WsClient::open(&server, &user.access_token).await.expect_err("one too many");
    assert_eq!(refused.status, 429);
    hexa_tests::shapes::assert_error(&refused.body, "rate_limited", "the fourth socket");
    WsClient::subscribed(&server, &other).await;
    open.pop().unwrap().socket.close().await;
    eventually("a place that is free again", || async { WsClient::open(&server, &user.access_token).await.ok() }).await;
}

#[tokio::test]
async fn an_account_has_so_many_sessions_and_the_idlest_goes() {
    let server = TestServer::start(Options::new().env("LIMIT_USER_SESSIONS", "3"));
    let user = server.user().await;
    let login = async || {
        let answer = server.client().post(LOGIN, &json!({ "email": user.email, "password": PASSWORD })).await;
        hexa_tests::User::new(server.client(), &user.email, &answer.expect(200))
    };
    let second = login().await;
    let (mut socket, _) = WsClient::subscribed(&server, &second).await;
    let third = login().await;
    // What is used stays: the first session renews itself, and the second one is then the idlest.
    let spent = json!({ "refresh_token": user.refresh_token });
    server.client().post("/api/v1/auth/refresh", &spent).await.expect(200);
    let since = Instant::now();
    let fourth = login().await;
    let (code, _) = socket.socket.expect_close().await;
    assert_eq!(code, 4003);
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    second.client.get("/api/v1/auth/me").await.expect_error(401, "invalid_token");
    for alive in [&user, &third, &fourth] {
        alive.client.get("/api/v1/auth/me").await.expect(200);
    }
    let listed = fourth.client.get("/api/v1/auth/sessions").await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_client_socket_that_goes_on_above_its_rate_is_closed() {
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let mut client = WsClient::open(&server, &user.access_token).await.unwrap();
    for _ in 0..400 {
        if client.socket.send(Message::text(r#"{"type":"ping"}"#)).await.is_err() {
            break;
        }
    }
    let (mut answered, mut refused) = (0, 0);
    let code = loop {
        match client.socket.next().await {
            Frame::Text(frame) if frame["code"] == "rate_limited" => refused += 1,
            Frame::Text(_) => answered += 1,
            Frame::Close(code, _) => break code,
            // Closed with frames of ours unread, the reset may overtake the reason.
            Frame::Gone => break 4008,
        }
    };
    assert_eq!(code, 4008);
    assert!(answered < 250 && refused <= 70, "{answered} answers, {refused} refusals");
    // Frames that ask for nothing cost as much.
    for kind in [opcode::PING, opcode::BINARY, 10] {
        let mut raw = RawSocket::open(server.address, "/ws/client", &user.access_token).await;
        for _ in 0..250 {
            raw.frame(true, kind, true, b"x").await;
        }
        assert_eq!(raw.close_code().await, Some(4008), "opcode {kind}");
    }
}

#[tokio::test]
async fn a_thousand_names_fit_into_one_subscription() {
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let device = server.device(&user, 1).await;
    let mut client = WsClient::open(&server, &user.access_token).await.unwrap();
    let mut names: Vec<_> = (0..999).map(|n| format!("{n:0>64}")).collect();
    names.push(device.uid().to_owned());
    client.send(&json!({ "type": "subscribe", "devices": names })).await;
    let snapshot = client.next().await;
    assert_eq!((&snapshot["type"], &snapshot["devices"][0]["device_uid"]), (&json!("snapshot"), &json!(device.uid())));
    let gone = client.next().await;
    assert_eq!((&gone["code"], gone["details"]["device_uids"].as_array().unwrap().len()), (&json!("not_found"), 999));
    names.push("one-more".into());
    client.send(&json!({ "type": "subscribe", "devices": names })).await;
    assert_eq!(client.next().await["code"], "validation_error");
    // A message of exactly so many bytes is read, and one of a byte more is not.
    let ping = json!({ "type": "ping" }).to_string();
    client.socket.send(Message::text(ping.clone() + &" ".repeat(70 * 1024 - ping.len()))).await.unwrap();
    assert_eq!(client.next().await["type"], "pong");
    client.socket.send(Message::text(ping.clone() + &" ".repeat(70 * 1024 + 1 - ping.len()))).await.unwrap();
    let (code, reason) = client.socket.expect_close().await;
    assert_eq!(code, 1009);
    assert!(!reason.contains(|c: char| c.is_ascii_digit()), "{reason}");
}

/// Whether the server still holds its end of this connection open.
fn established(server: SocketAddr, own: SocketAddr) -> bool {
    let port = |address: &SocketAddr| format!(":{:04X}", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux shows its sockets");
    table.lines().any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        fields.len() > 3 && fields[1].ends_with(&port(&server)) && fields[2].ends_with(&port(&own)) && fields[3] == "01"
    })
}

#[tokio::test]
async fn a_peer_that_takes_no_answer_is_given_up() {
    let server = TestServer::start(Options::new().env("LIMIT_WRITE_STALL_SECONDS", "2"));
    let user = server.user().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let own = stream.local_addr().unwrap();
    let request = "GET /api/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(request.repeat(60).as_bytes()).await.unwrap();
    assert!(established(server.address, own));
    // Not a byte of it is read.
    let gone = || async { (!established(server.address, own)).then_some(()) };
    eventually("the connection is given up", gone).await;
    // Whoever reads is served whole.
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    let close = "GET /api/openapi.json HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    slow.write_all(close.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    within("a whole answer", tokio::io::AsyncReadExt::read_to_end(&mut slow, &mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200") && answer.trim_ascii_end().ends_with(b"}"), "{} bytes", answer.len());
    user.client.get("/api/v1/auth/me").await.expect(200);
}

#[tokio::test]
async fn no_relay_is_named_twice_and_none_more_than_there_are() {
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let device = server.device(&user, 2).await;
    let path = format!("/api/v1/devices/{}", device.uid());
    let before = server.db().device_audit(device.uid()).len();
    for relays in [
        json!([{ "index": 0, "name": "a" }, { "index": 0, "name": "b" }]),
        json!([{ "index": 0, "name": "a" }, { "index": 1, "name": "b" }, { "index": 1, "name": "c" }]),
        json!(vec![json!({ "index": 0, "name": "pump" }); 10_000]),
    ] {
        user.client.patch(&path, &json!({ "relays": relays })).await.expect_error(400, "validation_error");
    }
    assert_eq!(server.db().device_audit(device.uid()).len(), before, "nothing was written");
    let both = json!([{ "index": 1, "name": "b" }, { "index": 0, "name": "a" }]);
    user.client.patch(&path, &json!({ "relays": both })).await.expect(200);
}

#[tokio::test]
async fn a_device_that_reports_one_error_after_the_other_does_not_fill_the_log() {
    let mut server = TestServer::start(Options::new());
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    for n in 0..40 {
        let message = format!("fault {n}\nforged line");
        device.send(&json!({ "type": "error", "code": "E1", "message": message })).await;
    }
    device.settled().await;
    server.stop().await;
    let log = server.log().text();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("device reports an error")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("fault 0\u{fffd}forged line"), "{lines:?}");
}

#[tokio::test]
async fn who_signed_in_from_a_network_is_known_in_all_of_it() {
    let server = TestServer::start(behind_a_proxy());
    let user = server.user().await;
    let right = json!({ "email": user.email, "password": PASSWORD });
    post_from(&server.client(), "2001:db8:5:5::1", LOGIN, &right).await.expect(200);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let guessed = format!("update users set failed_logins = 100, failed_at = {now} where email = '{}'", user.email);
    server.db().tamper(&guessed);
    // A privacy address of the same network, and one of another.
    let reply = post_from(&server.client(), "2001:db8:5:6::1", LOGIN, &right).await;
    reply.expect_error(429, "rate_limited");
    post_from(&server.client(), "2001:db8:5:5:aaaa:bbbb:cccc:dddd", LOGIN, &right).await.expect(200);
}

#[tokio::test]
async fn a_socket_is_no_way_around_the_rate_of_tickets_and_tokens() {
    let server = TestServer::start(Options::new().env("LIMIT_TOKEN_FAILURES", "2"));
    for status in [401, 401, 429] {
        let refused =
            Socket::open(server.address, "/ws/client", Some("Bearer hxp_made-up")).await.expect_err("refused");
        assert_eq!(refused.status, status);
    }
}

#[tokio::test]
async fn a_client_socket_subscribes_so_often() {
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let mut client = WsClient::open(&server, &user.access_token).await.unwrap();
    for _ in 0..50 {
        client.send(&json!({ "type": "subscribe" })).await;
    }
    let (mut snapshots, mut refused) = (0, 0);
    for _ in 0..50 {
        let frame = client.next().await;
        snapshots += u32::from(frame["type"] == "snapshot");
        refused += u32::from(frame["code"] == "rate_limited");
    }
    // Two a second come back meanwhile.
    assert!((30..45).contains(&snapshots) && snapshots + refused == 50, "{snapshots} snapshots, {refused} refused");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let server = TestServer::start(Options::new().env("LIMIT_CONNECTIONS", "4"));
    let mut held = Vec::new();
    for _ in 0..4 {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let own = stream.local_addr().unwrap();
        eventually("accepted", || async { raw::taken_by_server(server.address, own).then_some(()) }).await;
        held.push(stream);
    }
    let mut waiting = TcpStream::connect(server.address).await.unwrap();
    let own = waiting.local_addr().unwrap();
    waiting.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    assert!(!raw::taken_by_server(server.address, own), "it waits in the kernel's queue");
    drop(held.pop());
    let mut answer = Vec::new();
    within("its turn", tokio::io::AsyncReadExt::read_to_end(&mut waiting, &mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

#[tokio::test]
async fn a_device_has_so_many_grants() {
    let server = TestServer::start(Options::new());
    let (owner, guest) = (server.user().await, server.user().await);
    let device = server.device(&owner, 1).await;
    let path = format!("/api/v1/devices/{}/grants", device.uid());
    let grant = json!({ "email": guest.email, "access": "read" });
    for _ in 0..100 {
        owner.client.post(&path, &grant).await.expect(201);
    }
    let one_more = owner.client.post(&path, &grant).await;
    assert!(matches!(one_more.status, 400 | 409), "{}", one_more.text);
}
