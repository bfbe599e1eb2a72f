//! The faults of the last minute, and how many devices they came from.

use std::collections::VecDeque;
use std::collections::hash_map::{Entry, HashMap};
use std::time::Duration;

use hexa_model::DeviceUid;

use super::breaker::{Function, WINDOW};

/// Faults that are remembered: of as many devices as a quarantine ever needs, all that each may have within the window
/// before it is quarantined.
const REMEMBERED: usize = 16_384;

/// Faults of one kind, and of how many devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spread {
    pub(super) faults: usize,
    pub(super) devices: usize,
}

/// Faults of one device.
#[derive(Debug, Default)]
struct Faults {
    all: usize,
    /// All but those of cold calls.
    hot: usize,
    own: usize,
}

#[derive(Debug)]
struct Seen {
    at: Duration,
    device: Option<DeviceUid>,
    function: Function,
}

/// Counted as they come and go, so that a fault costs the same however many there were.
#[derive(Debug, Default)]
pub(super) struct Recent {
    seen: VecDeque<Seen>,
    by_device: HashMap<DeviceUid, Faults>,
    hot: Spread,
    own: Spread,
}

impl Recent {
    pub(super) fn add(&mut self, device: Option<&DeviceUid>, function: Function, now: Duration) {
        // Threads hand in their times in almost the order of these: what is kept a moment too long does no harm.
        while self.seen.front().is_some_and(|f| now.saturating_sub(f.at) >= WINDOW) || self.seen.len() == REMEMBERED {
            self.forget_first();
        }
        let of_device = device.map(|d| self.by_device.entry(d.clone()).or_default());
        let (hot, own) = (function != Function::Cold, function == Function::Own);
        let first = |n: usize| usize::from(n == 1);
        if let Some(of_device) = of_device {
            of_device.all += 1;
            of_device.hot += usize::from(hot);
            of_device.own += usize::from(own);
            self.hot.devices += if hot { first(of_device.hot) } else { 0 };
            self.own.devices += if own { first(of_device.own) } else { 0 };
        }
        self.hot.faults += usize::from(hot);
        self.own.faults += usize::from(own);
        self.seen.push_back(Seen { at: now, device: device.cloned(), function });
    }

    fn forget_first(&mut self) {
        let Some(Seen { device, function, .. }) = self.seen.pop_front() else { return };
        let (hot, own) = (function != Function::Cold, function == Function::Own);
        self.hot.faults -= usize::from(hot);
        self.own.faults -= usize::from(own);
        let Some(Entry::Occupied(mut of_device)) = device.map(|d| self.by_device.entry(d)) else { return };
        let left = of_device.get_mut();
        left.all -= 1;
        left.hot -= usize::from(hot);
        left.own -= usize::from(own);
        self.hot.devices -= usize::from(hot && left.hot == 0);
        self.own.devices -= usize::from(own && left.own == 0);
        if left.all == 0 {
            of_device.remove();
        }
    }

    /// Faults of this device, of whatever kind.
    pub(super) fn of(&self, device: &DeviceUid) -> usize {
        self.by_device.get(device).map_or(0, |f| f.all)
    }

    /// Of all but cold calls.
    pub(super) fn hot(&self) -> Spread {
        self.hot
    }

    /// Of `encode-command` and `open-session`.
    pub(super) fn own(&self) -> Spread {
        self.own
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

    fn spread(faults: &[(u64, usize, Function)], of: &dyn Fn(Function) -> bool) -> Spread {
        let of: Vec<_> = faults.iter().filter(|f| of(f.2)).collect();
        Spread { faults: of.len(), devices: of.iter().map(|f| f.1).collect::<HashSet<_>>().len() }
    }

    proptest! {
        /// It counts what counting everything anew would.
        #[test]
        fn what_comes_and_goes_is_counted(steps in proptest::collection::vec((0..30u64, 0..6usize, 0..3u8), 0..200)) {
            let mut recent = Recent::default();
            let (mut now, mut all) = (0, Vec::new());
            for (wait, n, function) in steps {
                let function = [Function::Decode, Function::Own, Function::Cold][usize::from(function)];
                now += wait;
                let device = DeviceUid::parse(&format!("hx{n:016}")).unwrap();
                recent.add(Some(&device), function, Duration::from_secs(now));
                all.push((now, n, function));
                all.retain(|f| now - f.0 < WINDOW.as_secs());
                prop_assert_eq!(recent.hot(), spread(&all, &|f| f != Function::Cold));
                prop_assert_eq!(recent.own(), spread(&all, &|f| f == Function::Own));
                prop_assert_eq!(recent.of(&device), all.iter().filter(|f| f.1 == n).count());
            }
        }
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut recent = Recent::default();
        for n in 0..3 * REMEMBERED {
            recent.add(Some(&DeviceUid::parse(&format!("hx{n:016}")).unwrap()), Function::Decode, Duration::ZERO);
        }
        assert_eq!(
            (recent.hot().faults, recent.hot().devices, recent.by_device.len()),
            (REMEMBERED, REMEMBERED, REMEMBERED)
        );
    }
}
