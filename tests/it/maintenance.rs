//! Whoever runs the server (ADR 0030): the maintenance listener, this machine while no proxy is trusted, and nobody else.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use hexa_tests::process::hexa;
use hexa_tests::raw::exchange;
use hexa_tests::server::{PASSWORD, ScratchDir};
use hexa_tests::wait::within;
use hexa_tests::{Options, TestServer, eventually};
use reqwest::Method;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n").into_bytes()
}

/// Over a socket file.
async fn inside(file: &Path, bytes: &[u8]) -> String {
    let mut stream = tokio::net::UnixStream::connect(file).await.unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    within("an answer and its end", async {
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    })
    .await
}

/// Behind a proxy on this machine, as in production.
fn proxied() -> Options {
    Options::new()
        .env("HEXA_ENV", "production")
        .env("PUBLIC_URL", "https://hexa.example")
        .env("ENFORCE_HTTPS", "true")
        .env("TRUST_PROXY", "true")
}

#[tokio::test]
async fn the_socket_file_is_for_everything_and_the_main_port_behind_a_proxy_for_health() {
    let mut server = TestServer::start(proxied());
    let file = server.data_dir().join("maintenance.sock");
    let about = std::fs::metadata(&file).unwrap();
    assert!(about.file_type().is_socket());
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    // A scraper, an account, a refusal: as anywhere, without TLS, and whatever is claimed in headers.
    let metrics = inside(&file, &get("/metrics", "host: localhost\r\nx-forwarded-for: 1.2.3.4\r\n")).await;
    assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains("hexa_device_sessions"), "{metrics}");
    assert!(
        inside(&file, &get("/metrics", "host: any.example\r\n")).await.starts_with("HTTP/1.1 200"),
        "no name matters"
    );
    let body = format!("{{\"email\":\"inside@example.org\",\"password\":\"{PASSWORD}\"}}");
    let request = format!(
        "POST /api/v1/auth/register HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let made = inside(&file, request.as_bytes()).await;
    assert!(made.starts_with("HTTP/1.1 201"), "{made}");
    assert!(inside(&file, &get("/api/v1/auth/me", "host: localhost\r\n")).await.starts_with("HTTP/1.1 401"));
    // The trusted proxy of this machine, and every process on it, names nobody: health alone.
    for headers in ["host: localhost\r\n", "host: 127.0.0.1\r\n", "host: hexa.example\r\nx-forwarded-proto: https\r\n"]
    {
        for path in ["/metrics", "/api/v1/auth/me", "/dashboard", "/ws/client", "/nowhere"] {
            let refused = exchange(server.address, &get(path, headers)).await;
            assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("X-Forwarded-For"), "{path}: {refused}");
        }
        for path in ["/health", "/ready"] {
            let answer = exchange(server.address, &get(path, headers)).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        }
    }
    let named = get("/metrics", "host: localhost\r\nx-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: https\r\n");
    assert!(exchange(server.address, &named).await.starts_with("HTTP/1.1 401"), "a client of this machine is a client");
    // Left by a process that was killed, it is in nobody's way; after a stop it is gone.
    server.kill9();
    assert!(file.exists());
    server.restart();
    assert!(inside(&file, &get("/health", "host: localhost\r\n")).await.starts_with("HTTP/1.1 200"));
    server.stop().await;
    assert!(!file.exists());
}

