//! What a call costs. Numbers mean something in release only:
//! `cargo test --release -p hexa-host --test it -- --ignored --nocapture micro`

use std::time::Instant;

use hexa_devices::ports::Drivers;
use hexa_model::DeviceClass;
use hexa_model::driver::{DeviceIdent, DriverCall};

use crate::hostile::hostile;
use crate::support::{PluginsFolder, call, manifest, set_relay, text, uid};

const CALLS: u32 = 200_000;

/// Best of five rounds, nanoseconds per call.
#[expect(clippy::print_stdout, reason = "a measurement prints its figures")]
fn measure(what: &str, mut once: impl FnMut()) -> u128 {
    let round = |once: &mut dyn FnMut()| {
        let begun = Instant::now();
        for _ in 0..CALLS {
            once();
        }
        begun.elapsed().as_nanos() / u128::from(CALLS)
    };
    let best = (0..5).map(|_| round(&mut once)).min().unwrap_or(0);
    println!("{what}: {best} ns");
    best
}

#[test]
#[ignore = "a measurement, not a check"]
fn micro() {
    let plugins = PluginsFolder::new().with_relay_controller();
    let host = plugins.host();
    let uid = uid();
    let ident = DeviceIdent {
        uid: uid.clone(),
        class: DeviceClass::RelayController,
        model: None,
        hardware: None,
        firmware: None,
        relay_count: 4,
        input_count: 2,
    };
    let prepared = host.validate_config(&ident, "{}").expect("a driver").expect("valid").prepared;
    let call = call(&uid, DeviceClass::RelayController, &prepared);
    let mut command = set_relay(2);
    command.id = "0199f3a2-7c1e-7bbd-9d5c-2f1d3a4b5c6d".into();
    let ack = text(r#"{"type":"ack","command_id":"0199f3a2-7c1e-7bbd-9d5c-2f1d3a4b5c6d","status":"executed"}"#);
    let report = text(
        r#"{"type":"state_report","relays":[{"index":0,"state":true},{"index":1,"state":false},{"index":2,"state":true},{"index":3,"state":false}],"seq":7}"#,
    );
    // A guest that does nothing: what the boundary, the pool, the limits and the counters cost.
    let empty = PluginsFolder::new().with("empty", &manifest("test.empty", "sensor_hub"), &hostile(""));
    let empty_host = empty.host();
    let other = DriverCall { class: DeviceClass::SensorHub, ..call.clone() };
    measure("empty call", || drop(empty_host.decode_message(&other, "ws", &ack).expect("decoded")));
    let encode = measure("encode set_relay", || drop(host.encode_command(&call, &command).expect("encoded")));
    let decode = measure("decode ack", || drop(host.decode_message(&call, "ws", &ack).expect("decoded")));
    measure("decode report of 4", || drop(host.decode_message(&call, "ws", &report).expect("decoded")));
    assert!(encode > 0 && decode > 0);
}
