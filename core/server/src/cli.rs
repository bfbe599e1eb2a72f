//! The command line. Exit codes: 0 done, 1 failed, 2 wrong arguments, 69 the server does not answer, 77 not signed in or
//! not allowed, 78 wrong configuration or database (sysexits.h).

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

mod audit;
mod docs;
mod http;
mod invite;
mod profile;
mod remote;
mod workers;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Overrides};
use crate::{boot, sim, telemetry};

/// Hexa: relays, sensors and infrared over sandboxed drivers.
#[derive(Debug, Parser)]
#[command(name = "hexa", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server until it is told to stop.
    Serve(ConfigArgs),
    /// Check the configuration and print it.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Verify the audit, or export it.
    Audit {
        #[command(subcommand)]
        command: audit::AuditCommand,
    },
    /// Sign in to a server and keep a token for the commands below.
    Login(remote::LoginArgs),
    /// Revoke that token and forget it.
    Logout(remote::Where),
    /// Show who is signed in.
    Whoami(remote::Where),
    /// List devices, or show one.
    Devices {
        #[command(subcommand)]
        command: remote::DevicesCommand,
    },
    /// Switch a relay, or all relays of a device.
    Relay(remote::RelayArgs),
    /// List or rotate the keys that sign access tokens, for admins.
    Keys {
        #[command(subcommand)]
        command: remote::KeysCommand,
    },
    /// Invite people to create an account, for admins.
    Invite {
        #[command(subcommand)]
        command: invite::InviteCommand,
    },
    /// List the background workers of a server and their health, for admins.
    Workers(remote::Where),
    /// Run simulated devices against a server.
    Sim(Box<sim::SimArgs>),
    /// Compile a plugin from standard input to standard output; started by the server.
    #[command(hide = true)]
    CompilePlugin {
        /// Process id of the server.
        parent: u32,
        /// Processor time that may be used.
        cpu_s: u64,
        /// Address space that may be used.
        memory_bytes: u64,
    },
    /// Print a part of the documentation that is made from the code.
    #[command(hide = true)]
    Docs {
        /// Which part to print.
        #[arg(value_enum)]
        part: docs::Part,
    },
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Check the configuration and print what is in effect, with secrets redacted.
    Check {
        #[command(flatten)]
        args: ConfigArgs,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Where the configuration comes from beside the environment.
#[derive(Clone, Debug, clap::Args)]
struct ConfigArgs {
    /// Configuration file [default: hexa.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address to listen on (`HEXA_LISTEN`)
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<String>,
    /// Directory of database and secrets (`HEXA_DATA_DIR`)
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Directory that plugins are loaded from (`HEXA_PLUGINS_DIR`)
    #[arg(long, value_name = "DIR")]
    plugins_dir: Option<PathBuf>,
}

impl ConfigArgs {
    fn read(self) -> Result<config::Settings, config::ConfigError> {
        let text = |path: PathBuf| path.to_string_lossy().into_owned();
        config::read(Overrides {
            file: self.config,
            values: [
                ("HEXA_LISTEN", self.listen),
                ("HEXA_DATA_DIR", self.data_dir.map(text)),
                ("HEXA_PLUGINS_DIR", self.plugins_dir.map(text)),
            ]
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)))
            .collect(),
        })
    }
}

/// Blocking work that is under way at the end is left behind after this.
const LEFTOVERS: std::time::Duration = std::time::Duration::from_secs(1);

/// `EX_CONFIG` of `sysexits.h`: the configuration is wrong.
const EX_CONFIG: u8 = 78;

/// Parses the command line and runs the command.
pub(crate) fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(args) => serve(args),
        Command::Config { command: ConfigCommand::Check { args, json } } => check(args, json),
        Command::Audit { command } => audit::run(command),
        Command::Login(args) => remote::login(args),
        Command::Logout(at) => remote::logout(&at),
        Command::Whoami(at) => remote::whoami(&at),
        Command::Devices { command } => remote::devices(command),
        Command::Relay(args) => remote::relay(args),
        Command::Keys { command } => remote::keys(command),
        Command::Invite { command } => invite::invite(command),
        Command::Workers(at) => workers::list(&at),
        Command::Sim(args) => simulate(*args),
        Command::CompilePlugin { parent, cpu_s, memory_bytes } => {
            match hexa_host::compile_child(parent, cpu_s, memory_bytes) {
                Ok(()) => ExitCode::SUCCESS,
                Err((code, why)) => {
                    eprintln!("{why}");
                    ExitCode::from(code)
                }
            }
        }
        Command::Docs { part } => {
            print!("{}", docs::render(part));
            ExitCode::SUCCESS
        }
    }
}

fn serve(args: ConfigArgs) -> ExitCode {
    let settings = match args.read() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("hexa: {error}");
            return ExitCode::from(EX_CONFIG);
        }
    };
    telemetry::start(&settings.log);
    let ended = runtime().and_then(|runtime| {
        let ended = runtime.block_on(boot::serve(settings));
        // What still waits for a file or a compiler holds up nobody's stop.
        runtime.shutdown_timeout(LEFTOVERS);
        ended
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hexa: {error:#}");
            let wrong = error.is::<hexa_store::OpenError>();
            if wrong { ExitCode::from(EX_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

fn check(args: ConfigArgs, json: bool) -> ExitCode {
    match args.read() {
        Ok(settings) => {
            print!("{}", if json { settings.effective_json() } else { settings.effective_text() });
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("hexa: {error}");
            ExitCode::from(EX_CONFIG)
        }
    }
}

fn simulate(args: sim::SimArgs) -> ExitCode {
    telemetry::start("warn");
    match runtime().and_then(|rt| rt.block_on(sim::run(args))) {
        Ok(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        Err(error) => {
            eprintln!("hexa sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}
