//! Warm instances of one plugin, without a lock: calls are synchronous, so as many instances are in use as there are
//! threads in calls, and the bounded queue holds the rest.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;

use crate::driver::instance::Instance;
use crate::engine::limits::LIVE_INSTANCES;

/// Why no instance could be had.
pub(crate) enum NoLease {
    /// All are in calls.
    Busy,
    /// A new one did not start.
    Broken(wasmtime::Error),
}

pub(crate) struct Pool {
    idle: ArrayQueue<Box<Instance>>,
    /// Idle and leased together; what bounds memory.
    live: AtomicUsize,
    /// Linear memory of all, in bytes, as of their last calls.
    memory: AtomicU64,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Self { idle: ArrayQueue::new(LIVE_INSTANCES), live: AtomicUsize::new(0), memory: AtomicU64::new(0) }
    }

    /// A warm instance, or one from `start` if there is room for it.
    pub(crate) fn lease(&self, start: impl FnOnce() -> wasmtime::Result<Instance>) -> Result<Lease<'_>, NoLease> {
        if let Some(instance) = self.idle.pop() {
            return Ok(Lease { pool: self, instance: Some(instance) });
        }
        if self.live.fetch_add(1, Ordering::Relaxed) >= LIVE_INSTANCES {
            self.live.fetch_sub(1, Ordering::Relaxed);
            return Err(NoLease::Busy);
        }
        // From here on the lease gives the place back, also when `start` panics.
        let mut lease = Lease { pool: self, instance: None };
        lease.instance = Some(Box::new(start().map_err(NoLease::Broken)?));
        Ok(lease)
    }

    /// Throws away what waits; what is in a call comes back or is thrown away by it.
    pub(crate) fn clear(&self) {
        while let Some(instance) = self.idle.pop() {
            drop(Lease { pool: self, instance: Some(instance) });
        }
    }

    /// Throws away what was not used since the last time this was called.
    pub(crate) fn tidy(&self) {
        for _ in 0..self.idle.len() {
            let Some(mut instance) = self.idle.pop() else { return };
            let idle = instance.idle();
            let lease = Lease { pool: self, instance: Some(instance) };
            if !idle {
                lease.keep();
            }
        }
    }

    /// Linear memory of all instances, in bytes, as of their last calls.
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// Instances that exist, and those of them that wait for a call.
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.live.load(Ordering::Relaxed), self.idle.len())
    }
}

/// An instance for one call. Dropping it throws the instance away; only [`Lease::keep`] gives it back, so every way out
/// of a call that is not a clean one (error, panic) discards.
pub(crate) struct Lease<'p> {
    pool: &'p Pool,
    instance: Option<Box<Instance>>,
}

impl Lease<'_> {
    pub(crate) fn instance(&mut self) -> &mut Instance {
        self.instance.as_mut().expect("a lease holds its instance until keep or drop")
    }

    /// The call was clean: the next one may have the instance.
    pub(crate) fn keep(mut self) {
        if let Some(mut instance) = self.instance.take_if(|i| !i.worn()) {
            let bytes = instance.memory_bytes();
            // Memory only grows.
            let grown = bytes.saturating_sub(std::mem::replace(&mut instance.counted_bytes, bytes));
            self.pool.memory.fetch_add(grown, Ordering::Relaxed);
            match self.pool.idle.push(instance) {
                Ok(()) => std::mem::forget(self),
                // Cannot be: the queue has room for every live instance. Then it is simply dropped.
                Err(instance) => self.instance = Some(instance),
            }
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let counted = self.instance.take().map_or(0, |instance| instance.counted_bytes);
        self.pool.memory.fetch_sub(counted, Ordering::Relaxed);
        self.pool.live.fetch_sub(1, Ordering::Relaxed);
    }
}
