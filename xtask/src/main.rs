//! What a developer types: `cargo xtask run | test | ci | setup | dashboard | plugins | tidy | wit-lock | drift | bench | sim`.
//!
//! Depends on no crate of ours: it starts cargo and the binaries as anybody would.
//! Invariants: every command works on a fresh checkout, says what it does, and fails with what to do.
//! Start at [`Command`].

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

mod bench;
mod ci;
mod dashboard;
mod drift;
mod http;
mod plugins;
mod process;
mod run;
mod setup;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Developer commands of Hexa.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Build everything and run a server with simulated devices and a demo user.
    Run(run::RunArgs),
    /// Install what the tests need, build, and run all tests.
    Test(test::TestArgs),
    /// fmt, clippy, tidy, doc, drift.
    Ci,
    /// Check and install what building (and with --tests, testing) needs.
    Setup {
        /// Also what the tests need.
        #[arg(long)]
        tests: bool,
    },
    /// Build the console into dashboard/dist, which the server's next build takes in.
    Dashboard(dashboard::DashboardArgs),
    /// Build the plugins into target/plugins.
    Plugins,
    /// Check floors, file sizes, ADR numbers, dependencies and their licences, the lock of the contract.
    Tidy {
        /// Print problems as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Note the contract with plugins as it is now; refused where a published version would change.
    WitLock,
    /// Compare generated files with the code.
    Drift {
        /// Write the files instead of comparing them.
        #[arg(long)]
        write: bool,
    },
    /// Measure against a floor in the same run.
    Bench(bench::BenchArgs),
    /// Simulate devices, links, crashes around the command machine from a seed: `--seed N [--rounds K] [--json]`.
    ///
    /// Devices over real sockets, against a running server, are `hexa sim`.
    Sim {
        /// Arguments of the program `hexa-simulation`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Test(args) => test::run(&args),
        Command::Ci => ci::run(),
        Command::Setup { tests } => setup::run(tests),
        Command::Dashboard(args) => dashboard::run(&args),
        Command::Plugins => plugins::build().map(drop),
        Command::Tidy { json } => tidy::run(json),
        Command::WitLock => tidy::wit::write(&process::root()),
        Command::Drift { write } => drift::run(write),
        Command::Bench(args) => bench::run(&args),
        Command::Sim { args } => sim(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn sim(args: &[String]) -> anyhow::Result<()> {
    let mut command = process::cargo_command(&["run", "--quiet", "--package", "hexa-simulation", "--"]);
    process::run(command.args(args))
}
