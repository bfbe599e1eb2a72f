//! One guest that misbehaves in every way that a message asks for.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use hexa_devices::ports::Drivers;
use hexa_host::{CallOutcome, PluginHost};
use hexa_model::driver::{Decoded, DriverError};
use hexa_model::{Clock, DeviceClass, SystemClock, TimeMs};
use parking_lot::{Condvar, Mutex};

use crate::support::{PluginsFolder, call, component, fault, manifest, set_relay, stats_of, text, uid};

const ID: &str = "test.hostile";
const DESCRIPTOR: &str = r#"{"schema":"hexa.descriptor/1","classes":["sensor_hub"],"readings":[{"key":"t"}]}"#;

/// The guest; `describe` is put in front of what `describe` does.
pub(crate) fn hostile(describe: &str) -> Vec<u8> {
    component(&module("", describe))
}

/// Its core module, with more imports.
pub(crate) fn module(imports: &str, describe: &str) -> String {
    let length: String = (DESCRIPTOR.len() as u32).to_le_bytes().map(|b| format!("\\{b:02x}")).concat();
    include_str!("hostile.wat")
        .replace("DESCRIPTOR", &DESCRIPTOR.replace('"', "\\\""))
        .replace("LENGTH", &length)
        .replace("DESCRIBE", describe)
        .replace("IMPORTS", imports)
}

fn plugins() -> PluginsFolder {
    PluginsFolder::new().with("hostile", &manifest(ID, "sensor_hub"), &hostile(""))
}

fn send_on(host: &PluginHost, channel: &str, what: &str) -> Result<Decoded, DriverError> {
    // What faults lead to is not looked at here: each is the first one.
    assert!(host.reset_plugin(ID), "{:?}", host.status());
    host.decode_message(&call(&uid(), DeviceClass::SensorHub, &[]), channel, &text(what))
}

fn send(host: &PluginHost, what: &str) -> Result<Decoded, DriverError> {
    send_on(host, "ws", what)
}

fn fine(host: &PluginHost) {
    assert_eq!(send(host, "-"), Ok(Decoded::default()));
}

#[test]
fn every_fault_is_named_and_the_very_next_call_works() {
    let (plugins, kinds) = (
        plugins(),
        [
            ("l", "cpu", Some("cpu_ms")),
            ("g", "memory", Some("memory_bytes")),
            ("q", "memory", Some("table_elements")),
            ("k", "cpu", Some("cpu_ms")),
            ("t", "trap", None),
            ("r", "trap", None),
            ("p", "trap", None),
            ("b", "io", Some("io_bytes")),
            ("e", "output", Some("events")),
            ("n", "output", Some("frames")),
            ("f", "output", Some("frame_bytes")),
            ("s", "output", Some("volatile_bytes")),
            ("i", "output", None),
            ("u", "output", None),
        ],
    );
    let host = plugins.host();
    for (what, kind, limit) in kinds {
        let fault = fault(send(&host, what));
        assert_eq!((fault.kind, fault.limit.as_ref().map(|l| l.limit)), (kind, limit), "{what}: {fault:?}");
        assert_eq!((fault.plugin.as_str(), fault.version.as_str()), (ID, "1.0.0"));
        fine(&host);
    }
    let status = &host.status()[0];
    assert_eq!((status.state, status.faults), ("active", kinds.len() as u64));
}

#[test]
fn a_loop_ends_when_its_cpu_time_is_used_up_and_not_much_later() {
    let plugins = plugins();
    let host = plugins.host();
    let limit = fault(send(&host, "l")).limit.expect("a limit");
    assert_eq!(limit.allowed, 10);
    assert!((10..100).contains(&limit.actual), "{limit:?}");
    fine(&host);
}

