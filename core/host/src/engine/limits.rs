//! What a plugin may use, and the limiter that holds it to that during a call.

use std::time::{Duration, Instant};

use hexa_model::driver::LimitBroken;
use wasmtime::{ResourceLimiter, UpdateDeadline};

/// One epoch. Every guest looks at its CPU clock once per tick, so a limit is kept to within two of them.
pub(crate) const TICK: Duration = Duration::from_millis(2);
/// Ceiling of linear memory that a manifest may ask for.
pub(crate) const MAX_MEMORY_BYTES: usize = 64 << 20;
/// Elements in all tables of one instance together.
pub(crate) const TABLE_ELEMENTS: usize = 10_000;
/// Live component-model handles, and the host's own resources, per instance.
pub(crate) const HANDLES: usize = 1_024;
/// Bytes of arguments and results that cross the boundary in one call.
pub(crate) const IO_BYTES: usize = 256 << 10;
/// Frames out of one call.
pub(crate) const FRAMES: usize = 32;
/// Bytes of one frame, in either direction.
pub(crate) const FRAME_BYTES: usize = 64 << 10;
/// Events out of one call.
pub(crate) const EVENTS: usize = 64;
/// Bytes of a prepared configuration.
pub(crate) const PREPARED_BYTES: usize = 16 << 10;
/// Bytes of a normalized configuration.
pub(crate) const CONFIG_BYTES: usize = 64 << 10;
/// Ceiling of what a manifest may ask for each of the two state blobs.
pub(crate) const MAX_STATE_BYTES: usize = 16 << 10;
/// Ceiling of CPU per hot call that a manifest may ask for, in milliseconds.
pub(crate) const MAX_CPU_MS: u64 = 50;
/// Instances of one plugin that live at the same time.
pub(crate) const LIVE_INSTANCES: usize = 16;
/// An instance is replaced after this many calls, so that a slow leak never grows old.
pub(crate) const USES: u32 = 100_000;

/// The limits of one plugin, from its manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub memory_bytes: usize,
    pub cpu: Duration,
    pub state_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { memory_bytes: 16 << 20, cpu: Duration::from_millis(10), state_bytes: 4 << 10 }
    }
}

/// How much time one call has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub cpu: Duration,
    pub wall: Duration,
}

impl Budget {
    /// The budget of a codec call: open, encode and decode.
    pub(crate) fn hot(limits: &Limits) -> Self {
        Self { cpu: limits.cpu, wall: Duration::from_millis(250) }
    }
    /// `describe`, `validate-config` and the first start of an instance.
    pub(crate) const COLD: Self = Self { cpu: Duration::from_millis(500), wall: Duration::from_secs(2) };
}

/// Ends a call: travels through wasmtime as the error of the trap.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{} exceeded: {} is allowed", limit.limit, limit.allowed)]
pub(crate) struct LimitError {
    pub kind: &'static str,
    pub limit: LimitBroken,
}

impl LimitError {
    pub(crate) fn new(kind: &'static str, limit: &'static str, allowed: u64, actual: u64) -> Self {
        Self { kind, limit: LimitBroken { limit, allowed, actual } }
    }
}

/// Holds one instance to its limits. Lives in the state of its store; armed before every call.
#[derive(Debug)]
pub(crate) struct CallLimiter {
    budget: Budget,
    clocks: Option<Clocks>,
    memory_max: usize,
    memory_used: usize,
    table_used: usize,
    /// Bytes that the current call's own calls into the host have moved.
    io_used: usize,
}

#[derive(Debug)]
struct Clocks {
    cpu: Duration,
    wall: Instant,
}

impl CallLimiter {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            budget: Budget::COLD,
            clocks: None,
            memory_max: limits.memory_bytes,
            memory_used: 0,
            table_used: 0,
            io_used: 0,
        }
    }

    /// The next call has this much.
    pub(crate) fn arm(&mut self, budget: Budget) {
        self.budget = budget;
        self.clocks = None;
        self.io_used = 0;
    }

    /// Counts what a call into the host moves: wasmtime bounds each of them, and this all of one call together.
    ///
    /// # Errors
    /// The end of the call.
    pub(crate) fn count_io(&mut self, bytes: usize) -> wasmtime::Result<()> {
        self.io_used = self.io_used.saturating_add(bytes);
        if self.io_used > IO_BYTES {
            return Err(LimitError::new("io", "io_bytes", IO_BYTES as u64, self.io_used as u64).into());
        }
        Ok(())
    }

    /// Processor time of the current call, which has taken `wall` so far. Within its first tick the thread's clock
    /// is not read, and the wall time stands for it; a preempted guest is charged two ticks at most for that.
    pub(crate) fn cpu_used(&self, wall: Duration) -> Duration {
        let unseen = wall.min(2 * TICK);
        self.clocks.as_ref().map_or(unseen, |start| unseen + thread_cpu().saturating_sub(start.cpu))
    }

    /// Linear memory of the instance, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_used
    }

    /// Passed three quarters of its memory: guest heaps never shrink, so the instance is not used again.
    pub(crate) fn memory_used_up(&self) -> bool {
        self.memory_used > self.memory_max / 4 * 3
    }

    /// Called about every tick while the guest runs. Epochs count wall time, which other work on the machine takes from
    /// a healthy guest; so the first tick of a call only starts two clocks, and the guest ends when its own thread's
    /// CPU time is truly used up. A call shorter than a tick, which is all but every call, pays nothing for this.
    pub(crate) fn tick(&mut self) -> wasmtime::Result<UpdateDeadline> {
        let cpu = thread_cpu();
        let Some(start) = &self.clocks else {
            let wall = Instant::now();
            self.clocks = Some(Clocks { cpu, wall });
            return Ok(UpdateDeadline::Continue(1));
        };
        let (cpu, wall) = (cpu.saturating_sub(start.cpu), start.wall.elapsed());
        let ms = |d: Duration| d.as_millis() as u64;
        if cpu >= self.budget.cpu {
            return Err(LimitError::new("cpu", "cpu_ms", ms(self.budget.cpu), ms(cpu)).into());
        }
        if wall >= self.budget.wall {
            return Err(LimitError::new("wall", "wall_ms", ms(self.budget.wall), ms(wall)).into());
        }
        Ok(UpdateDeadline::Continue(1))
    }
}

impl ResourceLimiter for CallLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory_used.saturating_add(desired.saturating_sub(current));
        if total > self.memory_max {
            return Err(LimitError::new("memory", "memory_bytes", self.memory_max as u64, total as u64).into());
        }
        self.memory_used = total;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table_used.saturating_add(desired.saturating_sub(current));
        if total > TABLE_ELEMENTS {
            return Err(LimitError::new("memory", "table_elements", TABLE_ELEMENTS as u64, total as u64).into());
        }
        // wasmtime asks before it looks at the table's own maximum: what gets nothing is not counted.
        if maximum.is_some_and(|max| desired > max) {
            return Ok(false);
        }
        self.table_used = total;
        Ok(true)
    }

    fn instances(&self) -> usize {
        16
    }

    fn tables(&self) -> usize {
        8
    }

    fn memories(&self) -> usize {
        4
    }
}

/// CPU time of the calling thread.
#[expect(unsafe_code, reason = "the standard library does not offer CLOCK_THREAD_CPUTIME_ID")]
fn thread_cpu() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the kernel to write to, and the clock exists on every Linux.
    let status = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    if status == 0 { Duration::new(time.tv_sec as u64, time.tv_nsec as u32) } else { Duration::ZERO }
}
