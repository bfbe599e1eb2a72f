//! What a plugin host is started with.

use std::path::PathBuf;
use std::sync::Arc;

use hexa_devices::ports::PluginObserver;
use hexa_model::Clock;

use crate::lifecycle::compile::Compiler;

/// The settings of a plugin host, and what it is given of the server.
pub struct HostConfig {
    /// Holds a folder per plugin, each with `plugin.toml` and `plugin.wasm`.
    pub plugins_dir: PathBuf,
    /// For compiled code; made if it is missing, readable by its owner only.
    pub cache_dir: PathBuf,
    /// A secret of this installation: compiled code that was not written with it is not run.
    pub cache_key: [u8; 32],
    /// Compiles what the cache does not hold.
    pub compiler: Arc<Compiler>,
    /// Time for guests that ask for it, for the rate of their logs, and for how long a quarantine lasts.
    pub clock: Arc<dyn Clock>,
    /// Is called with faults and with what they lead to.
    pub watch: Arc<dyn PluginObserver>,
    /// Plugins whose every call gets an instance of its own (`HEXA_PLUGINS_PER_CALL`).
    pub per_call: PerCall,
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

/// Which plugins share no instance between calls.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PerCall {
    /// No plugin: instances are used again.
    #[default]
    None,
    /// Every plugin gets a fresh instance for each call.
    All,
    /// The plugins with these ids do.
    Some(Vec<String>),
}

impl PerCall {
    pub(crate) fn has(&self, plugin: &str) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Some(ids) => ids.iter().any(|id| id == plugin),
        }
    }
}
