//! The child: limits itself, reads a component from its input, writes machine code to its output, and ends.

use std::io::{self, Read};
use std::panic::catch_unwind;

use super::frame::{self, INVALID, WASM_BYTES};

/// What `hexa compile-plugin <parent> <cpu s> <memory bytes>` does. Gives the exit code and what to print to stderr;
/// nothing else may be written to stdout, which carries the result.
///
/// # Errors
/// An exit code and a line for the process that started it: a limit that could not be set, an input that is no
/// component, or one that does not compile.
pub fn compile_child(parent: u32, cpu_s: u64, memory_bytes: u64) -> Result<(), (u8, String)> {
    confine(parent, cpu_s, memory_bytes).map_err(|e| (1, format!("the compiler could not limit itself: {e}")))?;
    let mut wasm = Vec::new();
    let read = io::stdin().lock().take(WASM_BYTES + 1).read_to_end(&mut wasm);
    read.map_err(|e| (1, format!("no component came: {e}")))?;
    if wasm.len() as u64 > WASM_BYTES {
        return Err((INVALID, format!("it is longer than {WASM_BYTES} bytes")));
    }
    // A panic of the compiler is about these bytes; its text was printed already.
    let compiled = catch_unwind(|| crate::engine::for_compiling()?.precompile_component(&wasm));
    let code = compiled
        .map_err(|_| (INVALID, "the compiler failed on it".to_owned()))?
        .map_err(|e| (INVALID, e.root_cause().to_string()))?;
    frame::write(io::stdout().lock(), &code).map_err(|e| (1, format!("the result could not be handed over: {e}")))
}

/// From here on the process can take only what it is allowed, opens nothing, and ends with its parent.
#[expect(unsafe_code, reason = "limits of a process are set by system calls")]
fn confine(parent: u32, cpu_s: u64, memory_bytes: u64) -> io::Result<()> {
    let check = |done: libc::c_int| if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) };
    // SAFETY: plain system calls with plain numbers.
    unsafe {
        #[cfg(target_os = "linux")]
        {
            check(libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL))?;
            check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            // Every descriptor of the server is closed at exec; this is for those that the server itself inherited.
            libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, 0);
        }
        if libc::getppid() != parent as libc::pid_t {
            return Err(io::Error::other("its parent is gone"));
        }
        // The server has priority; a failure to lower our own is no reason to fail.
        libc::setpriority(libc::PRIO_PROCESS, 0, 10);
    }
    // Where memory runs out on the whole machine, the compiler goes and not the server. Not every kernel has this.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let limit = |what, soft: u64, hard: u64| {
        let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
        // SAFETY: `limit` lives through the call, which only reads it.
        check(unsafe { libc::setrlimit(what, &raw const limit) })
    };
    limit(libc::RLIMIT_CORE, 0, 0)?;
    limit(libc::RLIMIT_FSIZE, 0, 0)?;
    // No descriptor beyond the three: no file, no socket, no pipe can be opened.
    limit(libc::RLIMIT_NOFILE, 3, 3)?;
    limit(libc::RLIMIT_CPU, cpu_s, cpu_s + 1)?;
    limit(libc::RLIMIT_AS, memory_bytes, memory_bytes)
}
