//! The commands that talk to a running server: what they keep, what they show, how they end.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use hexa_tests::process::hexa;
use hexa_tests::server::{PASSWORD, ScratchDir};
use hexa_tests::{Options, Shared, TestServer, User};
use serde_json::Value;

fn server() -> Shared {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    TestServer::shared(&SERVER)
}

struct Ended {
    code: i32,
    out: String,
    err: String,
}

impl Ended {
    #[track_caller]
    fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.err);
        self
    }
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }
}

/// A person's home, with a profile or without.
struct Home {
    dir: ScratchDir,
    env: Vec<(&'static str, String)>,
}

impl Home {
    fn new() -> Self {
        Self { dir: ScratchDir::new(), env: Vec::new() }
    }
    fn profile(&self) -> PathBuf {
        self.dir.path().join("config/hexa/profile.toml")
    }
    /// Runs the real program with this on its standard input.
    async fn hexa(&self, args: &[&str], input: &str) -> Ended {
        let mut command = Command::new(hexa());
        command
            .args(args)
            .env_clear()
            .env("HOME", self.dir.path())
            .env("XDG_CONFIG_HOME", self.dir.path().join("config"));
        command.envs(self.env.iter().map(|(name, value)| (*name, value)));
        command.current_dir(self.dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let input = input.to_owned();
        // The test's own server runs on this thread's runtime.
        let run = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn().expect("hexa starts");
            child.stdin.take().unwrap().write_all(input.as_bytes()).expect("it reads");
            child.wait_with_output().expect("it ends")
        });
        let out = run.await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ended { code: out.status.code().unwrap_or(-1), out: text(out.stdout), err: text(out.stderr) }
    }
    async fn login(&self, url: &str, email: &str, more: &[&str]) -> Ended {
        let args = [&["login", "--url", url, "--email", email, "--password-stdin"], more].concat();
        self.hexa(&args, &format!("{PASSWORD}\n")).await
    }
}

fn url(server: &TestServer) -> String {
    format!("http://{}", server.address)
}

fn token(profile: &Path) -> String {
    let text = std::fs::read_to_string(profile).unwrap();
    text.lines().find_map(|l| l.strip_prefix("token = \"")?.strip_suffix('"')).unwrap().to_owned()
}

