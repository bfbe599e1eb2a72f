//! What an instance may keep, for how long, and what it may cost to start one.

use std::time::{Duration, Instant};

use hexa_devices::ports::Drivers;
use hexa_host::PluginHost;
use hexa_model::DeviceClass;
use hexa_model::driver::{Decoded, DriverError, Frame};

use crate::hostile::{hostile, module};
use crate::support::{PluginsFolder, call, component, fault, manifest, stats_of, text, uid};

const ID: &str = "test.hostile";

fn plugins(wasm: &[u8]) -> PluginsFolder {
    PluginsFolder::new().with("hostile", &manifest(ID, "sensor_hub"), wasm)
}

fn send(host: &PluginHost, what: &str) -> Result<Decoded, DriverError> {
    assert!(host.reset_plugin(ID));
    host.decode_message(&call(&uid(), DeviceClass::SensorHub, &[]), "ws", &text(what))
}

/// How often this instance was asked the same before; the guest counts in a global of its own.
fn remembered(host: &PluginHost) -> usize {
    match send(host, "c").expect("it answers").replies.as_slice() {
        [Frame::Text(text)] => text.len() - 1,
        other => panic!("one reply, not {other:?}"),
    }
}

#[test]
fn with_an_instance_per_call_a_guest_remembers_nothing() {
    let wasm = hostile("");
    let pooled = plugins(&wasm).host();
    assert_eq!([remembered(&pooled), remembered(&pooled), remembered(&pooled)], [0, 1, 2], "it can, in a pool");
    let plugins = plugins(&wasm).per_call();
    let host = plugins.host();
    for _ in 0..20 {
        assert_eq!(remembered(&host), 0, "nothing of the call before is left");
        assert_eq!(stats_of(&host, ID).live, 0);
    }
}

#[test]
fn a_fault_leaves_nothing_of_what_the_guest_remembered() {
    let plugins = plugins(&hostile(""));
    let host = plugins.host();
    assert_eq!([remembered(&host), remembered(&host)], [0, 1]);
    assert_eq!(fault(send(&host, "t")).kind, "trap");
    assert_eq!(remembered(&host), 0);
}

#[test]
fn an_instance_is_replaced_when_it_has_grown_to_three_quarters_of_its_memory() {
    let plugins = plugins(&hostile(""));
    let host = plugins.host();
    assert_eq!([remembered(&host), remembered(&host)], [0, 1]);
    assert_eq!(send(&host, "h"), Ok(Decoded::default()), "it may grow so far");
    let stats = stats_of(&host, ID);
    assert_eq!((stats.live, stats.memory_bytes), (0, 0), "and is not kept for it");
    assert_eq!(remembered(&host), 0);
    assert_eq!(host.status()[0].faults, 0);
}

#[test]
fn an_instance_is_replaced_after_a_hundred_thousand_calls() {
    let plugins = plugins(&hostile(""));
    let host = plugins.host();
    let device = uid();
    let call = call(&device, DeviceClass::SensorHub, &[]);
    assert_eq!(remembered(&host), 0);
    for _ in 1..99_999 {
        host.decode_message(&call, "ws", &text("-")).expect("a healthy call");
    }
    assert_eq!(remembered(&host), 1, "the hundred thousandth");
    assert_eq!(stats_of(&host, ID).live, 0);
    assert_eq!(remembered(&host), 0, "the next instance");
}

#[test]
fn growth_that_was_refused_is_not_counted() {
    let plugins = plugins(&hostile(""));
    let host = plugins.host();
    for _ in 0..3 {
        assert_eq!(send(&host, "j"), Ok(Decoded::default()), "it got nothing, so it broke no limit");
    }
}

/// Instances are started in the middle of a command, so starting one must fit into it.
#[test]
fn a_driver_that_takes_longer_to_start_than_a_call_may_is_not_loaded() {
    let slow = component(&module("(start $warm)", ""));
    let begun = Instant::now();
    let host = plugins(&slow).host();
    let status = host.status().remove(0);
    assert_eq!(status.state, "failed", "{status:?}");
    let reason = status.reason.expect("a reason");
    assert!(reason.contains("cpu_ms") && reason.contains("10 is allowed"), "{reason}");
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn a_driver_that_asks_for_more_tables_than_there_are_is_told_so() {
    let source =
        module("", "").replace("(memory (export", &format!("{}(memory (export", "(table 1 funcref)".repeat(8)));
    let host = plugins(&component(&source)).host();
    let reason = host.status().remove(0).reason.expect("a reason");
    assert!(reason.contains("asks for more than a driver is given") && reason.contains("tables"), "{reason}");
}
