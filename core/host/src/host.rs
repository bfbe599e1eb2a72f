//! The plugin host as the rest of the server sees it.

use std::sync::Arc;
use std::time::Duration;

use hexa_devices::ports::Drivers;
use hexa_model::DeviceClass;
use hexa_model::driver::{
    Accepted, CommandEnvelope, Decoded, DeviceIdent, DriverCall, DriverError, Encoded, FieldError, Frame,
};
use hexa_model::plugin::PluginInfo;

use crate::catalog::{Catalog, Shared};
use crate::config::HostConfig;
use crate::driver::call::Plugin;
use crate::engine::EngineError;
use crate::lifecycle::cache::Cache;
use crate::lifecycle::stats::PluginStats;
use crate::source::EmbeddedPlugin;

/// All plugins of this server.
pub struct PluginHost {
    catalog: Arc<Catalog>,
}

impl PluginHost {
    /// Loads every plugin. A broken one is found in [`PluginHost::status`] and its classes answer `driver_unavailable`;
    /// so does one that [`Compiler::Child`](crate::Compiler::Child) still compiles. The only error is a machine that
    /// cannot run WebAssembly at all.
    ///
    /// # Errors
    /// When the engine cannot be made; a plugin that cannot be loaded is none.
    pub fn load(config: &HostConfig) -> Result<Self, EngineError> {
        Self::load_with(config, &[])
    }

    /// [`PluginHost::load`] with plugins of the program itself; one whose id a folder's plugin has is left out, also when
    /// that one cannot be loaded.
    ///
    /// # Errors
    /// As [`PluginHost::load`].
    pub fn load_with(config: &HostConfig, embedded: &[EmbeddedPlugin]) -> Result<Self, EngineError> {
        let cache = Cache::new(&config.cache_dir, config.cache_key);
        let shared = Shared {
            clock: Arc::clone(&config.clock),
            observer: Arc::clone(&config.watch),
            per_call: config.per_call.clone(),
        };
        Ok(Self { catalog: Catalog::load(&config.plugins_dir, embedded, cache, Arc::clone(&config.compiler), shared)? })
    }

    /// Blocks until no plugin is being compiled, or for `at_most`; says whether none is.
    pub fn wait_compiled(&self, at_most: Duration) -> bool {
        self.catalog.wait_compiled(at_most)
    }

    /// Every plugin that was found, the running ones first.
    pub fn status(&self) -> Vec<PluginInfo> {
        let idle = |id, version, state, reason, classes| PluginInfo {
            id,
            version,
            state,
            reason,
            classes,
            calls: 0,
            faults: 0,
            sessions: 0,
            poisoned_devices: 0,
            instances: 0,
        };
        let lists = self.catalog.lists();
        let active = lists.active.iter().map(|p| p.info());
        let compiling = lists.compiling.into_iter().map(|c| idle(c.id, c.version, "compiling", None, c.classes));
        let failed = lists.failed.into_iter().map(|f| idle(f.id, f.version, "failed", Some(f.reason), f.classes));
        active.chain(compiling).chain(failed).collect()
    }

    /// Call counters of every running plugin.
    pub fn stats(&self) -> Vec<PluginStats> {
        self.catalog.active().iter().map(|p| p.counted()).collect()
    }

    /// Drops the instances that were not used since this was called last: called every five minutes, it lets none idle
    /// for more than ten.
    pub fn tidy(&self) {
        self.catalog.active().iter().for_each(|plugin| plugin.pool.drop_unused());
    }

    /// The last lines that a plugin logged or printed, oldest first; empty for one that is not running.
    pub fn recent_log(&self, plugin: &str) -> Vec<String> {
        self.catalog.active().iter().find(|p| p.id == plugin).map(|p| p.log.recent()).unwrap_or_default()
    }

    fn serving(&self, class: DeviceClass) -> Result<&Plugin, DriverError> {
        if let Some(plugin) = self.catalog.serving(class) {
            return Ok(plugin);
        }
        let name = class.as_str();
        let lists = self.catalog.lists();
        let waits = lists.compiling.iter().find(|c| c.classes.contains(&class));
        let failed = lists.failed.iter().find(|f| f.classes.contains(&class));
        let (why, retry_after_s) = match (waits, failed) {
            (Some(waits), _) => {
                let why = format!("the driver of {name}, {}, is still being compiled; try again in a moment", waits.id);
                (why, Some(5))
            }
            (None, Some(failed)) => (format!("the driver of {name}, {}, could not be loaded", failed.id), None),
            (None, None) => (format!("no driver for {name} is installed"), None),
        };
        Err(DriverError::Unavailable { why, retry_after_s })
    }
}

impl Drivers for PluginHost {
    fn open_session(&self, call: &DriverCall<'_>) -> Result<Decoded, DriverError> {
        self.serving(call.class)?.open_session(call)
    }

    fn encode_command(&self, call: &DriverCall<'_>, command: &CommandEnvelope) -> Result<Encoded, DriverError> {
        self.serving(call.class)?.encode_command(call, command)
    }

    fn decode_message(&self, call: &DriverCall<'_>, channel: &str, message: &Frame) -> Result<Decoded, DriverError> {
        self.serving(call.class)?.decode_message(call, channel, message)
    }

    fn validate_config(
        &self,
        ident: &DeviceIdent,
        config: &str,
    ) -> Result<Result<Accepted, Vec<FieldError>>, DriverError> {
        self.serving(ident.class)?.validate_config(ident, config)
    }

    fn session_closed(&self, class: DeviceClass) {
        if let Some(plugin) = self.catalog.serving(class) {
            plugin.health.session(false);
        }
    }

    fn slow(&self, class: DeviceClass) -> bool {
        self.catalog.serving(class).is_some_and(|plugin| plugin.slow())
    }

    fn plugins(&self) -> Vec<PluginInfo> {
        self.status()
    }

    fn reset_plugin(&self, id: &str) -> bool {
        let active = self.catalog.active();
        active.iter().find(|p| p.id == id).inspect(|plugin| plugin.health.reset()).is_some()
    }

    fn version_for(&self, class: DeviceClass) -> Option<String> {
        self.catalog.serving(class).map(|p| format!("{}@{}", p.id, p.version))
    }
}

impl std::fmt::Debug for PluginHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginHost").field("status", &self.status()).finish()
    }
}
