use std::path::{Path, PathBuf};
use std::sync::Arc;

use hexa_devices::ports::Drivers;
use hexa_model::{DeviceClass, DeviceUid, SystemClock, TimeMs};
use tempfile::TempDir;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use super::*;
use crate::{Compiler, HostConfig, PluginHost};

const GREETER: &str = r#"(func (export "hexa:driver/greeter@0.2.0#greet") (result i32) (i32.const 600))"#;

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A core module from text with places to fill in; its descriptor names this class.
fn module(text: &str, class: &str) -> String {
    let descriptor = format!(r#"{{"schema":"hexa.descriptor/1","classes":["{class}"]}}"#);
    let length: String = (descriptor.len() as u32).to_le_bytes().map(|b| format!("\\{b:02x}")).concat();
    text.replace("DESCRIPTOR", &descriptor.replace('"', "\\\"")).replace("LENGTH", &length)
}

fn component(module: &str, packages: &[&str], world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    for package in packages {
        resolve.push_path(root(package)).unwrap();
    }
    let text = format!("package test:guest;\nworld guest {{ {world} }}");
    let package = resolve.push_str("guest.wit", &text).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    let mut module = wat::parse_str(module).unwrap_or_else(|e| panic!("{e}"));
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

fn of_0_1(class: &str) -> Vec<u8> {
    let text = include_str!("../../../tests/it/hostile.wat").replace("DESCRIBE", "").replace("IMPORTS", "");
    let packages = ["../../sdk/wit/core.wit", "../../sdk/wit/driver.wit"];
    component(&module(&text, class), &packages, "include hexa:driver/driver@0.1.0;")
}

fn of_0_2(class: &str, greets: bool) -> Vec<u8> {
    let greeter = if greets { GREETER } else { "" };
    let text = include_str!("driver.wat").replace("GREETER", greeter);
    let more = if greets { "include hexa:driver/greeting@0.2.0;" } else { "" };
    let world = format!("include hexa:driver/driver@0.2.0; {more}");
    component(&module(&text, class), &["src/contract/test_contract/driver.wit"], &world)
}

fn host(plugins: &[(&str, &str, &[u8])]) -> (TempDir, PluginHost) {
    let dir = tempfile::tempdir().unwrap();
    for (api, class, wasm) in plugins {
        let folder = dir.path().join("plugins").join(class);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("plugin.wasm"), wasm).unwrap();
        let id = class.replace('_', "-");
        let manifest = format!(
            "[plugin]\nid='test.{id}'\nversion='1.0.0'\nkind='driver'\napi='{api}'\nname='N'\npublisher='p'\n[driver]\nclasses=['{class}']\n"
        );
        std::fs::write(folder.join("plugin.toml"), manifest).unwrap();
    }
    let host = PluginHost::load(&HostConfig {
        plugins_dir: dir.path().join("plugins"),
        cache_dir: dir.path().join("cache"),
        cache_key: [7; 32],
        compiler: Arc::new(Compiler::InProcess),
        clock: Arc::new(SystemClock::new()),
        watch: std::sync::Arc::new(hexa_devices::ports::NoopObserver),
        per_call: crate::PerCall::None,
    });
    (dir, host.unwrap())
}

fn call<'a>(uid: &'a DeviceUid, class: DeviceClass, prepared: &'a [u8]) -> DriverCall<'a> {
    let now = TimeMs(1_760_000_000_000);
    DriverCall { uid, class, relay_count: 4, input_count: 0, now, session: None, prepared, volatile: &[], durable: &[] }
}

fn text(text: &str) -> Frame {
    Frame::Text(text.into())
}

/// Why a component with this manifest is not loaded.
fn refused(api: &str, wasm: &[u8]) -> String {
    let (_dir, host) = host(&[(api, "ir_hub", wasm)]);
    host.status().remove(0).reason.expect("not loaded")
}

#[test]
fn components_of_two_versions_serve_side_by_side() {
    let (_dir, host) = host(&[
        ("0.1", "sensor_hub", &of_0_1("sensor_hub")),
        ("0.2", "ir_hub", &of_0_2("ir_hub", false)),
        ("0.2", "hybrid", &of_0_2("hybrid", true)),
    ]);
    let states: Vec<_> = host.status().into_iter().map(|s| (s.id, s.state, s.reason)).collect();
    assert_eq!(states.iter().filter(|(_, state, _)| *state == "active").count(), 3, "{states:?}");
    let uid = DeviceUid::parse("hx1").unwrap();
    let ident = |class| DeviceIdent {
        uid: uid.clone(),
        class,
        model: None,
        hardware: None,
        firmware: None,
        relay_count: 4,
        input_count: 0,
    };
    for _ in 0..100 {
        // The same calls of the platform, whatever the guests call them.
        let old = host.decode_message(&call(&uid, DeviceClass::SensorHub, b""), "ws", &text("-"));
        assert_eq!(old, Ok(Decoded::default()));
        for (class, opens_with) in [
            (DeviceClass::IrHub, vec![text("{\"a\":1}")]),
            (DeviceClass::Hybrid, vec![text("{\"a\":1}"), text("hello")]),
        ] {
            let accepted = host.validate_config(&ident(class), "{\"a\":1}").unwrap().unwrap();
            let call = call(&uid, class, &accepted.prepared);
            // The renamed field arrives; the export that may be left out is called where it is there.
            assert_eq!(host.open_session(&call).unwrap().replies, opens_with);
            assert_eq!(host.decode_message(&call, "ws", &text("ping")).unwrap().replies, [text("ping")]);
            let command = DriverCommand::Relay(RelayAction::Set { index: 2, on: true, for_ms: None });
            let envelope = CommandEnvelope { id: "c-1".into(), command, expires_at: TimeMs(1_760_000_005_000) };
            let encoded = host.encode_command(&call, &envelope).unwrap();
            assert_eq!((encoded.frames, encoded.ack), (vec![Frame::Binary("c-1".into())], AckPolicy::CommandId));
        }
    }
    // A trap in a guest of one version does not reach those of the other.
    let trapped = host.decode_message(&call(&uid, DeviceClass::SensorHub, b""), "ws", &text("t"));
    assert!(matches!(trapped, Err(DriverError::Fault(_))), "{trapped:?}");
    assert!(host.decode_message(&call(&uid, DeviceClass::IrHub, b""), "ws", &text("ping")).is_ok());
}

#[test]
fn a_version_that_is_not_spoken_is_answered_with_those_that_are() {
    let foreign = |version: &str| {
        let name = format!("hexa:driver/codec@{version}");
        wat::parse_str(format!(
            "(component (component $c) (instance $i (instantiate $c)) (export \"{name}\" (instance $i)))"
        ))
        .unwrap()
    };
    let expected = "this server supports \"0.1\", \"0.2\"";
    for (version, track) in [("2.0.0", "hexa:driver@2;"), ("0.3.1", "hexa:driver@0.3;"), ("1.4.0", "hexa:driver@1;")] {
        let reason = refused("0.1", &foreign(version));
        assert!(reason.contains(track) && reason.contains(expected), "{reason}");
        assert!(reason.contains("Build it with an SDK for one of these"), "{reason}");
    }
    assert!(refused("0.3", &of_0_1("ir_hub")).contains(expected));
    // A patch of a version is that version; what it lacks is named.
    let reason = refused("0.1", &foreign("0.1.7"));
    assert!(reason.contains("does not fit the contract hexa:driver@0.1: ") && reason.contains("catalog"), "{reason}");
}

#[test]
fn manifest_and_component_must_name_the_same_version() {
    let reason = refused("0.2", &of_0_1("ir_hub"));
    assert!(reason.contains("says api \"0.2\", but plugin.wasm is built for hexa:driver@0.1"), "{reason}");
    let reason = refused("0.1", &of_0_2("ir_hub", true));
    assert!(reason.contains("says api \"0.1\", but plugin.wasm is built for hexa:driver@0.2"), "{reason}");
}

#[test]
fn what_one_version_may_import_is_nothing_to_another() {
    let text = include_str!("driver.wat")
        .replace("GREETER", "")
        .replace("(module", "(module (import \"hexa:core/log@0.1.0\" \"write\" (func (param i32 i32 i32)))");
    let packages = ["../../sdk/wit/core.wit", "src/contract/test_contract/driver.wit"];
    let world = "include hexa:driver/driver@0.2.0; import hexa:core/log@0.1.0;";
    let reason = refused("0.2", &component(&module(&text, "ir_hub"), &packages, world));
    assert!(reason.contains("imports hexa:core/log@0.1.0, which drivers are not given"), "{reason}");
}

#[test]
fn versions_understand_each_other_within_a_track() {
    let tracks = ["0.1.0", "0.1.9", "0.2.0", "1.0.0", "1.7.3", "nonsense"].map(super::super::track);
    assert_eq!(tracks, ["0.1", "0.1", "0.2", "1", "1", "nonsense"]);
}
