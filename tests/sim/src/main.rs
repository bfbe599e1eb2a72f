//! `hexa-simulation --seed N`: runs one seed and says what was found.

#![expect(clippy::print_stdout, reason = "a command line prints")]

use std::process::ExitCode;

use clap::Parser;
use hexa_simulation::{Fault, Plan, run};

/// Simulates devices, links, clients, a disk and crashes around the command machine.
#[derive(Debug, Parser)]
struct Args {
    /// The seed; the same one gives the same run.
    #[arg(long)]
    seed: u64,
    /// Times of trouble, each with a healing behind it.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// A rule to break, to see that it is found: one of those in `hexa_simulation::Fault`.
    #[arg(long, value_parser = Fault::parse)]
    fault: Option<Fault>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let done = run(Plan { seed: args.seed, rounds: args.rounds, fault: args.fault });
    match (&done, args.json) {
        (Ok(tally), true) => {
            let events = tally.events;
            println!(
                "{}",
                serde_json::json!({ "seed": args.seed, "verdict": "ok", "events": events, "counts": tally })
            );
        }
        (Ok(tally), false) => println!("{tally}seed {}: {} events, every invariant held", args.seed, tally.events),
        (Err(violation), true) => println!(
            "{}",
            serde_json::json!({
                "seed": args.seed,
                "verdict": "violation",
                "invariant": violation.invariant,
                "what": violation.what,
                "at_ms": violation.at_ms,
                "last": violation.last,
            })
        ),
        (Err(violation), false) => println!("{violation}"),
    }
    if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
