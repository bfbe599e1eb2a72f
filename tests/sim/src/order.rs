//! Looks for an order of operations that explains every answer, remembering where it has been (Wing and Gong, with
//! Lowe's memory). It says yes or no quickly where the tester of stateright would try every order of a wrong history;
//! the order that it finds is given to that tester, which has to agree.

use std::collections::HashSet;

use stateright::semantics::SequentialSpec;

use crate::history::{Op, Register, Ret};

/// An operation; what never returned may be left out of the order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    pub(crate) op: Op,
    pub(crate) began: u64,
    pub(crate) ended: Option<(u64, Ret)>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Taken(Vec<u64>);

impl Taken {
    fn has(&self, at: usize) -> bool {
        self.0[at / 64] & (1 << (at % 64)) != 0
    }
    fn with(&self, at: usize) -> Self {
        let mut more = self.clone();
        more.0[at / 64] |= 1 << (at % 64);
        more
    }
}

/// Positions of `operations` in an order that explains them, if there is one.
pub(crate) fn find(start: Register, operations: &[Operation]) -> Option<Vec<usize>> {
    let mut been = HashSet::new();
    let none = Taken(vec![0; operations.len().div_ceil(64).max(1)]);
    // Each level: what is taken, the state, and the next candidate to try.
    let mut path = vec![(none, start, 0_usize)];
    let mut order = Vec::new();
    while let Some((taken, state, from)) = path.last_mut() {
        let waiting = |at: usize| !taken.has(at) && operations[at].ended.is_some();
        let Some(soonest) =
            (0..operations.len()).filter(|at| waiting(*at)).filter_map(|at| operations[at].ended).map(|e| e.0).min()
        else {
            return Some(order);
        };
        let candidate = candidates(taken, operations, soonest, *state).into_iter().skip(*from).find_map(|at| {
            *from += 1;
            let next = step(*state, &operations[at])?;
            let more = taken.with(at);
            (!been.contains(&(more.clone(), next.0))).then_some((more, next, at))
        });
        if let Some((more, next, at)) = candidate {
            been.insert((more.clone(), next.0));
            order.push(at);
            path.push((more, next, 0));
        } else {
            path.pop();
            order.pop();
        }
    }
    None
}

/// What may come next: nothing that began after something else had returned. An answer that changes nothing and fits
/// is taken at once, for it can only stop fitting; of those that never returned and do the same, the first one is as
/// good as any.
fn candidates(taken: &Taken, operations: &[Operation], soonest: u64, state: Register) -> Vec<usize> {
    let (mut found, mut on, mut off) = (Vec::new(), false, false);
    for (at, operation) in operations.iter().enumerate() {
        if taken.has(at) || operation.began > soonest {
            continue;
        }
        match (operation.op, operation.ended) {
            (_, Some((_, Ret::Already | Ret::Saw(_)))) if step(state, operation) == Some(state) => return vec![at],
            (Op::Set(true), None) if std::mem::replace(&mut on, true) => {}
            (Op::Set(false), None) if std::mem::replace(&mut off, true) => {}
            _ => found.push(at),
        }
    }
    // What returned first: an operation of unknown end is the last resort.
    found.sort_by_key(|at| operations[*at].ended.is_none());
    found
}

fn step(mut state: Register, operation: &Operation) -> Option<Register> {
    if let Some((_, ret)) = operation.ended {
        return state.is_valid_step(&operation.op, &ret).then_some(state);
    }
    state.invoke(&operation.op);
    Some(state)
}
