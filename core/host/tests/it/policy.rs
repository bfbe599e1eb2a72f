//! What faults lead to, through real guests: the device first, then the plugin, and never another plugin.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hexa_devices::ports::Drivers;
use hexa_host::PluginHost;
use hexa_model::driver::{Decoded, DriverError};
use hexa_model::plugin::{PluginEvent, PluginInfo};
use hexa_model::{Clock, DeviceClass, DeviceUid, TimeMs};

use crate::hostile::hostile;
use crate::support::{PluginsFolder, call, manifest, set_relay, stats_of, text};

const ID: &str = "test.hostile";

/// A clock that moves only when a test moves it.
#[derive(Debug)]
struct SteppedClock(AtomicU64);

impl SteppedClock {
    fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds * 1000, Ordering::Relaxed);
    }
}

impl Clock for SteppedClock {
    fn now(&self) -> TimeMs {
        TimeMs(1_760_000_000_000 + self.0.load(Ordering::Relaxed) as i64)
    }
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

struct Rig {
    plugins: PluginsFolder,
    host: PluginHost,
    clock: Arc<SteppedClock>,
}

fn rig_of(plugins: PluginsFolder) -> Rig {
    let clock = Arc::new(SteppedClock(AtomicU64::new(1_000_000)));
    let plugins = plugins.with("hostile", &manifest(ID, "sensor_hub"), &hostile("")).with_relay_controller();
    let host = plugins.host_with(Arc::clone(&clock) as Arc<dyn Clock>);
    Rig { plugins, host, clock }
}

fn rig() -> Rig {
    rig_of(PluginsFolder::new())
}

fn device(n: usize) -> DeviceUid {
    DeviceUid::parse(&format!("hx{n:016}")).expect("a uid")
}

impl Rig {
    fn send(&self, n: usize, what: &str) -> Result<Decoded, DriverError> {
        self.host.decode_message(&call(&device(n), DeviceClass::SensorHub, &[]), "ws", &text(what))
    }
    fn trap(&self, n: usize) {
        assert!(matches!(self.send(n, "t"), Err(DriverError::Fault(_))), "device {n} is let in and traps");
    }
    fn open(&self, devices: usize) {
        for n in 0..devices {
            self.host.open_session(&call(&device(n), DeviceClass::SensorHub, &[])).expect("a session");
        }
    }
    fn info(&self) -> PluginInfo {
        self.host.status().into_iter().find(|p| p.id == ID).expect("it is loaded")
    }
    /// Seconds that a refused caller has to wait.
    fn wait(&self, n: usize) -> Option<u64> {
        match self.send(n, "-") {
            Err(DriverError::Unavailable { retry_after_s, .. }) => retry_after_s,
            other => panic!("expected a refusal, got {other:?}"),
        }
    }
    fn other_plugin_works(&self) {
        let relay = device(900);
        let call = call(&relay, DeviceClass::RelayController, &[]);
        self.host.encode_command(&call, &set_relay(0)).expect("another class's driver sees nothing of it");
    }
    /// Five devices, one fault each.
    fn spread(&self) {
        (0..5).for_each(|n| self.trap(n));
        self.other_plugin_works();
    }
}

#[test]
fn one_device_is_quarantined_and_its_class_goes_on() {
    let rig = rig();
    rig.open(2);
    (0..3).for_each(|_| rig.trap(0));
    assert_eq!(rig.wait(0), Some(30));
    rig.send(1, "-").expect("the other device of the class");
    rig.other_plugin_works();
    let info = rig.info();
    assert_eq!((info.state, info.poisoned_devices, info.faults, info.sessions), ("degraded", 1, 3, 2));
    let events = rig.plugins.events.take();
    let quarantined = PluginEvent::DevicePoisoned { plugin: ID.into(), device: device(0), seconds: 30 };
    assert_eq!(events.last(), Some(&quarantined), "{events:?}");
    let PluginEvent::Fault(fault) = &events[0] else { panic!("{events:?}") };
    assert_eq!((fault.function, fault.kind, fault.sample.as_str()), ("decode_message", "trap", "t"));
    assert_eq!((fault.device.as_ref(), fault.at.0), (Some(&device(0)), 1_760_001_000_000));
    let before = stats_of(&rig.host, ID).functions[4].calls();
    (0..100).for_each(|_| drop(rig.send(0, "t")));
    assert_eq!(stats_of(&rig.host, ID).functions[4].calls(), before, "no wasm is entered for it");
    rig.clock.advance(30);
    rig.send(0, "-").expect("it has another chance");
    rig.trap(0);
    assert_eq!(rig.wait(0), Some(60), "and a shorter one");
}

#[test]
fn many_devices_stop_the_plugin_one_probe_brings_it_back_and_three_times_is_enough() {
    let rig = rig();
    rig.open(20);
    for (n, state) in [(1, "quarantined"), (2, "quarantined"), (3, "faulted")] {
        rig.spread();
        assert_eq!((rig.info().state, stats_of(&rig.host, ID).live), (state, 0), "{n}: and its instances are gone");
        if state == "faulted" {
            break;
        }
        let wait = rig.wait(10).expect("seconds");
        let calls = stats_of(&rig.host, ID).functions[4].calls();
        rig.wait(11);
        assert_eq!(stats_of(&rig.host, ID).functions[4].calls(), calls);
        rig.clock.advance(wait);
        rig.send(10, "m").expect_err("the driver's own no is a sign of health");
        rig.send(11, "-").expect("it serves again");
        assert!(rig.plugins.events.take().iter().any(|e| matches!(e, PluginEvent::State { state: "active", .. })));
        rig.clock.advance(600);
    }
    assert_eq!(rig.wait(10), None, "nothing to wait for");
    rig.clock.advance(86_400);
    let info = rig.info();
    assert_eq!(info.state, "faulted");
    assert!(info.reason.as_ref().is_some_and(|r| r.contains("until an admin")), "{info:?}");
    assert!(rig.host.reset_plugin(ID) && !rig.host.reset_plugin("no.such"));
    rig.send(10, "-").expect("an admin has the last word");
    assert_eq!((rig.info().state, rig.info().reason), ("active", None));
}

#[test]
fn five_devices_of_a_large_fleet_do_not_switch_it_off_and_sessions_that_end_do_not_count() {
    let rig = rig();
    rig.open(101);
    rig.spread();
    assert_eq!(rig.info().state, "active", "five of 101 are less than 5 %");
    (0..2).for_each(|_| rig.host.session_closed(DeviceClass::SensorHub));
    rig.trap(6);
    assert_eq!((rig.info().state, rig.info().sessions), ("quarantined", 99));
}

#[test]
fn a_failed_probe_doubles_the_wait_and_the_sample_hides_secrets() {
    let rig = rig();
    rig.spread();
    rig.clock.advance(1);
    assert!(matches!(rig.send(7, "t{\"token\":\"abcdefgh\"}"), Err(DriverError::Fault(_))));
    assert_eq!(rig.wait(8), Some(2));
    let events = rig.plugins.events.take();
    let last = events.iter().rev().find_map(|e| if let PluginEvent::Fault(f) = e { Some(&f.sample) } else { None });
    assert_eq!(last.map(String::as_str), Some("t{\"token\":\"***\"}"));
}

#[test]
fn with_an_instance_per_call_nothing_is_carried_over() {
    for (plugins, kept) in [(PluginsFolder::new(), 1), (PluginsFolder::new().per_call(), 0)] {
        let rig = rig_of(plugins);
        (0..3).for_each(|n| drop(rig.send(n, "-").unwrap()));
        let stats = stats_of(&rig.host, ID);
        assert_eq!((stats.live, stats.idle), (kept, kept));
    }
}

#[test]
fn an_instance_that_nobody_uses_is_thrown_away() {
    let rig = rig();
    rig.send(0, "-").unwrap();
    assert!(stats_of(&rig.host, ID).memory_bytes > 0);
    rig.host.tidy();
    assert_eq!(stats_of(&rig.host, ID).live, 1, "it was used since the start");
    rig.host.tidy();
    let stats = stats_of(&rig.host, ID);
    assert_eq!((stats.live, stats.idle, stats.memory_bytes), (0, 0, 0));
    rig.send(0, "-").expect("the next call starts one");
}

#[test]
fn a_driver_beyond_its_share_of_the_processor_is_slow_and_says_so() {
    let rig = rig();
    // The clock stands still, so a quarter of ten seconds is all there is.
    let beyond = (0..10_000).find(|_| {
        rig.send(0, "w").expect("each call keeps its limits");
        rig.host.slow(DeviceClass::SensorHub)
    });
    assert!(beyond.is_some());
    assert_eq!(rig.info().state, "degraded");
    assert!(!rig.host.slow(DeviceClass::RelayController));
    rig.send(1, "-").expect("it is slow, not wrong");
    rig.clock.advance(60);
    assert!(!rig.host.slow(DeviceClass::SensorHub));
    assert_eq!(rig.info().state, "active");
}
