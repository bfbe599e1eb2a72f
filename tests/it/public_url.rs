//! Where the server is for browsers and devices: PUBLIC_URL as it is written, its path, what a request says without it,
//! and two servers on one host name.

use hexa_tests::raw::exchange;
use hexa_tests::server::PASSWORD;
use hexa_tests::{Options, TestServer};
use reqwest::Method;
use serde_json::{Value, json};

fn without_url() -> Options {
    Options::new().env("PUBLIC_URL", "")
}

async fn provisioned(server: &TestServer, host: &str, headers: &str) -> String {
    let body = r#"{"device_class":"relay_controller","relay_count":1}"#;
    let request = format!(
        "POST /api/v1/provision/register HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         x-provision-key: {}\r\n{headers}content-length: {}\r\n\r\n{body}",
        server.provision_key(),
        body.len()
    );
    let answer = exchange(server.address, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let url = body["ws_url"].as_str().unwrap();
    url.split("/ws/device?uid=").next().unwrap().to_owned()
}

#[tokio::test]
async fn devices_are_given_the_address_by_which_they_came_and_never_a_wildcard() {
    let server = TestServer::start(without_url().env("HEXA_LISTEN", "0.0.0.0:0"));
    let port = server.address.port();
    assert!(server.address.ip().is_unspecified());
    for (host, given) in [
        ("192.0.2.7:8080", "ws://192.0.2.7:8080".to_owned()),
        ("Hub.Local:8080", "ws://hub.local:8080".to_owned()),
        ("0.0.0.0:8080", format!("ws://127.0.0.1:{port}")),
        ("[::]:8080", format!("ws://127.0.0.1:{port}")),
        ("evil.example/path", format!("ws://127.0.0.1:{port}")),
        ("user@evil.example", format!("ws://127.0.0.1:{port}")),
    ] {
        assert_eq!(provisioned(&server, host, "").await, given, "{host}");
        // A stranger's word for it is not taken.
        let said = provisioned(&server, host, "x-forwarded-host: evil.example\r\nx-forwarded-proto: https\r\n").await;
        assert_eq!(said, given, "{host}");
    }
    let proxied = TestServer::start(without_url().env("TRUST_PROXY", "true"));
    let told = "x-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: https\r\nx-forwarded-host: hexa.example\r\n";
    assert_eq!(provisioned(&proxied, "127.0.0.1:8080", told).await, "wss://hexa.example");
    let known = TestServer::start(Options::new().env("PUBLIC_URL", "HTTPS://Hexa.Example:443/"));
    assert_eq!(provisioned(&known, "127.0.0.1:8080", "").await, "wss://hexa.example");
}

#[tokio::test]
async fn tokens_outlive_a_restart_on_another_port() {
    let mut server = TestServer::start(without_url());
    let user = server.user().await;
    let before = server.address;
    server.stop().await;
    server.restart();
    assert_ne!(server.address, before);
    user.at(&server).client.get("/api/v1/auth/me").await.expect(200);
}

async fn login(server: &TestServer, email: &str, origin: &str, host: &str) -> hexa_tests::client::Reply {
    let client = server.client();
    let request = client.request(Method::POST, "/api/v1/auth/login").header("host", host).header("origin", origin);
    client.send(request.header("x-hexa-session", "cookie").json(&json!({ "email": email, "password": PASSWORD }))).await
}

#[tokio::test]
async fn origins_are_compared_as_origins() {
    let server = TestServer::start(Options::new().env("PUBLIC_URL", "HTTPS://Küche.Example:443"));
    let user = server.user().await;
    for (origin, host, own) in [
        ("https://xn--kche-0ra.example", "127.0.0.1:8080", true),
        ("https://xn--kche-0ra.example:443", "127.0.0.1:8080", true),
        ("http://xn--kche-0ra.example", "127.0.0.1:8080", false),
        ("https://xn--kche-0ra.example:8443", "127.0.0.1:8080", false),
        ("http://127.0.0.1:8080", "127.0.0.1:8080", true),
        ("http://hub.local", "Hub.Local:80", true),
        ("http://127.0.0.1:8081", "127.0.0.1:8080", false),
        ("null", "127.0.0.1:8080", false),
    ] {
        let reply = login(&server, &user.email, origin, host).await;
        if own {
            reply.expect(200);
        } else {
            let said = reply.expect_error(403, "origin_not_allowed");
            let said = said["message"].as_str().unwrap_or_default().to_owned();
            // Both sides, for whoever set the proxy up.
            assert!(said.contains(origin) && said.contains("https://xn--kche-0ra.example"), "{said}");
        }
    }
}

/// `name=value` and the rest of what an answer sets.
fn cookie(reply: &hexa_tests::client::Reply) -> (String, String) {
    let set = reply.header("set-cookie").expect("a cookie");
    let (pair, rest) = set.split_once(';').unwrap();
    (pair.to_owned(), rest.to_owned())
}

async fn refresh(server: &TestServer, jar: &str) -> hexa_tests::client::Reply {
    let client = server.client();
    let request = client.request(Method::POST, "/api/v1/auth/refresh").header("cookie", jar);
    let request = request.header("origin", format!("http://{}", server.address)).header("x-hexa-session", "cookie");
    client.send(request.json(&json!({}))).await
}

#[tokio::test]
async fn two_servers_on_one_host_name_leave_each_others_sessions_alone() {
    let (one, two) = (TestServer::start(without_url()), TestServer::start(without_url()));
    let (mut jars, mut names) = (Vec::new(), Vec::new());
    for server in [&one, &two] {
        let user = server.user().await;
        let address = server.address.to_string();
        let reply = login(server, &user.email, &format!("http://{address}"), &address).await;
        reply.expect(200);
        let (pair, rest) = cookie(&reply);
        assert!(!rest.contains("Secure"), "WebKit takes no such cookie from plain HTTP, this machine or not: {rest}");
        assert_eq!(rest, " Path=/; Max-Age=2592000; HttpOnly; SameSite=Strict");
        names.push(pair.split('=').next().unwrap().to_owned());
        jars.push(pair);
    }
    assert!(names[0].starts_with("hexa_rt_") && names[0] != names[1], "{names:?}");
    // A browser sends both to both.
    let all = jars.join("; ");
    let first = refresh(&one, &all).await;
    first.expect(200);
    refresh(&two, &all).await.expect(200);
    // What is dead or another's is refused, and nothing is taken from the browser for it.
    for jar in [&jars[1], &jars[0].replace("hxr_", "hxr_x")] {
        let refused = refresh(&one, jar).await;
        refused.expect_error(401, "invalid_token");
        assert_eq!(refused.header("set-cookie"), None);
    }
    refresh(&one, &cookie(&first).0).await.expect(200);
}

#[tokio::test]
async fn a_late_refresh_that_is_refused_takes_no_newer_cookie_away() {
    let server = TestServer::start(without_url());
    let (user, address) = (server.user().await, server.address.to_string());
    let first = cookie(&login(&server, &user.email, &format!("http://{address}"), &address).await).0;
    let second = cookie(&refresh(&server, &first).await).0;
    refresh(&server, &second).await.expect(200);
    let late = refresh(&server, &first).await;
    late.expect_error(401, "refresh_token_reused");
    assert_eq!(late.header("set-cookie"), None, "by now the browser may hold the cookie of another sign-in");
}

#[tokio::test]
async fn everything_works_below_a_path_whether_the_proxy_takes_it_away_or_not() {
    let server = TestServer::start(Options::new().env("PUBLIC_URL", "http://h.example/hexa"));
    let client = server.client();
    for before in ["/hexa", ""] {
        assert_eq!(client.get(&format!("{before}/health")).await.status, 200, "{before}");
        client.get(&format!("{before}/api/v1/auth/me")).await.expect_error(401, "invalid_token");
        let page = client.get(&format!("{before}/dashboard")).await;
        assert_eq!(page.status, 200);
        assert!(!page.text.contains("=\"/dashboard/") && !page.text.contains("=\"/api/"), "{}", page.text);
        assert!(!page.text.contains("__HEXA_"), "{}", page.text);
        let root = format!("GET {before}/ HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n");
        let root = exchange(server.address, root.as_bytes()).await.to_lowercase();
        assert!(root.starts_with("http/1.1 303") && root.contains("\r\nlocation: /hexa/dashboard\r\n"), "{root}");
    }
    client.get("/hexadecimal").await.expect_error(404, "not_found");
    client.get("/hexa/hexa/health").await.expect_error(404, "not_found");
    assert_eq!(provisioned(&server, "127.0.0.1", "").await, "ws://h.example/hexa");
    let user = server.user().await;
    let request = client.request(Method::POST, "/hexa/api/v1/auth/login").header("origin", "http://h.example");
    let request = request.header("x-hexa-session", "cookie").header("idempotency-key", "below");
    let reply = client.send(request.json(&json!({ "email": user.email, "password": PASSWORD }))).await;
    reply.expect(200);
    assert!(cookie(&reply).1.starts_with(" Path=/hexa;"), "{:?}", cookie(&reply));
    let identity = server.provision(1).await;
    let authorization = format!("Bearer {}", identity.token);
    let path = format!("/hexa/ws/device?uid={}", identity.uid);
    hexa_tests::device::Socket::open(server.address, &path, Some(&authorization)).await.unwrap();
}

#[tokio::test]
async fn a_public_url_that_could_not_work_is_refused_with_what_is_allowed() {
    for (value, allowed) in [
        ("https://user:secret@h.example", "without user"),
        ("https://h.example/?a=b", "query"),
        ("http://0.0.0.0:8080", "wildcard"),
        ("https://h.example/api", "begin with"),
        ("https://h.example/a b", "letters"),
    ] {
        let dir = hexa_tests::server::ScratchDir::new();
        let out = Options::new().env("PUBLIC_URL", value).command(dir.path()).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(78), "{value}: {said}");
        assert!(said.contains("PUBLIC_URL") && said.contains(allowed), "{said}");
    }
}
