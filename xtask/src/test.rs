//! `cargo xtask test`: brings what the tests need, builds, runs everything.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;

use crate::process::{cargo, cargo_command, hexa, output, run as run_command};
use crate::{plugins, setup};

/// Options of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct TestArgs {
    /// The longer variants: more rounds, soaks.
    #[arg(long)]
    long: bool,
    /// Only tests whose name contains this.
    filter: Vec<String>,
}

/// Runs all tests.
pub(crate) fn run(args: &TestArgs) -> Result<()> {
    let mut stages = Stages::default();
    stages.time("setup", || setup::run(true))?;
    let mut plugins_dir = PathBuf::new();
    stages.time("plugins", || {
        plugins_dir = plugins::build()?;
        Ok(())
    })?;
    stages.time("build", || cargo(&["build", "--package", "hexa-server"]))?;
    let nextest = output("cargo", &["nextest", "--version"]).is_some();
    let tests: &[&str] = if nextest { &["nextest", "run", "--workspace"] } else { &["test", "--workspace"] };
    let mut command = cargo_command(tests);
    // Where they are, also when CARGO_TARGET_DIR moved them.
    command.args(&args.filter).env("HEXA_PLUGINS_DIR", plugins_dir).env("HEXA_BIN", hexa("debug"));
    if args.long {
        command.env("HEXA_LONG", "1");
    }
    stages.time("tests", || run_command(&mut command))?;
    if nextest && args.filter.is_empty() {
        stages.time("doc tests", || cargo(&["test", "--quiet", "--workspace", "--doc"]))?;
    }
    stages.print();
    Ok(())
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
    /// The table.
    pub(crate) fn print(&self) {
        eprintln!();
        for (name, seconds, passed) in &self.0 {
            eprintln!("{name:<12} {seconds:>7.1} s  {}", if *passed { "ok" } else { "FAILED" });
        }
    }
}
