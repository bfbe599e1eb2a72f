//! Which plugins there are, and which of them serves a class.
//!
//! Looks at `<plugins_dir>/*/{plugin.toml,plugin.wasm}`. A plugin that cannot be loaded is remembered with its reason;
//! it never keeps another one, or the server, from starting.

use std::fs;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hexa_model::driver::DriverError;
use hexa_model::{Clock, DeviceClass};
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};

use crate::cache::Cache;
use crate::call::Plugin;
use crate::descriptor::Descriptor;
use crate::instance::GuestState;
use crate::log::PluginLog;
use crate::manifest::Manifest;
use crate::pool::Pool;
use crate::stats::Stats;
use crate::wit::v0_1;
use crate::{engine, wasi};

const MANIFEST_BYTES: u64 = 64 << 10;
const WASM_BYTES: u64 = 4 << 20;
/// Folders looked at; more is not a plugins folder.
const MAX_PLUGINS: usize = 256;

/// A plugin that does not run.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub id: String,
    pub version: String,
    pub classes: Vec<DeviceClass>,
    pub reason: String,
}

pub(crate) struct Catalog {
    pub(crate) active: Vec<Arc<Plugin>>,
    pub(crate) failed: Vec<Failed>,
    by_class: [Option<Arc<Plugin>>; DeviceClass::ALL.len()],
}

/// What loading needs.
struct Loader {
    engine: Engine,
    linker: Linker<GuestState>,
    cache: Cache,
    clock: Arc<dyn Clock>,
}

impl Catalog {
    pub(crate) fn load(plugins_dir: &Path, cache: Cache, clock: Arc<dyn Clock>) -> Result<Self, engine::EngineError> {
        let engine = engine::new()?;
        let mut linker = Linker::new(&engine);
        wasi::link(&mut linker).and_then(|()| v0_1::link(&mut linker)).map_err(|e| engine::EngineError::new(&e))?;
        let loader = Loader { engine, linker, cache, clock };
        let mut catalog = Self { active: Vec::new(), failed: Vec::new(), by_class: Default::default() };
        for dir in folders(plugins_dir) {
            match loader.load(&dir) {
                Ok(plugin) => catalog.add(plugin),
                Err(failed) => catalog.fail(failed),
            }
        }
        loader.cache.prune();
        Ok(catalog)
    }

    pub(crate) fn serving(&self, class: DeviceClass) -> Option<&Arc<Plugin>> {
        self.by_class[class as usize].as_ref()
    }

    fn add(&mut self, plugin: Plugin) {
        let mut fail = |reason| {
            let (id, version, classes) = (plugin.id.clone(), plugin.version.clone(), plugin.classes.clone());
            self.failed.push(Failed { id, version, classes, reason });
        };
        if self.active.iter().any(|other| other.id == plugin.id) {
            return fail("another folder holds a plugin with the same id; keep one of them".into());
        }
        for class in &plugin.classes {
            if let Some(other) = &self.by_class[*class as usize] {
                let (class, other) = (class.as_str(), &other.id);
                return fail(format!("{class} is already served by {other}; remove one of the two"));
            }
        }
        let plugin = Arc::new(plugin);
        for class in &plugin.classes {
            self.by_class[*class as usize] = Some(Arc::clone(&plugin));
        }
        tracing::info!(plugin.id = %plugin.id, plugin.version = %plugin.version, "plugin active");
        self.active.push(plugin);
    }

    fn fail(&mut self, failed: Failed) {
        tracing::error!(plugin.id = %failed.id, plugin.version = %failed.version, reason = %failed.reason, "plugin not loaded");
        self.failed.push(failed);
    }
}

/// Plugin folders, in the order of their names so that every start decides alike.
fn folders(plugins_dir: &Path) -> Vec<PathBuf> {
    let entries = match fs::read_dir(plugins_dir) {
        Ok(entries) => entries,
        Err(error) => {
            tracing::warn!(%error, "no plugins: {} cannot be read", plugins_dir.display());
            return Vec::new();
        }
    };
    let hidden = |p: &PathBuf| p.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
    let mut dirs: Vec<_> = entries.flatten().map(|e| e.path()).filter(|p| p.is_dir() && !hidden(p)).collect();
    dirs.sort();
    if dirs.len() > MAX_PLUGINS {
        tracing::error!("only the first {MAX_PLUGINS} of {} plugin folders are loaded", dirs.len());
        dirs.truncate(MAX_PLUGINS);
    }
    dirs
}

