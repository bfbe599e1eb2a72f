//! The server under measurement, with its user and as many devices as wanted, written into its database beforehand:
//! provisioning thousands over HTTP would measure the provisioning limiter.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::lean;
use crate::load::{self, Http, Target};
use crate::process::{Running, must_exist};

/// Where the binaries are, and how long a bench may take.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Options {
    /// Path of the server's binary.
    #[arg(long)]
    pub(crate) hexa: PathBuf,
    /// Directory of its plugins.
    #[arg(long)]
    pub(crate) plugins: PathBuf,
    /// At most 20 s.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Figures as JSON on stdout.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Said by every bench that sends more than a user may.
pub(crate) const RAISED: &str = "raised: LIMIT_USER_RPS and LIMIT_USER_BURST to 1,000,000, LIMIT_USER_SOCKETS to 100,000, LIMIT_PUBLIC_RPS and \
     LIMIT_LOGIN_FAILURES to 10,000, because the whole load comes from one user on one machine (the limiters stay in the path)";

/// A running server with a user and devices.
pub(crate) struct Fixture {
    pub(crate) server: Running,
    /// Where it listens, as `address:port`.
    pub(crate) address: String,
    /// The user's access token, good for 15 minutes.
    pub(crate) token: String,
    options: Options,
    dir: PathBuf,
}

impl Fixture {
    /// A server with one user who owns `devices` devices of four relays.
    pub(crate) async fn new(options: &Options, dir: &Path, devices: usize) -> Result<Self> {
        must_exist(&options.hexa)?;
        must_exist(&options.plugins)?;
        std::fs::create_dir_all(dir)?;
        let server = start(options, dir)?;
        let address = wait_for(dir).await?;
        let token = register(&address).await?;
        let fixture = Self { server, address, token, options: options.clone(), dir: dir.to_owned() };
        fixture.again(|db| seed(db, devices, Some(1))).await
    }

    /// Stops it, changes its database, and starts it anew.
    pub(crate) async fn again(self, change: impl FnOnce(&Path) -> Result<()>) -> Result<Self> {
        let Self { server, token, options, dir, .. } = self;
        server.stop()?;
        change(&dir.join("data/hexa.db"))?;
        std::fs::remove_file(dir.join("data/listen.addr"))?;
        let server = start(&options, &dir)?;
        let address = wait_for(&dir).await?;
        Ok(Self { server, address, token, options, dir })
    }

