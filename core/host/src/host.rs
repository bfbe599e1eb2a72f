//! The plugin host as the rest of the server sees it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hexa_model::driver::{
    Accepted, CommandEnvelope, Decoded, DeviceIdent, DriverCall, DriverError, Encoded, FieldError, Frame,
};
use hexa_model::{Clock, DeviceClass};
use hexa_service::ports::Drivers;

use crate::cache::Cache;
use crate::call::Plugin;
use crate::catalog::Catalog;
use crate::compile::Compiler;
use crate::engine::EngineError;
use crate::stats::{CallOutcome, PluginStats};

/// What the host needs to know.
pub struct HostConfig {
    /// Holds a folder per plugin, each with `plugin.toml` and `plugin.wasm`.
    pub plugins_dir: PathBuf,
    /// For compiled code; made if it is missing, readable by its owner only.
    pub cache_dir: PathBuf,
    /// A secret of this installation: compiled code that was not written with it is not run.
    pub cache_key: [u8; 32],
    /// Who compiles what the cache does not hold.
    pub compiler: Arc<Compiler>,
    /// Time for guests that ask for it and for the rate of their logs.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for HostConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostConfig")
            .field("plugins_dir", &self.plugins_dir)
            .field("cache_dir", &self.cache_dir)
            .field("compiler", &self.compiler)
            .finish_non_exhaustive()
    }
}

/// One plugin, running or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginStatus {
    /// From its manifest; its folder's name if that cannot be read.
    pub id: String,
    /// From its manifest; empty if that cannot be read.
    pub version: String,
    /// `active`, `compiling` or `failed`.
    pub state: &'static str,
    /// Why it failed.
    pub reason: Option<String>,
    /// Device classes that it serves, or would.
    pub classes: Vec<DeviceClass>,
    /// Calls since the start.
    pub calls: u64,
    /// Of these, calls that ended in a trap, a broken limit or an invalid output.
    pub faults: u64,
}

/// All plugins of this server.
pub struct PluginHost {
    catalog: Arc<Catalog>,
}

impl PluginHost {
    /// Loads every plugin. A broken one is found in [`PluginHost::status`] and its classes answer `driver_unavailable`;
    /// so does one that [`Compiler::Child`] still compiles. The only error is a machine that cannot run WebAssembly at all.
    pub fn load(config: &HostConfig) -> Result<Self, EngineError> {
        let cache = Cache::new(&config.cache_dir, config.cache_key);
        let (compiler, clock) = (Arc::clone(&config.compiler), Arc::clone(&config.clock));
        Ok(Self { catalog: Catalog::load(&config.plugins_dir, cache, compiler, clock)? })
    }

    /// Blocks until no plugin is being compiled, or for `at_most`; says whether none is.
    pub fn wait_compiled(&self, at_most: Duration) -> bool {
        self.catalog.wait_settled(at_most)
    }

    /// Every plugin that was found, the running ones first.
    pub fn status(&self) -> Vec<PluginStatus> {
        let idle = |id, version, state, reason, classes| PluginStatus {
            id,
            version,
            state,
            reason,
            classes,
            calls: 0,
            faults: 0,
        };
        let lists = self.catalog.lists();
        let active = lists.active.iter().map(|p| active_status(p));
        let compiling = lists.compiling.into_iter().map(|c| idle(c.id, c.version, "compiling", None, c.classes));
        let failed = lists.failed.into_iter().map(|f| idle(f.id, f.version, "failed", Some(f.reason), f.classes));
        active.chain(compiling).chain(failed).collect()
    }

    /// Call counters of every running plugin.
    pub fn stats(&self) -> Vec<PluginStats> {
        let read = |p: &Arc<Plugin>| {
            let (live, idle) = p.pool.size();
            PluginStats { plugin: p.id.clone(), version: p.version.clone(), functions: p.stats.snapshot(), live, idle }
        };
        self.catalog.active().iter().map(read).collect()
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
        Err(DriverError::Unavailable(match (waits, failed) {
            (Some(waits), _) => {
                format!("the driver of {name}, {}, is still being compiled; try again in a moment", waits.id)
            }
            (None, Some(failed)) => format!("the driver of {name}, {}, could not be loaded", failed.id),
            (None, None) => format!("no driver for {name} is installed"),
        }))
    }
}

fn active_status(plugin: &Plugin) -> PluginStatus {
    let functions = plugin.stats.snapshot();
    PluginStatus {
        id: plugin.id.clone(),
        version: plugin.version.clone(),
        state: "active",
        reason: None,
        classes: plugin.classes.clone(),
        calls: functions.iter().map(crate::stats::FunctionStats::calls).sum(),
        faults: functions.iter().map(|f| f.outcomes[CallOutcome::Fault as usize]).sum(),
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

    fn version_for(&self, class: DeviceClass) -> Option<String> {
        self.catalog.serving(class).map(|p| format!("{}@{}", p.id, p.version))
    }
}

impl std::fmt::Debug for PluginHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PluginHost").field("status", &self.status()).finish()
    }
}
