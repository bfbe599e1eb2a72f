//! `cargo xtask test`: brings what the tests need, builds, runs everything.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::process::{cargo, cargo_command, hexa, output, run as run_command, target};
use crate::{dashboard, plugins, setup};

/// Options of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct TestArgs {
    /// The longer variants: more rounds, soaks.
    #[arg(long)]
    long: bool,
    /// Also a group that is left out by itself: `browsers` is the console in Firefox and WebKit, `disconnects` cuts every
    /// route on PostgreSQL as often as on SQLite. Repeatable.
    #[arg(long, value_name = "NAME", value_parser = ["browsers", "disconnects"])]
    with: Vec<String>,
    /// Only tests whose name contains this.
    filter: Vec<String>,
}

/// Builds and runs all tests.
pub(crate) fn run(args: &TestArgs) -> Result<()> {
    let mut stages = Stages::default();
    stages.time("setup", || setup::run(true).and_then(|()| setup::groups(&args.with)))?;
    let mut plugins_dir = PathBuf::new();
    stages.time("plugins", || {
        plugins_dir = plugins::build()?;
        Ok(())
    })?;
    stages.time("console", dashboard::check)?;
    // Crash points are for the tests' server only: `cargo xtask run` and releases are built without them.
    stages.time("build", || {
        cargo(&["build", "--package", "hexa-server", "--features", "failpoints"])?;
        cargo(&["build", "--package", "hexa-testpg"])
    })?;
    let skipped = target().join("tests-skipped.txt");
    std::fs::write(&skipped, "").with_context(|| skipped.display().to_string())?;
    let nextest = output("cargo", &["nextest", "--version"]).is_some();
    let tests: &[&str] = if nextest { &["nextest", "run"] } else { &["test"] };
    let prepared = |tests: &[&str]| {
        let mut command = cargo_command(tests);
        // The server's feature, so that one build of each crate serves the server and the tests.
        command.args(["--workspace", "--features", "hexa-server/failpoints"]);
        // A test that leaves something out passes; what it left out is listed in the end.
        command.env("HEXA_SKIPPED", &skipped);
        // Where they are, also when CARGO_TARGET_DIR moved them.
        command.args(&args.filter).env("HEXA_PLUGINS_DIR", &plugins_dir).env("HEXA_BIN", hexa("debug"));
        command.env("HEXA_WITH", args.with.join(" "));
        if args.long {
            command.env("HEXA_LONG", "1");
        }
        command
    };
    stages.time("tests", || run_command(&mut prepared(tests)))?;
    stages.time("on PostgreSQL", || {
        let cluster = Cluster::start()?;
        let mut command = prepared(tests);
        if nextest {
            command.args(["--no-tests", "pass", "-E", WITH_A_DATABASE]);
        }
        run_command(command.env("HEXA_TEST_DB", "postgres").env("HEXA_TEST_PG", &cluster.address))
    })?;
    stages.time("in a browser", || dashboard::browser(&plugins_dir, &args.filter, &args.with))?;
    if nextest && args.filter.is_empty() {
        stages.time("doc tests", || cargo(&["test", "--quiet", "--workspace", "--doc"]))?;
    }
    stages.print();
    print_skipped(&std::fs::read_to_string(&skipped).unwrap_or_default());
    Ok(())
}

/// What tests left out, each once.
fn print_skipped(list: &str) {
    let mut lines: Vec<_> = list.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    eprintln!("{} tests were skipped{}", lines.len(), if lines.is_empty() { "" } else { ":" });
    for line in lines {
        eprintln!("  {line}");
    }
}

/// What runs again on PostgreSQL: the tests that use a database, but for those that name theirs.
const WITH_A_DATABASE: &str = "(binary(store) + binary(services) + binary(it)) \
     - test(/^(sqlite_only|postgres_only|sqlite_file|power_cut|disk_full)::/)";

/// The PostgreSQL that the tests of one run share.
struct Cluster {
    address: String,
    process: Child,
}

impl Cluster {
    fn start() -> Result<Self> {
        let mut command = Command::new(target().join("debug/hexa-testpg"));
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start hexa-testpg")?;
        let mut address = String::new();
        if let Some(said) = process.stdout.as_mut() {
            BufReader::new(said).read_line(&mut address)?;
        }
        let cluster = Self { address: address.trim().to_owned(), process };
        if cluster.address.is_empty() {
            bail!("PostgreSQL for the tests did not start");
        }
        Ok(cluster)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // It ends with its input, and takes its data with it.
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

/// How long each stage took.
#[derive(Debug, Default)]
pub(crate) struct Stages(Vec<(String, f64, bool)>);

impl Stages {
    /// Runs a stage; its error goes on.
    pub(crate) fn time(&mut self, name: &str, stage: impl FnOnce() -> Result<()>) -> Result<()> {
        eprintln!("== {name}");
        let started = Instant::now();
        let done = stage();
        self.0.push((name.to_owned(), started.elapsed().as_secs_f64(), done.is_ok()));
        done
    }
    /// Prints the table of stages.
    pub(crate) fn print(&self) {
        eprintln!();
        for (name, seconds, passed) in &self.0 {
            eprintln!("{name:<12} {seconds:>7.1} s  {}", if *passed { "ok" } else { "FAILED" });
        }
    }
}
