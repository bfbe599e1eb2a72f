//! Every error has the one shape (docs/PLATFORM.md#error-shape), whoever caused it and wherever it was found.

use std::sync::OnceLock;

use hexa_tests::raw::exchange;
use hexa_tests::{Shared, TestServer, eventually};
use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

fn server() -> Shared {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    TestServer::shared(&SERVER)
}

#[tokio::test]
async fn an_unknown_route_is_404_and_a_wrong_method_405() {
    let server = server();
    let client = server.client();
    for path in [
        "/nowhere",
        "/api",
        "/api/v1/",
        "/api/v2/devices",
        "/api/v1/devices/x/y/z/q",
        "/dashboard/.env",
        "/.git/config",
        "/api/v1/auth/register/",
        "/%00",
        "/..%2f..%2fetc/passwd",
    ] {
        client.get(path).await.expect_error(404, "not_found");
    }
    for (method, path) in [
        (Method::GET, "/api/v1/auth/register"),
        (Method::DELETE, "/api/v1/devices"),
        (Method::PUT, "/health"),
        (Method::PATCH, "/api/v1/devices/x/relays/0"),
        (Method::POST, "/metrics"),
        (Method::POST, "/ws/client"),
    ] {
        let reply = client.send(client.request(method.clone(), path)).await;
        reply.expect_error(405, "method_not_allowed");
        assert!(reply.header("allow").is_some(), "{method} {path}: RFC 9110 wants Allow");
    }
}

