//! Plugins that are in the program itself, beside those of the folders.

use std::sync::Arc;

use hexa_devices::ports::Drivers;
use hexa_host::{ChildCompiler, CompileLimits, Compiler, EmbeddedPlugin};
use hexa_model::driver::DriverError;
use hexa_model::{DeviceClass, DeviceUid};

use crate::hostile::hostile;
use crate::support::{PluginsFolder, RELAY_CONTROLLER, built, call, manifest, text};

fn embedded() -> EmbeddedPlugin {
    let (manifest, wasm) = built(RELAY_CONTROLLER);
    EmbeddedPlugin { id: RELAY_CONTROLLER, manifest: manifest.leak(), wasm: wasm.leak() }
}

fn in_process() -> Arc<Compiler> {
    Arc::new(Compiler::InProcess)
}

#[test]
fn an_embedded_plugin_serves_without_any_folder_and_its_code_is_kept() {
    let plugins = PluginsFolder::new();
    let first = plugins.host_with_embedded(&[embedded()], in_process());
    let status = &first.status()[0];
    assert_eq!((status.id.as_str(), status.state), (RELAY_CONTROLLER, "active"), "{status:?}");
    assert!(first.version_for(DeviceClass::RelayController).is_some());
    // Were it compiled again, this program could not be started.
    let none = ChildCompiler::new("/no/such".into(), vec![], CompileLimits::default());
    let second = plugins.host_with_embedded(&[embedded()], Arc::new(Compiler::Child(none)));
    assert_eq!(second.status()[0].state, "active");
}

#[test]
fn a_folder_with_the_same_id_replaces_the_embedded_one_also_when_it_is_broken() {
    let (text, wasm) = built(RELAY_CONTROLLER);
    let newer = text.replace("version     = \"0.1.0\"", "version = \"9.9.9\"");
    assert_ne!(text, newer);
    let plugins = PluginsFolder::new().with("mine", &newer, &wasm);
    let host = plugins.host_with_embedded(&[embedded()], in_process());
    let status: Vec<_> = host.status().into_iter().map(|s| (s.id, s.version, s.state)).collect();
    assert_eq!(status, [(RELAY_CONTROLLER.to_owned(), "9.9.9".to_owned(), "active")]);
    // What an operator put in its place is not quietly undone.
    let plugins = PluginsFolder::new().with("mine", &newer, b"no component");
    let host = plugins.host_with_embedded(&[embedded()], in_process());
    let status: Vec<_> = host.status().into_iter().map(|s| (s.id, s.version, s.state)).collect();
    assert_eq!(status, [(RELAY_CONTROLLER.to_owned(), "9.9.9".to_owned(), "failed")]);
}

#[test]
fn a_folder_of_sources_is_no_plugin_and_replaces_nothing() {
    let plugins = PluginsFolder::new().with("relay-controller", &built(RELAY_CONTROLLER).0, b"");
    let folder = plugins.folder().join("relay-controller");
    std::fs::remove_file(folder.join("plugin.wasm")).unwrap();
    std::fs::write(folder.join("Cargo.toml"), "").unwrap();
    let status = plugins.host_with_embedded(&[embedded()], in_process()).status();
    assert_eq!(status.iter().map(|s| (s.id.as_str(), s.state)).collect::<Vec<_>>(), [(RELAY_CONTROLLER, "active")]);
}

#[test]
fn a_folder_has_its_class_before_an_embedded_one_of_another_id_which_says_so() {
    let (text, wasm) = built(RELAY_CONTROLLER);
    let plugins = PluginsFolder::new().with("other", &text.replace(RELAY_CONTROLLER, "acme.relays"), &wasm);
    let host = plugins.host_with_embedded(&[embedded()], in_process());
    assert!(host.version_for(DeviceClass::RelayController).is_some_and(|v| v.starts_with("acme.relays@")));
    let status = host.status().into_iter().find(|s| s.id == RELAY_CONTROLLER).expect("it is listed");
    let reason = status.reason.unwrap_or_default();
    assert!(reason.contains("served by acme.relays") && reason.contains("HEXA_EMBEDDED_PLUGINS"), "{reason}");
}

#[test]
fn the_devices_of_an_embedded_plugin_are_quarantined_alone() {
    let id = "test.hostile";
    let embedded = EmbeddedPlugin { id, manifest: manifest(id, "sensor_hub").leak(), wasm: hostile("").leak() };
    let host = PluginsFolder::new().host_with_embedded(&[embedded], in_process());
    let send = |device: &str, what: &str| {
        let uid = DeviceUid::parse(device).expect("a uid");
        host.decode_message(&call(&uid, DeviceClass::SensorHub, &[]), "ws", &text(what))
    };
    let faults = (0..50).take_while(|_| matches!(send("hx1", "t"), Err(DriverError::Fault(_)))).count();
    assert!((1..50).contains(&faults), "{faults} faults");
    assert!(send("hx1", "f").is_err(), "kept out");
    assert!(matches!(send("hx2", "t"), Err(DriverError::Fault(_))), "another one is let in");
    let info = &host.status()[0];
    assert_eq!((info.faults, info.poisoned_devices), (faults as u64 + 1, 1), "{info:?}");
    assert!(host.reset_plugin(id));
    assert!(matches!(send("hx1", "t"), Err(DriverError::Fault(_))), "let in again");
}

#[test]
fn a_broken_embedded_plugin_is_listed_with_its_reason_and_stops_no_other() {
    let broken = EmbeddedPlugin { id: "test.broken", manifest: "[plugin", wasm: b"" };
    let wrong =
        EmbeddedPlugin { id: "test.wrong", manifest: manifest("test.wrong", "ir_hub").leak(), wasm: b"no component" };
    let host = PluginsFolder::new().host_with_embedded(&[broken, wrong, embedded()], in_process());
    let status = host.status();
    let states: Vec<_> = status.iter().map(|s| (s.id.as_str(), s.state)).collect();
    assert_eq!(states, [(RELAY_CONTROLLER, "active"), ("test.broken", "failed"), ("test.wrong", "failed")]);
    assert!(status[2].reason.as_deref().is_some_and(|r| r.contains("not WebAssembly")), "{status:?}");
}
