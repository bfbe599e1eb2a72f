//! `cargo xtask bench`: release builds, then the measuring program of the tests' crate.

use std::process::Command;

use anyhow::Result;

use crate::process::{cargo, hexa, run as run_command, target};
use crate::{plugins, setup};

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// The relay path against a raw relay (F2) and a bare database loop (SQ).
    Relay {
        /// At most 20 s of measuring.
        #[arg(long)]
        quick: bool,
        /// Figures as JSON on stdout.
        #[arg(long)]
        json: bool,
    },
}

/// Builds and measures.
pub(crate) fn run(args: &BenchArgs) -> Result<()> {
    let What::Relay { quick, json } = &args.what;
    setup::run(false)?;
    let plugins = plugins::build()?;
    eprintln!("bench: release build (the first takes some ten minutes)");
    cargo(&["build", "--release", "--package", "hexa-server", "--package", "hexa-tests", "--bins"])?;
    let mut command = Command::new(target().join("release/hexa-bench"));
    command.arg("relay").arg("--hexa").arg(hexa("release")).arg("--plugins").arg(plugins);
    if *quick {
        command.arg("--quick");
    }
    if *json {
        command.arg("--json");
    }
    run_command(&mut command)
}
