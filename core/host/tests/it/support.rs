//! A plugins folder to fill, hosts over it, and guests made from text.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hexa_devices::ports::PluginObserver;
use hexa_host::{Compiler, EmbeddedPlugin, HostConfig, PerCall, PluginHost, PluginStats};
use hexa_model::driver::{CommandEnvelope, DriverCall, DriverCommand, DriverError, Fault, Frame};
use hexa_model::plugin::PluginEvent;
use hexa_model::{Clock, DeviceClass, DeviceUid, RelayAction, SystemClock, TimeMs};
use parking_lot::Mutex;
use tempfile::TempDir;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// The built first-party driver.
pub(crate) const RELAY_CONTROLLER: &str = "hexa.relay-controller";

/// A temporary folder with plugins and cache.
pub(crate) struct PluginsFolder {
    dir: TempDir,
    pub(crate) events: Arc<EventRecorder>,
    per_call: PerCall,
}

/// Records what the host reports.
#[derive(Debug, Default)]
pub(crate) struct EventRecorder(Mutex<Vec<PluginEvent>>);

impl PluginObserver for EventRecorder {
    fn tell(&self, event: PluginEvent) {
        let mut events = self.0.lock();
        if events.len() < 10_000 {
            events.push(event);
        }
    }
}

impl EventRecorder {
    /// The events since this was called last.
    pub(crate) fn take(&self) -> Vec<PluginEvent> {
        std::mem::take(&mut self.0.lock())
    }
}

impl PluginsFolder {
    pub(crate) fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a temporary folder"), events: Arc::default(), per_call: PerCall::None }
    }

    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join("plugins")
    }

    /// Every call gets an instance of its own.
    pub(crate) fn per_call(self) -> Self {
        Self { per_call: PerCall::All, ..self }
    }

    /// With the built relay-controller driver.
    pub(crate) fn with_relay_controller(self) -> Self {
        let (manifest, wasm) = built(RELAY_CONTROLLER);
        self.with("relay", &manifest, &wasm)
    }

    pub(crate) fn with(self, folder: &str, manifest: &str, wasm: &[u8]) -> Self {
        let dir = self.folder().join(folder);
        std::fs::create_dir_all(&dir).expect("writable");
        std::fs::write(dir.join("plugin.toml"), manifest).expect("writable");
        std::fs::write(dir.join("plugin.wasm"), wasm).expect("writable");
        self
    }

    pub(crate) fn host(&self) -> PluginHost {
        self.host_with(Arc::new(SystemClock::new()))
    }

    pub(crate) fn host_with(&self, clock: Arc<dyn Clock>) -> PluginHost {
        self.host_of(Arc::new(Compiler::InProcess), clock)
    }

    pub(crate) fn host_compiled_by(&self, compiler: Arc<Compiler>) -> PluginHost {
        self.host_of(compiler, Arc::new(SystemClock::new()))
    }

    /// With plugins of the program beside those of the folders, compiled by this.
    pub(crate) fn host_with_embedded(&self, embedded: &[EmbeddedPlugin], compiler: Arc<Compiler>) -> PluginHost {
        PluginHost::load_with(&self.config(compiler, Arc::new(SystemClock::new())), embedded).expect("an engine")
    }

    fn host_of(&self, compiler: Arc<Compiler>, clock: Arc<dyn Clock>) -> PluginHost {
        PluginHost::load(&self.config(compiler, clock)).expect("an engine")
    }

    fn config(&self, compiler: Arc<Compiler>, clock: Arc<dyn Clock>) -> HostConfig {
        let cache_dir = self.dir.path().join("cache");
        HostConfig {
            plugins_dir: self.folder(),
            cache_dir,
            cache_key: [7; 32],
            compiler,
            clock,
            watch: Arc::clone(&self.events) as Arc<dyn PluginObserver>,
            per_call: self.per_call.clone(),
        }
    }
}

