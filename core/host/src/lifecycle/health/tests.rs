use proptest::prelude::*;

use super::breaker::{DEVICE_FAULTS, DEVICES, FAULTS, PLATFORM_DEVICES, QUARANTINES};
use super::*;

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn device(n: usize) -> DeviceUid {
    DeviceUid::parse(&format!("hx{n:016}")).unwrap()
}

/// A fault of a device that may enter; what it changed.
fn fault(health: &Health, n: usize, origin: FaultOrigin, now: Duration) -> Result<Vec<Change>, Refusal> {
    let device = device(n);
    Ok(admit(health, Some(&device), now)?.fault(Some(&device), origin, now))
}

fn admit<'h>(health: &'h Health, device: Option<&DeviceUid>, now: Duration) -> Result<CallPermit<'h>, Refusal> {
    health.admit(device, || now)
}

fn fleet(size: usize) -> Health {
    let health = Health::default();
    (0..size).for_each(|_| health.session(true));
    health
}

/// Faults of five devices, one each.
fn widespread(health: &Health, now: Duration) -> Vec<Change> {
    (0..FAULTS).flat_map(|n| fault(health, n, FaultOrigin::Device, now).unwrap()).collect()
}

#[test]
fn one_hostile_device_is_quarantined_longer_each_time_and_nobody_else_is() {
    let health = fleet(1);
    let mut now = at(100);
    let mut lasted = Vec::new();
    for _ in 0..12 {
        let changes = std::iter::repeat_with(|| fault(&health, 1, FaultOrigin::Device, now).unwrap())
            .take(DEVICE_FAULTS)
            .find(|changes| !changes.is_empty())
            .expect("it is quarantined");
        let [Change::DeviceQuarantined(who, how_long)] = changes.as_slice() else { panic!("{changes:?}") };
        assert_eq!(*who, device(1));
        lasted.push(how_long.as_secs());
        assert_eq!(fault(&health, 1, FaultOrigin::Device, now), Err(Refusal::DeviceQuarantined(*how_long)));
        assert!(admit(&health, Some(&device(2)), now).is_ok(), "another device of the same class");
        assert_eq!((health.state(now), health.quarantined_devices(now)), ("degraded", 1));
        now += *how_long;
    }
    assert_eq!(lasted, [30, 60, 120, 240, 480, 600, 600, 600, 600, 600, 600, 600]);
    assert!(admit(&health, Some(&device(1)), now + at(60)).is_ok());
    assert_eq!(health.state(now + at(60)), "active", "a minute without a fault ends it");
    assert_eq!(fault(&health, 1, FaultOrigin::Device, now + at(60)), Ok(vec![]), "and it has its chances again");
}

#[test]
fn a_single_bad_frame_costs_nothing_but_itself() {
    let health = fleet(3);
    for minute in 0..100 {
        assert_eq!(fault(&health, 1, FaultOrigin::Device, at(minute * 61)), Ok(vec![]));
    }
    assert_eq!(health.state(at(6200)), "active");
}

#[test]
fn five_devices_of_a_hundred_quarantine_the_plugin_and_of_a_thousand_do_not() {
    assert_eq!(widespread(&fleet(100), at(9)), [Change::PluginQuarantined(at(1))]);
    assert_eq!(widespread(&fleet(1000), at(9)), []);
    let four = fleet(4);
    for round in 0..3 {
        for n in 0..DEVICES - 1 {
            let _ = fault(&four, n, FaultOrigin::Device, at(round));
        }
    }
    assert_eq!(four.state(at(3)), "degraded", "four devices are quarantined, the plugin serves on");
    assert_eq!(four.quarantined_devices(at(3)), 4);
}

#[test]
fn faults_in_commands_need_fewer_devices_but_never_one_alone() {
    let health = fleet(1000);
    let mut changes = Vec::new();
    for n in 0..FAULTS {
        changes.extend(fault(&health, n % PLATFORM_DEVICES, FaultOrigin::Platform, at(5)).unwrap());
    }
    assert!(changes.contains(&Change::PluginQuarantined(at(1))), "{changes:?}");
    let health = fleet(1000);
    for second in 0..50 {
        let _ = fault(&health, 1, FaultOrigin::Platform, at(second));
    }
    assert_eq!(health.state(at(50)), "degraded");
    let health = fleet(10);
    for n in 0..20 {
        assert_eq!(
            fault(&health, n, FaultOrigin::Cold, at(1)),
            Ok(vec![]),
            "a bad configuration is not held against the plugin"
        );
    }
}

