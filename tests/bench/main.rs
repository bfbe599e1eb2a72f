//! The measuring program behind `cargo xtask bench`: generator, floors and report in one binary, the servers in
//! processes of their own.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a measuring program prints")]
#![expect(clippy::unwrap_used, reason = "a poisoned lock ends the measurement")]

mod audit;
mod bare;
mod broadcast;
mod devices;
mod door;
mod driver;
mod fixture;
mod floor;
mod gate;
mod growth;
mod lean;
mod load;
mod nodered;
mod process;
mod relay;
mod report;
mod sandbox;
mod sqlite;
mod storm;
mod table;
mod writer;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use fixture::Options;
use report::Report;

/// Exit codes: 0 the goals hold, 1 one falls short, 3 the machine was too noisy to tell.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Relay commands per second, their latency and cost.
    Relay {
        #[command(flatten)]
        options: Options,
        /// Where npm has put Node-RED: compares with a flow.
        #[arg(long)]
        node_red: Option<PathBuf>,
    },
    /// Memory per connected device, after all have left, and the cold start.
    Devices {
        #[command(flatten)]
        options: Options,
    },
    /// One change to a thousand clients.
    Broadcast {
        #[command(flatten)]
        options: Options,
    },
    /// A driver in its sandbox and natively.
    Driver {
        #[command(flatten)]
        options: Options,
    },
    /// Thousands of devices at once.
    Storm {
        #[command(flatten)]
        options: Options,
    },
    /// A driver that misbehaves, and what the others notice.
    Sandbox {
        #[command(flatten)]
        options: Options,
    },
    /// What a command costs with more devices registered.
    Growth {
        #[command(flatten)]
        options: Options,
    },
    /// Page 10,000 of the audit against page 1.
    Audit {
        #[command(flatten)]
        options: Options,
    },
    /// Many sign-ins, slow senders, idempotency keys.
    Door {
        #[command(flatten)]
        options: Options,
    },
    /// What holds commands up that is no command.
    Gate {
        #[command(flatten)]
        options: Options,
    },
    /// Every bench, one after another.
    All {
        #[command(flatten)]
        options: Options,
        /// Path of Node-RED, as for `relay`.
        #[arg(long)]
        node_red: Option<PathBuf>,
        /// Writes the figures into this file, between its markers.
        #[arg(long)]
        table: Option<PathBuf>,
    },
    /// F2 and F2C: HTTP POST -> WebSocket -> ack -> reply, without and with a durable write. Prints its address.
    #[command(hide = true)]
    Floor { dir: PathBuf, devices: i64 },
    /// Upgrades and nothing else, by hand.
    #[command(hide = true)]
    Accept,
    /// Upgrades and nothing else, by axum.
    #[command(hide = true)]
    AxumAccept,
    /// Writes one frame to all.
    #[command(hide = true)]
    FanOut { payload: usize },
    /// Switches devices while told to.
    #[command(hide = true)]
    Commander { address: String, token: String },
    /// Keeps every core awake.
    #[command(hide = true)]
    Spin,
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match Cli::parse().command {
        Command::Relay { options, node_red } => {
            end(&options, runtime.block_on(relay::run(&options, node_red.as_deref()))?)
        }
        Command::Devices { options } => end(&options, runtime.block_on(devices::run(&options))?),
        Command::Broadcast { options } => end(&options, runtime.block_on(broadcast::run(&options))?),
        Command::Driver { options } => end(&options, driver::run(&options)?),
        Command::Storm { options } => end(&options, runtime.block_on(storm::run(&options))?),
        Command::Sandbox { options } => end(&options, runtime.block_on(sandbox::run(&options))?),
        Command::Growth { options } => end(&options, runtime.block_on(growth::run(&options))?),
        Command::Audit { options } => end(&options, runtime.block_on(audit::run(&options))?),
        Command::Door { options } => end(&options, runtime.block_on(door::run(&options))?),
        Command::Gate { options } => end(&options, runtime.block_on(gate::run(&options))?),
        Command::All { options, node_red, table } => {
            std::process::exit(table::run(&options, node_red.as_deref(), table.as_deref())?)
        }
        Command::Floor { dir, devices } => runtime.block_on(floor::serve(&dir, devices)),
        Command::Accept => runtime.block_on(bare::accept()),
        Command::AxumAccept => runtime.block_on(bare::axum_accept()),
        Command::FanOut { payload } => runtime.block_on(async { bare::fan_out(payload) }),
        Command::Commander { address, token } => runtime.block_on(storm::command(&address, &token)),
        Command::Spin => process::spin(),
    }
}

fn end(options: &Options, report: Report) -> anyhow::Result<()> {
    report.print(options.json)?;
    std::process::exit(report.code())
}
