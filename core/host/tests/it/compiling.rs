//! Plugins whose code is not there yet: what waits for them, and what does not.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hexa_devices::ports::Drivers;
use hexa_host::{ChildCompiler, CompileLimits, Compiler};
use hexa_model::DeviceClass;
use hexa_model::driver::DriverError;

use crate::hostile::hostile;
use crate::support::{PluginsFolder, RELAY_CONTROLLER, call, manifest, text, uid};

const PATIENCE: Duration = Duration::from_secs(60);

/// A compiler that does nothing until the pipe is opened, and then refuses the component.
fn gated(gate: &Path) -> Arc<Compiler> {
    let made = std::process::Command::new("mkfifo").arg(gate).status().expect("mkfifo");
    assert!(made.success());
    let script = format!(": >'{0}.begun'; cat '{0}' >/dev/null; echo refused for the test >&2; exit 3", gate.display());
    let limits = CompileLimits { wall: PATIENCE, ..CompileLimits::default() };
    Arc::new(Compiler::Child(ChildCompiler::new("/bin/sh".into(), vec!["-c".into(), script.into()], limits)))
}

/// Lets the compiler that waits go on.
fn open(gate: &Path) {
    // Blocks until the script reads.
    drop(std::fs::OpenOptions::new().write(true).custom_flags(libc::O_CLOEXEC).open(gate).expect("a reader"));
}

#[test]
fn a_plugin_that_is_being_compiled_is_missing_to_its_own_class_alone() {
    let plugins = PluginsFolder::new().with_relay_controller();
    assert_eq!(plugins.host().status()[0].state, "active");
    // The one is in the cache now; the others come new, and two of them want the same class.
    let plugins = plugins.with("a-new", &manifest("test.new", "ir_hub"), &hostile("")).with(
        "z-late",
        &manifest("test.late", "ir_hub"),
        b"no component",
    );
    let gate = plugins.folder().join("../gate");
    let host = plugins.host_compiled_by(gated(&gate));
    let states = || host.status().into_iter().map(|s| (s.id, s.state)).collect::<Vec<_>>();
    let of = |class| host.decode_message(&call(&uid(), class, &[]), "ws", &text("{}"));

    assert!(!host.wait_compiled(Duration::ZERO));
    let expected = [(RELAY_CONTROLLER, "active"), ("test.new", "compiling"), ("test.late", "failed")];
    assert_eq!(states(), expected.map(|(id, state)| (id.to_owned(), state)));
    let waiting = "the driver of ir_hub, test.new, is still being compiled; try again in a moment";
    assert_eq!(of(DeviceClass::IrHub), Err(DriverError::Unavailable { why: waiting.into(), retry_after_s: Some(5) }));
    assert_eq!(host.version_for(DeviceClass::IrHub), None);
    assert!(matches!(of(DeviceClass::RelayController), Err(DriverError::Malformed { .. })));
    assert!(
        matches!(of(DeviceClass::Hybrid), Err(DriverError::Unavailable { why, .. }) if why.contains("is installed"))
    );

    open(&gate);
    assert!(host.wait_compiled(PATIENCE));
    let failed = host.status().into_iter().find(|s| s.id == "test.new").expect("known");
    let reason = "plugin.wasm is not a valid component: refused for the test";
    assert_eq!((failed.state, failed.reason.as_deref()), ("failed", Some(reason)));
    assert!(
        matches!(of(DeviceClass::IrHub), Err(DriverError::Unavailable { why, .. }) if why.contains("could not be loaded"))
    );
}

#[test]
fn a_compiled_plugin_waits_for_an_earlier_one_of_its_class() {
    let wasm = hostile("");
    let plugins = PluginsFolder::new().with("b", &manifest("test.second", "sensor_hub"), &wasm);
    assert_eq!(plugins.host().status()[0].state, "active");
    let mut first = wasm.clone();
    // Another component: a custom section with an empty name, ignored by all.
    first.extend([0, 1, 0]);
    let plugins = plugins.with("a", &manifest("test.first", "sensor_hub"), &first);
    let gate = plugins.folder().join("../gate");
    let host = plugins.host_compiled_by(gated(&gate));
    let states: Vec<_> = host.status().into_iter().map(|s| (s.id, s.state)).collect();
    assert_eq!(states, [("test.first".to_owned(), "compiling"), ("test.second".to_owned(), "compiling")]);
    open(&gate);
    assert!(host.wait_compiled(PATIENCE));
    // The first was refused by the compiler, so the second, which needs none, has the class.
    assert_eq!(host.version_for(DeviceClass::SensorHub).as_deref(), Some("test.second@1.0.0"));
}

#[test]
fn dropping_the_host_waits_for_no_compiler() {
    let plugins = PluginsFolder::new().with("a", &manifest("test.new", "sensor_hub"), &hostile(""));
    let gate = plugins.folder().join("../gate");
    let host = plugins.host_compiled_by(gated(&gate));
    let begun = Instant::now();
    while !gate.with_extension("begun").exists() {
        assert!(begun.elapsed() < PATIENCE, "the compiler is not started");
        std::thread::yield_now();
    }
    let (done, seen) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        drop(host);
        done.send(())
    });
    seen.recv_timeout(PATIENCE / 2).expect("dropped while the compiler waits");
    open(&gate);
}
