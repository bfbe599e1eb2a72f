//! The last known relay states of one device.
//!
//! Two values per relay: what is committed, and what is on its way to the disk (`projected`). Reports are compared
//! with the projected one, so that a report behind an acknowledgement does not count as a change of its own.

use std::collections::VecDeque;

use hexa_model::audit::{RelaySets, RelayStates};
use hexa_model::{CommandId, RelayState, Source, TimeMs};
use smallvec::SmallVec;

/// A change that is on the disk.
#[derive(Clone, Debug)]
pub struct Change {
    /// Where the change came from: its command's source, or the device itself.
    pub source: Source,
    /// The command that did it.
    pub command: Option<CommandId>,
    /// The stored states with their versions.
    pub relays: RelayStates,
    /// When it was committed.
    pub at: TimeMs,
}

/// States of one device, by index.
#[derive(Debug, Default)]
pub struct RelayCache {
    slots: SmallVec<[Slot; 4]>,
    committed: VecDeque<Change>,
    /// How many writes were given out, which is the number of the last one.
    writes: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    version: u64,
    updated_at: TimeMs,
    committed: Option<bool>,
    projected: Option<bool>,
    /// Writes under way: given out and neither arrived nor failed.
    under_way: u32,
    /// The last write that was given out.
    latest: u64,
}

impl RelayCache {
    /// From the stored rows; relays without a row are unknown.
    pub fn new(relay_count: u16, stored: &[RelayState]) -> Self {
        let slots = SmallVec::from_elem(Slot::default(), usize::from(relay_count));
        let mut cache = Self { slots, committed: VecDeque::new(), writes: 0 };
        for state in stored {
            if let Some(slot) = cache.slots.get_mut(usize::from(state.index)) {
                *slot = Slot {
                    version: state.version,
                    updated_at: state.updated_at,
                    committed: Some(state.on),
                    projected: Some(state.on),
                    under_way: 0,
                    latest: 0,
                };
            }
        }
        cache
    }

    /// How many relays the device has.
    pub fn relay_count(&self) -> u16 {
        self.slots.len() as u16
    }

    /// The committed state of one relay.
    pub fn get(&self, index: u16) -> Option<RelayState> {
        let slot = self.slots.get(usize::from(index))?;
        slot.committed.map(|on| RelayState { index, on, version: slot.version, updated_at: slot.updated_at })
    }

    /// All committed states; unknown relays are missing.
    pub fn all(&self) -> RelayStates {
        (0..self.relay_count()).filter_map(|i| self.get(i)).collect()
    }

    /// What the relay has, or will have once the writes under way are committed.
    pub fn projected(&self, index: u16) -> Option<bool> {
        self.slots.get(usize::from(index))?.projected
    }

    /// Whether that is on the disk: no write of this relay is under way.
    pub fn is_settled(&self, index: u16) -> bool {
        self.slots.get(usize::from(index)).is_some_and(|s| s.under_way == 0)
    }

    /// These states are on their way to the disk, in this order; gives the number of the write.
    pub fn project(&mut self, sets: &RelaySets) -> u64 {
        self.writes += 1;
        for set in sets {
            if let Some(slot) = self.slots.get_mut(usize::from(set.index)) {
                slot.projected = Some(set.on);
                slot.under_way += 1;
                slot.latest = self.writes;
            }
        }
        self.writes
    }

    /// Whether no later write than this one was given out for a relay.
    pub fn is_latest(&self, index: u16, number: u64) -> bool {
        self.slots.get(usize::from(index)).is_some_and(|s| s.latest == number)
    }

    /// A write failed: what these relays have is unknown until the next report, which then counts as a change, unless
    /// something later is on its way for them.
    pub fn forget_projected(&mut self, sets: &RelaySets, number: u64) {
        for set in sets {
            if let Some(slot) = self.slots.get_mut(usize::from(set.index)) {
                if slot.latest == number {
                    slot.projected = None;
                }
                slot.under_way = slot.under_way.saturating_sub(1);
            }
        }
    }

    /// A change was committed. Called by the writer, in the order of the commits, so that whoever publishes next tells
    /// all of them in this order.
    pub fn record_commit(&mut self, change: Change) {
        for state in &change.relays {
            if let Some(slot) = self.slots.get_mut(usize::from(state.index)) {
                slot.under_way = slot.under_way.saturating_sub(1);
            }
        }
        self.committed.push_back(change);
    }

    /// Applies the next committed change; `None` when all are applied.
    pub fn next_change(&mut self) -> Option<Change> {
        let mut change = self.committed.pop_front()?;
        change.relays = self.apply(&change.relays);
        Some(change)
    }

    /// Takes committed states; those with a version not above the known one are dropped. Gives what was taken.
    fn apply(&mut self, states: &RelayStates) -> RelayStates {
        let mut taken = RelayStates::new();
        for state in states {
            let Some(slot) = self.slots.get_mut(usize::from(state.index)) else { continue };
            if state.version > slot.version {
                slot.version = state.version;
                slot.committed = Some(state.on);
                slot.updated_at = state.updated_at;
                taken.push(*state);
            }
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use hexa_model::audit::RelaySet;
    use smallvec::smallvec;

    use super::*;

    fn state(index: u16, on: bool, version: u64) -> RelayState {
        RelayState { index, on, version, updated_at: TimeMs(version as i64) }
    }

    #[test]
    fn versions_never_go_back() {
        let mut cache = RelayCache::new(2, &[state(0, true, 5)]);
        assert!(cache.apply(&smallvec![state(0, false, 5)]).is_empty());
        assert_eq!(cache.apply(&smallvec![state(0, false, 7), state(1, true, 1)]).len(), 2);
        assert!(cache.apply(&smallvec![state(0, true, 6)]).is_empty());
        assert_eq!(cache.get(0).map(|s| (s.on, s.version)), Some((false, 7)));
        assert_eq!(cache.all().len(), 2);
    }

    #[test]
    fn a_projected_state_is_not_a_committed_one() {
        let mut cache = RelayCache::new(1, &[state(0, false, 1)]);
        let sets: RelaySets = smallvec![RelaySet { index: 0, on: true }];
        let number = cache.project(&sets);
        assert_eq!((cache.projected(0), cache.get(0).map(|s| s.on)), (Some(true), Some(false)));
        cache.forget_projected(&sets, number);
        assert_eq!(cache.projected(0), None);
        assert_eq!(cache.projected(9), None);
    }

    #[test]
    fn a_failed_write_takes_nothing_from_a_later_one() {
        let mut cache = RelayCache::new(2, &[state(0, false, 1)]);
        let (on, off): (RelaySets, RelaySets) =
            (smallvec![RelaySet { index: 0, on: true }], smallvec![RelaySet { index: 0, on: false }]);
        let (first, second) = (cache.project(&on), cache.project(&off));
        assert!(!cache.is_latest(0, first) && cache.is_latest(0, second) && !cache.is_latest(9, second));
        cache.forget_projected(&on, first);
        assert_eq!(cache.projected(0), Some(false), "the later one is still on its way");
        assert!(!cache.is_settled(0));
        cache.forget_projected(&off, second);
        assert_eq!((cache.projected(0), cache.is_settled(0)), (None, true));
    }
}
