//! The real server as a child process with a data directory of its own.

use std::net::SocketAddr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::client::Client;
use crate::db::Db;
use crate::device::{FakeDevice, Identity};
use crate::evidence::{Evidence, Witness};
use crate::metrics::Metrics;
use crate::process::{self, Lines};
use crate::wait::{PATIENCE, eventually};

/// A stop takes at most so long: open commands end, sockets are closed, everything is written.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// What a server of the tests calls itself, whatever its port.
pub const PUBLIC_URL: &str = "http://hexa.example";

/// How a server is started.
#[derive(Clone, Debug, Default)]
pub struct Options {
    env: Vec<(String, String)>,
    removed: Vec<String>,
    data_dir: Option<PathBuf>,
}

impl Options {
    /// As the tests need it: limits that many users of one test would hit are far away.
    pub fn new() -> Self {
        Self::default()
            // Tokens name their issuer: a fixed one outlives a restart on another port.
            .env("PUBLIC_URL", PUBLIC_URL)
            .env("COMMAND_TIMEOUT_MS", "8000")
            .env("LIMIT_USER_RPS", "100000")
            .env("LIMIT_USER_BURST", "100000")
            .env("LIMIT_PROVISION_RPS", "10000")
            .env("LIMIT_LOGIN_FAILURES", "1000")
            .env("LIMIT_PUBLIC_RPS", "100000")
            .env("LIMIT_TOKEN_FAILURES", "10000")
            .env("LIMIT_INVITATION_FAILURES", "1000")
            .env("LIMIT_USER_SOCKETS", "1000")
            .env("LIMIT_USER_SESSIONS", "100000")
    }
    /// With this setting; a later one of the same name wins.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.retain(|(n, _)| n != name);
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }
    /// Without a setting that servers of tests have.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.removed.push(name.to_owned());
        self
    }
    /// On this data directory, which the caller owns.
    #[must_use]
    pub fn data_dir(mut self, dir: &Path) -> Self {
        self.data_dir = Some(dir.to_owned());
        self
    }
    /// The command that starts it.
    pub fn command(&self, data_dir: &Path) -> Command {
        let mut command = Command::new(process::hexa());
        command.arg("serve").env_clear();
        for kept in ["PATH", "HOME", "TMPDIR", "RUST_BACKTRACE", "LLVM_PROFILE_FILE"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command
            .env("HEXA_LISTEN", "127.0.0.1:0")
            .env("HEXA_DATA_DIR", data_dir)
            .env("HEXA_PLUGINS_DIR", process::plugins())
            .envs(self.env.iter().map(|(n, v)| (n, v)))
            // No hexa.toml of whoever runs the tests.
            .current_dir(data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for name in &self.removed {
            command.env_remove(name);
        }
        command
    }
}

/// A directory that goes when it is dropped, or when the next run finds that its process is gone.
#[derive(Debug)]
pub struct ScratchDir(PathBuf);

impl ScratchDir {
    /// A fresh one.
    ///
    /// # Panics
    /// When the disk does not allow it.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        static SWEPT: OnceLock<()> = OnceLock::new();
        let base = std::env::temp_dir().join("hexa-tests");
        SWEPT.get_or_init(|| sweep(&base));
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let dir = base.join(format!("{}.{n}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        Self(dir)
    }
    /// Path of the directory.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Default for ScratchDir {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Directories of processes that are gone: shared servers of earlier runs live in statics, which are never dropped.
fn sweep(base: &Path) {
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.split('.').next().unwrap_or_default();
        // Pids come again: what carries this process's own was left by an earlier one.
        if pid == std::process::id().to_string() || !Path::new("/proc").join(pid).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A running (or stopped) server.
#[derive(Debug)]
pub struct TestServer {
    /// The address that it listens on.
    pub address: SocketAddr,
    options: Options,
    scratch: Option<ScratchDir>,
    child: Option<Child>,
    log: Lines,
    admin: OnceCell<String>,
    judged: bool,
}

impl TestServer {
    /// Starts one and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready; its log says why.
    pub fn start(options: Options) -> Self {
        let scratch = options.data_dir.is_none().then(ScratchDir::new);
        let mut server = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            options,
            scratch,
            child: None,
            log: Lines::default(),
            admin: OnceCell::new(),
            judged: false,
        };
        server.launch();
        server
    }

    /// The server that all tests of a module share; starts it at the first call.
    pub fn shared(cell: &'static OnceLock<Self>) -> Shared {
        Shared(cell.get_or_init(|| Self::start(Options::new())))
    }

    fn launch(&mut self) {
        let dir = self.data_dir().to_owned();
        let file = dir.join("listen.addr");
        let _ = std::fs::remove_file(&file);
        let mut command = self.options.command(&dir);
        if let Some(address) = crate::db::address(&dir) {
            command.env("DATABASE_URL", address);
        }
        let mut child = process::spawn(command).expect("the server can be started");
        self.log.follow(child.stdout.take().expect("stdout is piped"));
        self.log.follow(child.stderr.take().expect("stderr is piped"));
        self.child = Some(child);
        let start = Instant::now();
        let active = || self.log.text().matches("\"plugin active\"").count();
        let before = active();
        // A machine that is busy otherwise may take longer to compile a plugin than a start waits for it.
        let own = |name: &str| self.options.env.iter().any(|(n, _)| n == name);
        let served = || own("HEXA_PLUGINS_DIR") || own("HEXA_LOG") || active() > before;
        loop {
            let written = std::fs::read_to_string(&file).unwrap_or_default();
            if let Ok(address) = written.trim().parse() {
                self.address = address;
                // One that speaks TLS only is not asked: the file is written once it listens.
                let encrypted = self.options.env.iter().any(|(name, _)| name == "TLS_CERT_FILE");
                if served() && (encrypted || crate::raw::status_blocking(address, "/ready") == Some(200)) {
                    return;
                }
            }
            if let Some(status) = self.child.as_mut().and_then(|c| c.try_wait().ok()).flatten() {
                self.judged = true;
                panic!("the server ended at its start with {status}:\n{}", self.log.text());
            }
            assert!(start.elapsed() < PATIENCE * 2, "the server is not ready:\n{}", self.log.text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Path of its data directory.
    pub fn data_dir(&self) -> &Path {
        match (&self.scratch, &self.options.data_dir) {
            (Some(scratch), _) => scratch.path(),
            (None, Some(dir)) => dir,
            (None, None) => unreachable!("a server has one or the other"),
        }
    }
    /// What it has logged.
    pub fn log(&self) -> &Lines {
        &self.log
    }
    /// What its database holds, whichever it is.
    pub fn evidence(&self) -> Evidence {
        self.db().evidence()
    }
    /// A look into its database.
    pub fn db(&self) -> Db {
        Db::open(self.data_dir())
    }
    /// Its process id.
    ///
    /// # Panics
    /// When it is not running.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }
    /// Resident memory in bytes.
    ///
    /// # Panics
    /// When it is not running.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the server runs");
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("Linux tells VmRSS");
        let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse().expect("a number of kB");
        kib * 1024
    }

    /// Asks it to stop, without waiting.
    ///
    /// # Panics
    /// When it is not running.
    pub fn terminate(&self) {
        process::signal(self.child.as_ref().expect("the server runs"), libc::SIGTERM);
    }
    /// Waits for its end after [`terminate`](Self::terminate); gives the exit code and the time it took.
    ///
    /// # Panics
    /// When it does not end within 15 s.
    pub async fn ended(&mut self) -> (i32, Duration) {
        let start = Instant::now();
        let mut child = self.child.take().expect("the server runs");
        let status = process::ended(&mut child, STOP_WITHIN).await;
        let took = start.elapsed();
        self.log.closed().await;
        (process::code(status), took)
    }
    /// Stops it properly.
    ///
    /// # Panics
    /// When it does not end with 0 within 15 s.
    pub async fn stop(&mut self) {
        self.terminate();
        let (code, _) = self.ended().await;
        assert_eq!(code, 0, "a stop ends with 0:\n{}", self.log.text());
    }
    /// Kills it as a power cut would kill the process.
    ///
    /// # Panics
    /// When it is not running.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("the server runs");
        child.kill().expect("our own child can be killed");
        child.wait().expect("our own child can be waited for");
    }
    /// With this setting from the next start on; none = without it.
    pub fn set_env(&mut self, name: &str, value: Option<&str>) {
        self.options.env.retain(|(n, _)| n != name);
        self.options.env.extend(value.map(|v| (name.to_owned(), v.to_owned())));
    }
    /// Whether it runs.
    ///
    /// # Panics
    /// When the process cannot be asked.
    pub fn running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }
    /// Starts it again on the same data directory; the address is a new one.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "stop it first");
        self.launch();
    }

    /// A caller without a token.
    pub fn client(&self) -> Client {
        let proxied = self.options.env.iter().any(|(name, value)| name == "TRUST_PROXY" && value == "true");
        if proxied { Client::behind_a_proxy(self.address) } else { Client::new(self.address) }
    }
    /// The secret that access tokens are signed with.
    ///
    /// # Panics
    /// When the server has not made one.
    pub fn signing_key(&self) -> String {
        let text = std::fs::read_to_string(self.data_dir().join("secrets/jwt_keys")).expect("a ring of keys");
        let ring: Value = serde_json::from_str(&text).expect("JSON");
        let keys = ring["keys"].as_array().expect("keys");
        let active = keys.iter().find(|k| k["state"] == "active").expect("an active key");
        active["secret"].as_str().expect("a secret").to_owned()
    }
    /// The provisioning key.
    ///
    /// # Panics
    /// When the server has not made one.
    pub fn provision_key(&self) -> String {
        let file = self.data_dir().join("secrets/device_provision_key");
        std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display())).trim().to_owned()
    }
    /// A new user, signed in.
    pub async fn user(&self) -> User {
        let email = format!("user-{}@example.org", uuid::Uuid::now_v7().simple());
        self.register(&email, None).await
    }
    /// The admin, made with the bootstrap secret at the first call.
    pub async fn admin(&self) -> Client {
        let token = self.admin.get_or_init(|| async {
            let file = self.data_dir().join("secrets/bootstrap_secret");
            let secret = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            self.register("admin@example.org", Some(secret.trim())).await.access_token
        });
        self.client().with_token(token.await)
    }
    async fn register(&self, email: &str, bootstrap_secret: Option<&str>) -> User {
        let mut body = json!({ "email": email, "password": PASSWORD, "name": "A Tester" });
        if let Some(secret) = bootstrap_secret {
            body["bootstrap_secret"] = secret.into();
        }
        // Password hashing is queued and bounded; when it is full the server says so.
        let answer = eventually("an account", || async {
            let reply = self.client().post("/api/v1/auth/register", &body).await;
            (reply.status != 503).then(|| reply.expect(201))
        });
        User::new(self.client(), email, &answer.await)
    }
    /// A device that has just been provisioned with `relays` relays and as many inputs, without an owner.
    pub async fn provision(&self, relays: u16) -> Identity {
        let body = json!({ "device_class": "relay_controller", "relay_count": relays, "input_count": relays });
        self.provision_with(&body).await
    }
    /// The same with this request.
    pub async fn provision_with(&self, body: &Value) -> Identity {
        let client = self.client();
        let request = client.request(reqwest::Method::POST, "/api/v1/provision/register");
        let request = request.header("x-provision-key", self.provision_key()).json(body);
        Identity::from_json(&client.send(request).await.expect(201))
    }
    /// A device that belongs to `user` and is connected; nothing is known of its relays yet.
    pub async fn device(&self, user: &User, relays: u16) -> FakeDevice {
        let identity = self.provision(relays).await;
        user.client.post("/api/v1/devices/claim", &json!({ "code": identity.claim_code })).await.expect(200);
        self.connect(&identity).await
    }
    /// Connects a device.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn connect(&self, identity: &Identity) -> FakeDevice {
        match FakeDevice::connect(self.address, identity).await {
            Ok(device) => device,
            Err(refused) => panic!("the device is refused: {refused:?}"),
        }
    }
    /// Scrapes the metrics once.
    pub async fn metrics(&self) -> Metrics {
        let reply = self.client().get("/metrics").await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        Metrics::parse(&reply.text)
    }

    /// Whether its log has a panic; asked once per test.
    fn assert_no_panic(&self) {
        // A plugin may say what it likes in its own log.
        let own = |line: &&String| !line.contains(r#""plugin.id""#);
        if let Some(line) = self.log.all().iter().filter(own).find(|l| l.contains("panicked")) {
            panic!("the server panicked: {line}");
        }
    }
    fn show_log(&self) {
        let all = self.log.all();
        let from = all.len().saturating_sub(80);
        eprintln!("--- the server's log, last {} of {} lines", all.len() - from, all.len());
        for line in &all[from..] {
            let shown: String = line.chars().take(600).collect();
            eprintln!("{shown}");
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            if !self.judged {
                self.show_log();
            }
        } else {
            self.assert_no_panic();
        }
    }
}

