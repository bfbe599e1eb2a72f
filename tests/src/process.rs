//! Child processes that cannot outlive the test process.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::wait::eventually;

type Order = (Command, SyncSender<std::io::Result<Child>>);

/// Starts a command so that the kernel kills it when this process ends, however that happens.
///
/// The signal is tied to the thread that forks, so one thread that lives as long as the process does all of it.
///
/// # Errors
/// When the program cannot be started.
pub fn spawn(mut command: Command) -> std::io::Result<Child> {
    static NURSERY: OnceLock<SyncSender<Order>> = OnceLock::new();
    let nursery = NURSERY.get_or_init(|| {
        let (tx, rx) = sync_channel::<Order>(16);
        std::thread::spawn(move || {
            for (mut command, reply) in rx {
                let _ = reply.send(command.spawn());
            }
        });
        tx
    });
    #[expect(unsafe_code, reason = "prctl is async-signal-safe and touches only the child")]
    // SAFETY: between fork and exec only an async-signal-safe system call is made.
    unsafe {
        command.pre_exec(|| {
            if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == -1 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
    let (tx, rx) = sync_channel(1);
    nursery.send((command, tx)).expect("the spawning thread lives as long as the process");
    rx.recv().expect("every order is answered")
}

/// Sends a signal to a child that has not been waited for.
pub fn signal(child: &Child, signal: libc::c_int) {
    let pid = libc::pid_t::try_from(child.id()).expect("a pid fits");
    #[expect(unsafe_code, reason = "kill(2) has no safe wrapper in std")]
    // SAFETY: the pid is that of our own child, which has not been reaped yet.
    unsafe {
        libc::kill(pid, signal);
    }
}

/// Stands still until it is dropped (SIGSTOP, then SIGCONT).
#[derive(Debug)]
pub struct Paused(libc::pid_t);

/// Stops a process of our own; returns when none of its threads runs any more.
///
/// # Panics
/// When there is no such process.
pub fn pause(pid: u32) -> Paused {
    let paused = Paused(libc::pid_t::try_from(pid).expect("a pid fits"));
    paused.send(libc::SIGSTOP);
    let stopped = || {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a process of ours");
        threads.flatten().all(|thread| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
        })
    };
    let start = Instant::now();
    while !stopped() {
        assert!(start.elapsed() < crate::wait::PATIENCE, "process {pid} does not stand still");
        std::thread::sleep(Duration::from_millis(1));
    }
    paused
}

impl Paused {
    fn send(&self, signal: libc::c_int) {
        #[expect(unsafe_code, reason = "kill(2) has no safe wrapper in std")]
        // SAFETY: the pid is that of our own child, whose owner outlives this value.
        unsafe {
            libc::kill(self.0, signal);
        }
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        self.send(libc::SIGCONT);
    }
}

/// Waits for an end without blocking other tasks.
///
/// # Panics
/// When it does not end in time.
pub async fn ended(child: &mut Child, limit: Duration) -> ExitStatus {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(start.elapsed() < limit, "process {} did not end within {limit:?}", child.id());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The exit code, or 128 plus the signal as shells have it.
pub fn code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// Lines of a child's output as they come.
#[derive(Clone, Debug, Default)]
pub struct Lines(Arc<Mutex<Vec<String>>>, /* streams that are read */ Arc<AtomicUsize>);

impl Lines {
    /// Reads on a thread of its own until the stream ends.
    pub fn follow(&self, stream: impl Read + Send + 'static) {
        let lines = self.clone();
        lines.1.fetch_add(1, Ordering::AcqRel);
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                lines.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(line);
            }
            lines.1.fetch_sub(1, Ordering::AcqRel);
        });
    }
    /// Waits until a line contains this: what was written a moment ago may not have been read yet.
    pub async fn wait_for(&self, part: &str) {
        eventually(&format!("{part:?} in the log"), async || self.contains(part).then_some(())).await;
    }
    /// Waits until every stream has ended: then all of it was read.
    pub async fn closed(&self) {
        eventually("the end of the log", async || (self.1.load(Ordering::Acquire) == 0).then_some(())).await;
    }
    /// Every line that came so far.
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }
    /// Everything so far as one text.
    pub fn text(&self) -> String {
        self.all().join("\n")
    }
    /// Whether a line contains this.
    pub fn contains(&self, part: &str) -> bool {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter().any(|l| l.contains(part))
    }
}

/// What a finished command said.
#[derive(Debug)]
pub struct Finished {
    /// Exit code, or 128 + signal.
    pub code: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

/// Runs a command to its end.
///
/// # Panics
/// When it cannot be started or does not end in time; it is killed then.
pub async fn finish(mut command: Command, limit: Duration) -> Finished {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let name = format!("{command:?}");
    let mut child = spawn(command).unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read = |mut stream: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = stream.read_to_string(&mut text);
            text
        })
    };
    let (out, err) = (read(Box::new(stdout)), read(Box::new(stderr)));
    let start = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if start.elapsed() > limit {
            let _ = child.kill();
            panic!("{name} did not end within {limit:?}: {}", err.join().unwrap_or_default());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let status = child.wait().unwrap();
    let (stdout, stderr) = (out.join().unwrap_or_default(), err.join().unwrap_or_default());
    Finished { code: code(status), stdout, stderr }
}

/// The target directory that this test was built into.
pub fn target_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("a process knows its program");
    let deps = exe.parent().and_then(|p| p.parent()).and_then(|p| p.parent());
    deps.expect("tests run from target/<profile>/deps").to_path_buf()
}

/// The server's binary: `HEXA_BIN`, else the one beside this test.
///
/// # Panics
/// When there is none.
pub fn hexa() -> PathBuf {
    let beside = || {
        let exe = std::env::current_exe().expect("a process knows its program");
        let profile = exe.parent().and_then(|p| p.parent()).expect("tests run from target/<profile>/deps");
        profile.join("hexa")
    };
    let path = std::env::var_os("HEXA_BIN").map_or_else(beside, PathBuf::from);
    assert!(path.is_file(), "there is no server at {}: run `cargo xtask test`", path.display());
    path
}

/// The built plugins: `HEXA_TEST_PLUGINS`, else `target/plugins`.
///
/// # Panics
/// When there are none.
pub fn plugins() -> PathBuf {
    let path = std::env::var_os("HEXA_TEST_PLUGINS").map_or_else(|| target_dir().join("plugins"), PathBuf::from);
    assert!(path.is_dir(), "there are no plugins at {}: run `cargo xtask test`", path.display());
    path
}
