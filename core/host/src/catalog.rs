//! Which plugins there are, and which of them serves a class.
//!
//! Looks at `<plugins_dir>/*/{plugin.toml,plugin.wasm}`, then at those in the program whose id no folder has. A plugin
//! that cannot be loaded is remembered with its reason; it never keeps another one, or the server, from starting. One that
//! has to be compiled first keeps no other waiting:
//! a thread loads it while the others serve.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use hexa_devices::ports::PluginObserver;
use hexa_model::driver::DriverError;
use hexa_model::{Clock, DeviceClass};
use parking_lot::{Condvar, Mutex};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::cap::log::PluginLog;
use crate::config::PerCall;
use crate::contract::Contracts;
use crate::contract::descriptor::Descriptor;
use crate::driver::call::Plugin;
use crate::driver::pool::Pool;
use crate::engine;
use crate::lifecycle::cache::Cache;
use crate::lifecycle::compile::{Compiler, WASM_BYTES};
use crate::lifecycle::cpu_quota::CpuQuota;
use crate::lifecycle::health::Health;
use crate::lifecycle::manifest::Manifest;
use crate::lifecycle::stats::Stats;
use crate::source::{EmbeddedPlugin, Source};

const MANIFEST_BYTES: u64 = 64 << 10;
/// Most folders that are read; a directory with more is not one of plugins.
const MAX_PLUGINS: usize = 256;

/// A plugin that does not run.
#[derive(Clone, Debug)]
pub(crate) struct Failed {
    pub id: String,
    pub version: String,
    pub classes: Vec<DeviceClass>,
    pub reason: String,
}

/// A plugin whose code is not there yet.
#[derive(Clone, Debug)]
pub(crate) struct Compiling {
    pub id: String,
    pub version: String,
    pub classes: Vec<DeviceClass>,
    source: Source,
}

/// The plugins that were found, by how far they are.
#[derive(Clone, Default)]
pub(crate) struct Lists {
    pub active: Vec<Arc<Plugin>>,
    /// In the order of loading; the first is being worked on.
    pub compiling: VecDeque<Compiling>,
    pub failed: Vec<Failed>,
}

#[derive(Default)]
pub(crate) struct Catalog {
    /// Filled once per class, so that a call finds its plugin without a lock.
    by_class: [OnceLock<Arc<Plugin>>; DeviceClass::ALL.len()],
    lists: Mutex<Lists>,
    /// Notified when nothing is left to compile.
    all_compiled: Condvar,
}

/// What all plugins of the server share.
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observer: Arc<dyn PluginObserver>,
    pub(crate) per_call: PerCall,
}

/// Everything that loading a plugin needs.
struct Loader {
    engine: Engine,
    contracts: Contracts,
    cache: Cache,
    compiler: Arc<Compiler>,
    shared: Shared,
}

impl Catalog {
    /// Loads what is compiled already; the rest follows in a thread if the compiler is one for that.
    pub(crate) fn load(
        plugins_dir: &Path,
        embedded: &[EmbeddedPlugin],
        cache: Cache,
        compiler: Arc<Compiler>,
        shared: Shared,
    ) -> Result<Arc<Self>, engine::EngineError> {
        let engine = engine::new()?;
        let contracts = Contracts::new(&engine).map_err(|e| engine::EngineError::new(&e))?;
        let loader = Loader { engine, contracts, cache, compiler, shared };
        let catalog = Arc::new(Self::default());
        let found: Vec<_> = folders(plugins_dir).into_iter().map(|d| catalog.add(Source::Folder(d), &loader)).collect();
        for plugin in embedded {
            if found.iter().any(|id| id == plugin.id) {
                tracing::info!(plugin.id = %plugin.id, "the plugin in {} replaces the embedded one", plugins_dir.display());
            } else {
                catalog.add(Source::Embedded(*plugin), &loader);
            }
        }
        if catalog.lists.lock().compiling.is_empty() {
            loader.cache.prune();
            return Ok(catalog);
        }
        let weak = Arc::downgrade(&catalog);
        let thread = std::thread::Builder::new().name("plugin-compile".into());
        thread.spawn(move || compile_all(&weak, &loader)).map_err(|e| engine::EngineError::new(&e))?;
        Ok(catalog)
    }

    /// Gives the id of what was found there, whatever becomes of it.
    fn add(&self, source: Source, loader: &Loader) -> String {
        let read = loader.read(&source);
        let id = read.as_ref().map_or_else(|failed| failed.id.clone(), |found| found.manifest.id.clone());
        match read {
            Ok(found) if self.must_wait(&found, loader) => self.wait_for(found, source),
            Ok(found) => self.register_loaded(loader.load(found), false),
            Err(failed) => self.register_loaded(Err(failed), false),
        }
        id
    }

    pub(crate) fn serving(&self, class: DeviceClass) -> Option<&Arc<Plugin>> {
        self.by_class[class as usize].get()
    }

