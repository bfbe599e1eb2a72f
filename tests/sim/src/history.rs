//! What was asked of, read from and reported for one relay, and whether one order of it all explains every answer
//! (docs/PLATFORM.md#i5).
//!
//! A relay is a register whose writes count its version up. An operation that never returned (a timeout, a crash) may
//! have taken effect at any time after it began, or never; one that is known to have changed nothing is left out. An
//! order is looked for by a search with a memory, and has to satisfy stateright's linearizability tester too.

use std::collections::BTreeMap;

use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

use crate::order::{self, Operation};

/// What somebody does with a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Switch it, by command or by the device itself.
    Set(bool),
    /// Read its state and version.
    Read,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ret {
    /// It is stored as this version.
    Wrote(u64),
    /// It was so already (`noop`).
    Already,
    /// This state and version; none when it is unknown.
    Saw(Option<(bool, u64)>),
}

/// The register: state and version, none before the first write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Register(pub Option<(bool, u64)>);

impl Register {
    fn next_version(self) -> u64 {
        self.0.map_or(1, |(_, version)| version + 1)
    }
}

impl SequentialSpec for Register {
    type Op = Op;
    type Ret = Ret;
    fn invoke(&mut self, op: &Op) -> Ret {
        match op {
            Op::Set(on) => {
                let version = self.next_version();
                self.0 = Some((*on, version));
                Ret::Wrote(version)
            }
            Op::Read => Ret::Saw(self.0),
        }
    }
    fn is_valid_step(&mut self, op: &Op, ret: &Ret) -> bool {
        match (op, ret) {
            (Op::Set(on), Ret::Already) => self.0.is_some_and(|(is, _)| is == *on),
            _ => self.invoke(op) == *ret,
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    owner: Option<u32>,
    operation: Operation,
}

/// The history of one relay since its last rest.
#[derive(Clone, Debug)]
pub struct History {
    start: Register,
    entries: BTreeMap<u64, Entry>,
    time: u64,
    next: u64,
}

/// From so many ended operations on, a rest is used to check and forget them.
const LONG: usize = 10;

impl History {
    /// From what is stored.
    pub fn new(start: Option<(bool, u64)>) -> Self {
        Self { start: Register(start), entries: BTreeMap::new(), time: 0, next: 0 }
    }

    /// An operation begins, of this command or of nobody's; the number names it later.
    pub fn begin(&mut self, op: Op, owner: Option<u32>) -> u64 {
        self.time += 1;
        self.next += 1;
        self.entries.insert(self.next, Entry { owner, operation: Operation { op, began: self.time, ended: None } });
        self.next
    }
    /// Operation `number` returned this.
    pub fn end(&mut self, number: u64, ret: Ret) {
        self.time += 1;
        if let Some(entry) = self.entries.get_mut(&number) {
            entry.operation.ended = Some((self.time, ret));
        }
    }
    /// It is known to have changed nothing, and to do so never.
    pub fn nothing(&mut self, number: u64) {
        self.entries.remove(&number);
    }
    /// Somebody looks at it.
    pub fn read(&mut self, saw: Option<(bool, u64)>) {
        let number = self.begin(Op::Read, None);
        self.end(number, Ret::Saw(saw));
    }
    /// Whether enough is here for [`rest`](Self::rest) to be worth it.
    pub fn is_long(&self) -> bool {
        self.entries.len() >= LONG
    }
    /// Operations that have not returned, with their commands.
    pub fn open(&self) -> Vec<(u64, Option<u32>)> {
        self.entries.iter().filter(|(_, e)| e.operation.ended.is_none()).map(|(n, e)| (*n, e.owner)).collect()
    }

    /// Nothing is under way, and this is stored: looks for an order, and begins anew with what never returned.
    ///
    /// # Errors
    /// The history, when no order explains it.
    pub fn rest(&mut self, stored: Option<(bool, u64)>) -> Result<(), String> {
        self.read(stored);
        self.check()?;
        self.start = Register(stored);
        self.entries.retain(|_, entry| entry.operation.ended.is_none());
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        let operations: Vec<_> = self.entries.values().map(|e| e.operation).collect();
        let Some(order) = order::find(self.start, &operations) else {
            return Err(format!("no order explains, from {:?}: {operations:?}", self.start.0));
        };
        // The tester tries threads by their numbers: numbered in the order found, it goes straight to it.
        let mut place = vec![usize::MAX; operations.len()];
        for (at, operation) in order.iter().enumerate() {
            place[*operation] = at;
        }
        let mut events = Vec::with_capacity(operations.len() * 2);
        for (at, operation) in operations.iter().enumerate() {
            let thread = if place[at] == usize::MAX { operations.len() + at } else { place[at] };
            events.push((operation.began, thread, operation.op, None));
            events.extend(operation.ended.map(|(time, ret)| (time, thread, operation.op, Some(ret))));
        }
        events.sort_unstable_by_key(|e| e.0);
        let mut tester = LinearizabilityTester::new(self.start);
        for (_, thread, op, ret) in events {
            match ret {
                None => tester.on_invoke(thread, op).map(drop)?,
                Some(ret) => tester.on_return(thread, ret).map(drop)?,
            }
        }
        if tester.is_consistent() {
            return Ok(());
        }
        Err(format!("the testers disagree, from {:?}: {operations:?}", self.start.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_returned_may_have_happened_or_not() {
        let mut history = History::new(Some((false, 1)));
        let unknown = history.begin(Op::Set(true), None);
        history.read(Some((false, 1)));
        assert!(history.rest(Some((false, 1))).is_ok());
        assert_eq!(history.open(), [(unknown, None)]);
        history.read(Some((true, 2)));
        assert!(history.rest(Some((true, 2))).is_ok());
    }

    #[test]
    fn what_was_answered_is_seen() {
        let mut history = History::new(Some((false, 1)));
        let set = history.begin(Op::Set(true), None);
        history.end(set, Ret::Wrote(2));
        history.read(Some((false, 1)));
        assert!(history.rest(Some((true, 2))).unwrap_err().contains("no order"));
    }

    #[test]
    fn a_noop_needs_the_state_and_a_version_is_given_once() {
        let mut history = History::new(Some((false, 1)));
        let noop = history.begin(Op::Set(true), None);
        history.end(noop, Ret::Already);
        assert!(history.rest(Some((false, 1))).is_err());
        let mut history = History::new(None);
        for on in [true, false] {
            let set = history.begin(Op::Set(on), None);
            history.end(set, Ret::Wrote(1));
        }
        assert!(history.rest(Some((false, 1))).is_err());
    }
}
