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
        let candidate = (*from..operations.len()).find_map(|at| {
            // Whatever began after something else had returned comes after it.
            if taken.has(at) || operations[at].began > soonest {
                return None;
            }
            let next = step(*state, &operations[at])?;
            let more = taken.with(at);
            (!been.contains(&(more.clone(), next.0))).then_some((at, more, next))
        });
        if let Some((at, more, next)) = candidate {
            *from = at + 1;
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

fn step(mut state: Register, operation: &Operation) -> Option<Register> {
    match operation.ended {
        Some((_, ret)) => state.is_valid_step(&operation.op, &ret).then_some(state),
        None => {
            state.invoke(&operation.op);
            Some(state)
        }
    }
}