    pub(crate) fn active(&self) -> Vec<Arc<Plugin>> {
        self.lists.lock().active.clone()
    }

    /// All of it, as of one moment.
    pub(crate) fn lists(&self) -> Lists {
        self.lists.lock().clone()
    }

    /// Waits until nothing is left to compile, and says whether that came in time.
    pub(crate) fn wait_compiled(&self, at_most: Duration) -> bool {
        let until = Instant::now() + at_most;
        let mut lists = self.lists.lock();
        while !lists.compiling.is_empty() {
            if self.all_compiled.wait_until(&mut lists, until).timed_out() {
                return lists.compiling.is_empty();
            }
        }
        true
    }

    /// Whether it is not compiled, or asks for the id or a class of an earlier one that is not: every start decides
    /// alike.
    fn must_wait(&self, found: &Found, loader: &Loader) -> bool {
        let manifest = &found.manifest;
        let conflicts = |c: &Compiling| c.id == manifest.id || c.classes.iter().any(|c| manifest.classes.contains(c));
        loader.compiler.in_background() && (found.code.is_none() || self.lists.lock().compiling.iter().any(conflicts))
    }

    fn wait_for(&self, found: Found, source: Source) {
        let Manifest { id, version, classes, .. } = found.manifest;
        tracing::info!(plugin.id = %id, plugin.version = %version, "plugin is being compiled");
        self.lists.lock().compiling.push_back(Compiling { id, version, classes, source });
    }

    /// Lists a plugin as active or failed; it is the first in the queue if it `waited`.
    fn register_loaded(&self, loaded: Result<Plugin, Failed>, waited: bool) {
        let mut lists = self.lists.lock();
        if waited {
            lists.compiling.pop_front();
        }
        match loaded.and_then(|plugin| self.accept(&lists, plugin)) {
            Ok(plugin) => {
                tracing::info!(plugin.id = %plugin.id, plugin.version = %plugin.version, "plugin active");
                lists.active.push(plugin);
            }
            Err(failed) => {
                tracing::error!(plugin.id = %failed.id, plugin.version = %failed.version, reason = %failed.reason, "plugin not loaded");
                lists.failed.push(failed);
            }
        }
    }

    /// Gives it its classes, unless another plugin has its id or one of them.
    fn accept(&self, lists: &Lists, plugin: Plugin) -> Result<Arc<Plugin>, Failed> {
        let fail = |reason| {
            let (id, version, classes) = (plugin.id.clone(), plugin.version.clone(), plugin.classes.clone());
            Err(Failed { id, version, classes, reason })
        };
        if lists.active.iter().any(|other| other.id == plugin.id) {
            return fail("another folder holds a plugin with the same id; keep one of them".into());
        }
        for class in &plugin.classes {
            if let Some(other) = self.serving(*class) {
                let (class, other) = (class.as_str(), &other.id);
                return fail(format!(
                    "{class} is already served by {other}; remove one of the two (HEXA_EMBEDDED_PLUGINS names the embedded ones)"
                ));
            }
        }
        let plugin = Arc::new(plugin);
        for class in &plugin.classes {
            // Free, as was just checked under the lock that everything that fills it holds.
            let _ = self.by_class[*class as usize].set(Arc::clone(&plugin));
        }
        Ok(plugin)
    }
}

/// Loads the plugins that wait for the compiler, in order, until the host is dropped.
fn compile_all(catalog: &Weak<Catalog>, loader: &Loader) {
    while let Some(next) = catalog.upgrade().and_then(|c| c.lists.lock().compiling.front().cloned()) {
        // The catalog is not held meanwhile, so that a host can be dropped while something is compiled for it.
        let loaded = loader.read(&next.source).and_then(|found| loader.load(found));
        let Some(catalog) = catalog.upgrade() else { return };
        catalog.register_loaded(loaded, true);
    }
    if let Some(catalog) = catalog.upgrade() {
        loader.cache.prune();
        catalog.all_compiled.notify_all();
    }
}

/// Plugin folders, in the order of their names so that every start decides alike.
fn folders(plugins_dir: &Path) -> Vec<PathBuf> {
    let entries = match fs::read_dir(plugins_dir) {
        Ok(entries) => entries,
        // The default directory need not be there; whoever names one is warned before.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(%error, "no plugins: {} cannot be read", plugins_dir.display());
            return Vec::new();
        }
    };
    let hidden = |p: &PathBuf| p.file_name().is_none_or(|n| n.as_encoded_bytes().starts_with(b"."));
    // As in a checkout, whose `plugins` is where the default leads.
    let sources = |p: &PathBuf| p.join("Cargo.toml").exists() && !p.join("plugin.wasm").exists();
    let mut dirs: Vec<_> = entries.flatten().map(|e| e.path()).filter(|p| p.is_dir() && !hidden(p)).collect();
    dirs.retain(|dir| {
        let plugin = !sources(dir);
        if !plugin {
            tracing::info!(
                "{} holds the sources of a plugin and no plugin.wasm, so nothing is loaded from it",
                dir.display()
            );
        }
        plugin
    });
    dirs.sort();
    if dirs.len() > MAX_PLUGINS {
        tracing::error!("only the first {MAX_PLUGINS} of {} plugin folders are loaded", dirs.len());
        dirs.truncate(MAX_PLUGINS);
    }
    dirs
}

