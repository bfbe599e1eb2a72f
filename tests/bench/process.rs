//! Processes under measurement: started, watched through /proc, ended by their own pid.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// A process that ends with its owner.
pub(crate) struct Running(Child);

impl Running {
    /// Starts it.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        Ok(Self(command.spawn().with_context(|| format!("{command:?}"))?))
    }
    /// This binary again, with another command; gives the first line that it prints.
    pub(crate) fn own(args: &[&str]) -> Result<(Self, String)> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut running = Self::start(command.args(args).stdout(Stdio::piped()))?;
        let mut line = String::new();
        if let Some(out) = running.0.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        Ok((running, line.trim().to_owned()))
    }
    /// Two busy threads at the lowest priority, so that no core sleeps while one command is in flight.
    pub(crate) fn awake() -> Result<Self> {
        Self::start(Command::new("nice").args(["-n", "19"]).arg(std::env::current_exe()?).arg("spin"))
    }
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// CPU time, microseconds.
    pub(crate) cpu_us: f64,
    /// Voluntary context switches.
    pub(crate) switches: f64,
}

impl std::ops::Sub for Usage {
    type Output = Self;
    fn sub(self, before: Self) -> Self {
        Self { cpu_us: self.cpu_us - before.cpu_us, switches: self.switches - before.switches }
    }
}

/// CPU time of the whole process in steps of a hundredth of a second, which slices of half a second can bear, with
/// the threads that have ended; switches of the threads that are there.
pub(crate) fn usage(pid: u32) -> Usage {
    const TICK_US: f64 = 10_000.0;
    let mut sum = Usage::default();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Behind the name in brackets: user time is the 12th field, system time the 13th.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    sum.cpu_us = fields.skip(11).take(2).filter_map(|t| t.parse::<f64>().ok()).sum::<f64>() * TICK_US;
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return sum };
    for task in tasks.flatten() {
        let read = |name: &str| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let status = read("status");
        let switches =
            status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:")?.trim().parse::<f64>().ok());
        sum.switches += switches.unwrap_or(0.0);
    }
    sum
}

/// Burns what nobody else wants, until killed or orphaned.
pub(crate) fn spin() -> ! {
    let parent = std::os::unix::process::parent_id();
    let threads: Vec<_> = (0..std::thread::available_parallelism().map_or(2, usize::from))
        .map(|_| {
            std::thread::spawn(move || {
                while std::os::unix::process::parent_id() == parent {
                    for _ in 0..1_000_000 {
                        std::hint::spin_loop();
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        let _ = thread.join();
    }
    std::process::exit(0)
}

/// Whether a path is there, with a hint if not.
pub(crate) fn must_exist(path: &Path) -> Result<()> {
    anyhow::ensure!(path.exists(), "{} is missing: run this through `cargo xtask bench`", path.display());
    Ok(())
}