impl Loader {
    fn load(&self, dir: &Path) -> Result<Plugin, Failed> {
        let folder = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let unknown = |reason| Failed { id: folder.clone(), version: String::new(), classes: Vec::new(), reason };
        let text = read(&dir.join("plugin.toml"), MANIFEST_BYTES).map_err(unknown)?;
        let text = String::from_utf8(text).map_err(|_| unknown("plugin.toml is not UTF-8 text".into()))?;
        let manifest = Manifest::parse(&text).map_err(unknown)?;
        // The compiler sees untrusted bytes: a panic in it is this plugin's failure, not the server's.
        catch_unwind(AssertUnwindSafe(|| self.start(&manifest, &dir.join("plugin.wasm"))))
            .unwrap_or_else(|_| Err("the compiler failed on plugin.wasm".into()))
            .map_err(|reason| Failed {
                id: manifest.id.clone(),
                version: manifest.version.clone(),
                classes: manifest.classes.clone(),
                reason,
            })
    }

    fn start(&self, manifest: &Manifest, wasm: &Path) -> Result<Plugin, String> {
        let wasm = read(wasm, WASM_BYTES)?;
        is_component(&wasm)?;
        let (component, origin) = self
            .cache
            .component(&self.engine, &wasm)
            .map_err(|e| format!("plugin.wasm is not a valid component: {}", e.root_cause()))?;
        tracing::debug!(plugin.id = %manifest.id, ?origin, "plugin compiled");
        self.imports_allowed(&component)?;
        let pre = v0_1::Pre::new(&self.linker, &component)
            .map_err(|e| format!("plugin.wasm does not fit the contract hexa:driver@0.1: {e:#}"))?;
        let mut plugin = Plugin {
            id: manifest.id.clone(),
            version: manifest.version.clone(),
            classes: manifest.classes.clone(),
            limits: manifest.limits,
            descriptor: Descriptor::default(),
            engine: self.engine.clone(),
            pre,
            pool: Pool::new(),
            stats: Stats::default(),
            log: Arc::new(PluginLog::new(&manifest.id, &manifest.version, Arc::clone(&self.clock))),
        };
        let described = plugin.describe().map_err(|e| format!("describe failed: {}", said(e)))?;
        plugin.descriptor = Descriptor::parse(&described, &manifest.classes)?;
        plugin.prewarm().map_err(|e| format!("it does not start: {}", said(e)))?;
        Ok(plugin)
    }

    /// A driver has no permission but its log: whatever else it imports, it is not loaded.
    fn imports_allowed(&self, component: &Component) -> Result<(), String> {
        for (name, _) in component.component_type().imports(&self.engine) {
            let allowed = wasi::IMPORTS
                .iter()
                .chain(&v0_1::IMPORTS)
                .any(|known| name.strip_prefix(known).is_some_and(|patch| patch.bytes().all(|b| b.is_ascii_digit())));
            if !allowed {
                return Err(format!(
                    "plugin.wasm imports {name}, which drivers are not given; they may use hexa:core/log only"
                ));
            }
        }
        Ok(())
    }
}

fn said(error: DriverError) -> String {
    match error {
        DriverError::Fault(fault) => format!("{} ({})", fault.message, fault.kind),
        other => format!("{other:?}"),
    }
}

/// A whole file of at most `max` bytes.
fn read(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let name = path.file_name().unwrap_or_default().display().to_string();
    let mut bytes = Vec::new();
    let read = fs::File::open(path).and_then(|f| f.take(max + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > max => Err(format!("{name} is larger than the {max} bytes that are allowed")),
        Ok(_) => Ok(bytes),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Err(format!("{name} is missing")),
        Err(e) => Err(format!("{name} cannot be read: {e}")),
    }
}

fn is_component(wasm: &[u8]) -> Result<(), String> {
    match wasm.get(..8) {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(()),
        Some([0, b'a', b's', b'm', _, _, 0, 0]) => Err("plugin.wasm is a core module, not a component; build it with \
             --target wasm32-wasip2 and without RUSTFLAGS"
            .into()),
        _ => Err("plugin.wasm is not WebAssembly, or only the beginning of it".into()),
    }
}