/// A plugin whose files can be read.
struct Found {
    manifest: Manifest,
    wasm: Cow<'static, [u8]>,
    /// Its code from the cache, if it is there.
    code: Option<Component>,
}

impl Loader {
    fn read(&self, source: &Source) -> Result<Found, Failed> {
        let unknown = |reason| Failed { id: source.name(), version: String::new(), classes: Vec::new(), reason };
        let text: Cow<'_, [u8]> = match source {
            Source::Folder(dir) => read(&dir.join("plugin.toml"), MANIFEST_BYTES).map_err(unknown)?.into(),
            Source::Embedded(plugin) => plugin.manifest.as_bytes().into(),
        };
        let text = std::str::from_utf8(&text).map_err(|_| unknown("plugin.toml is not UTF-8 text".into()))?;
        let manifest = Manifest::parse(text).map_err(unknown)?;
        let wasm = match source {
            Source::Folder(dir) => read(&dir.join("plugin.wasm"), WASM_BYTES).map(Cow::Owned),
            Source::Embedded(plugin) => Ok(Cow::Borrowed(plugin.wasm)),
        };
        let wasm = wasm.and_then(|wasm: Cow<'static, [u8]>| is_component(&wasm).map(|()| wasm));
        let wasm = wasm.map_err(|reason| failed(&manifest, reason))?;
        let code = self.cache.get(&self.engine, &wasm);
        Ok(Found { manifest, wasm, code })
    }

    fn load(&self, found: Found) -> Result<Plugin, Failed> {
        let Found { manifest, wasm, code } = found;
        // The compiler sees untrusted bytes: a panic in it is this plugin's failure, not the server's.
        catch_unwind(AssertUnwindSafe(|| self.start(&manifest, &wasm, code)))
            .unwrap_or_else(|_| Err("the compiler failed on plugin.wasm".into()))
            .map_err(|reason| failed(&manifest, reason))
    }

    fn start(&self, manifest: &Manifest, wasm: &[u8], code: Option<Component>) -> Result<Plugin, String> {
        let component = match code {
            Some(code) => code,
            None => self.compile(manifest, wasm)?,
        };
        let mut plugin = Plugin {
            id: manifest.id.clone(),
            version: manifest.version.clone(),
            classes: manifest.classes.clone(),
            limits: manifest.limits,
            descriptor: Descriptor::default(),
            engine: self.engine.clone(),
            pre: self.contracts.fit(&component, &manifest.api)?,
            pool: Pool::new(),
            stats: Stats::default(),
            log: Arc::new(PluginLog::new(&manifest.id, &manifest.version, Arc::clone(&self.shared.clock))),
            health: Health::default(),
            cpu_quota: CpuQuota::default(),
            observer: Arc::clone(&self.shared.observer),
            clock: Arc::clone(&self.shared.clock),
            per_call: self.shared.per_call.has(&manifest.id),
        };
        let described = plugin.describe().map_err(|e| format!("describe failed: {}", reason(e)))?;
        plugin.descriptor = Descriptor::parse(&described, &manifest.classes)?;
        plugin.prewarm().map_err(|e| format!("it does not start: {}", reason(e)))?;
        Ok(plugin)
    }

    fn compile(&self, manifest: &Manifest, wasm: &[u8]) -> Result<Component, String> {
        let begun = Instant::now();
        let component = self.cache.compile(&self.engine, wasm, &self.compiler).map_err(|e| e.to_string())?;
        tracing::info!(plugin.id = %manifest.id, ms = begun.elapsed().as_millis() as u64, "plugin compiled");
        Ok(component)
    }
}

fn failed(manifest: &Manifest, reason: String) -> Failed {
    let Manifest { id, version, classes, .. } = manifest.clone();
    Failed { id, version, classes, reason }
}

fn reason(error: DriverError) -> String {
    match error {
        DriverError::Fault(fault) => format!("{} ({})", fault.message, fault.kind),
        other => format!("{other:?}"),
    }
}

/// A whole file of at most `max` bytes.
fn read(path: &Path, max: u64) -> Result<Vec<u8>, String> {
    let name = path.file_name().unwrap_or_default().display().to_string();
    let mut bytes = Vec::new();
    // Not blocking: a pipe in its place would keep the start waiting.
    let opened = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path);
    let read = opened.and_then(|file| {
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        file.take(max + 1).read_to_end(&mut bytes)
    });
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
