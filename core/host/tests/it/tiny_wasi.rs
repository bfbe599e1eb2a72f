//! What a guest's standard library finds.

use std::sync::Arc;

use hexa_host::PluginHost;
use hexa_model::{ManualClock, TimeMs};

use crate::hostile::module;
use crate::support::{PluginsFolder, component_of, manifest};

const ID: &str = "test.wasi";

/// Loads a guest that does `describe` when it is asked for its descriptor.
fn load(imports: &str, describe: &str) -> (PluginsFolder, PluginHost) {
    let world = "world guest { include hexa:driver/driver@0.1.0; include hexa:tiny-wasi/tiny-wasi; }";
    let wasm = component_of(&module(imports, describe), world);
    let plugins = PluginsFolder::new().with("w", &manifest(ID, "sensor_hub"), &wasm);
    let host = plugins.host_with(Arc::new(ManualClock::at(TimeMs(5_000))));
    (plugins, host)
}

#[test]
fn what_is_printed_goes_into_the_log_line_by_line() {
    let imports = r#"
        (import "wasi:cli/stderr@0.2.6" "get-stderr" (func $stderr (result i32)))
        (import "wasi:io/streams@0.2.6" "[method]output-stream.blocking-write-and-flush"
            (func $write (param i32 i32 i32 i32)))
        (import "wasi:io/streams@0.2.6" "[resource-drop]output-stream" (func $close (param i32)))"#;
    let describe = r"
        (local $err i32)
        (i64.store (i32.const 40000) (i64.const 0x0a_64_6e_65_0a_69_68))
        (local.set $err (call $stderr))
        (call $write (local.get $err) (i32.const 40000) (i32.const 7) (i32.const 41000))
        (call $close (local.get $err))";
    let (_plugins, host) = load(imports, describe);
    assert_eq!(host.status()[0].reason, None);
    assert_eq!(host.recent_log(ID), ["hi", "end"]);
}

#[test]
fn exit_is_a_trap() {
    let imports = r#"(import "wasi:cli/exit@0.2.6" "exit" (func $exit (param i32)))"#;
    let (_plugins, host) = load(imports, "(call $exit (i32.const 0))");
    let reason = host.status()[0].reason.clone().expect("refused");
    assert!(reason.contains("the plugin called exit"), "{reason}");
}

#[test]
fn time_is_the_clock_that_was_handed_in_and_random_numbers_differ() {
    let imports = r#"
        (import "wasi:clocks/wall-clock@0.2.6" "now" (func $now (param i32)))
        (import "wasi:random/random@0.2.6" "get-random-u64" (func $random (result i64)))"#;
    let describe = r"
        (call $now (i32.const 40000))
        (if (i64.ne (i64.load (i32.const 40000)) (i64.const 5)) (then unreachable))
        (if (i64.eq (call $random) (call $random)) (then unreachable))";
    let (_plugins, host) = load(imports, describe);
    assert_eq!(host.status()[0].reason, None);
}

#[test]
fn standard_input_is_at_its_end_and_nothing_waits() {
    let imports = r#"
        (import "wasi:cli/stdin@0.2.6" "get-stdin" (func $stdin (result i32)))
        (import "wasi:io/streams@0.2.6" "[method]input-stream.blocking-read" (func $read (param i32 i64 i32)))
        (import "wasi:clocks/monotonic-clock@0.2.6" "subscribe-duration" (func $sleep (param i64) (result i32)))
        (import "wasi:io/poll@0.2.6" "[method]pollable.block" (func $block (param i32)))"#;
    // Tag 1 is an error, and of its two cases 1 is `closed`.
    let describe = r"
        (call $read (call $stdin) (i64.const 10) (i32.const 40000))
        (if (i32.ne (i32.load8_u (i32.const 40000)) (i32.const 1)) (then unreachable))
        (if (i32.ne (i32.load8_u (i32.const 40004)) (i32.const 1)) (then unreachable))
        (call $block (call $sleep (i64.const 3600000000000)))";
    let (_plugins, host) = load(imports, describe);
    assert_eq!(host.status()[0].reason, None);
}

#[test]
fn handles_cannot_be_hoarded() {
    let imports = r#"(import "wasi:cli/stdout@0.2.6" "get-stdout" (func $stdout (result i32)))"#;
    let (_plugins, host) = load(imports, "(loop $more (drop (call $stdout)) (br $more))");
    let reason = host.status()[0].reason.clone().expect("refused");
    assert!(reason.contains("handles exceeded: 1024 is allowed") && reason.contains("(memory)"), "{reason}");
}

#[test]
fn random_numbers_come_in_pieces_that_fit_a_call() {
    let imports = r#"(import "wasi:random/random@0.2.6" "get-random-bytes" (func $random (param i64 i32)))"#;
    let (_plugins, host) = load(imports, "(call $random (i64.const 4294967296) (i32.const 40000))");
    let reason = host.status()[0].reason.clone().expect("refused");
    assert!(reason.contains("io_bytes exceeded: 262144 is allowed") && reason.contains("(io)"), "{reason}");
}

#[test]
fn what_a_guest_prints_in_one_call_is_bounded_altogether() {
    let imports = r#"
        (import "wasi:cli/stderr@0.2.6" "get-stderr" (func $stderr (result i32)))
        (import "wasi:io/streams@0.2.6" "[method]output-stream.blocking-write-and-flush"
            (func $write (param i32 i32 i32 i32)))"#;
    let describe = |times: u32| {
        format!(
            "(local $err i32) (local $n i32)
            (local.set $err (call $stderr))
            (loop $more
                (call $write (local.get $err) (i32.const 40000) (i32.const 4096) (i32.const 50000))
                (local.set $n (i32.add (local.get $n) (i32.const 1)))
                (br_if $more (i32.lt_u (local.get $n) (i32.const {times}))))"
        )
    };
    let (_plugins, host) = load(imports, &describe(64));
    assert_eq!(host.status()[0].reason, None, "256 KiB");
    let (_plugins, host) = load(imports, &describe(65));
    let reason = host.status()[0].reason.clone().expect("refused");
    assert!(reason.contains("io_bytes exceeded: 262144 is allowed") && reason.contains("(io)"), "{reason}");
}