/// One test's use of a shared server.
#[derive(Debug)]
pub struct Shared(&'static TestServer);

impl Deref for Shared {
    type Target = TestServer;
    fn deref(&self) -> &TestServer {
        self.0
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.show_log();
        } else {
            self.0.assert_no_panic();
        }
    }
}

/// What every account of the tests has.
pub const PASSWORD: &str = "correct horse battery";

/// An account, signed in.
#[derive(Clone, Debug)]
pub struct User {
    /// Calls in its name.
    pub client: Client,
    /// E-mail address of the account.
    pub email: String,
    /// Public id of the account.
    pub id: String,
    /// Access token of its session.
    pub access_token: String,
    /// Refresh token of its session.
    pub refresh_token: String,
}

impl User {
    /// From the answer to register, login or refresh.
    ///
    /// # Panics
    /// When something is missing.
    pub fn new(client: Client, email: &str, answer: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        let access_token = text(&answer["access_token"]);
        Self {
            client: client.with_token(&access_token),
            email: email.to_owned(),
            id: text(&answer["user"]["id"]),
            refresh_token: text(&answer["refresh_token"]),
            access_token,
        }
    }
    /// The same after the server came back on another port.
    #[must_use]
    pub fn at(&self, server: &TestServer) -> Self {
        Self { client: server.client().with_token(&self.access_token), ..self.clone() }
    }
    /// Switches one relay over REST.
    pub async fn set_relay(&self, uid: &str, relay: u16, state: bool) -> crate::client::Reply {
        self.client.post(&format!("/api/v1/devices/{uid}/relays/{relay}"), &json!({ "state": state })).await
    }
    /// Switches all relays over REST.
    pub async fn set_all(&self, uid: &str, state: bool) -> crate::client::Reply {
        self.client.post(&format!("/api/v1/devices/{uid}/relays"), &json!({ "state": state })).await
    }
    /// What became of a command.
    pub async fn command(&self, id: &str) -> Value {
        self.client.get(&format!("/api/v1/commands/{id}")).await.expect(200)
    }
    /// State and version of a relay, as REST shows it; none when nothing is known.
    pub async fn relay(&self, uid: &str, relay: u16) -> Option<(bool, u64)> {
        let state = self.client.get(&format!("/api/v1/devices/{uid}/state")).await.expect(200);
        let relays = state["relays"].as_array().cloned().unwrap_or_default();
        let found = relays.into_iter().find(|r| r["index"] == relay)?;
        Some((found["state"].as_bool()?, found["version"].as_u64()?))
    }
}