/// Manifest and component of a plugin that was built.
pub(crate) fn built(id: &str) -> (String, Vec<u8>) {
    let built = built_plugin(id);
    let read = |name: &str| std::fs::read(built.join(name)).expect("just looked at");
    (String::from_utf8(read("plugin.toml")).expect("text"), read("plugin.wasm"))
}

/// Folder of a plugin that `cargo xtask plugins` built.
fn built_plugin(id: &str) -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/plugins");
    let dir = std::env::var_os("HEXA_PLUGINS_DIR").map_or(default, PathBuf::from).join(id);
    let there = dir.join("plugin.toml").exists() && dir.join("plugin.wasm").exists();
    assert!(there, "the plugin {id} is not built ({}): run cargo xtask plugins", dir.display());
    dir
}

pub(crate) fn manifest(id: &str, class: &str) -> String {
    format!(
        "[plugin]\nid='{id}'\nversion='1.0.0'\nkind='driver'\napi='0.1'\nname='N'\npublisher='p'\n[driver]\nclasses=['{class}']\n"
    )
}

pub(crate) fn uid() -> DeviceUid {
    DeviceUid::parse("hx1").expect("valid")
}

/// A call for a device with four relays and two inputs.
pub(crate) fn call<'a>(uid: &'a DeviceUid, class: DeviceClass, prepared: &'a [u8]) -> DriverCall<'a> {
    DriverCall {
        uid,
        class,
        relay_count: 4,
        input_count: 2,
        now: TimeMs(1_760_000_000_000),
        session: None,
        prepared,
        volatile: &[],
        durable: &[],
    }
}

pub(crate) fn text(text: &str) -> Frame {
    Frame::Text(text.into())
}

pub(crate) fn set_relay(index: u16) -> CommandEnvelope {
    let command = DriverCommand::Relay(RelayAction::Set { index, on: true, for_ms: None });
    CommandEnvelope { id: "c-1".into(), command, expires_at: TimeMs(1_760_000_005_000) }
}

pub(crate) fn fault<T: std::fmt::Debug>(result: Result<T, DriverError>) -> Fault {
    match result {
        Err(DriverError::Fault(fault)) => fault,
        other => panic!("expected a fault, got {other:?}"),
    }
}

pub(crate) fn stats_of(host: &PluginHost, id: &str) -> PluginStats {
    host.stats().into_iter().find(|s| s.plugin == id).expect("running")
}

/// A component of the world `hexa:driver/driver` from a core module in text form.
pub(crate) fn component(module: &str) -> Vec<u8> {
    component_of(module, "world guest { include hexa:driver/driver@0.1.0; }")
}

/// The same with a world of the test's own.
pub(crate) fn component_of(module: &str, world: &str) -> Vec<u8> {
    let module = wat::parse_str(module).unwrap_or_else(|e| panic!("{e}"));
    component_of_bytes(module, world).unwrap_or_else(|e| panic!("{e}"))
}

/// The same from a core module that may not fit the world.
pub(crate) fn component_of_bytes(mut module: Vec<u8>, world: &str) -> Result<Vec<u8>, String> {
    let mut resolve = Resolve::default();
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../sdk/wit");
    for file in ["core.wit", "driver.wit"] {
        resolve.push_path(sdk.join(file)).expect("the contract parses");
    }
    let wasi = Path::new(env!("CARGO_MANIFEST_DIR")).join("wit");
    resolve.push_path(wasi).expect("the tiny WASI parses");
    let package = resolve.push_str("guest.wit", &format!("package test:guest;\n{world}")).expect("the world parses");
    let world = resolve.select_world(&[package], Some("guest")).expect("it has that world");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).expect("metadata");
    let mut encoder = ComponentEncoder::default();
    encoder.validate(true).module(&module).map_err(|e| format!("{e:?}"))?;
    encoder.encode().map_err(|e| format!("{e:?}"))
}
