//! `cargo xtask bench`: release builds, then the measuring program of the tests' crate.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{cargo, hexa, root, run as run_command, target};
use crate::{plugins, setup};

/// What the Node-RED comparison is made with.
const NODE_RED: &str = "4.1.8";

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The relay path against raw relays (F2, F2C) and a bare database loop (SQ).
    Relay {
        #[command(flatten)]
        how: How,
        /// Also against a Node-RED flow, which npm installs into target/tools.
        #[arg(long)]
        node_red: bool,
    },
    /// Memory per idle connected device, after all have left, and the cold start.
    Devices(How),
    /// One change to 1,000 client sockets, and one of them that does not read.
    Broadcast(How),
    /// A driver in its sandbox against the same crate compiled natively.
    Driver(How),
    /// A driver that misbehaves: how soon it is contained, and what the others notice.
    Sandbox(How),
    /// 15,000 devices that connect at once (quick: 4,000).
    Storm(How),
    /// What a command costs with 100 and with 10,000 devices registered.
    Growth(How),
    /// Page 10,000 of an audit of a million rows against page 1.
    Audit(How),
    /// 200 sign-ins at once, 2,000 senders of slow headers, and what an idempotency key costs a command.
    Door(How),
    /// 200 changes of settings at once, and a fleet's last signs of life: how long commands wait for them.
    Gate(How),
    /// All of them, with Node-RED.
    All {
        #[command(flatten)]
        how: How,
        /// Writes the figures into docs/PERFORMANCE.md.
        #[arg(long)]
        table: bool,
    },
}

#[derive(Clone, Copy, Debug, clap::Args)]
struct How {
    /// At most 20 s of measuring each.
    #[arg(long)]
    quick: bool,
    /// Figures as JSON on stdout.
    #[arg(long)]
    json: bool,
}

impl What {
    fn name(&self) -> &'static str {
        match self {
            Self::Relay { .. } => "relay",
            Self::Devices(_) => "devices",
            Self::Broadcast(_) => "broadcast",
            Self::Driver(_) => "driver",
            Self::Sandbox(_) => "sandbox",
            Self::Storm(_) => "storm",
            Self::Growth(_) => "growth",
            Self::Audit(_) => "audit",
            Self::Door(_) => "door",
            Self::Gate(_) => "gate",
            Self::All { .. } => "all",
        }
    }

    fn how(&self) -> How {
        match self {
            Self::Relay { how, .. } | Self::All { how, .. } => *how,
            Self::Devices(how)
            | Self::Broadcast(how)
            | Self::Driver(how)
            | Self::Sandbox(how)
            | Self::Storm(how)
            | Self::Growth(how)
            | Self::Audit(how)
            | Self::Door(how)
            | Self::Gate(how) => *how,
        }
    }
}

/// Builds and measures. The exit code is the measuring program's: 0 the goals hold, 1 one falls short, 3 too noisy.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    setup::run(false)?;
    let plugins = plugins::build()?;
    eprintln!("bench: release build (the first takes some ten minutes)");
    cargo(&["build", "--release", "--package", "hexa-server", "--package", "hexa-tests", "--bins"])?;
    let mut command = Command::new(target().join("release/hexa-bench"));
    command.arg(args.what.name()).arg("--hexa").arg(hexa("release")).arg("--plugins").arg(plugins);
    let how = args.what.how();
    if how.quick {
        command.arg("--quick");
    }
    if how.json {
        command.arg("--json");
    }
    if matches!(args.what, What::Relay { node_red: true, .. } | What::All { .. })
        && let Some(folder) = node_red()
    {
        command.arg("--node-red").arg(folder);
    }
    if matches!(args.what, What::All { table: true, .. }) {
        command.arg("--table").arg(root().join("docs/PERFORMANCE.md"));
    }
    let status = command.status().context("cannot start hexa-bench")?;
    match status.code() {
        Some(0) => Ok(()),
        code => std::process::exit(code.unwrap_or(1)),
    }
}

/// Installs Node-RED once; says why when it cannot be had.
fn node_red() -> Option<PathBuf> {
    let folder = target().join("tools").join(format!("node-red-{NODE_RED}"));
    if folder.join("node_modules/node-red/red.js").exists() {
        return Some(folder);
    }
    eprintln!("bench: installing node-red {NODE_RED} into {}", folder.display());
    let made = std::fs::create_dir_all(&folder).map_err(anyhow::Error::from).and_then(|()| {
        let mut npm = Command::new("npm");
        npm.arg("install").arg("--prefix").arg(&folder).args(["--no-audit", "--no-fund", "--ignore-scripts"]);
        // The figures may go to stdout as JSON, so npm must not.
        run_command(npm.arg(format!("node-red@{NODE_RED}")).stdout(std::process::Stdio::null()))
    });
    match made {
        Ok(()) => Some(folder),
        Err(why) => {
            eprintln!("bench: without Node-RED: {why:#}");
            None
        }
    }
}
