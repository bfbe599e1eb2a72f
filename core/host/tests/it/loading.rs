//! Plugins that cannot be loaded, and that they keep no other from loading.

use hexa_devices::ports::Drivers;
use hexa_model::DeviceClass;
use hexa_model::driver::DriverError;
use hexa_model::plugin::PluginInfo;

use crate::hostile::{hostile, module};
use crate::support::{PluginsFolder, RELAY_CONTROLLER, call, component_of, manifest, text, uid};

fn status(plugins: &PluginsFolder, id: &str) -> PluginInfo {
    let all = plugins.host().status();
    all.iter().find(|s| s.id == id).cloned().unwrap_or_else(|| panic!("{id} not in {all:?}"))
}

/// The reason why a component is not loaded.
fn refused(wasm: &[u8]) -> String {
    let status = status(&PluginsFolder::new().with("x", &manifest("test.x", "ir_hub"), wasm), "test.x");
    assert_eq!((status.state, status.classes.as_slice()), ("failed", [DeviceClass::IrHub].as_slice()));
    status.reason.expect("a reason")
}

#[test]
fn what_is_not_a_component_is_refused_with_its_reason() {
    let good = hostile("");
    assert!(refused(&[0x5a; 4096]).contains("not WebAssembly"));
    assert!(refused(&good[..5]).contains("only the beginning"));
    assert!(refused(&wat::parse_str("(module)").unwrap()).contains("core module"));
    for part in [2, 3, 5, 8] {
        let reason = refused(&good[..good.len() / part]);
        // Cut between two sections it is well-formed, but its exports are gone.
        assert!(reason.contains("not a valid component") || reason.contains("does not fit the contract"), "{reason}");
    }
    let mut damaged = good.clone();
    for byte in damaged.iter_mut().skip(64).step_by(7) {
        *byte ^= 0x55;
    }
    assert!(refused(&damaged).contains("not a valid component"));
    assert!(refused(&wat::parse_str("(component)").unwrap()).contains("does not fit the contract"));
    assert!(refused(&vec![0; (4 << 20) + 1]).contains("larger than the 4194304 bytes"));
    // It is whole, but says that it serves another class.
    assert!(refused(&good).contains("names the class ir_hub, the descriptor does not"));
}

#[test]
fn an_import_that_was_not_granted_is_named() {
    let module = module("(import \"test:guest/secrets\" \"get\" (func (result i32)))", "");
    let world = "interface secrets { get: func() -> u32; }
                 world guest { include hexa:driver/driver@0.1.0; import secrets; }";
    let reason = refused(&component_of(&module, world));
    assert!(reason.contains("imports test:guest/secrets"), "{reason}");
}

#[test]
fn a_plugin_that_hangs_or_traps_at_the_start_is_not_loaded() {
    let reason = refused(&hostile("(call $spin (i64.const 0))"));
    assert!(reason.contains("describe failed") && reason.contains("(cpu)"), "{reason}");
    let reason = refused(&hostile("unreachable"));
    assert!(reason.contains("the plugin panicked or aborted"), "{reason}");
}

#[test]
fn files_that_are_missing_or_wrong_are_named() {
    let plugins = PluginsFolder::new().with("x", "[plugin", b"");
    assert!(status(&plugins, "x").reason.unwrap().contains("plugin.toml"));
    let empty = PluginsFolder::new();
    std::fs::create_dir_all(empty.folder().join("y")).unwrap();
    assert_eq!(status(&empty, "y").reason.as_deref(), Some("plugin.toml is missing"));
    std::fs::write(empty.folder().join("y/plugin.toml"), manifest("test.y", "ir_hub")).unwrap();
    assert_eq!(status(&empty, "test.y").reason.as_deref(), Some("plugin.wasm is missing"));
}

#[test]
fn a_broken_plugin_stops_no_other_and_its_class_is_unavailable() {
    let plugins =
        PluginsFolder::new().with_relay_controller().with("a-broken", &manifest("test.broken", "ir_hub"), b"no");
    let host = plugins.host();
    let states: Vec<_> = host.status().into_iter().map(|s| (s.id, s.state)).collect();
    assert_eq!(states, [(RELAY_CONTROLLER.to_owned(), "active"), ("test.broken".to_owned(), "failed")]);
    let of = |class| host.decode_message(&call(&uid(), class, &[]), "ws", &text("{}"));
    let broken = "the driver of ir_hub, test.broken, could not be loaded";
    assert_eq!(of(DeviceClass::IrHub), Err(DriverError::Unavailable { why: broken.into(), retry_after_s: None }));
    let none = "no driver for hybrid is installed";
    assert_eq!(of(DeviceClass::Hybrid), Err(DriverError::Unavailable { why: none.into(), retry_after_s: None }));
    assert!(matches!(of(DeviceClass::RelayController), Err(DriverError::Malformed { .. })));
    assert_eq!(host.version_for(DeviceClass::Hybrid), None);
}

#[test]
fn of_two_plugins_for_one_class_or_id_the_first_wins() {
    let wasm = hostile("");
    let plugins = PluginsFolder::new()
        .with("a", &manifest("test.one", "sensor_hub"), &wasm)
        .with("b", &manifest("test.two", "sensor_hub"), &wasm)
        .with("c", &manifest("test.one", "sensor_hub"), &wasm);
    let statuses = plugins.host().status();
    assert_eq!((statuses[0].id.as_str(), statuses[0].state), ("test.one", "active"));
    assert!(statuses[1].reason.as_deref().unwrap().contains("already served by test.one"), "{statuses:?}");
    assert!(statuses[2].reason.as_deref().unwrap().contains("same id"), "{statuses:?}");
}

#[test]
fn without_a_plugins_folder_the_host_is_empty_and_answers() {
    let host = PluginsFolder::new().host();
    assert_eq!(host.status(), []);
    assert_eq!(host.version_for(DeviceClass::RelayController), None);
}
