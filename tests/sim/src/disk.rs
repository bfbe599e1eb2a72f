//! The store in memory: what is committed outlives a crash, what is queued does not.

use std::collections::{BTreeMap, VecDeque};

use hexa_model::audit::{RelaySets, RelayStates};
use hexa_model::{Outcome, RelayState, TimeMs};

use crate::world::Broken;

/// Why something is written; commands by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The device answered an open command.
    Answer(u32, Outcome),
    /// It answered a timed-out one.
    Late(u32),
    /// It reported; healed the newest of these timed-out commands.
    Report(Option<u32>),
    /// An older timed-out command was healed too.
    Healed(u32),
    /// A command ended without an answer.
    Ended(u32, Outcome),
}

impl Why {
    /// The audit row that is due: command, whether it is the follow-up, outcome.
    pub(crate) fn row(self) -> (Option<u32>, bool, Outcome) {
        match self {
            Self::Answer(n, outcome) | Self::Ended(n, outcome) => (Some(n), false, outcome),
            Self::Late(n) => (Some(n), true, Outcome::LateAck),
            Self::Healed(n) | Self::Report(Some(n)) => (Some(n), true, Outcome::Healed),
            Self::Report(None) => (None, false, Outcome::Done),
        }
    }
}

/// A transaction that is queued.
#[derive(Clone, Debug)]
pub(crate) struct Queued {
    pub(crate) number: u64,
    pub(crate) device: usize,
    pub(crate) why: Why,
    pub(crate) sets: RelaySets,
    /// Of the device's writes.
    pub(crate) place: u64,
    /// Whether it is a second try of a write that failed.
    pub(crate) again: bool,
}

/// The primary row of a command, and its follow-up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rows {
    pub(crate) primary: Option<Outcome>,
    pub(crate) follow_up: Option<Outcome>,
}

/// Everything that is stored.
#[derive(Debug)]
pub(crate) struct Disk {
    relays: Vec<Vec<Option<(bool, u64)>>>,
    rows: BTreeMap<u32, Rows>,
    queue: VecDeque<Queued>,
    pub(crate) commits: u64,
}

impl Disk {
    pub(crate) fn new(relay_counts: &[u16]) -> Self {
        let per_relay = |n: &u16| vec![None; usize::from(*n)];
        Self {
            relays: relay_counts.iter().map(per_relay).collect(),
            rows: BTreeMap::new(),
            queue: VecDeque::new(),
            commits: 0,
        }
    }

    pub(crate) fn get(&self, device: usize, index: u16) -> Option<(bool, u64)> {
        self.relays[device][usize::from(index)]
    }
    pub(crate) fn states(&self, device: usize) -> RelayStates {
        let known = |(index, slot): (usize, &Option<(bool, u64)>)| {
            slot.map(|(on, version)| RelayState { index: index as u16, on, version, updated_at: TimeMs(0) })
        };
        self.relays[device].iter().enumerate().filter_map(known).collect()
    }
    pub(crate) fn rows(&self, command: u32) -> Rows {
        self.rows.get(&command).copied().unwrap_or_default()
    }
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }
    pub(crate) fn submit(&mut self, write: Queued) {
        self.queue.push_back(write);
    }

    /// The next so many, as one transaction that failed: nothing of them is stored.
    pub(crate) fn fail(&mut self, most: usize) -> Vec<Queued> {
        self.queue.drain(..most.min(self.queue.len())).collect()
    }

    /// The next so many, as one transaction.
    pub(crate) fn commit(&mut self, most: usize) -> Result<Vec<(Queued, RelayStates)>, Broken> {
        self.commits += 1;
        let batch: Vec<_> = self.queue.drain(..most.min(self.queue.len())).collect();
        batch.into_iter().map(|write| self.store(write)).collect()
    }

    fn store(&mut self, write: Queued) -> Result<(Queued, RelayStates), Broken> {
        let (command, follow_up, outcome) = write.why.row();
        if let Some(n) = command {
            let rows = self.rows.entry(n).or_default();
            let row = if follow_up { &mut rows.follow_up } else { &mut rows.primary };
            if let Some(former) = row.replace(outcome) {
                return Err(Broken::new("I2", format!("command {n} has a second row: {former:?}, then {outcome:?}")));
            }
            // The row of a timeout may come after its follow-up when the disk did not take it, but no other end has one.
            if follow_up && !matches!(rows.primary, None | Some(Outcome::Timeout)) {
                return Err(Broken::new("I8", format!("command {n} ended {:?} and then {outcome:?}", rows.primary)));
            }
        }
        let mut stored = RelayStates::new();
        for set in &write.sets {
            let slot = &mut self.relays[write.device][usize::from(set.index)];
            let version = slot.map_or(0, |(_, v)| v) + 1;
            *slot = Some((set.on, version));
            stored.push(RelayState { index: set.index, on: set.on, version, updated_at: TimeMs(0) });
        }
        Ok((write, stored))
    }

    /// The process dies. The transaction that was being committed may be on the disk without anybody knowing.
    pub(crate) fn crash(&mut self, committing: usize) -> Result<(), Broken> {
        self.commit(committing)?;
        self.queue.clear();
        Ok(())
    }
}
