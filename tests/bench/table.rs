//! docs/PERFORMANCE.md: the figures of a whole run between markers; the prose around them is people's.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::fixture::Options;
use crate::report::{Goal, HOLDS, Report};

const BEGIN: &str = "<!-- figures: written by `cargo xtask bench all --table`, not by hand -->";
const END: &str = "<!-- end of figures -->";
const BENCHES: [&str; 10] =
    ["relay", "devices", "broadcast", "driver", "sandbox", "storm", "growth", "audit", "door", "gate"];

/// Runs every bench in a process of its own; with `table` writes their figures into that file. Gives the worst code.
pub(crate) fn run(options: &Options, node_red: Option<&Path>, table: Option<&Path>) -> Result<i32> {
    let mut reports = Vec::new();
    for bench in BENCHES {
        eprintln!("bench: {bench}");
        reports.push(one(bench, options, node_red.filter(|_| bench == "relay"))?);
    }
    if let Some(path) = table {
        write(path, &reports)?;
        eprintln!("bench: figures are in {}", path.display());
    }
    for report in &reports {
        if options.json {
            report.print(true)?;
        } else {
            println!("{}", report.summary());
        }
    }
    // 3 (too noisy) is larger than 1, but a count that falls short is what must be seen.
    Ok(reports.iter().map(Report::code).filter(|code| *code != HOLDS).min().unwrap_or(HOLDS))
}

fn one(bench: &str, options: &Options, node_red: Option<&Path>) -> Result<Report> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(bench).arg("--hexa").arg(&options.hexa).arg("--plugins").arg(&options.plugins).arg("--json");
    if options.quick {
        command.arg("--quick");
    }
    if let Some(node_red) = node_red {
        command.arg("--node-red").arg(node_red);
    }
    let out = command.stderr(Stdio::inherit()).output()?;
    let line = String::from_utf8(out.stdout)?;
    serde_json::from_str(line.trim()).with_context(|| format!("{bench} ended without figures ({})", out.status))
}

fn write(path: &Path, reports: &[Report]) -> Result<()> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) else {
        bail!("{} has lost its markers:\n{BEGIN}\n{END}", path.display());
    };
    let figures = figures(reports);
    std::fs::write(path, format!("{}{BEGIN}\n\n{figures}\n{}", &text[..begin], &text[end..]))?;
    Ok(())
}

fn figures(reports: &[Report]) -> String {
    let mut out = machine();
    for report in reports {
        let _ = writeln!(out, "\n### {}\n", report.bench);
        out += "| figure | ours | floor | judged | goal | |\n|---|---|---|---|---|---|\n";
        for c in &report.checks {
            let unit = |spread: &dyn std::fmt::Display| format!("{spread} {}", c.unit).trim_end().to_owned();
            let floor = c.floor.map_or(String::new(), |f| format!("{}: {}", c.against, unit(&f)));
            let judged = if c.floor.is_some() { c.value.to_string() } else { String::new() };
            let goal = if matches!(c.goal, Goal::None) { String::new() } else { c.goal.to_string() };
            let verdict = c.verdict();
            let _ = writeln!(out, "| {} | {} | {floor} | {judged} | {goal} | {verdict} |", c.what, unit(&c.ours));
        }
        out.push('\n');
        for note in &report.notes {
            let _ = writeln!(out, "* {note}");
        }
        let quick = if report.quick { " This was a quick run." } else { "" };
        let _ = writeln!(out, "* the floor moved by {:.0} % between slices.{quick}", report.floor_moved * 100.0);
    }
    out
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ")).map_or("unknown", |m| m.1);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = read("/proc/meminfo");
    let kib = memory.lines().find_map(|l| l.strip_prefix("MemTotal:")?.trim().split(' ').next()?.parse::<f64>().ok());
    let kernel = read("/proc/sys/kernel/osrelease");
    let date = Command::new("date").args(["-u", "+%Y-%m-%d"]).output().map(|o| o.stdout).unwrap_or_default();
    format!(
        "Machine: {model}, {cores} cores, {:.0} GiB, Linux {}. Date: {}. Version: {}.\n",
        kib.unwrap_or(0.0) / 1024.0 / 1024.0,
        kernel.trim(),
        String::from_utf8_lossy(&date).trim(),
        env!("CARGO_PKG_VERSION")
    )
}
