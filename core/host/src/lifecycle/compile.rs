//! From a component to machine code, away from the server.
//!
//! A compiler that is given a hostile component may take any time and any memory, so it runs in a child process: the
//! server's own program started again as `hexa compile-plugin`, which limits itself (`child.rs`) before
//! it reads a byte. Here is the server's side: one child at a time, a wall clock, and checks of the result.

mod child;
mod frame;

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;
use wasmtime::Engine;

pub use child::compile_child;
pub(crate) use frame::{CODE_BYTES, WASM_BYTES};

use frame::INVALID;

/// Bytes of the child's standard error that are read.
const STDERR_BYTES: u64 = 4 << 10;

/// What one compilation may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// From the start of the child to its end.
    pub wall: Duration,
    /// Processor time, in seconds.
    pub cpu_s: u64,
    /// Address space, in bytes.
    pub memory_bytes: u64,
}

impl Default for CompileLimits {
    fn default() -> Self {
        Self { wall: Duration::from_secs(30), cpu_s: 25, memory_bytes: 1 << 30 }
    }
}

/// Where plugins are compiled.
#[derive(Debug)]
pub enum Compiler {
    /// A child process with limits, in the background: the host serves what is compiled already meanwhile.
    Child(ChildCompiler),
    /// In this process, while the host is loaded and without limits: for tests and tools that trust their plugins.
    InProcess,
}

/// Starts the child process that compiles, and holds it to its limits.
#[derive(Debug)]
pub struct ChildCompiler {
    program: PathBuf,
    args: Vec<OsString>,
    limits: CompileLimits,
    /// One at a time: each may take as much memory as is allowed.
    one_at_a_time: Mutex<()>,
}

/// Why there is no compiled code. Its text names what happened, what is allowed, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompileError {
    #[error("plugin.wasm is {actual} bytes long; {WASM_BYTES} are allowed. Build it with opt-level \"s\" and strip it")]
    TooLarge { actual: usize },
    #[error("plugin.wasm is not a valid component: {0}")]
    Invalid(String),
    #[error("compiling plugin.wasm took more than the {} MiB of memory that are allowed. Make it smaller: split very large functions, build with opt-level \"s\"", .0 >> 20)]
    Memory(u64),
    #[error(
        "compiling plugin.wasm took more than the {0} s of {1} that are allowed. Make it smaller: split very large functions, build with opt-level \"s\""
    )]
    Time(u64, &'static str),
    #[error("the compiler could not be started: {0}. Check that the server may start processes, then restart it")]
    Start(io::Error),
    #[error(
        "the compiler ended with {0}{1}; nothing of its result is used. Restart the server to try again, and report the plugin if that repeats"
    )]
    Died(ExitStatus, String),
    #[error(
        "the compiler gave no whole result ({0}); nothing of it is used. Restart the server to try again, and report the plugin if that repeats"
    )]
    Result(&'static str),
    #[error("plugin.wasm asks for more than a driver is given: {0}")]
    Unfit(String),
}

impl ChildCompiler {
    /// Will start `program` with `args` and then the limits, in the order of the arguments of [`compile_child`].
    pub fn new(program: PathBuf, args: Vec<OsString>, limits: CompileLimits) -> Self {
        Self { program, args, limits, one_at_a_time: Mutex::new(()) }
    }

    /// This very program, started again as `compile-plugin`; also when an upgrade has replaced its file meanwhile.
    ///
    /// # Errors
    /// When `/proc/self/exe` cannot be read.
    pub fn this_program() -> io::Result<Self> {
        let running = Path::new("/proc/self/exe");
        let program = if running.exists() { running.to_owned() } else { std::env::current_exe()? };
        Ok(Self::new(program, vec!["compile-plugin".into()], CompileLimits::default()))
    }

    fn compile(&self, wasm: &[u8]) -> Result<Vec<u8>, CompileError> {
        let _one_at_a_time = self.one_at_a_time.lock();
        let mut child = self.start().map_err(CompileError::Start)?;
        let (alive, ended) = mpsc::sync_channel::<()>(0);
        let pid = child.id();
        let watch = std::thread::Builder::new().name("plugin-compile-watch".into());
        // Whatever the child does or does not do, it is gone after this time, and every wait below ends with it.
        let wall = self.limits.wall;
        let watch = watch.spawn(move || {
            let late = ended.recv_timeout(wall) == Err(mpsc::RecvTimeoutError::Timeout);
            if late {
                kill(pid);
            }
            late
        });
        let watch = match watch {
            Ok(watch) => watch,
            Err(error) => {
                kill(pid);
                // It was killed this moment; how it ended does not matter.
                let _ = child.wait();
                return Err(CompileError::Start(error));
            }
        };
        let (code, stderr) = exchange(&mut child, wasm);
        // Not reaped before the watch has ended: until then the process id must remain this child's.
        wait_unreaped(pid);
        drop(alive);
        let late = watch.join().unwrap_or(true);
        let status = child.wait().map_err(CompileError::Start)?;
        if late {
            return Err(CompileError::Time(wall.as_secs(), "time"));
        }
        self.outcome(status, code, stderr)
    }