#[tokio::test]
async fn a_body_must_be_json_that_fits() {
    let server = server();
    let client = server.client();
    let login = "/api/v1/auth/login";
    for kind in [
        None,
        Some("text/plain"),
        Some("application/x-www-form-urlencoded"),
        Some("multipart/form-data"),
        Some("application/jsonx"),
        Some(""),
    ] {
        let mut request = client.request(Method::POST, login).body(r#"{"email":"a@b.cd","password":"x"}"#);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        client.send(request).await.expect_error(415, "unsupported_media_type");
    }
    for body in ["", "{", "nonsense", r#"{"email":"a@b.cd""#, "\u{0}", r#"{"email":"\ud800","password":"x"}"#, "[1,2]"]
    {
        client.post_text(login, body).await.expect_error(400, "validation_error");
    }
    // The message says where.
    let body = client.post_text(login, r#"{"email":5,"password":"x"}"#).await.expect_error(400, "validation_error");
    assert!(
        body["message"].as_str().unwrap().contains("email") || body["message"].as_str().unwrap().contains("column")
    );
    for kind in ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.hexa+json"] {
        let request = client.request(Method::POST, login).header("content-type", kind);
        let request = request.body(r#"{"email":"nobody@example.org","password":"not the right one"}"#);
        client.send(request).await.expect_error(401, "invalid_credentials");
    }
}

#[tokio::test]
async fn a_text_with_a_nul_is_no_fault_and_one_from_a_device_costs_nobody_a_commit() {
    let server = server();
    let (user, admin) = (server.user().await, server.admin().await);
    let client = server.client();
    let body = r#"{"email":"a\u0000@example.org","password":"correct horse battery"}"#;
    client.post_text("/api/v1/auth/register", body).await.expect_error(400, "validation_error");
    assert!(client.post_text("/api/v1/auth/login", body).await.status < 402);
    for query in ["/api/v1/admin/users?search=%00", "/api/v1/admin/audit?action=x%00", "/api/v1/devices?cursor=%00"] {
        admin.get(query).await.expect_error(400, "validation_error");
    }
    admin.get("/api/v1/admin/plugins/%00").await.expect_error(404, "not_found");
    let identity = server.provision(1).await;
    user.client.post("/api/v1/devices/claim", &json!({ "code": identity.claim_code })).await.expect(200);
    let share = json!({ "email": "a\u{0}@example.org", "access": "read" });
    let grants = format!("/api/v1/devices/{}/grants", identity.uid);
    user.client.post(&grants, &share).await.expect_error(404, "not_found");
    // A device says what it likes of itself; the others' commands are in the same transactions.
    let mut odd = server.device(&user, 1).await;
    let other = server.device(&user, 1).await.automatic(1);
    let hello = r#"{"type":"hello","firmware_version":"1.0\u0000\u001b[31m"}"#;
    odd.socket.send(Message::text(hello)).await.unwrap();
    assert_eq!(odd.expect_text().await["type"], "hello_ack");
    for n in 0..20 {
        user.set_relay(other.uid(), 0, n % 2 == 0).await.expect(200);
    }
    let shown = user.client.get(&format!("/api/v1/devices/{}", odd.uid())).await.expect(200);
    assert_eq!(shown["firmware_version"], "1.0[31m");
    let uid = odd.uid().to_owned();
    odd.socket.close().await;
    hexa_tests::eventually("what is stored is clean as well", || async {
        let row =
            server.db().rows::<Value>(&format!("select firmware_version from devices where uid = '{uid}'")).pop()?;
        (row["firmware_version"] == "1.0[31m").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_without_being_read() {
    let server = server();
    let client = server.client();
    client.post_text("/api/v1/auth/login", "x".repeat((1 << 20) + 1)).await.expect_error(413, "payload_too_large");
    // A gigabyte that is only announced.
    let head = "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let answer = exchange(server.address, format!("{head}content-length: 1073741824\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413") && answer.contains("payload_too_large"), "{answer}");
    // One that is not announced but comes in chunks.
    let mut chunked = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..40 {
        chunked.extend_from_slice(b"8000\r\n");
        chunked.extend_from_slice(&vec![b' '; 0x8000]);
        chunked.extend_from_slice(b"\r\n");
    }
    let answer = exchange(server.address, &chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{}", &answer[..answer.len().min(300)]);
}

#[tokio::test]
async fn broken_http_closes_the_connection_and_nothing_else() {
    let server = server();
    for request in [
        "NONSENSE\r\n\r\n".to_owned(),
        "POST /health HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello".to_owned(),
        "POST /health HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".to_owned(),
        "GET /health HTTP/9.9\r\nhost: x\r\n\r\n".to_owned(),
        format!("GET /health HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(500)),
    ] {
        let answer = exchange(server.address, request.as_bytes()).await;
        let shown = &request[..request.len().min(60)];
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{shown}: {answer}");
    }
    server.client().get("/health").await.expect(200);
}

#[tokio::test]
async fn a_request_that_states_its_length_twice_is_400_and_the_last_of_its_connection() {
    let server = server();
    let head = "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    let behind = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    let requests = [
        format!("{head}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{behind}"),
        format!("{head}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n{behind}"),
        format!("{head}content-length: 2\r\ncontent-length: 2\r\n\r\n{{}}{behind}"),
        format!("{head}content-length: 2\r\ncontent-length: 44\r\n\r\n{{}}{behind}"),
        format!("{head}content-length: 2, 2\r\n\r\n{{}}{behind}"),
        // Hidden behind blanks and zeros.
        format!("{head}content-length:{}2\r\ncontent-length: 2\r\n\r\n{{}}{behind}", " ".repeat(40)),
        format!("{head}content-length:{}2\r\n\r\n{{}}{behind}", " ".repeat(40)),
        format!("{head}content-length: {}2\r\n\r\n{{}}{behind}", "0".repeat(33)),
        format!("{head}transfer-encoding:{}chunked\r\n\r\n0\r\n\r\n{behind}", " ".repeat(40)),
    ];
    for request in requests {
        // `exchange` reads until the server has closed: one answer, and nothing behind it.
        let answer = exchange(server.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{request}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{request}: {answer}");
        // And behind a request that asks for another protocol, which is not granted.
        let asked = "GET /health HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        let answer = exchange(server.address, format!("{asked}{request}").as_bytes()).await;
        // What comes in one piece with it may be refused in its place; nothing behind it is served.
        let (before, last) = answer.split_at(answer.rfind("HTTP/1.1 ").unwrap());
        assert!(before.is_empty() || before.starts_with("HTTP/1.1 200"), "{request}: {answer}");
        assert!(last.starts_with("HTTP/1.1 400") && before.matches("HTTP/1.1").count() < 2, "{request}: {answer}");
    }
    // A chunk's size that hides one: its own request ends as hyper reads it, and nothing behind it is served.
    let chunked = format!("{head}transfer-encoding: chunked\r\n\r\n{}2\r\n{{}}\r\n0\r\n\r\n", "0".repeat(60));
    let answer = exchange(server.address, format!("{chunked}{behind}{behind}").as_bytes()).await;
    assert!(!answer.contains("HTTP/1.1 200"), "{answer}");
    // The same bytes with one length each are two requests and two answers.
    let plain =
        format!("{head}content-length: 2\r\n\r\n{{}}GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let answer = exchange(server.address, plain.as_bytes()).await;
    assert_eq!((answer.matches("HTTP/1.1 4").count(), answer.matches("HTTP/1.1 200").count()), (1, 1), "{answer}");
    // The error has the shape of all errors, and says that the connection ends.
    let twice = format!("{head}content-length: 2\r\ncontent-length: 2\r\n\r\n{{}}");
    let answer = exchange(server.address, twice.as_bytes()).await;
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    hexa_tests::shapes::assert_error(&body, "validation_error", "two lengths");
    assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn headers_are_bounded() {
    let server = server();
    let request = format!("GET /health HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(20 * 1024));
    let answer = exchange(server.address, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    let few = format!("GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx: {}\r\n\r\n", "y".repeat(8 * 1024));
    assert!(exchange(server.address, few.as_bytes()).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_head_that_is_too_large_overtakes_no_answer() {
    let server = server();
    let user = server.user().await;
    let body = json!({ "email": user.email, "password": hexa_tests::server::PASSWORD }).to_string();
    let login = format!(
        "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let upgrade = "GET /health HTTP/1.1\r\nhost: x\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n";
    for large in [
        format!("GET /health HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(105)),
        format!("GET /health HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(20 * 1024)),
        format!("GET /health HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "y".repeat(90 * 1024)),
        format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "y".repeat(20 * 1024)),
    ] {
        // The password is still being hashed when the large head has arrived.
        for before in [&login, upgrade] {
            let answer = exchange(server.address, format!("{before}{large}").as_bytes()).await;
            let (first, rest) = answer.split_at(answer.rfind("HTTP/1.1 ").unwrap());
            assert!(first.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(rest.starts_with("HTTP/1.1 431") && rest.contains("connection: close"), "{answer}");
            let body: Value = serde_json::from_str(rest.split("\r\n\r\n").nth(1).unwrap()).unwrap();
            hexa_tests::shapes::assert_error(&body, "headers_too_large", "431 behind a request");
        }
    }
}

#[tokio::test]
async fn what_is_no_request_at_all_is_400_in_the_shape_of_every_error() {
    let server = server();
    for request in [
        "nonsense\r\n\r\n".to_owned(),
        "GET /health HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n".to_owned(),
        "GET /health HTTP/1.1\r\nhost : x\r\n\r\n".to_owned(),
        "GET /\0 HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        "POST /health HTTP/1.1\r\nhost: x\r\ncontent-length: abc\r\n\r\n".to_owned(),
        "POST /health HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "GET /health HTTP/1.1\r\n\r\n".to_owned(),
        "GET /health HTTP/1.1\r\nhost: x\r\nhost: y\r\nconnection: close\r\n\r\n".to_owned(),
        "GET /health HTTP/1.1\r\nhost: x\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(),
    ] {
        let request = request.replace("HTTP/1.1\r\n\r\n", "HTTP/1.1\r\nconnection: close\r\n\r\n");
        let answer = exchange(server.address, request.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{request:?}: {answer}");
        assert!(answer.contains("x-content-type-options: nosniff"), "{request:?}: {answer}");
        let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        hexa_tests::shapes::assert_error(&body, "validation_error", &request);
        let id = body["request_id"].as_str().unwrap();
        assert!(answer.contains(&format!("x-request-id: {id}")), "{request:?}: {answer}");
    }
    // The former version knows no Host.
    let old = exchange(server.address, b"GET /ready HTTP/1.0\r\n\r\n").await;
    assert!(old.contains(" 200 "), "{old}");
}

#[tokio::test]
async fn a_body_that_never_arrives_is_408() {
    let server = server();
    let head =
        "POST /api/v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 50\r\n\r\n{";
    let answer = exchange(server.address, head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains(r#""code":"request_timeout""#), "{answer}");
}

#[tokio::test]
async fn a_database_that_takes_no_write_is_named_and_what_the_device_did_is_stored_later() {
    let server = TestServer::start(hexa_tests::Options::new());
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let uid = device.uid().to_owned();
    // Another process that writes for too long looks like any database that does not take the write.
    let db = server.db();
    let locked = db.lock_out_writers();
    let answer = tokio::spawn({
        let (user, uid) = (user.clone(), uid.clone());
        async move { user.set_relay(&uid, 0, true).await }
    });
    let command = device.expect_command().await;
    device.ack(&command).await;
    let error = answer.await.unwrap().expect_error(503, "storage_unavailable");
    let details = &error["details"];
    assert_eq!((&details["command_id"], &details["sent"]), (&json!(command.id), &json!(true)));
    assert_eq!(details["outcome"], "executed");
    // Not on the disk, and not open either.
    assert_eq!(
        (server.db().relay(&uid, 0), user.command(&command.id).await["status"].clone()),
        (None, "executed".into())
    );
    assert_eq!(server.metrics().await.count("hexa_audit_rows_waiting", &[]), 1);
    drop(locked);
    eventually("it is stored", || async { server.db().relay(&uid, 0) }).await;
    assert_eq!((server.db().relay(&uid, 0), user.relay(&uid, 0).await), (Some((true, 1)), Some((true, 1))));
    let rows = server.db().command(&command.id);
    assert_eq!((rows.len(), rows[0].outcome.as_str(), rows[0].source.as_str()), (1, "executed", "api"));
    assert_eq!(server.metrics().await.count("hexa_audit_rows_waiting", &[]), 0);
    assert_eq!(server.metrics().await.count("hexa_audit_rows_dropped_total", &[]), 0);
    // The device agrees, and there is nothing to heal.
    device.report(&[(0, true)]).await;
    device.settled().await;
    assert_eq!(server.db().relay(&uid, 0), Some((true, 1)));
    server.db().assert_sound();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_go_on_while_another_process_holds_the_write_lock() {
    let server = TestServer::start(hexa_tests::Options::new());
    let user = server.user().await;
    let file = rusqlite::Connection::open(server.data_dir().join("hexa.db")).unwrap();
    file.execute_batch("begin immediate").unwrap();
    let start = std::time::Instant::now();
    // More at once than one connection serves: whatever is opened for them must not need to write.
    let asked = (0..32).map(|_| user.client.get("/api/v1/devices"));
    for reply in futures_util::future::join_all(asked).await {
        reply.expect(200);
    }
    assert!(start.elapsed() < std::time::Duration::from_secs(4), "no read waited for the lock: {:?}", start.elapsed());
    file.execute_batch("rollback").unwrap();
}

/// Codes that no test here can bring about from outside, and why.
const OUT_OF_REACH: &[(&str, &str)] = &[("internal_error", "a fault of the server, on which every test fails")];

#[tokio::test]
async fn every_error_code_is_produced_by_some_test() {
    let mut command = std::process::Command::new(hexa_tests::process::hexa());
    command.args(["docs", "errors"]);
    let table = hexa_tests::process::finish(command, std::time::Duration::from_secs(30)).await.stdout;
    let codes: Vec<_> = table.lines().filter_map(|l| l.strip_prefix("| `")?.split('`').next()).collect();
    assert!(codes.len() > 25, "{table}");
    let mut sources = String::new();
    let root = std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/it"));
    let mut places: Vec<_> = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path()).collect();
    while let Some(path) = places.pop() {
        if path.is_dir() {
            places.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        // This list itself is no test.
        sources += text.split("const OUT_OF_REACH").next().unwrap();
    }
    for code in &codes {
        let excuse = OUT_OF_REACH.iter().find(|(name, _)| name == code);
        let tested = sources.contains(&format!("\"{code}\"")) || sources.contains(&format!("\"code\":\"{code}\""));
        assert!(tested != excuse.is_some(), "{code}: tested {tested}, excuse {excuse:?}");
    }
    assert!(OUT_OF_REACH.iter().all(|(name, _)| codes.contains(name)));
}

#[tokio::test]
async fn a_request_id_is_made_or_taken_over_when_it_is_harmless() {
    let server = server();
    let client = server.client();
    let ask = |id: &str| client.request(Method::GET, "/nowhere").header("x-request-id", id);
    for good in ["abc", "trace-1.2_3", &"x".repeat(64)] {
        let body = client.send(ask(good)).await.expect_error(404, "not_found");
        assert_eq!(body["request_id"], good);
    }
    for bad in ["", "with space", "semi;colon", "<script>", &"x".repeat(65), "ä"] {
        let body = client.send(ask(bad)).await.expect_error(404, "not_found");
        assert_ne!(body["request_id"], bad);
    }
    let (one, two) = (client.get("/health").await, client.get("/health").await);
    let ids = [one.header("x-request-id").unwrap(), two.header("x-request-id").unwrap()];
    assert_ne!(ids[0], ids[1], "also on what is no error");
}

#[tokio::test]
async fn every_route_of_an_account_wants_a_token() {
    let server = server();
    let client = server.client();
    for (method, path) in [
        (Method::GET, "/api/v1/auth/me"),
        (Method::GET, "/api/v1/devices"),
        (Method::POST, "/api/v1/devices/claim"),
        (Method::GET, "/api/v1/devices/x"),
        (Method::PATCH, "/api/v1/devices/x"),
        (Method::DELETE, "/api/v1/devices/x"),
        (Method::GET, "/api/v1/devices/x/state"),
        (Method::POST, "/api/v1/devices/x/release"),
        (Method::POST, "/api/v1/devices/x/token/rotate"),
        (Method::POST, "/api/v1/devices/x/claim-code"),
        (Method::POST, "/api/v1/devices/claim-code"),
        (Method::POST, "/api/v1/devices/x/relays"),
        (Method::POST, "/api/v1/devices/x/relays/0"),
        (Method::GET, "/api/v1/commands/x"),
        (Method::GET, "/ws/client"),
        (Method::GET, "/ws/device"),
    ] {
        for token in [None, Some("Bearer nonsense"), Some("Basic dTpw"), Some("Bearer"), Some("")] {
            let mut request = client.request(method.clone(), path);
            if let Some(token) = token {
                request = request.header("authorization", token);
            }
            let reply = client.send(request).await;
            assert_eq!(reply.status, 401, "{method} {path} with {token:?}: {}", reply.text);
            reply.expect_error(401, "invalid_token");
        }
    }
}

#[tokio::test]
async fn health_and_readiness_are_for_everybody() {
    let server = server();
    let health = server.client().get("/health").await.expect(200);
    assert_eq!((&health["status"], &health["database"]), (&json!("ok"), &json!("ok")));
    assert!(health["version"].as_str().is_some_and(|v| v.split('.').count() == 3));
    assert_eq!(server.client().get("/ready").await.expect(200)["status"], "ready");
}

#[tokio::test]
async fn errors_are_counted_by_code_and_by_nothing_that_grows() {
    let server = server();
    for n in 0..50 {
        server.client().get(&format!("/no/such/route/{n}")).await.expect_error(404, "not_found");
    }
    let metrics = server.metrics().await;
    assert!(metrics.count("hexa_api_errors_total", &[("code", "not_found")]) >= 50);
    let series = metrics.names().filter(|n| n.starts_with("hexa_api_errors_total")).count();
    assert!(series < 40, "{series}");
    let leaked: Vec<Value> = metrics.names().filter(|n| n.contains("/no/such")).map(Into::into).collect();
    assert_eq!(leaked, Vec::<Value>::new());
}