    pub(crate) fn socket_address(&self) -> Result<SocketAddr> {
        Ok(self.address.parse()?)
    }
    /// The upgrade request of device `n`.
    pub(crate) fn upgrade(&self, n: usize) -> Vec<u8> {
        lean::upgrade(&self.address, &format!("/ws/device?uid={}", uid(n)), &device_token(n))
    }
    /// The upgrade request of one of the user's client sockets.
    pub(crate) fn client_upgrade(&self) -> Vec<u8> {
        lean::upgrade(&self.address, "/ws/client", &self.token)
    }
    /// Connects devices `from..to` that acknowledge every command, and gives the requests that switch them.
    pub(crate) async fn target(&self, devices: std::ops::Range<usize>) -> Result<Target> {
        let mut requests = Vec::new();
        for n in devices {
            let path = format!("/ws/device?uid={}", uid(n));
            tokio::spawn(load::device(load::socket(&self.address, &path, Some(&device_token(n))).await?));
            requests.push([false, true].map(|on| switch(n, on, &self.token)));
        }
        Ok(Target::new(self.address.clone(), requests))
    }
    /// One scrape of the metrics page.
    pub(crate) async fn metrics(&self) -> Result<Metrics> {
        let mut http = Http::open(&self.address).await?;
        let (status, body) = http.call(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").await?;
        anyhow::ensure!(status == 200, "/metrics answered {status}");
        Ok(Metrics(String::from_utf8_lossy(body).into_owned()))
    }
    /// Waits until so many devices are connected.
    pub(crate) async fn connected(&self, devices: usize) -> Result<()> {
        let begun = Instant::now();
        loop {
            let there = self.metrics().await?.sum("hexa_device_sessions ") as usize;
            if there == devices {
                return Ok(());
            }
            if begun.elapsed() > Duration::from_secs(30) {
                bail!("{there} devices are connected, not {devices}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A finished request that switches relay 0 of device `n`.
pub(crate) fn switch(n: usize, on: bool, token: &str) -> Vec<u8> {
    let body = format!("{{\"state\":{on}}}");
    format!(
        "POST /api/v1/devices/{}/relays/0 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        uid(n),
        body.len()
    )
    .into_bytes()
}

/// Counts that cannot lie.
pub(crate) struct Metrics(String);

impl Metrics {
    /// The sum of all series that begin like this; end a name with a space or `{` to mean it whole.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        let lines = self.0.lines().filter(|l| l.starts_with(name));
        lines.filter_map(|l| l.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }
}

/// The uid of device `n`.
pub(crate) fn uid(n: usize) -> String {
    format!("hxbench{n:06}")
}

/// Its token: 43 characters behind the prefix, like a real one.
pub(crate) fn device_token(n: usize) -> String {
    format!("hxd_{n:0>43}")
}

/// The server, listening on a free port, with this environment changed.
pub(crate) fn start(options: &Options, dir: &Path) -> Result<Running> {
    let log = std::fs::File::options().create(true).append(true).open(dir.join("server.log"))?;
    Running::start(
        Command::new(&options.hexa)
            .arg("serve")
            .env("HEXA_LISTEN", "127.0.0.1:0")
            .env("HEXA_DATA_DIR", dir.join("data"))
            .env("HEXA_PLUGINS_DIR", &options.plugins)
            .env("HEXA_LOG", "warn")
            // It is in the user's token, which must outlive a restart on another port.
            .env("PUBLIC_URL", "http://127.0.0.1")
            .env("LIMIT_USER_RPS", "1000000")
            .env("LIMIT_USER_BURST", "1000000")
            .env("LIMIT_USER_SOCKETS", "100000")
            .env("LIMIT_PUBLIC_RPS", "10000")
            .env("LIMIT_LOGIN_FAILURES", "10000")
            .env_remove("DATABASE_URL")
            .stdout(Stdio::null())
            .stderr(log),
    )
}

/// Its address, once it answers.
pub(crate) async fn wait_for(dir: &Path) -> Result<String> {
    let file = dir.join("data/listen.addr");
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(60) {
        let address = std::fs::read_to_string(&file).unwrap_or_default();
        if !address.is_empty()
            && let Ok(mut http) = Http::open(&address).await
            && matches!(http.call(b"GET /ready HTTP/1.1\r\nhost: x\r\n\r\n").await, Ok((200, _)))
        {
            return Ok(address);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let log = std::fs::read_to_string(dir.join("server.log")).unwrap_or_default();
    bail!("the server did not start within 60 s:\n{log}")
}

async fn register(address: &str) -> Result<String> {
    let login = json!({ "email": "bench@example.com", "password": "a long enough password" });
    let url = format!("http://{address}/api/v1/auth/register");
    let answer = reqwest::Client::new().post(url).json(&login).send().await?;
    let status = answer.status();
    let body: Value = answer.json().await?;
    body["access_token"].as_str().map(str::to_owned).with_context(|| format!("no token: {status} {body}"))
}

/// Writes `devices` devices into a database that no server has open.
pub(crate) fn seed(database: &Path, devices: usize, owner: Option<i64>) -> Result<()> {
    let mut connection = Connection::open(database)?;
    let all = connection.transaction()?;
    for n in 0..devices {
        all.execute(
            "insert into devices (uid, owner_id, device_class, relay_count, input_count, token_hash, created_at, \
             updated_at, claimed_at) values (?1, ?2, 'relay_controller', 4, 2, ?3, 0, 0, ?4)",
            params![uid(n), owner, Sha256::digest(device_token(n)).as_slice(), owner.map(|_| 0)],
        )?;
    }
    all.commit()?;
    Ok(())
}
