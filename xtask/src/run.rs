//! `cargo xtask run`: the main job on a fresh machine, with a home to look at.

mod demo;

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::http::request;
use crate::process::{cargo, hexa};
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
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    devices: u32,
    /// Stop by itself after it is said what to open (for tests).
    #[arg(long, hide = true)]
    once: bool,
    /// Start this server instead of building one (for tests).
    #[arg(long, hide = true)]
    binary: Option<PathBuf>,
}

const READY_WITHIN: Duration = Duration::from_secs(30);

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
    let binary = match &args.binary {
        Some(binary) => binary.clone(),
        None => build()?,
    };
    let mut server = Running::start(
        "the server",
        Command::new(&binary).args(["serve", "--listen", &args.listen]).arg("--data-dir").arg(&args.data_dir),
    )?;
    let address = wait_until_ready(&mut server, args)?;
    let (demo, mut sim) = demo::Demo::start(&address, &args.data_dir, &binary, args.devices)?;
    demo.print()?;
    if !args.once {
        // Ctrl-C reaches the whole group: the server ends by itself and this with it.
        server.child.wait()?;
    }
    sim.stop();
    server.stop();
    Ok(())
}

/// The server, with plugins and console in it.
fn build() -> Result<PathBuf> {
    setup::run(false)?;
    plugins::build()?;
    crate::dashboard::build_or_say();
    cargo(&["build", "--package", "hexa-server"])?;
    Ok(hexa("debug"))
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
