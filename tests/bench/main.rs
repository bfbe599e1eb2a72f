//! The measuring program behind `cargo xtask bench`: generator, floors and report in one binary, the servers in
//! processes of their own.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a measuring program prints")]
#![expect(clippy::unwrap_used, reason = "a poisoned lock ends the measurement")]

mod floor;
mod load;
mod process;
mod relay;
mod report;
mod sqlite;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Relay commands per second and their latency, as ratios to floors of the same run.
    Relay {
        /// The server's binary.
        #[arg(long)]
        hexa: PathBuf,
        /// Its plugins.
        #[arg(long)]
        plugins: PathBuf,
        /// Short slices.
        #[arg(long)]
        quick: bool,
        /// Figures as JSON on stdout.
        #[arg(long)]
        json: bool,
    },
    /// F2: HTTP POST -> WebSocket -> ack -> reply and nothing else. Prints its address.
    #[command(hide = true)]
    Floor,
    /// Keeps every core awake.
    #[command(hide = true)]
    Spin,
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match Cli::parse().command {
        Command::Relay { hexa, plugins, quick, json } => {
            let code = runtime.block_on(relay::run(&hexa, &plugins, quick, json))?;
            std::process::exit(code)
        }
        Command::Floor => runtime.block_on(floor::serve()),
        Command::Spin => process::spin(),
    }
}
