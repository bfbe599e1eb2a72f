//! Warm instances of one plugin, without a lock: calls are synchronous, so as many instances are in use as there are
//! threads in calls, and the bounded queue holds the rest.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crossbeam_queue::ArrayQueue;

use crate::driver::instance::Instance;
use crate::engine::limits::LIVE_INSTANCES;

/// Why there is no instance for a call.
pub(crate) enum NoLease {
    /// As many as are allowed are in calls.
    Busy,
    /// A new instance did not start.
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

    /// Drops the idle instances; those in calls stay until their call ends.
    pub(crate) fn clear(&self) {
        while let Some(instance) = self.idle.pop() {
            drop(Lease { pool: self, instance: Some(instance) });
        }
    }

    /// Drops the instances that were not used since this was called last.
    pub(crate) fn drop_unused(&self) {
        for _ in 0..self.idle.len() {
            let Some(mut instance) = self.idle.pop() else { return };
            let unused = instance.take_unused();
            let lease = Lease { pool: self, instance: Some(instance) };
            if !unused {
                lease.give_back();
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

/// An instance for one call. Dropping the lease drops the instance; only [`Lease::give_back`] returns it to the pool,
/// so every way out of a call that is not a clean one (error, panic) discards.
pub(crate) struct Lease<'p> {
    pool: &'p Pool,
    instance: Option<Box<Instance>>,
}

impl Lease<'_> {
    pub(crate) fn instance(&mut self) -> &mut Instance {
        self.instance.as_mut().expect("a lease holds its instance until it is given back or dropped")
    }

    /// The call was clean: the next one may have the instance.
    pub(crate) fn give_back(mut self) {
        if let Some(mut instance) = self.instance.take_if(|i| !i.used_up()) {
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
