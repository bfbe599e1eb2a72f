//! Random histories of one device's commands, against the reference.
//!
//! `PROPTEST_CASES=100000` runs more of them; a failure prints the shrunk history, and its seed goes to
//! `proptest-regressions`.

use hexa_model::RejectReason;
use hexa_model::driver::AckOutcome;
use proptest::prelude::*;

use crate::reference::{Pair, Step};

fn relays() -> impl Strategy<Value = Vec<(u16, bool)>> {
    prop_oneof![2 => Just(Vec::new()), 3 => prop::collection::vec((0..3_u16, any::<bool>()), 0..4)]
}

fn outcome() -> impl Strategy<Value = AckOutcome> {
    prop_oneof![
        4 => Just(AckOutcome::Executed),
        2 => Just(AckOutcome::Noop),
        1 => Just(AckOutcome::Rejected { reason: RejectReason::Busy, detail: None }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let index = prop_oneof![3 => (0..3_u16).prop_map(Some), 1 => Just(None)];
    prop_oneof![
        8 => (index, any::<bool>()).prop_map(|(index, on)| Step::Submit { index, on }),
        8 => (1..4_usize, any::<bool>()).prop_map(|(most, by_report)| Step::Encode { most, by_report }),
        1 => Just(Step::Unsendable),
        9 => (0..6_u32, outcome(), relays()).prop_map(|(ago, outcome, relays)| Step::Ack { ago, outcome, relays }),
        5 => relays().prop_map(|relays| Step::Report { relays }),
        4 => (0..4_u32).prop_map(|ago| Step::Deadline { ago }),
        1 => Just(Step::SessionLost),
        1 => Just(Step::Release),
        9 => prop::bool::weighted(0.85).prop_map(|ok| Step::Commit { ok }),
        9 => (0..4_usize).prop_map(|which| Step::Wake { which }),
        2 => Just(Step::Again),
    ]
}

/// 10,000 histories take some seconds; `PROPTEST_CASES` overrules.
fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(10_000);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_machine_does_what_the_reference_says(
        relay_count in 1..4_u16,
        steps in prop::collection::vec(step(), 1..80),
    ) {
        let mut pair = Pair::new(relay_count);
        for step in &steps {
            pair.step(step);
        }
        pair.finish();
    }

    /// More commands than are remembered, so that what falls out of memory is met too.
    #[test]
    fn what_is_forgotten_counts_for_nothing(
        ago in prop::collection::vec(0..80_u32, 1..40),
        outcome in outcome(),
    ) {
        let mut pair = Pair::new(1);
        for n in 0..60 {
            pair.step(&Step::Submit { index: Some(0), on: n % 2 == 0 });
            pair.step(&Step::Encode { most: 9, by_report: false });
            pair.step(&if n % 3 == 0 {
                Step::Deadline { ago: 0 }
            } else {
                Step::Ack { ago: 0, outcome: AckOutcome::Executed, relays: Vec::new() }
            });
        }
        for ago in ago {
            pair.step(&Step::Ack { ago, outcome: outcome.clone(), relays: Vec::new() });
            pair.step(&Step::Report { relays: vec![(0, ago % 2 == 0)] });
        }
        pair.finish();
    }
}