#[test]
fn a_manifest_may_lower_the_limits() {
    let limits = "[limits]\nmemory='1MiB'\ncpu_ms=3\nstate_bytes=6000\n";
    let plugins = PluginsFolder::new().with("h", &format!("{}{limits}", manifest(ID, "sensor_hub")), &hostile(""));
    let host = plugins.host();
    assert_eq!(fault(send(&host, "g")).limit.map(|l| l.allowed), Some(1 << 20));
    assert_eq!(fault(send(&host, "l")).limit.map(|l| l.allowed), Some(3));
    assert_eq!(send(&host, "s").map(|d| d.state.volatile.map(|v| v.len())), Ok(Some(5000)));
}

#[test]
fn a_healthy_no_keeps_the_instance() {
    let plugins = plugins();
    let host = plugins.host();
    for _ in 0..10 {
        let malformed = DriverError::Malformed { message: String::new(), reply: None };
        assert_eq!(send(&host, "m"), Err(malformed));
    }
    let stats = stats_of(&host, ID);
    assert_eq!((stats.live, stats.idle), (1, 1));
    assert_eq!(stats.functions[4].outcomes[CallOutcome::CodecError as usize], 10);
}

#[test]
fn replies_are_for_the_socket_only() {
    let plugins = plugins();
    let host = plugins.host();
    assert_eq!(send(&host, "o").map(|d| d.replies.len()), Ok(1));
    let refused = fault(send_on(&host, "http:sensor-report", "o"));
    assert!(refused.message.contains("\"ws\""), "{refused:?}");
}

#[test]
fn a_relay_command_without_acknowledgement_is_an_invalid_output() {
    let plugins = plugins();
    let host = plugins.host();
    let fault = fault(host.encode_command(&call(&uid(), DeviceClass::SensorHub, &[]), &set_relay(0)));
    assert_eq!(fault.kind, "output");
    assert!(fault.message.contains("`none`"), "{fault:?}");
    fine(&host);
}

#[test]
fn a_thousand_traps_leave_the_pool_as_it_was() {
    let plugins = plugins();
    let host = plugins.host();
    for _ in 0..1_000 {
        assert_eq!(fault(send(&host, "t")).kind, "trap");
    }
    assert_eq!(stats_of(&host, ID).live, 0);
    fine(&host);
    let stats = stats_of(&host, ID);
    assert_eq!((stats.live, stats.idle), (1, 1));
}

/// Resident memory in bytes, and open descriptors, of this process.
fn held() -> (u64, usize) {
    let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = status.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number");
    (pages * 4096, std::fs::read_dir("/proc/self/fd").expect("Linux").count())
}

#[test]
fn many_calls_after_many_traps_hold_no_more_than_before() {
    let long = std::env::var_os("HEXA_LONG").is_some();
    let (traps, calls) = if long { (10_000, 1_000_000) } else { (1_000, 20_000) };
    let plugins = plugins();
    let host = plugins.host();
    // The first traps fill what is kept for the next ones: warm slots of the pool, each with its resident pages.
    for _ in 0..traps {
        fault(send(&host, "t"));
    }
    let before = held();
    for _ in 0..calls {
        fine(&host);
    }
    for _ in 0..traps {
        fault(send(&host, "t"));
    }
    fine(&host);
    let after = held();
    eprintln!(
        "after {traps} traps, {calls} calls and as many traps: {} KB more",
        after.0.saturating_sub(before.0) >> 10
    );
    assert!(after.0 < before.0 + (4 << 20), "{before:?} -> {after:?}");
    assert_eq!(after.1, before.1, "descriptors");
    let stats = stats_of(&host, ID);
    assert_eq!((stats.live, stats.idle), (1, 1));
}

#[test]
fn traps_of_one_thread_do_not_touch_the_calls_of_another() {
    let plugins = plugins();
    let host = plugins.host();
    std::thread::scope(|threads| {
        for n in 0..4 {
            let host = &host;
            threads.spawn(move || {
                for _ in 0..200 {
                    if n % 2 == 0 { fine(host) } else { assert_eq!(fault(send(host, "t")).kind, "trap") }
                }
            });
        }
    });
    let stats = stats_of(&host, ID);
    assert!(stats.live == stats.idle && stats.live <= 4, "{stats:?}");
}