    fn start(&self) -> io::Result<Child> {
        Command::new(&self.program)
            .arg0("hexa")
            .args(&self.args)
            .arg(std::process::id().to_string())
            .arg(self.limits.cpu_s.to_string())
            .arg(self.limits.memory_bytes.to_string())
            .env_clear()
            .current_dir("/")
            // A key press in the server's terminal is the server's business; it takes its child along when it ends.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
    }

    fn outcome(
        &self,
        status: ExitStatus,
        code: Result<Vec<u8>, &'static str>,
        stderr: String,
    ) -> Result<Vec<u8>, CompileError> {
        if status.success() || code == Err(frame::TOO_LONG) {
            return code.map_err(CompileError::Result);
        }
        if status.code() == Some(i32::from(INVALID)) {
            return Err(CompileError::Invalid(stderr));
        }
        // Rust's own allocator, a failed mmap, and Cranelift's arenas each have words of their own.
        if ["memory allocation of", "Cannot allocate memory", "out of memory"]
            .iter()
            .any(|words| stderr.contains(words))
        {
            return Err(CompileError::Memory(self.limits.memory_bytes));
        }
        if status.signal() == Some(libc::SIGXCPU) {
            return Err(CompileError::Time(self.limits.cpu_s, "processor time"));
        }
        Err(CompileError::Died(status, if stderr.is_empty() { stderr } else { format!(" ({stderr})") }))
    }
}

impl Compiler {
    /// Machine code for `engine`, in wasmtime's own format. Takes up to [`CompileLimits::wall`].
    pub(crate) fn compile(&self, engine: &Engine, wasm: &[u8]) -> Result<Vec<u8>, CompileError> {
        if wasm.len() as u64 > WASM_BYTES {
            return Err(CompileError::TooLarge { actual: wasm.len() });
        }
        match self {
            Self::Child(child) => child.compile(wasm),
            Self::InProcess => {
                engine.precompile_component(wasm).map_err(|e| CompileError::Invalid(e.root_cause().to_string()))
            }
        }
    }

    /// Whether loading goes on in the background.
    pub(crate) fn in_background(&self) -> bool {
        matches!(self, Self::Child(_))
    }
}

/// Writes the component to the child, and reads its result and its standard error.
fn exchange(child: &mut Child, wasm: &[u8]) -> (Result<Vec<u8>, &'static str>, String) {
    if let Some(mut stdin) = child.stdin.take() {
        // A child that does not read it has ended, or will be ended; its status has the reason.
        let _ = stdin.write_all(wasm);
    }
    let code = child.stdout.take().map_or(Err("no output"), frame::read);
    if code == Err(frame::TOO_LONG) {
        kill(child.id());
    }
    let mut text = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        // The text is for people only; without it there is still the status.
        let _ = stderr.take(STDERR_BYTES).read_to_end(&mut text);
    }
    (code, printable(&text))
}

/// One line without control characters, with which it could forge lines of the log.
fn printable(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let clean = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Ends the child and whatever it started.
#[expect(unsafe_code, reason = "std cannot kill from a second thread")]
fn kill(pid: u32) {
    // SAFETY: plain system call; the child is not reaped yet, so the id is its own.
    unsafe { libc::kill(-(pid as libc::pid_t), libc::SIGKILL) };
}

/// Blocks until the child has ended, and leaves its status for `wait`.
#[expect(unsafe_code, reason = "std has no wait that leaves the child unreaped")]
fn wait_unreaped(pid: u32) {
    loop {
        // SAFETY: `info` is plain data that the system call fills in; all zeroes is a valid value of it.
        let done = unsafe {
            let mut info: libc::siginfo_t = std::mem::zeroed();
            libc::waitid(libc::P_PID, pid, &raw mut info, libc::WEXITED | libc::WNOWAIT)
        };
        if done == 0 || io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
