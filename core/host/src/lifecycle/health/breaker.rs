//! The rules themselves.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use hexa_model::DeviceUid;

use super::recent::Recent;

/// Faults are counted over this time, and a plugin or device without one for so long begins anew.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Faults of one device within the window that quarantine it.
pub(super) const POISON_FAULTS: usize = 3;
const POISON: Duration = Duration::from_secs(30);
const POISON_MAX: Duration = Duration::from_secs(600);
/// Faults within the window, and the devices that they come from, that quarantine the plugin.
pub(super) const FAULTS: usize = 5;
pub(super) const DEVICES: usize = 5;
/// At least this part of the active devices, in percent: a few hostile devices must not switch off a class.
const SHARE_PERCENT: usize = 5;
/// For faults in `encode-command` and `open-session`, which no frame of a device brings about: so many devices are
/// enough, whatever their share. Never one alone: what a device makes its driver remember reaches these calls too.
pub(super) const OWN_DEVICES: usize = 3;
const QUARANTINE: Duration = Duration::from_secs(1);
const QUARANTINE_MAX: Duration = Duration::from_secs(300);
/// Quarantines within this time that end in `faulted`.
pub(super) const QUARANTINES: usize = 3;
const QUARANTINES_WITHIN: Duration = Duration::from_secs(3600);
/// How often poisoned devices are gone through.
const FORGET_EVERY: Duration = Duration::from_secs(1);
/// Devices that are remembered as poisoned, and as many as are ever needed to quarantine a plugin.
const MOST_DEVICES: usize = 4096;

/// Where a fault happened, as far as the policy tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    /// A message of the device was decoded.
    Decode,
    /// `encode-command` or `open-session`.
    Own,
    /// A cold call: never more than the device's own trouble.
    Cold,
}

/// Why a call is refused without entering the plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// This device is quarantined for so long.
    Poisoned(Duration),
    /// The plugin is, for so long.
    Quarantined(Duration),
    /// Another call is finding out whether it is well again.
    Probing,
    /// Until an admin acts.
    Faulted,
}

/// What is to be told to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A device is quarantined.
    Poisoned(DeviceUid, Duration),
    /// The plugin is.
    Quarantined(Duration),
    /// A probe went well.
    Recovered,
    /// Too often quarantined.
    Faulted,
}

/// How a call is let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pass {
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
struct Poison {
    until: Duration,
    lasted: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Breaker {
    mode: Mode,
    faults: Recent,
    poisoned: HashMap<DeviceUid, Poison>,
    forget_at: Duration,
    /// Times in a row that the plugin was quarantined; the exponent of the next one.
    in_a_row: u32,
    /// The last fault, or the end of the last quarantine.
    quiet_since: Duration,
    quarantines: VecDeque<Duration>,
    /// Probes that there were so far.
    probes: u64,
}

impl Breaker {
    /// Whether calls must be looked at one by one.
    pub(super) fn troubled(&self) -> bool {
        self.mode != Mode::Closed || !self.poisoned.is_empty()
    }

    /// All is forgotten but the number of the last probe, which may still be under way.
    pub(super) fn reset(&mut self) {
        *self = Self { probes: self.probes, ..Self::default() };
    }

    pub(super) fn state(&self, now: Duration) -> &'static str {
        match self.mode {
            Mode::Faulted => "faulted",
            Mode::Open { until } if now < until => "quarantined",
            Mode::Open { .. } | Mode::Probing(_) => "half_open",
            Mode::Closed if self.poisoned(now) > 0 => "degraded",
            Mode::Closed => "active",
        }
    }

    /// Why nobody is let in, if so; looks only.
    pub(super) fn refusal(&self, now: Duration) -> Option<Refusal> {
        match self.mode {
            Mode::Closed => None,
            Mode::Open { until } if now < until => Some(Refusal::Quarantined(until - now)),
            Mode::Open { .. } | Mode::Probing(_) => Some(Refusal::Probing),
            Mode::Faulted => Some(Refusal::Faulted),
        }
    }