#[test]
fn a_quarantine_ends_with_one_probe_and_a_bad_one_doubles_it() {
    let health = fleet(10);
    widespread(&health, at(9));
    let (someone, mut now) = (device(70), at(9));
    let mut lasted = Vec::new();
    for k in 0..11 {
        let Err(Refusal::PluginQuarantined(left)) = admit(&health, Some(&someone), now).map(drop) else {
            panic!("round {k}")
        };
        lasted.push(left.as_secs());
        now += left;
        assert_eq!(health.state(now), "half_open");
        let probe = admit(&health, Some(&device(80 + k)), now).unwrap();
        assert_eq!(admit(&health, Some(&someone), now).map(drop), Err(Refusal::Probing), "one, and only one");
        let changes = probe.fault(Some(&device(80 + k)), FaultOrigin::Device, now);
        assert!(
            matches!(changes.as_slice(), [Change::DeviceQuarantined(..), Change::PluginQuarantined(_)]),
            "{changes:?}"
        );
    }
    assert_eq!(lasted, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
    now += at(300);
    drop(admit(&health, Some(&someone), now).unwrap());
    let probe = admit(&health, Some(&someone), now).expect("a probe without a result is given to the next caller");
    assert_eq!(probe.succeeded(|| now), Some(Change::Recovered));
    assert_eq!((health.state(now), admit(&health, Some(&someone), now).is_ok()), ("active", true));
    assert_eq!(widespread(&health, now + at(10)), [Change::PluginQuarantined(at(300))], "still counted");
}

#[test]
fn a_minute_without_a_fault_forgets_how_long_it_was() {
    let health = fleet(10);
    widespread(&health, at(9));
    assert_eq!(admit(&health, None, at(10)).unwrap().succeeded(|| at(10)), Some(Change::Recovered));
    assert_eq!(widespread(&health, at(71)), [Change::PluginQuarantined(at(1))]);
}

#[test]
fn three_quarantines_in_an_hour_are_the_end_until_an_admin_acts() {
    let health = fleet(10);
    let mut now = at(0);
    for n in 1..=QUARANTINES {
        now += at(1000);
        let last = if n == QUARANTINES { Change::Faulted } else { Change::PluginQuarantined(at(1)) };
        assert_eq!(widespread(&health, now), [last]);
        if n < QUARANTINES {
            assert!(admit(&health, None, now + at(1)).unwrap().succeeded(|| now + at(1)).is_some());
        }
    }
    assert_eq!(admit(&health, None, now + at(100_000)).map(drop), Err(Refusal::Faulted), "time heals nothing here");
    assert_eq!(health.state(now), "faulted");
    health.reset();
    assert!(admit(&health, None, now).is_ok());
    let spread = fleet(10);
    for n in 0..10 {
        let now = at(1 + n * 1801);
        assert_eq!(widespread(&spread, now), [Change::PluginQuarantined(at(1))], "two an hour go on");
        assert!(admit(&spread, None, now + at(1)).unwrap().succeeded(|| now + at(1)).is_some());
    }
}

/// Who fails the probe is quarantined by it: else the device that talks most would get, and fail, every probe there is.
#[test]
fn one_hostile_device_cannot_keep_a_stopped_plugin_stopped() {
    let health = fleet(50);
    let mut now = at(9);
    widespread(&health, now);
    let (loud, quiet) = (device(70), device(71));
    for _ in 0..20 {
        let Err(Refusal::PluginQuarantined(left)) = admit(&health, Some(&quiet), now).map(drop) else { break };
        now += left;
        // The loud one is always there first.
        if let Ok(probe) = admit(&health, Some(&loud), now) {
            let _ = probe.fault(Some(&loud), FaultOrigin::Device, now);
        } else {
            let change = admit(&health, Some(&quiet), now).unwrap().succeeded(|| now);
            assert_eq!(change, Some(Change::Recovered));
        }
    }
    assert!(admit(&health, Some(&quiet), now).is_ok(), "{} after {now:?}", health.state(now));
    assert!(now < at(30), "after two probes, not after {now:?}");
}

#[test]
fn a_probe_from_before_a_reset_stops_nothing() {
    let health = fleet(10);
    widespread(&health, at(9));
    let probe = admit(&health, Some(&device(70)), at(10)).unwrap();
    health.reset();
    assert_eq!(probe.fault(Some(&device(70)), FaultOrigin::Device, at(10)), [], "one fault of one device");
    assert_eq!(health.state(at(10)), "active");
}

/// Faults are remembered up to a bound; the share that stops a plugin must stay below it however large the fleet is.
#[test]
fn a_driver_that_fails_for_all_of_a_very_large_fleet_is_stopped() {
    for size in [1_000, 20_000, 25_000, 100_000] {
        let health = fleet(size);
        let stopped = (0..size).find(|n| {
            let changes = fault(&health, *n, FaultOrigin::Device, at(9)).unwrap();
            changes.iter().any(|c| matches!(c, Change::PluginQuarantined(_)))
        });
        assert!(stopped.is_some(), "each of {size} devices failed, and it serves on");
    }
}

#[test]
fn an_end_without_a_beginning_makes_no_fleet() {
    let health = Health::default();
    health.session(false);
    assert_eq!(widespread(&health, at(1)), [Change::PluginQuarantined(at(1))]);
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Fault(usize, bool),
    Succeeds(usize),
    Lost(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..400u64).prop_map(Step::Wait),
        6 => (0..12usize, any::<bool>()).prop_map(|(n, own)| Step::Fault(n, own)),
        3 => (0..12usize).prop_map(Step::Succeeds),
        1 => (0..12usize).prop_map(Step::Lost),
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    /// Whatever happens: fewer than three devices never quarantine a plugin, a plugin that is not faulted is entered
    /// again within five minutes, and nothing grows without bound.
    #[test]
    fn trouble_is_bounded(steps in steps(), hostile in 1..12usize, active in 0..200usize) {
        let health = fleet(active);
        let mut now = at(1);
        for step in steps {
            match step {
                Step::Wait(s) => now += at(s),
                Step::Fault(n, own) => {
                    let _ = fault(&health, n % hostile, if own { FaultOrigin::Platform } else { FaultOrigin::Device }, now);
                }
                Step::Succeeds(n) => drop(admit(&health, Some(&device(n % hostile)), now).map(|permit| permit.succeeded(|| now))),
                Step::Lost(n) => drop(admit(&health, Some(&device(n % hostile)), now)),
            }
            let state = health.state(now);
            if hostile < PLATFORM_DEVICES {
                prop_assert!(matches!(state, "active" | "degraded"), "{state} by {hostile} devices");
            }
            prop_assert!(health.quarantined_devices(now) <= hostile);
            if state != "faulted" {
                let later = admit(&health, Some(&device(99)), now + at(300));
                prop_assert!(later.is_ok(), "{later:?} after five minutes");
                drop(later);
                // Only a look: what it changed is what time would have changed.
                now += at(300) * u32::from(state == "quarantined");
            }
        }
    }
}