async fn tokens(user: &User) -> usize {
    user.client.get("/api/v1/auth/tokens").await.expect(200)["items"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signed_in_once_every_command_works_until_signed_out() {
    let server = server();
    let user = server.user().await;
    let device = server.device(&user, 2).await.automatic(2);
    let home = Home::new();
    home.hexa(&["whoami", "--url", &url(&server)], "").await.expect(77);
    let done = home.login(&url(&server), &user.email, &[]).await.expect(0);
    let profile = home.profile();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&profile), mode(profile.parent().unwrap())), (0o600, 0o700));
    let secret = token(&profile);
    assert!(secret.starts_with("hxp_") && !done.out.contains(&secret) && !done.err.contains(&secret));
    assert!(!done.out.contains(PASSWORD) && !std::fs::read_to_string(&profile).unwrap().contains(PASSWORD));
    let sessions = user.client.get("/api/v1/auth/sessions").await.expect(200);
    assert_eq!(sessions["items"].as_array().unwrap().len(), 1, "the sign-in's own session has ended");

    // Signing in again leaves no token behind that nobody holds.
    home.login(&url(&server), &user.email, &[]).await.expect(0);
    server.client().with_token(&secret).get("/api/v1/auth/me").await.expect_error(401, "invalid_token");
    assert_eq!(tokens(&user).await, 1);
    let secret = token(&profile);
    let me = home.hexa(&["whoami", "--json"], "").await.expect(0).json();
    assert_eq!(me["email"], user.email.as_str());
    let list = home.hexa(&["devices", "list"], "").await.expect(0).out;
    assert!(list.starts_with("UID") && list.contains(device.uid()) && list.contains("online"), "{list}");
    let shown = home.hexa(&["devices", "show", device.uid(), "--json"], "").await.expect(0).json();
    assert_eq!(shown["relay_count"], 2);
    let done = home.hexa(&["relay", device.uid(), "1", "on", "--json"], "").await.expect(0).json();
    assert_eq!((&done["status"], device.states()), (&Value::from("executed"), vec![false, true]));
    home.hexa(&["relay", device.uid(), "all", "off"], "").await.expect(0);
    assert_eq!(device.states(), [false, false]);
    let refused = home.hexa(&["relay", device.uid(), "7", "on"], "").await.expect(1);
    assert!(refused.err.contains("validation_error") && refused.err.contains("[request "), "{}", refused.err);
    home.hexa(&["keys", "list"], "").await.expect(77);
    home.hexa(&["workers"], "").await.expect(77);

    assert_eq!(tokens(&user).await, 1);
    home.hexa(&["logout"], "").await.expect(0);
    assert_eq!(tokens(&user).await, 0, "it is revoked at the server");
    assert!(!profile.exists());
    home.hexa(&["whoami", "--url", &url(&server)], "").await.expect(77);
    server.client().with_token(&secret).get("/api/v1/auth/me").await.expect_error(401, "invalid_token");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_environment_beats_the_profile_and_a_token_goes_to_its_own_server_only() {
    let server = server();
    let (user, admin) = (server.user().await, server.admin().await);
    let mut home = Home::new();
    home.login(&url(&server), &user.email, &[]).await.expect(0);
    home.env = vec![("HEXA_TOKEN", admin.token().to_owned())];
    let me = home.hexa(&["whoami", "--json"], "").await.expect(0).json();
    assert_eq!(me["role"], "admin");
    let workers = home.hexa(&["workers"], "").await.expect(0).out;
    assert!(workers.starts_with("NAME") && workers.contains("housekeeping"), "{workers}");
    let keys = home.hexa(&["keys", "list", "--json"], "").await.expect(0).json();
    assert_eq!(keys["source"], "server");
    // Another server is not told the token of the profile.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    home.env = vec![("HEXA_URL", format!("http://{}", other.local_addr().unwrap()))];
    let heard = tokio::task::spawn_blocking(move || {
        use std::io::Read;
        let (mut stream, _) = other.accept().unwrap();
        let mut heard = [0; 2048];
        let n = stream.read(&mut heard).unwrap();
        stream.write_all(b"HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n").unwrap();
        String::from_utf8_lossy(&heard[..n]).to_lowercase()
    });
    home.hexa(&["whoami"], "").await.expect(1);
    let heard = heard.await.unwrap();
    assert!(heard.contains("get /api/v1/auth/me") && !heard.contains("authorization"), "{heard}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_admin_invites_looks_and_takes_back() {
    let server = server();
    let (user, admin) = (server.user().await, server.admin().await);
    let mut home = Home::new();
    home.env = vec![("HEXA_URL", url(&server)), ("HEXA_TOKEN", user.client.token().to_owned())];
    home.hexa(&["invite", "create"], "").await.expect(77);
    home.env = vec![("HEXA_URL", url(&server)), ("HEXA_TOKEN", admin.token().to_owned())];
    let made = home.hexa(&["invite", "create", "--email", "Ann@example.org", "--note", "Ann"], "").await.expect(0);
    let link = made.out.lines().next().unwrap();
    assert!(link.starts_with("http://hexa.example/dashboard#invitation=hxi_"), "{}", made.out);
    let second = home.hexa(&["invite", "create", "--json"], "").await.expect(0).json();
    let id = second["id"].as_str().unwrap();
    let list = home.hexa(&["invite", "list", "--open"], "").await.expect(0).out;
    assert!(list.starts_with("ID") && list.contains("ann@example.org") && list.contains(id), "{list}");
    home.hexa(&["invite", "revoke", id], "").await.expect(0);
    let again = home.hexa(&["invite", "revoke", id, "--json"], "").await.expect(1);
    assert!(again.err.contains("not_found"), "{}", again.err);
    home.hexa(&["invite", "revoke", "../users"], "").await.expect(1);
    let list = home.hexa(&["invite", "list", "--json"], "").await.expect(0).json();
    let state = |of: &str| list["items"].as_array().unwrap().iter().find(|i| i["id"] == of).unwrap()["state"].clone();
    assert_eq!(state(id), "revoked");
    let body = serde_json::json!({
        "email": "ann@example.org", "password": PASSWORD, "invitation": link.split_once('=').unwrap().1,
    });
    server.client().post("/api/v1/auth/register", &body).await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_is_told_and_keeps_nothing() {
    let server = server();
    let user = server.user().await;
    let home = Home::new();
    let wrong =
        home.hexa(&["login", "--url", &url(&server), "--email", &user.email, "--password-stdin"], "nonsense\n").await;
    assert!(wrong.expect(77).err.contains("invalid_credentials"));
    assert!(!home.profile().exists());
    home.login(&url(&server), &user.email, &["--scopes", "nonsense"]).await.expect(1);
    assert!(!home.profile().exists());
    let gone = home.login("http://127.0.0.1:1", &user.email, &[]).await.expect(69);
    assert!(gone.err.contains("does not answer"), "{}", gone.err);
    for plain in ["http://hexa.example.com", "ftp://x", "nonsense"] {
        let refused = home.login(plain, &user.email, &[]).await.expect(1);
        assert!(refused.err.contains("http"), "{}", refused.err);
    }
    home.hexa(&["relay", "a/../b", "0", "on"], "").await.expect(1);
    home.hexa(&["relay", "hx1", "0", "toggle"], "").await.expect(2);

    home.login(&url(&server), &user.email, &[]).await.expect(0);
    std::fs::set_permissions(home.profile(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = home.hexa(&["whoami"], "").await.expect(1);
    assert!(refused.err.contains("chmod 600"), "{}", refused.err);
    std::fs::write(home.profile(), "token = \"hxp_canary\nurl=").unwrap();
    std::fs::set_permissions(home.profile(), std::fs::Permissions::from_mode(0o600)).unwrap();
    let damaged = home.hexa(&["whoami", "--json"], "").await.expect(1);
    assert!(damaged.err.contains("is not a profile") && !damaged.err.contains("canary"), "{}", damaged.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_the_certificate_is_checked() {
    let scratch = ScratchDir::new();
    let certificate = hexa_tests::tls::Certificate::write(scratch.path());
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let server = TestServer::start(
        Options::new()
            .env("TLS_CERT_FILE", &text(&certificate.certificate))
            .env("TLS_KEY_FILE", &text(&certificate.key))
            .env("PUBLIC_URL", "https://localhost"),
    );
    let home = Home::new();
    let url = format!("https://localhost:{}", server.address.port());
    let stranger = home.hexa(&["whoami", "--url", &url], "").await.expect(69);
    assert!(stranger.err.contains("certificate"), "{}", stranger.err);
    let known = home.hexa(&["whoami", "--url", &url, "--ca-file", &text(&certificate.certificate)], "").await;
    assert!(known.expect(77).err.contains("invalid_token"));
}

/// A uid tells nobody which device it is.
#[tokio::test]
async fn a_device_without_a_name_is_listed_by_its_model() {
    let (server, home) = (server(), Home::new());
    let user = server.user().await;
    let body = serde_json::json!({ "device_class": "relay_controller", "model": "RC-8", "relay_count": 1 });
    let device = server.provision_with(&body).await;
    user.client.post("/api/v1/devices/claim", &serde_json::json!({ "code": device.claim_code })).await.expect(200);
    home.login(&url(&server), &user.email, &[]).await.expect(0);
    let listed = async || {
        let list = home.hexa(&["devices", "list"], "").await.expect(0).out;
        let line = list.lines().find(|line| line.starts_with(&device.uid)).unwrap_or_else(|| panic!("{list}"));
        line[device.uid.len()..].split("  ").find(|cell| !cell.is_empty()).unwrap().to_owned()
    };
    assert_eq!(listed().await, "RC-8");
    let named = serde_json::json!({ "name": "Kitchen ceiling" });
    user.client.patch(&format!("/api/v1/devices/{}", device.uid), &named).await.expect(200);
    assert_eq!(listed().await, "Kitchen ceiling");
}
