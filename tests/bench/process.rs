//! Processes under measurement: started, watched through /proc, ended by their own pid.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// A process that ends with its owner.
pub(crate) struct Running(Child);

impl Running {
    /// Starts the process; dropping it kills the process.
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
    /// This binary again, to be talked to line by line.
    pub(crate) fn talking(args: &[&str]) -> Result<(Self, BufReader<ChildStdout>)> {
        let mut command = Command::new(std::env::current_exe()?);
        let mut running = Self::start(command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()))?;
        let out = running.0.stdout.take().context("no stdout")?;
        Ok((running, BufReader::new(out)))
    }
    /// A line to its standard input.
    pub(crate) fn tell(&mut self, line: &str) -> Result<()> {
        let input = self.0.stdin.as_mut().context("no stdin")?;
        Ok(writeln!(input, "{line}")?)
    }
    /// Two busy threads at the lowest priority, so that no core sleeps while one command is in flight.
    pub(crate) fn awake() -> Result<Self> {
        Self::start(Command::new("nice").args(["-n", "19"]).arg(std::env::current_exe()?).arg("spin"))
    }
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
    /// Asks it to end (SIGTERM) and waits until it has.
    pub(crate) fn stop(mut self) -> Result<()> {
        signal(self.pid(), libc::SIGTERM);
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(20) {
            if self.0.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        anyhow::bail!("the process did not stop within 20 s of SIGTERM")
    }
}

#[expect(unsafe_code, reason = "kill(2) has no safe form in the standard library")]
fn signal(pid: u32, signal: i32) {
    // SAFETY: no memory is involved, and the pid is that of a child which was not waited for.
    unsafe { libc::kill(pid as i32, signal) };
}

/// Raises the soft limit of open files to the hard one, for this process and its children; gives the limit.
#[expect(unsafe_code, reason = "setrlimit(2) has no safe form in the standard library")]
pub(crate) fn raise_open_files() -> Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a valid struct of the type that the call fills.
    ensure!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0, "getrlimit failed");
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above, read only.
    ensure!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0, "setrlimit failed");
    Ok(limit.rlim_cur)
}

/// Resident memory of a process, bytes; 0 when it is gone.
pub(crate) fn resident(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let kib = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0
}

/// Waits until resident memory has moved by less than 0.5 % within a second, at most `patience`; gives it.
pub(crate) async fn settled(pid: u32, patience: Duration) -> f64 {
    let begun = Instant::now();
    let mut last = resident(pid);
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let now = resident(pid);
        if (now - last).abs() < last * 0.005 || begun.elapsed() > patience {
            return now;
        }
        last = now;
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
    /// Processor time, in microseconds.
    pub(crate) cpu_us: f64,
    /// How often a thread of it went to sleep by itself.
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

/// CPU time of this thread, microseconds: what other processes take away does not count.
#[expect(unsafe_code, reason = "clock_gettime(2) has no safe form in the standard library for this clock")]
pub(crate) fn own_cpu_us() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a valid struct of the type that the call fills.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as f64 * 1e6 + time.tv_nsec as f64 / 1e3
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
    ensure!(path.exists(), "{} is missing: run this through `cargo xtask bench`", path.display());
    Ok(())
}