/// Epochs count wall time. A guest that needs some milliseconds of CPU, on a machine with much other work, takes far
/// longer than its limit on the wall, and must not be ended for that.
#[test]
fn other_work_on_the_machine_ends_no_healthy_call() {
    let plugins = plugins();
    let host = plugins.host();
    let stop = AtomicBool::new(false);
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|threads| {
        for _ in 0..cores * 3 {
            threads.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let callers: Vec<_> = (0..cores)
            .map(|_| {
                threads.spawn(|| {
                    for _ in 0..40 {
                        assert_eq!(send(&host, "w"), Ok(Decoded::default()));
                        for _ in 0..200 {
                            fine(&host);
                        }
                    }
                })
            })
            .collect();
        let ended: Vec<_> = callers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(ended.into_iter().all(|e| e.is_ok()));
    });
    assert_eq!(host.status()[0].faults, 0);
}

#[test]
fn a_flood_of_log_lines_is_cut_to_the_rate() {
    let plugins = plugins();
    let clock = Arc::new(hexa_model::ManualClock::at(TimeMs(0)));
    let host = plugins.host_with(clock);
    assert_eq!(send(&host, "x"), Ok(Decoded::default()));
    let lines = host.recent_log(ID);
    assert_eq!(lines.len(), 32);
    assert!(lines.iter().all(|l| l == &DESCRIPTOR[..20]));
}

/// A clock that the guest reaches through the log: it can hold a call, or panic inside of it.
struct GatedClock {
    held: Mutex<bool>,
    released: Condvar,
    inside: AtomicUsize,
    panics: AtomicBool,
    time: SystemClock,
}

impl GatedClock {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            held: Mutex::new(false),
            released: Condvar::new(),
            inside: AtomicUsize::new(0),
            panics: AtomicBool::new(false),
            time: SystemClock::new(),
        })
    }
    fn hold(&self, held: bool) {
        *self.held.lock() = held;
        self.released.notify_all();
    }
}

impl Clock for GatedClock {
    fn now(&self) -> TimeMs {
        self.time.now()
    }
    fn monotonic(&self) -> Duration {
        assert!(!self.panics.load(Ordering::SeqCst), "the host's own mistake");
        self.inside.fetch_add(1, Ordering::SeqCst);
        self.released.wait_while(&mut self.held.lock(), |held| *held);
        self.time.monotonic()
    }
}

#[test]
fn a_panic_in_the_host_is_not_charged_to_the_plugin() {
    let (plugins, clock) = (plugins(), GatedClock::new());
    let host = plugins.host_with(clock.clone());
    clock.panics.store(true, Ordering::SeqCst);
    assert_eq!(fault(send(&host, "y")).kind, "host");
    clock.panics.store(false, Ordering::SeqCst);
    assert_eq!(send(&host, "y"), Ok(Decoded::default()));
    assert_eq!(host.status()[0].faults, 0);
    assert_eq!(stats_of(&host, ID).functions[4].outcomes[CallOutcome::HostError as usize], 1);
    assert_eq!(stats_of(&host, ID).live, 1);
}

#[test]
fn with_all_instances_in_calls_the_next_caller_hears_busy() {
    let (plugins, clock) = (plugins(), GatedClock::new());
    let host = plugins.host_with(clock.clone());
    clock.inside.store(0, Ordering::SeqCst);
    clock.hold(true);
    std::thread::scope(|threads| {
        let calls: Vec<_> = (0..16).map(|_| threads.spawn(|| send(&host, "y"))).collect();
        while clock.inside.load(Ordering::SeqCst) < 16 {
            std::thread::yield_now();
        }
        assert_eq!(send(&host, "-"), Err(DriverError::Busy));
        clock.hold(false);
        for call in calls {
            assert_eq!(call.join().unwrap(), Ok(Decoded::default()));
        }
    });
    fine(&host);
    let stats = stats_of(&host, ID);
    assert_eq!((stats.live, stats.idle), (16, 16));
    assert_eq!(stats.functions[4].outcomes[CallOutcome::Busy as usize], 1);
}
