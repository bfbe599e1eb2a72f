//! `cargo xtask ci`: everything beside the tests that must hold before a change lands.

use anyhow::{Result, bail};

use crate::process::{cargo, cargo_command, run as run_command};
use crate::test::Stages;
use crate::{drift, plugins, tidy};

/// Runs every stage, also after one failed, and fails if any did.
pub(crate) fn run() -> Result<()> {
    let mut stages = Stages::default();
    let mut failed = Vec::new();
    let mut stage = |name: &'static str, work: &mut dyn FnMut() -> Result<()>| {
        if let Err(error) = stages.time(name, work) {
            eprintln!("{name}: {error:#}");
            failed.push(name);
        }
    };
    stage("fmt", &mut || cargo(&["fmt", "--all", "--check"]));
    stage("plugins", &mut || plugins::build().map(drop));
    stage("clippy", &mut || {
        cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
    });
    stage("tidy", &mut || tidy::run(false));
    stage("doc", &mut || {
        let mut doc = cargo_command(&["doc", "--quiet", "--workspace", "--no-deps", "--document-private-items"]);
        run_command(doc.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links"))
    });
    stage("drift", &mut || drift::run(false));
    stages.print();
    if !failed.is_empty() {
        bail!("failed: {}", failed.join(", "));
    }
    Ok(())
}
