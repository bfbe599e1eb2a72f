//! Fresh seeds hold, the same seed runs the same, and every rule that is broken on purpose is found.

use std::time::Instant;

use hexa_model::{Clock, SystemClock};
use hexa_simulation::{Fault, Plan, Tally, run, run_logged};

/// `HEXA_SEED` runs from this one again.
fn base() -> u64 {
    let given = std::env::var("HEXA_SEED").ok().and_then(|s| s.parse().ok());
    given.unwrap_or_else(|| SystemClock::new().now().0 as u64)
}

fn plan(seed: u64) -> Plan {
    Plan { seed, rounds: 2, fault: None }
}

/// Ten parts, so that a long run uses all cores and none of them takes minutes.
macro_rules! parts {
    ($($name:ident = $part:literal),*) => { $(
        #[test]
        fn $name() {
            hold($part);
        }
    )* };
}
parts!(
    fresh_seeds_hold_0 = 0,
    fresh_seeds_hold_1 = 1,
    fresh_seeds_hold_2 = 2,
    fresh_seeds_hold_3 = 3,
    fresh_seeds_hold_4 = 4,
    fresh_seeds_hold_5 = 5,
    fresh_seeds_hold_6 = 6,
    fresh_seeds_hold_7 = 7,
    fresh_seeds_hold_8 = 8,
    fresh_seeds_hold_9 = 9
);

#[expect(clippy::print_stdout, reason = "the base seed is printed, so that a failure can be run again")]
fn hold(part: u64) {
    let seeds = if std::env::var_os("HEXA_LONG").is_some() { 1_000 } else { 30 };
    let base = base().wrapping_add(part * 1_000_000_007);
    println!("base seed {base}");
    let (started, mut total) = (Instant::now(), Tally::default());
    for seed in (0..seeds).map(|n| base.wrapping_add(n)) {
        match run(plan(seed)) {
            Ok(tally) => total.add(&tally),
            Err(violation) => panic!("{violation}\nagain: cargo xtask sim --seed {seed} --rounds 2"),
        }
    }
    println!("{seeds} seeds, {} events in {:.1} s\n{total}", total.events, started.elapsed().as_secs_f64());
    // A simulation in which nothing went wrong would hold as well.
    let met = [total.timeouts, total.late_acks, total.duplicate_acks, total.foreign_acks, total.healed];
    let later = [total.stored_later, total.releases];
    let trouble = [total.takeovers, total.crashes, total.failed_commits, total.histories, later[0], later[1]];
    assert!(met.iter().chain(&trouble).all(|n| *n > 0), "something was never met:\n{total}");
}

#[test]
fn a_seed_runs_the_same_twice() {
    let logged = |seed| {
        let (events, end) = run_logged(plan(seed));
        let tally = end.unwrap_or_else(|violation| panic!("{violation}"));
        assert_eq!(events.len() as u64, tally.events, "every event is logged");
        (events, tally)
    };
    for seed in 1..6 {
        assert_eq!(logged(seed), logged(seed));
    }
    assert_ne!(logged(1).0, logged(2).0);
}

#[test]
fn every_broken_rule_is_found() {
    for fault in Fault::ALL {
        let found = (1..=40).find_map(|seed| {
            let violation = run(Plan { fault: Some(fault), ..plan(seed) }).err()?;
            Some((seed, violation))
        });
        let Some((seed, violation)) = found else { panic!("{fault:?} was not found in 40 seeds") };
        println!("{fault:?}: {} after {seed} seeds: {}", violation.invariant, violation.what);
        println!("again: cargo xtask sim --seed {seed} --rounds 2 --fault {fault:?}");
        let expected: &[&str] = match fault {
            Fault::BroadcastBeforeCommit => &["I10"],
            Fault::AnswerBeforeCommit => &["I1", "I14"],
            Fault::ForeignAck => &["I7"],
            Fault::DuplicateAck => &["I2", "I8"],
            Fault::DirtyRead => &["I5"],
            Fault::TakeoverOffline => &["I15"],
            Fault::SendAfterTimeout => &["at most once"],
            Fault::ReportAnswersAny => &["last word"],
            Fault::HealTooLate => &["I5"],
            Fault::PrimaryRowLost => &["I2"],
            Fault::FormerOwnerSends => &["I9"],
            Fault::KeyFreedUnproven => &["at most once"],
        };
        assert!(expected.contains(&violation.invariant), "{fault:?} was found as {violation}");
        assert!(!violation.last.is_empty() && violation.to_string().contains(&format!("seed {seed}")));
    }
}
