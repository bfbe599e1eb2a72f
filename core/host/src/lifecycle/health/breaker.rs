//! When a device or a plugin is quarantined, for how long, and how it comes back.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use hexa_model::DeviceUid;

use super::recent::{FaultOrigin, RecentFaults, WINDOW};

/// Faults of one device within the window that quarantine it.
pub(super) const DEVICE_FAULTS: usize = 3;
const DEVICE_QUARANTINE: Duration = Duration::from_secs(30);
const DEVICE_QUARANTINE_MAX: Duration = Duration::from_secs(600);
/// Faults within the window that quarantine the plugin.
pub(super) const FAULTS: usize = 5;
/// And the devices that they must come from.
pub(super) const DEVICES: usize = 5;
/// At least this part of the active devices, in percent: a few hostile devices must not switch off a class.
const SHARE_PERCENT: usize = 5;
/// For faults in `encode-command` and `open-session`, which no frame of a device brings about: so many devices are
/// enough, whatever their share. Never one alone: state that a device made its driver store reaches these calls too.
pub(super) const PLATFORM_DEVICES: usize = 3;
const QUARANTINE: Duration = Duration::from_secs(1);
const QUARANTINE_MAX: Duration = Duration::from_secs(300);
/// Quarantines within this time that end in `faulted`.
pub(super) const QUARANTINES: usize = 3;
const QUARANTINES_WITHIN: Duration = Duration::from_secs(3600);
/// How often ended quarantines of devices are removed.
const PURGE_EVERY: Duration = Duration::from_secs(1);
/// Most devices that are quarantined at a time, and most that are ever needed to quarantine a plugin.
const MAX_DEVICES: usize = 4096;

/// Why a call is refused without entering the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// This device is quarantined for so long.
    DeviceQuarantined(Duration),
    /// The plugin is quarantined for so long.
    PluginQuarantined(Duration),
    /// Another call is finding out whether the plugin works again.
    Probing,
    /// The plugin is stopped until an admin resets it.
    Faulted,
}

/// A change that is reported to the observer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A device is quarantined for so long.
    DeviceQuarantined(DeviceUid, Duration),
    /// The plugin is quarantined for so long.
    PluginQuarantined(Duration),
    /// A probe succeeded, and all calls are let in again.
    Recovered,
    /// The plugin was quarantined too often and is stopped.
    Faulted,
}

/// How a call is let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Admission {
    /// As one of many.
    #[default]
    Free,
    /// As the probe of this number. One that a reset overtook is an ordinary call.
    Probe(u64),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Mode {
    #[default]
    Closed,
    /// No call until then; the next one is the probe.
    Open {
        until: Duration,
    },
    /// The probe of this number is under way.
    Probing(u64),
    Faulted,
}

#[derive(Debug)]
struct DeviceQuarantine {
    until: Duration,
    lasted: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Breaker {
    mode: Mode,
    faults: RecentFaults,
    quarantined: HashMap<DeviceUid, DeviceQuarantine>,
    purge_at: Duration,
    /// Times in a row that the plugin was quarantined; the exponent of the next one.
    in_a_row: u32,
    /// The last fault, or the end of the last quarantine.
    quiet_since: Duration,
    quarantines: VecDeque<Duration>,
    /// Probes that there were so far.
    probes: u64,
}

impl Breaker {
    /// Whether each call has to be admitted under the lock.
    pub(super) fn unhealthy(&self) -> bool {
        self.mode != Mode::Closed || !self.quarantined.is_empty()
    }

    /// Clears all but the number of the last probe, which may still be under way.
    pub(super) fn reset(&mut self) {
        *self = Self { probes: self.probes, ..Self::default() };
    }

    pub(super) fn state(&self, now: Duration) -> &'static str {
        match self.mode {
            Mode::Faulted => "faulted",
            Mode::Open { until } if now < until => "quarantined",
            Mode::Open { .. } | Mode::Probing(_) => "half_open",
            Mode::Closed if self.quarantined_devices(now) > 0 => "degraded",
            Mode::Closed => "active",
        }
    }

    /// Why no call is let in, if so; changes nothing.
    pub(super) fn refusal(&self, now: Duration) -> Option<Refusal> {
        match self.mode {
            Mode::Closed => None,
            Mode::Open { until } if now < until => Some(Refusal::PluginQuarantined(until - now)),
            Mode::Open { .. } | Mode::Probing(_) => Some(Refusal::Probing),
            Mode::Faulted => Some(Refusal::Faulted),
        }
    }