#[tokio::test]
async fn the_command_line_of_this_machine_takes_it_by_itself() {
    let server = TestServer::start(proxied());
    let file = server.data_dir().join("maintenance.sock");
    let home = ScratchDir::new();
    let run = |args: &[&str], input: &str, data_dir: Option<&Path>| {
        let mut command = Command::new(hexa());
        command.args(args).env_clear().env("HOME", home.path()).current_dir(home.path());
        command.envs(data_dir.map(|dir| ("HEXA_DATA_DIR", dir)));
        let given = home.path().join("input");
        std::fs::write(&given, input).unwrap();
        command.stdin(std::fs::File::open(given).unwrap());
        async move { tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap() }
    };
    let body = format!("{{\"email\":\"here@example.org\",\"password\":\"{PASSWORD}\"}}");
    let request = format!(
        "POST /api/v1/auth/register HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    assert!(inside(&file, request.as_bytes()).await.starts_with("HTTP/1.1 201"));
    let login = ["login", "--email", "here@example.org", "--password-stdin", "--json"];
    let there = run(&login, PASSWORD, Some(server.data_dir())).await;
    let said = String::from_utf8_lossy(&there.stderr).into_owned();
    assert!(there.status.success(), "{said}");
    let shown: Value = serde_json::from_slice(&there.stdout).unwrap();
    assert_eq!(shown["url"], format!("unix://{}", file.display()));
    // From then on the profile says where; nothing else has to.
    let me = run(&["whoami", "--json"], "", None).await;
    assert!(me.status.success(), "{}", String::from_utf8_lossy(&me.stderr));
    let me: Value = serde_json::from_slice(&me.stdout).unwrap();
    assert_eq!(me["email"], "here@example.org");
    let out = run(&["logout"], "", None).await;
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

#[tokio::test]
async fn an_address_serves_it_as_well_and_must_be_this_machines() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap();
    let server = TestServer::start(proxied().env("HEXA_MAINTENANCE_LISTEN", &port.to_string()));
    assert!(!server.data_dir().join("maintenance.sock").exists());
    let answer = exchange(port, &get("/metrics", "host: localhost\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    // A page that has bent its own name to this machine reads nothing.
    let rebound = exchange(port, &get("/metrics", "host: rebound.example\r\n")).await;
    assert!(rebound.starts_with("HTTP/1.1 401"), "{rebound}");
    for (value, code) in [("0.0.0.0:0", 78), ("192.0.2.1:80", 78), ("8081", 78), ("/nowhere/at/all.sock", 1)] {
        let dir = ScratchDir::new();
        let out = proxied().env("HEXA_MAINTENANCE_LISTEN", value).command(dir.path()).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(code), "{value}: {said}");
        assert!(said.contains("HEXA_MAINTENANCE_LISTEN"), "{said}");
    }
}

#[tokio::test]
async fn without_a_trusted_proxy_this_machine_has_it_whatever_host_it_names() {
    let server =
        TestServer::start(Options::new().env("PUBLIC_URL", "https://hexa.example").env("ENFORCE_HTTPS", "true"));
    for host in ["localhost", "127.0.0.1:1", "hexa.example"] {
        for path in ["/health", "/metrics", "/dashboard"] {
            let answer = exchange(server.address, &get(path, &format!("host: {host}\r\n"))).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{host} {path}: {answer}");
        }
    }
    for trace in ["x-forwarded-for: 127.0.0.1", "forwarded: for=127.0.0.1;proto=https", "via: 1.1 caddy"] {
        let answer = exchange(server.address, &get("/metrics", &format!("host: localhost\r\n{trace}\r\n"))).await;
        assert!(answer.starts_with("HTTP/1.1 426"), "{trace}: {answer}");
    }
    let old = b"GET /metrics HTTP/1.0\r\nhost: localhost\r\n\r\n";
    assert!(exchange(server.address, old).await.starts_with("HTTP/1.0 426"));
    let rebound = exchange(server.address, &get("/metrics", "host: rebound.example\r\n")).await;
    assert!(rebound.starts_with("HTTP/1.1 401"), "{rebound}");
}

#[tokio::test]
async fn in_production_https_is_enforced_with_tls_or_a_proxy_or_not_at_all() {
    let production = Options::new().env("HEXA_ENV", "production").env("PUBLIC_URL", "https://hexa.example");
    let dir = ScratchDir::new();
    let out = production.clone().env("ENFORCE_HTTPS", "true").command(dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(78), "{said}");
    for named in ["ENFORCE_HTTPS", "TLS_CERT_FILE", "TRUST_PROXY"] {
        assert!(said.contains(named), "{said}");
    }
    let short = production.env("METRICS_TOKEN", "short").command(dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&short.stderr).into_owned();
    assert!(short.status.code() == Some(78) && said.contains("METRICS_TOKEN") && !said.contains("short"), "{said}");
}

#[tokio::test]
async fn wrong_metrics_tokens_of_an_address_are_counted() {
    let options = Options::new().env("METRICS_TOKEN", "a-token-for-the-scraper").env("LIMIT_PROVISION_FAILURES", "3");
    let server = TestServer::start(options);
    let client = server.client();
    let ask =
        |token: &str| client.send(client.request(Method::GET, "/metrics").header("via", "1.1 x").bearer_auth(token));
    assert_eq!(ask("a-token-for-the-scraper").await.status, 200);
    for n in 0..3 {
        ask(&format!("guess {n}")).await.expect_error(401, "invalid_token");
    }
    ask("guess 4").await.expect_error(429, "rate_limited");
    ask("a-token-for-the-scraper").await.expect_error(429, "rate_limited");
    // Whoever runs the server guesses nothing.
    assert_eq!(client.get("/metrics").await.status, 200);
}

#[tokio::test]
async fn a_stop_is_heard_while_the_server_starts() {
    let dir = ScratchDir::new();
    let pipe = dir.path().join("listen.addr");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let mut child = hexa_tests::process::spawn(Options::new().command(dir.path())).unwrap();
    let log = hexa_tests::process::Lines::default();
    log.follow(child.stdout.take().unwrap());
    log.follow(child.stderr.take().unwrap());
    // It waits for a reader of its address, late in its start.
    eventually("the maintenance listener", || async { dir.path().join("maintenance.sock").exists().then_some(()) })
        .await;
    hexa_tests::process::signal(&child, libc::SIGTERM);
    let status = hexa_tests::process::ended(&mut child, std::time::Duration::from_secs(15)).await;
    assert_eq!(status.code(), Some(0), "{}", log.text());
    assert!(log.text().contains("stopped before it was ready"), "{}", log.text());
}
