//! The faults of the last minute, of which kind they were, and how many devices they came from.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::time::Duration;

use hexa_model::DeviceUid;

/// Faults are counted over this time, and a plugin or device without one for so long begins anew.
pub(super) const WINDOW: Duration = Duration::from_secs(60);
/// Most faults that are counted: of as many devices as a quarantine ever needs, all that each may have within the
/// window before it is quarantined.
const MAX_FAULTS: usize = 16_384;

/// What a faulty call was for, as far as the policy tells calls apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultOrigin {
    /// `decode-message`, which a device brings about.
    Device,
    /// `encode-command` or `open-session`, which the platform calls by itself.
    Platform,
    /// A cold call, which is never held against the plugin.
    Cold,
}

/// Faults of one kind, and of how many devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FaultCount {
    pub(super) faults: usize,
    pub(super) devices: usize,
}

/// Faults of one device, by kind.
#[derive(Debug, Default)]
struct DeviceFaults {
    all: usize,
    /// All but those of cold calls.
    hot: usize,
    platform: usize,
}

#[derive(Debug)]
struct FaultRecord {
    at: Duration,
    device: Option<DeviceUid>,
    origin: FaultOrigin,
}

/// Counted as they come and go, so that a fault costs the same however many there were.
#[derive(Debug, Default)]
pub(super) struct RecentFaults {
    records: VecDeque<FaultRecord>,
    by_device: HashMap<DeviceUid, DeviceFaults>,
    hot: FaultCount,
    platform: FaultCount,
}

impl RecentFaults {
    pub(super) fn add(&mut self, device: Option<&DeviceUid>, origin: FaultOrigin, now: Duration) {
        // Threads hand in their times in almost the order of these: a record that stays a moment too long does no harm.
        while self.records.front().is_some_and(|f| now.saturating_sub(f.at) >= WINDOW)
            || self.records.len() == MAX_FAULTS
        {
            self.remove_oldest();
        }
        let of_device = device.map(|d| self.by_device.entry(d.clone()).or_default());
        let (hot, platform) = (origin != FaultOrigin::Cold, origin == FaultOrigin::Platform);
        let first = |n: usize| usize::from(n == 1);
        if let Some(of_device) = of_device {
            of_device.all += 1;
            of_device.hot += usize::from(hot);
            of_device.platform += usize::from(platform);
            self.hot.devices += if hot { first(of_device.hot) } else { 0 };
            self.platform.devices += if platform { first(of_device.platform) } else { 0 };
        }
        self.hot.faults += usize::from(hot);
        self.platform.faults += usize::from(platform);
        self.records.push_back(FaultRecord { at: now, device: device.cloned(), origin });
    }

    fn remove_oldest(&mut self) {
        let Some(FaultRecord { device, origin, .. }) = self.records.pop_front() else { return };
        let (hot, platform) = (origin != FaultOrigin::Cold, origin == FaultOrigin::Platform);
        self.hot.faults -= usize::from(hot);
        self.platform.faults -= usize::from(platform);
        let Some(Entry::Occupied(mut of_device)) = device.map(|d| self.by_device.entry(d)) else { return };
        let left = of_device.get_mut();
        left.all -= 1;
        left.hot -= usize::from(hot);
        left.platform -= usize::from(platform);
        self.hot.devices -= usize::from(hot && left.hot == 0);
        self.platform.devices -= usize::from(platform && left.platform == 0);
        if left.all == 0 {
            of_device.remove();
        }
    }

    /// Faults of this device, of whatever kind.
    pub(super) fn of(&self, device: &DeviceUid) -> usize {
        self.by_device.get(device).map_or(0, |f| f.all)
    }

    /// Faults of all but cold calls.
    pub(super) fn hot(&self) -> FaultCount {
        self.hot
    }

    /// Faults of `encode-command` and `open-session`.
    pub(super) fn platform(&self) -> FaultCount {
        self.platform
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn counted(faults: &[(u64, usize, FaultOrigin)], of: &dyn Fn(FaultOrigin) -> bool) -> FaultCount {
        let of: Vec<_> = faults.iter().filter(|f| of(f.2)).collect();
        FaultCount { faults: of.len(), devices: of.iter().map(|f| f.1).collect::<HashSet<_>>().len() }
    }

    proptest! {
        /// It counts what counting everything anew would.
        #[test]
        fn what_comes_and_goes_is_counted(steps in proptest::collection::vec((0..30u64, 0..6usize, 0..3u8), 0..200)) {
            let mut recent = RecentFaults::default();
            let (mut now, mut all) = (0, Vec::new());
            for (wait, n, origin) in steps {
                let origin = [FaultOrigin::Device, FaultOrigin::Platform, FaultOrigin::Cold][usize::from(origin)];
                now += wait;
                let device = DeviceUid::parse(&format!("hx{n:016}")).unwrap();
                recent.add(Some(&device), origin, Duration::from_secs(now));
                all.push((now, n, origin));
                all.retain(|f| now - f.0 < WINDOW.as_secs());
                prop_assert_eq!(recent.hot(), counted(&all, &|f| f != FaultOrigin::Cold));
                prop_assert_eq!(recent.platform(), counted(&all, &|f| f == FaultOrigin::Platform));
                prop_assert_eq!(recent.of(&device), all.iter().filter(|f| f.1 == n).count());
            }
        }
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut recent = RecentFaults::default();
        for n in 0..3 * MAX_FAULTS {
            recent.add(Some(&DeviceUid::parse(&format!("hx{n:016}")).unwrap()), FaultOrigin::Device, Duration::ZERO);
        }
        assert_eq!(
            (recent.hot().faults, recent.hot().devices, recent.by_device.len()),
            (MAX_FAULTS, MAX_FAULTS, MAX_FAULTS)
        );
    }
}
