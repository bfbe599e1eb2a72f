//! `cargo xtask run`: the main job on a fresh machine, with devices to switch.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::http::request;
use crate::process::{cargo, hexa, output};
use crate::{plugins, setup};

/// Options of `cargo xtask run`.
#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: String,
    /// Data directory of the server.
    #[arg(long, default_value = "hexa-data")]
    data_dir: PathBuf,
    /// How many devices to simulate.
    #[arg(long, default_value_t = 3)]
    devices: u32,
    /// Stop by itself after the address and the curl lines are printed (for tests).
    #[arg(long, hide = true)]
    once: bool,
}

const READY_WITHIN: Duration = Duration::from_secs(30);
const EMAIL: &str = "demo@hexa.local";

/// A child that does not outlive this process.
struct Running {
    name: &'static str,
    child: Child,
}

impl Running {
    fn start(name: &'static str, command: &mut Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { name, child })
    }
    fn stop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            // By its own pid, as a service manager would; it has 15 s to end.
            let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
            let asked = Instant::now();
            while self.child.try_wait().ok().flatten().is_none() {
                if asked.elapsed() > Duration::from_secs(15) {
                    eprintln!("run: {} did not stop in time and is killed", self.name);
                    let _ = self.child.kill();
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Builds, starts, prints, and waits until the server ends.
pub(crate) fn run(args: &RunArgs) -> Result<()> {
    if std::env::var("HEXA_ENV").is_ok_and(|env| env == "production") {
        bail!("`cargo xtask run` creates a demo user and demo devices; in production run `hexa serve`");
    }
    setup::run(false)?;
    let plugins = plugins::build()?;
    crate::dashboard::build_or_say();
    cargo(&["build", "--package", "hexa-server"])?;
    let binary = hexa("debug");
    let mut server = Running::start(
        "the server",
        Command::new(&binary)
            .arg("serve")
            .args(["--listen", &args.listen])
            .arg("--data-dir")
            .arg(&args.data_dir)
            .arg("--plugins-dir")
            .arg(&plugins),
    )?;
    let address = wait_until_ready(&mut server, args)?;
    let (login, token) = demo_user(&address, &args.data_dir)?;
    let mut sim = Running::start(
        "the simulated devices",
        Command::new(&binary)
            .args(["sim", "--quiet", "--server", &format!("http://{address}")])
            .args(["--devices", &args.devices.to_string(), "--relays", "4"])
            .arg("--provision-key-file")
            .arg(args.data_dir.join("secrets/device_provision_key"))
            .arg("--state")
            .arg(args.data_dir.join("sim-devices.json"))
            .env("HEXA_TOKEN", &token),
    )?;
    let uid = wait_for_device(&address, &token, &mut sim)?;
    print_help(&address, &login, &uid, &args.data_dir);
    if !args.once {
        // Ctrl-C reaches the whole group: the server ends by itself and this with it.
        server.child.wait()?;
    }
    sim.stop();
    server.stop();
    Ok(())
}

fn wait_until_ready(server: &mut Running, args: &RunArgs) -> Result<String> {
    let started = Instant::now();
    let file = args.data_dir.join("listen.addr");
    let fixed = !args.listen.ends_with(":0");
    loop {
        if let Some(status) = server.child.try_wait()? {
            bail!("the server stopped while starting ({status}); the lines above say why");
        }
        let address = if fixed { args.listen.clone() } else { fs::read_to_string(&file).unwrap_or_default() };
        if request(&address, "GET", "/ready", None, None).is_ok_and(|(status, _)| status == 200) {
            return Ok(address);
        }
        if started.elapsed() > READY_WITHIN {
            bail!("the server was not ready within {} s", READY_WITHIN.as_secs());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// E-mail and password of the demo user, kept for the next start.
fn demo_user(address: &str, data_dir: &Path) -> Result<(Value, String)> {
    let file = data_dir.join("demo-login.json");
    let (login, path) = match fs::read_to_string(&file) {
        Ok(text) => (serde_json::from_str::<Value>(&text).context("demo-login.json")?, "/api/v1/auth/login"),
        Err(_) => (json!({ "email": EMAIL, "password": random_password()? }), "/api/v1/auth/register"),
    };
    let (status, body) = request(address, "POST", path, None, Some(&login))?;
    let Some(token) = body["access_token"].as_str() else {
        bail!("the demo user cannot sign in ({status} {body}); delete {} to start anew", data_dir.display());
    };
    let mut out = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&file)?;
    writeln!(out, "{login}")?;
    Ok((login, token.to_owned()))
}

fn random_password() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0u8; 12];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    use std::fmt::Write as _;
    Ok(bytes.iter().fold(String::new(), |mut text, b| {
        let _ = write!(text, "{b:02x}");
        text
    }))
}

fn wait_for_device(address: &str, token: &str, sim: &mut Running) -> Result<String> {
    let started = Instant::now();
    loop {
        let (_, body) = request(address, "GET", "/api/v1/devices", Some(token), None)?;
        let online = body["items"].as_array().into_iter().flatten().find(|d| d["online"] == true);
        if let Some(uid) = online.and_then(|d| d["uid"].as_str()) {
            return Ok(uid.to_owned());
        }
        if let Some(status) = sim.child.try_wait()? {
            bail!("the simulated devices stopped ({status}); the lines above say why");
        }
        if started.elapsed() > READY_WITHIN {
            bail!("no simulated device came online within {} s", READY_WITHIN.as_secs());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn print_help(address: &str, login: &Value, uid: &str, data_dir: &Path) {
    let base = format!("http://{address}");
    let file = data_dir.join("demo-login.json");
    let colour = output("test", &["-t", "1"]).is_some();
    let (on, off) = if colour { ("\x1b[1m", "\x1b[0m") } else { ("", "") };
    println!("\n{on}Hexa runs at {base}{off}");
    println!(
        "login: {} / {}   (development only, kept in {})",
        login["email"].as_str().unwrap_or_default(),
        login["password"].as_str().unwrap_or_default(),
        file.display()
    );
    println!("console: {base}/dashboard");
    println!("\nSwitch a relay and read its state:\n");
    println!(
        "TOKEN=$(curl -s {base}/api/v1/auth/login -H 'content-type: application/json' -d @{} | sed 's/.*\"access_token\":\"\\([^\"]*\\)\".*/\\1/')",
        file.display()
    );
    println!(
        "curl -s {base}/api/v1/devices/{uid}/relays/0 -H \"authorization: Bearer $TOKEN\" -H 'content-type: application/json' -d '{{\"state\":true}}'"
    );
    println!("curl -s {base}/api/v1/devices/{uid}/state -H \"authorization: Bearer $TOKEN\"");
    println!("\nCtrl-C stops everything.");
}
