//! How requests come to the server (docs/PLATFORM.md#transport): HTTPS enforced, proxies, headers, CORS, TLS.

use std::sync::OnceLock;

use hexa_tests::raw::exchange;
use hexa_tests::server::{PASSWORD, ScratchDir};
use hexa_tests::tls::Certificate;
use hexa_tests::{Options, Shared, TestServer, eventually};
use reqwest::Method;
use serde_json::{Value, json};

fn server() -> Shared {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    TestServer::shared(&SERVER)
}

fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nconnection: close\r\n{headers}\r\n").into_bytes()
}

fn body(answer: &str) -> Value {
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap_or_default())
        .unwrap_or_else(|e| panic!("{e}: {answer}"))
}

fn refused(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 426"), "{answer}");
    let head = answer.split("\r\n\r\n").next().unwrap().to_lowercase();
    assert!(head.contains("\r\nupgrade: tls/1.2, http/1.1") && head.contains("\r\nconnection: upgrade"), "{head}");
    assert!(!head.contains("strict-transport-security") && !head.contains("\r\nlocation:"), "{head}");
    hexa_tests::shapes::assert_error(&body(answer), "https_required", "426");
}

fn https(options: Options) -> Options {
    options.env("PUBLIC_URL", "https://hexa.example").env("ENFORCE_HTTPS", "true").env("HEXA_ENV", "production")
}