    pub(super) fn poisoned(&self, now: Duration) -> usize {
        self.poisoned.values().filter(|p| now < p.until).count()
    }

    pub(super) fn admit(&mut self, device: Option<&DeviceUid>, now: Duration) -> Result<Pass, Refusal> {
        if now >= self.forget_at {
            // Whoever was well for a window after its time is forgotten, also how long it had lasted.
            self.poisoned.retain(|_, p| now < p.until + WINDOW);
            self.forget_at = now + FORGET_EVERY;
        }
        if let Some(poison) = device.and_then(|d| self.poisoned.get(d))
            && now < poison.until
        {
            return Err(Refusal::Poisoned(poison.until - now));
        }
        match self.mode {
            Mode::Closed => Ok(Pass::Free),
            Mode::Open { until } if now < until => Err(Refusal::Quarantined(until - now)),
            Mode::Open { .. } => {
                self.probes += 1;
                self.mode = Mode::Probing(self.probes);
                Ok(Pass::Probe(self.probes))
            }
            Mode::Probing(_) => Err(Refusal::Probing),
            Mode::Faulted => Err(Refusal::Faulted),
        }
    }

    pub(super) fn fault(
        &mut self,
        device: Option<&DeviceUid>,
        function: Function,
        pass: Pass,
        active: usize,
        now: Duration,
    ) -> Vec<Change> {
        if self.mode == Mode::Closed && now.saturating_sub(self.quiet_since) >= WINDOW {
            self.in_a_row = 0;
        }
        self.quiet_since = now;
        self.faults.add(device, function, now);
        let probe = matches!(pass, Pass::Probe(n) if self.mode == Mode::Probing(n));
        let mut changes: Vec<_> = device.and_then(|d| self.poison(d, probe, now)).into_iter().collect();
        // Calls that were under way when the plugin was quarantined add nothing.
        if probe || (self.mode == Mode::Closed && self.widespread(active)) {
            changes.extend(self.quarantine(probe, now));
        }
        changes
    }

    /// Quarantines a device: one that failed often, one that was quarantined before, and one that failed the `probe`. Else
    /// the device that talks most would get, and fail, every probe that there is.
    fn poison(&mut self, device: &DeviceUid, probe: bool, now: Duration) -> Option<Change> {
        let former = self.poisoned.get(device).map(|p| p.lasted);
        if self.faults.of(device) < POISON_FAULTS && former.is_none() && !probe {
            return None;
        }
        let lasted = former.map_or(POISON, |f| (f * 2).min(POISON_MAX));
        if former.is_none() && self.poisoned.len() >= MOST_DEVICES {
            return None;
        }
        self.poisoned.insert(device.clone(), Poison { until: now + lasted, lasted });
        Some(Change::Poisoned(device.clone(), lasted))
    }

    fn widespread(&self, active: usize) -> bool {
        let (hot, own) = (self.faults.hot(), self.faults.own());
        let share = (active * SHARE_PERCENT).div_ceil(100).min(MOST_DEVICES);
        (hot.faults >= FAULTS && hot.devices >= DEVICES.max(share))
            || (own.faults >= FAULTS && own.devices >= OWN_DEVICES)
    }

    fn quarantine(&mut self, again: bool, now: Duration) -> Vec<Change> {
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
        // What led here is dealt with: after the probe, counting begins anew.
        self.faults.clear();
        vec![Change::Quarantined(lasts)]
    }

    pub(super) fn recovered(&mut self, probe: u64, now: Duration) -> Option<Change> {
        (self.mode == Mode::Probing(probe)).then(|| {
            self.mode = Mode::Closed;
            self.quiet_since = now;
            Change::Recovered
        })
    }

    /// The probe ended without saying anything about the plugin: the next call is one.
    pub(super) fn probe_lost(&mut self, probe: u64) {
        if self.mode == Mode::Probing(probe) {
            self.mode = Mode::Open { until: Duration::ZERO };
        }
    }
}
