//! Generated guests: damaged components, and valid ones whose functions do anything at all. The host says what is
//! wrong with them, or contains them; it never fails itself.

use arbitrary::Unstructured;
use hexa_devices::ports::Drivers;
use hexa_host::{CallOutcome, PluginHost};
use hexa_model::driver::{DeviceIdent, DriverError, Frame};
use hexa_model::{DeviceClass, DeviceUid};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use crate::hostile::{hostile, module};
use crate::support::{PluginsFolder, call, component_of_bytes, manifest, set_relay, stats_of};

const ID: &str = "test.fuzz";

/// Cases of a run; many more with `HEXA_LONG`.
fn cases(short: u32, long: u32) -> TestRunner {
    let cases = if std::env::var_os("HEXA_LONG").is_some() { long } else { short };
    TestRunner::new(Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() })
}

fn uid(n: u32) -> DeviceUid {
    DeviceUid::parse(&format!("hx{n:016}")).expect("a uid")
}

/// Loads it and, if it loads, calls everything once. Whatever comes back is the guest's doing and not the host's.
fn try_it(wasm: &[u8], message: &Frame) -> Result<&'static str, TestCaseError> {
    let plugins = PluginsFolder::new().with("fuzz", &manifest(ID, "sensor_hub"), wasm);
    let host = plugins.host();
    let status = host.status().remove(0);
    if status.state == "failed" {
        prop_assert!(status.reason.is_some_and(|r| !r.is_empty()), "a reason for people");
        return Ok("refused");
    }
    let mut calls = 0;
    for round in 0..2 {
        let uid = uid(round);
        let call = call(&uid, DeviceClass::SensorHub, &[1, 2, 3]);
        let ident = DeviceIdent {
            uid: uid.clone(),
            class: DeviceClass::SensorHub,
            model: Some("m".into()),
            hardware: None,
            firmware: None,
            relay_count: 4,
            input_count: 4,
        };
        host.reset_plugin(ID);
        no_host_error(host.open_session(&call).map(drop))?;
        no_host_error(host.decode_message(&call, "ws", message).map(drop))?;
        host.reset_plugin(ID);
        no_host_error(host.encode_command(&call, &set_relay(3)).map(drop))?;
        no_host_error(host.validate_config(&ident, "{}").map(drop))?;
        calls += 4;
    }
    let stats = stats_of(&host, ID);
    let seen: u64 = stats.functions.iter().map(hexa_host::FunctionStats::calls).sum();
    prop_assert!(seen > calls, "describe and every call are counted: {seen}");
    let errors: u64 = stats.functions.iter().map(|f| f.outcomes[CallOutcome::HostError as usize]).sum();
    prop_assert_eq!(errors, 0);
    prop_assert_eq!(stats.live, stats.idle, "nothing is left in a call");
    Ok("called")
}

fn no_host_error(result: Result<(), DriverError>) -> Result<(), TestCaseError> {
    match result {
        Err(DriverError::Fault(fault)) if fault.kind == "host" => Err(TestCaseError::fail(format!("{fault:?}"))),
        _ => Ok(()),
    }
}

fn messages() -> impl Strategy<Value = Frame> {
    prop_oneof![
        "\\PC{0,64}".prop_map(Frame::Text),
        proptest::collection::vec(any::<u8>(), 0..256).prop_map(|bytes| Frame::Binary(bytes.into())),
    ]
}

/// What is done to a component's bytes.
#[derive(Clone, Debug)]
enum Damage {
    Flip(usize, u8),
    Cut(usize),
    Repeat(usize, usize),
    Drop(usize, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        6 => (any::<usize>(), 1..=255u8).prop_map(|(at, with)| Damage::Flip(at, with)),
        1 => any::<usize>().prop_map(Damage::Cut),
        1 => (any::<usize>(), 1..64usize).prop_map(|(at, n)| Damage::Repeat(at, n)),
        1 => (any::<usize>(), 1..64usize).prop_map(|(at, n)| Damage::Drop(at, n)),
    ]
}

