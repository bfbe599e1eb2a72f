//! A world around the command machine: devices, links, clients, a disk and crashes, all from one seed.
//!
//! The machine is the real one (`hexa_machine`); what stands around it in production is played here on
//! a virtual clock: the store (`disk`), sessions and tasks (`server`), the link and the devices (`devices`).
//! Invariants (numbers as in docs/adr/0012) are checked while it runs; at the end of a round everything is healed and
//! must converge. The same seed gives the same run, event by event.
//! Start at [`run`].

mod check;
mod devices;
mod disk;
mod fault;
mod hands;
pub mod history;
mod order;
pub mod rng;
mod server;
mod words;
mod world;

use std::fmt;

pub use fault::Fault;
pub use world::Tally;

/// What a run consists of.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// All chance comes from it.
    pub seed: u64,
    /// Times of trouble, each with a healing behind it.
    pub rounds: u32,
    /// A rule to break, to see that the checks find it.
    pub fault: Option<Fault>,
}

/// An invariant that did not hold.
#[derive(Debug)]
pub struct Violation {
    /// The seed that shows it again.
    pub seed: u64,
    /// Name of the invariant, such as `I5` (docs/PLATFORM.md#invariants).
    pub invariant: &'static str,
    /// What was seen instead, for people.
    pub what: String,
    /// When, in virtual milliseconds since the start.
    pub at_ms: u64,
    /// What happened last, the newest at the end.
    pub last: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.last {
            writeln!(f, "  {line}")?;
        }
        write!(f, "seed {}: {} at {} ms: {}", self.seed, self.invariant, self.at_ms, self.what)
    }
}

impl std::error::Error for Violation {}

/// Runs a plan to its end.
///
/// # Errors
/// The first invariant that did not hold.
pub fn run(plan: Plan) -> Result<Tally, Box<Violation>> {
    let mut world = world::World::new(plan);
    world.run().map_err(|broken| Box::new(world.violation(broken)))
}

/// The same, with every event that was handled.
///
/// # Errors
/// The first invariant that did not hold.
pub fn run_logged(plan: Plan) -> (Vec<String>, Result<Tally, Box<Violation>>) {
    let mut world = world::World::new(plan);
    world.log = Some(Vec::new());
    let end = world.run().map_err(|broken| Box::new(world.violation(broken)));
    (world.log.unwrap_or_default(), end)
}