    /// Devices that are quarantined now.
    pub(super) fn quarantined_devices(&self, now: Duration) -> usize {
        self.quarantined.values().filter(|p| now < p.until).count()
    }

    pub(super) fn admit(&mut self, device: Option<&DeviceUid>, now: Duration) -> Result<Admission, Refusal> {
        if now >= self.purge_at {
            // A device without a fault for a window after its quarantine begins anew, with the shortest one.
            self.quarantined.retain(|_, p| now < p.until + WINDOW);
            self.purge_at = now + PURGE_EVERY;
        }
        if let Some(quarantine) = device.and_then(|d| self.quarantined.get(d))
            && now < quarantine.until
        {
            return Err(Refusal::DeviceQuarantined(quarantine.until - now));
        }
        match self.mode {
            Mode::Closed => Ok(Admission::Free),
            Mode::Open { until } if now < until => Err(Refusal::PluginQuarantined(until - now)),
            Mode::Open { .. } => {
                self.probes += 1;
                self.mode = Mode::Probing(self.probes);
                Ok(Admission::Probe(self.probes))
            }
            Mode::Probing(_) => Err(Refusal::Probing),
            Mode::Faulted => Err(Refusal::Faulted),
        }
    }

    pub(super) fn fault(
        &mut self,
        device: Option<&DeviceUid>,
        origin: FaultOrigin,
        admission: Admission,
        active: usize,
        now: Duration,
    ) -> Vec<Change> {
        if self.mode == Mode::Closed && now.saturating_sub(self.quiet_since) >= WINDOW {
            self.in_a_row = 0;
        }
        self.quiet_since = now;
        self.faults.add(device, origin, now);
        let probe = matches!(admission, Admission::Probe(n) if self.mode == Mode::Probing(n));
        let mut changes: Vec<_> = device.and_then(|d| self.quarantine_device(d, probe, now)).into_iter().collect();
        // Calls that were under way when the plugin was quarantined add nothing.
        if probe || (self.mode == Mode::Closed && self.widespread(active)) {
            changes.extend(self.quarantine_plugin(probe, now));
        }
        changes
    }

    /// Quarantines a device: one that failed often, one that was quarantined before, and one that failed the `probe`.
    /// Else the device that sends most would get, and fail, every probe that there is.
    fn quarantine_device(&mut self, device: &DeviceUid, probe: bool, now: Duration) -> Option<Change> {
        let former = self.quarantined.get(device).map(|p| p.lasted);
        if self.faults.of(device) < DEVICE_FAULTS && former.is_none() && !probe {
            return None;
        }
        let lasted = former.map_or(DEVICE_QUARANTINE, |f| (f * 2).min(DEVICE_QUARANTINE_MAX));
        if former.is_none() && self.quarantined.len() >= MAX_DEVICES {
            return None;
        }
        self.quarantined.insert(device.clone(), DeviceQuarantine { until: now + lasted, lasted });
        Some(Change::DeviceQuarantined(device.clone(), lasted))
    }

    fn widespread(&self, active: usize) -> bool {
        let (hot, platform) = (self.faults.hot(), self.faults.platform());
        let share = (active * SHARE_PERCENT).div_ceil(100).min(MAX_DEVICES);
        (hot.faults >= FAULTS && hot.devices >= DEVICES.max(share))
            || (platform.faults >= FAULTS && platform.devices >= PLATFORM_DEVICES)
    }

    fn quarantine_plugin(&mut self, again: bool, now: Duration) -> Vec<Change> {
        if !again {
            self.quarantines.retain(|at| now.saturating_sub(*at) < QUARANTINES_WITHIN);
            self.quarantines.push_back(now);
            if self.quarantines.len() >= QUARANTINES {
                self.mode = Mode::Faulted;
                return vec![Change::Faulted];
            }
        }
        let lasts = QUARANTINE.saturating_mul(1 << self.in_a_row.min(16)).min(QUARANTINE_MAX);
        self.in_a_row += 1;
        self.mode = Mode::Open { until: now + lasts };
        // After the probe, counting begins anew.
        self.faults.clear();
        vec![Change::PluginQuarantined(lasts)]
    }

    pub(super) fn recovered(&mut self, probe: u64, now: Duration) -> Option<Change> {
        (self.mode == Mode::Probing(probe)).then(|| {
            self.mode = Mode::Closed;
            self.quiet_since = now;
            Change::Recovered
        })
    }

    /// The probe ended without a result of the plugin's: the next call is the probe.
    pub(super) fn probe_lost(&mut self, probe: u64) {
        if self.mode == Mode::Probing(probe) {
            self.mode = Mode::Open { until: Duration::ZERO };
        }
    }
}