fn damaged(mut wasm: Vec<u8>, what: &[Damage]) -> Vec<u8> {
    for one in what {
        let length = wasm.len().max(1);
        match *one {
            Damage::Flip(at, with) => {
                if let Some(byte) = wasm.get_mut(at % length) {
                    *byte ^= with;
                }
            }
            Damage::Cut(at) => wasm.truncate(at % length),
            Damage::Repeat(at, n) => {
                let from = at % length;
                let piece = wasm[from..(from + n).min(wasm.len())].to_vec();
                wasm.splice(from..from, piece);
            }
            Damage::Drop(at, n) => {
                let from = (at % length).min(wasm.len());
                let to = (from + n).min(wasm.len());
                wasm.drain(from..to);
            }
        }
    }
    wasm
}

#[test]
fn a_damaged_component_is_refused_or_contained() {
    let whole = hostile("");
    let outcome = cases(200, 20_000)
        .run(&(proptest::collection::vec(damage(), 1..6), messages()), |(what, message)| {
            try_it(&damaged(whole.clone(), &what), &message).map(drop)
        });
    outcome.unwrap_or_else(|e| panic!("{e}"));
}

/// A component whose functions have the contract's types and random bodies.
fn random_driver(seed: &[u8], shape: &[u8]) -> Option<Vec<u8>> {
    let config = wasm_smith::Config {
        exports: Some(shape.to_vec()),
        min_imports: 0,
        max_imports: 0,
        allow_start_export: false,
        gc_enabled: false,
        threads_enabled: false,
        exceptions_enabled: false,
        relaxed_simd_enabled: false,
        memory64_enabled: false,
        custom_page_sizes_enabled: false,
        wide_arithmetic_enabled: false,
        tail_call_enabled: false,
        shared_everything_threads_enabled: false,
        max_memories: 1,
        max_instructions: 200,
        ..wasm_smith::Config::default()
    };
    let module = wasm_smith::Module::new(config, &mut Unstructured::new(seed)).ok()?.to_bytes();
    component_of_bytes(module, "world guest { include hexa:driver/driver@0.1.0; }").ok()
}

#[test]
fn a_driver_that_nobody_wrote_is_contained() {
    // The exports of a driver, their bodies to be replaced; it imports nothing.
    let shape = module("", "").replace(
        r#"(import "hexa:core/log@0.1.0" "write" (func $log (param i32 i32 i32)))"#,
        "(func $log (param i32 i32 i32))",
    );
    let shape = wat::parse_str(&shape).unwrap_or_else(|e| panic!("{e}"));
    let mut made = 0;
    let mut runner = cases(60, 5_000);
    for case in 0..runner.config().cases {
        let seed: Vec<u8> =
            proptest::collection::vec(any::<u8>(), 4096).new_tree(&mut runner).expect("bytes").current();
        let Some(wasm) = random_driver(&seed, &shape) else { continue };
        made += 1;
        try_it(&wasm, &Frame::Text("-".into())).unwrap_or_else(|e| panic!("case {case}: {e}; seed {seed:02x?}"));
    }
    assert!(made > runner.config().cases / 2, "{made} random drivers fit the contract");
}

/// Whatever the host hands to a guest arrives as it is: odd texts, empty and large blobs, far numbers.
#[test]
fn any_argument_reaches_a_healthy_guest() {
    let plugins = PluginsFolder::new().with("h", &manifest("test.hostile", "sensor_hub"), &hostile(""));
    let host: PluginHost = plugins.host();
    let blobs = || proptest::collection::vec(any::<u8>(), 0..20_000);
    let outcome = cases(300, 50_000).run(
        &("\\PC{0,200}", blobs(), blobs(), blobs(), any::<i64>(), messages(), 0..200u32),
        |(channel, prepared, volatile, durable, now, message, n)| {
            let uid = uid(n);
            let mut call = call(&uid, DeviceClass::SensorHub, &prepared);
            call.volatile = &volatile;
            call.durable = &durable;
            call.now = hexa_model::TimeMs(now);
            host.reset_plugin("test.hostile");
            // Messages that make it misbehave have a letter in front; the others are nothing to it.
            let message = match message {
                Frame::Text(text) => Frame::Text(format!("-{text}")),
                Frame::Binary(bytes) => Frame::Binary([b"-", &bytes[..]].concat().into()),
            };
            prop_assert!(host.decode_message(&call, &channel, &message).is_ok());
            prop_assert!(host.open_session(&call).is_ok());
            host.session_closed(DeviceClass::SensorHub);
            Ok(())
        },
    );
    outcome.unwrap_or_else(|e| panic!("{e}"));
}