#[tokio::test]
async fn plain_http_is_refused_before_anything_of_it_is_looked_at() {
    let server =
        TestServer::start(https(Options::new()).env("TRUST_PROXY", "true").env("TRUSTED_PROXIES", "192.0.2.1"));
    let at = server.address;
    for headers in [
        "host: hexa.example\r\n",
        "host: localhost\r\n",
        "host: hexa.example\r\nx-forwarded-proto: https\r\n",
        "host: localhost\r\nx-forwarded-for: 127.0.0.1\r\n",
        "host: localhost\r\nvia: 1.1 caddy\r\n",
        "host: localhost\r\nforwarded: for=1.2.3.4;proto=https\r\n",
        "host: localhost\r\nhost: hexa.example\r\n",
        "host: localhost\r\nx-hexa-session: cookie\r\norigin: https://evil.example\r\n",
    ] {
        for path in ["/api/v1/auth/me", "/nowhere", "/metrics"] {
            refused(&exchange(at, &get(path, headers)).await);
        }
    }
    let foreign = "POST /api/v1/auth/refresh HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-hexa-session: cookie\r\n\
        content-length: 0\r\n\r\n";
    refused(&exchange(at, foreign.as_bytes()).await);
    let twice = "POST /api/v1/auth/refresh HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\
        content-length: 0\r\n\r\n";
    refused(&exchange(at, twice.as_bytes()).await);
    let upgrade = "host: hexa.example\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    for path in ["/ws/device?uid=x&token=y", "/ws/client"] {
        let request = get(path, upgrade).into_iter().collect::<Vec<_>>();
        let request = String::from_utf8(request).unwrap().replace("connection: close", "connection: upgrade");
        refused(&exchange(at, request.as_bytes()).await);
    }
    // Before anything else is looked at: the origin of a cookie, a length stated twice, a missing Host.
    for (first, head) in [
        ("POST /api/v1/auth/refresh", "host: hexa.example\r\nx-hexa-session: cookie\r\ncontent-length: 0\r\n"),
        ("POST /api/v1/auth/login", "host: hexa.example\r\ncontent-length: 0\r\ncontent-length: 0\r\n"),
        ("GET /api/docs", "x-forwarded-proto: https\r\n"),
    ] {
        let request = format!("{first} HTTP/1.1\r\nconnection: close\r\n{head}\r\n");
        refused(&exchange(at, request.as_bytes()).await);
    }
    // How the server is may be asked within its own container.
    assert!(exchange(at, &get("/health", "host: localhost\r\n")).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_trusted_proxy_says_who_the_client_is_and_a_stranger_does_not() {
    let proxied = TestServer::start(https(Options::new()).env("TRUST_PROXY", "true").env("LIMIT_LOGIN_FAILURES", "5"));
    let client = proxied.client();
    let from = |method: Method, path: &str, chain: &str| {
        let request = client.request(method, path);
        request.header("x-forwarded-proto", "https").header("x-forwarded-for", chain)
    };
    let account = json!({ "email": "ada@example.org", "password": PASSWORD });
    let made =
        client.send(from(Method::POST, "/api/v1/auth/register", "198.51.100.1").json(&account)).await.expect(201);
    let told = "host: hexa.example\r\nx-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https\r\n";
    let answer = exchange(proxied.address, &get("/health", told)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.to_lowercase().contains("strict-transport-security: max-age=31536000; includesubdomains"),
        "{answer}"
    );
    for headers in [
        "host: hexa.example\r\nx-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https, http\r\n",
        "host: hexa.example\r\nx-forwarded-for: 1.2.3.4\r\n",
    ] {
        refused(&exchange(proxied.address, &get("/health", headers)).await);
    }
    // The limiter counts the address that the nearest proxy saw, whatever the client put in front of it.
    let guess = async |n: u32| {
        let body = json!({ "email": "ada@example.org", "password": "not the right password" });
        client.send(from(Method::POST, "/api/v1/auth/login", &format!("10.9.8.{n}, 198.51.100.7")).json(&body)).await
    };
    for n in 0..5 {
        guess(n).await.expect_error(401, "invalid_credentials");
    }
    guess(9).await.expect_error(429, "rate_limited");
    let token = made["access_token"].as_str().unwrap();
    let sessions = from(Method::GET, "/api/v1/auth/sessions", "198.51.100.1").bearer_auth(token);
    assert_eq!(client.send(sessions).await.expect(200)["items"][0]["ip"], "198.51.100.1");
}

#[tokio::test]
async fn every_answer_says_what_browsers_must_not_make_of_it() {
    let server = server();
    let client = server.client();
    let replies = [
        client.get("/health").await,
        client.get("/ready").await,
        client.get("/metrics").await,
        client.get("/nowhere").await,
        client.get("/api/v1/auth/me").await,
        client.post_text("/api/v1/auth/login", "{").await,
        client.send(client.request(Method::DELETE, "/api/v1/devices")).await,
        server.user().await.client.get("/api/v1/devices").await,
        client.send(client.request(Method::OPTIONS, "/api/v1/devices")).await,
    ];
    for reply in &replies {
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
            ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{reply:?}");
        }
        assert_eq!(reply.header("strict-transport-security"), None);
        assert!(reply.header("x-request-id").is_some());
    }
    assert_eq!(replies[7].header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn pages_of_listed_origins_may_call_and_no_others() {
    let server =
        TestServer::start(Options::new().env("CORS_ALLOWED_ORIGINS", "https://app.example,http://localhost:5173"));
    let client = server.client();
    let preflight = async |origin: &str| {
        let request = client.request(Method::OPTIONS, "/api/v1/devices").header("origin", origin);
        let request = request.header("access-control-request-method", "POST");
        client.send(request.header("access-control-request-headers", "authorization,idempotency-key")).await
    };
    let allowed = preflight("https://app.example").await;
    assert_eq!((allowed.status, allowed.header("access-control-allow-origin")), (200, Some("https://app.example")));
    assert!(allowed.header("access-control-allow-headers").unwrap().contains("idempotency-key"));
    assert_eq!(allowed.header("access-control-max-age"), Some("600"));
    assert_eq!(allowed.header("access-control-allow-credentials"), None);
    for origin in ["https://evil.example", "https://app.example.evil.example", "http://app.example", "null"] {
        assert_eq!(preflight(origin).await.header("access-control-allow-origin"), None, "{origin}");
    }
    // A page may read errors too.
    let refused =
        client.send(client.request(Method::GET, "/api/v1/auth/me").header("origin", "http://localhost:5173")).await;
    refused.expect_error(401, "invalid_token");
    assert_eq!(refused.header("access-control-allow-origin"), Some("http://localhost:5173"));
    assert!(refused.header("vary").unwrap().contains("origin"));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_431_in_the_shape_of_every_error() {
    let server = server();
    let many = "a: b\r\n".repeat(150);
    let long = format!("cookie: {}\r\n", "x".repeat(20_000));
    let huge = format!("cookie: {}\r\n", "x".repeat(300_000));
    for headers in [&many, &long, &huge] {
        let answer = exchange(server.address, &get("/health", &format!("host: x\r\n{headers}"))).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{}", &answer[..answer.len().min(300)]);
        hexa_tests::shapes::assert_error(&body(&answer), "headers_too_large", "431");
        assert!(answer.contains("x-content-type-options: nosniff"), "{answer}");
    }
    let fits = format!("host: x\r\ncookie: {}\r\n{}", "x".repeat(10_000), "a: b\r\n".repeat(90));
    assert!(exchange(server.address, &get("/health", &fits)).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn errors_are_problems_for_those_who_ask_for_them() {
    let server = server();
    let client = server.client();
    let ask =
        async |accept: &str| client.send(client.request(Method::GET, "/api/v1/auth/me").header("accept", accept)).await;
    let problem = ask("application/problem+json, application/json;q=0.5").await;
    assert_eq!(problem.header("content-type"), Some("application/problem+json"));
    let body = problem.json();
    assert_eq!((&body["type"], &body["status"]), (&json!("urn:hexa:error:invalid_token"), &json!(401)));
    assert_eq!((&body["code"], &body["instance"]), (&json!("invalid_token"), &json!("/api/v1/auth/me")));
    assert_eq!(body["detail"], body["message"]);
    for plain in
        ["*/*", "application/json", "application/json, application/problem+json;q=0.1", "application/problem+json;q=0"]
    {
        let reply = ask(plain).await;
        assert_eq!(reply.header("content-type"), Some("application/json"), "{plain}");
        reply.expect_error(401, "invalid_token");
    }
}

#[tokio::test]
async fn the_server_speaks_tls_and_takes_up_a_renewed_certificate() {
    let dir = ScratchDir::new();
    let first = Certificate::write(dir.path());
    let options = https(Options::new())
        .env("TLS_CERT_FILE", first.certificate.to_str().unwrap())
        .env("TLS_KEY_FILE", first.key.to_str().unwrap());
    let server = TestServer::start(options);
    let request = get("/health", "host: hexa.example\r\n");
    let answer = first.exchange("127.0.0.1", server.address, &request).await.expect("TLS");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("strict-transport-security"), "{answer}");
    // Length tricks are seen behind TLS as well.
    let twice = "POST /health HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx";
    let answer = first.exchange("127.0.0.1", server.address, twice.as_bytes()).await.expect("TLS");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    // Plain HTTP on this port is no request at all, and holds nobody up.
    assert!(!exchange(server.address, &request).await.contains("200 OK"));
    std::fs::write(&first.certificate, "not a certificate").unwrap();
    let kept = first.exchange("127.0.0.1", server.address, &request).await.expect("the former pair stays");
    assert!(kept.starts_with("HTTP/1.1 200"));
    let second = Certificate::write(dir.path());
    eventually("the renewed certificate", || async {
        second.exchange("127.0.0.1", server.address, &request).await.ok().filter(|a| a.starts_with("HTTP/1.1 200"))
    })
    .await;
    assert!(first.exchange("127.0.0.1", server.address, &request).await.is_err(), "the old one is gone");
}

#[tokio::test]
async fn settings_that_contradict_each_other_are_refused() {
    for (env, named) in [
        (vec![("ENFORCE_HTTPS", "true"), ("PUBLIC_URL", "http://hexa.example")], "PUBLIC_URL"),
        (vec![("ENFORCE_HTTPS", "yes")], "ENFORCE_HTTPS"),
        (vec![("TRUSTED_PROXIES", "10.0.0.1")], "TRUSTED_PROXIES"),
        (vec![("TRUST_PROXY", "true"), ("TRUSTED_PROXIES", "everybody")], "TRUSTED_PROXIES"),
        (vec![("TLS_CERT_FILE", "/nowhere.pem")], "TLS_KEY_FILE"),
        (vec![("TLS_CERT_FILE", "/nowhere.pem"), ("TLS_KEY_FILE", "/nowhere.key")], "/nowhere.pem"),
        (vec![("CORS_ALLOWED_ORIGINS", "*")], "CORS_ALLOWED_ORIGINS"),
        (vec![("CORS_ALLOWED_ORIGINS", "https://app.example/")], "CORS_ALLOWED_ORIGINS"),
    ] {
        let dir = ScratchDir::new();
        let options = env.iter().fold(Options::new(), |options, (name, value)| options.env(name, value));
        let out = options.command(dir.path()).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(78), "{env:?}: {said}");
        assert!(said.contains(named), "{env:?}: {said}");
    }
}
