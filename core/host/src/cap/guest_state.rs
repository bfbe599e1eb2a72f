//! What the host holds for one instance of a driver, reachable from every host function that the guest calls.

use std::sync::Arc;

use hexa_model::DeviceUid;
use wasmtime::component::ResourceTable;

use crate::cap::log::{Level, PluginLog, Printed};
use crate::engine::limits::{CallLimiter, Limits};
use crate::engine::store::{Limited, handle_table};

/// The state of one instance.
pub(crate) struct GuestState {
    limiter: CallLimiter,
    /// The host's resources that the guest has handles of.
    pub(crate) table: ResourceTable,
    printed: Printed,
    log: Arc<PluginLog>,
    /// Of the current call; none while the instance starts.
    device: Option<DeviceUid>,
}

impl GuestState {
    pub(crate) fn new(limits: &Limits, log: &Arc<PluginLog>) -> Self {
        let limiter = CallLimiter::new(limits);
        Self { limiter, table: handle_table(), printed: Printed::default(), log: Arc::clone(log), device: None }
    }

    /// The next call is about this device.
    pub(crate) fn begin(&mut self, device: Option<&DeviceUid>) {
        self.device = device.cloned();
    }

    /// What the guest has used of its limits.
    pub(crate) fn used(&self) -> &CallLimiter {
        &self.limiter
    }

    /// The plugin's log, which also has the clock that its guests are given.
    pub(crate) fn log(&self) -> &PluginLog {
        &self.log
    }

    /// A line in the plugin's log, with the device of the current call.
    pub(crate) fn log_line(&mut self, level: Level, text: &str) -> wasmtime::Result<()> {
        self.limiter.count_io(text.len())?;
        self.log.write(level, self.device.as_ref().map_or("", DeviceUid::as_str), text);
        Ok(())
    }

    /// Bytes that the guest printed; each line of them becomes a line in the plugin's log.
    pub(crate) fn print(&mut self, bytes: &[u8]) -> wasmtime::Result<()> {
        self.limiter.count_io(bytes.len())?;
        let Self { printed, log, device, .. } = self;
        let device = device.as_ref().map_or("", DeviceUid::as_str);
        printed.take(bytes, |line| log.write(Level::Info, device, line));
        Ok(())
    }
}

impl Limited for GuestState {
    fn limiter(&mut self) -> &mut CallLimiter {
        &mut self.limiter
    }
}
