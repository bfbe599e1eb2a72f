//! Whether a command costs more when more devices are registered.

use std::time::Duration;

use anyhow::Result;

use crate::fixture::{self, Fixture, Options};
use crate::load::Target;
use crate::process::{Running, usage};
use crate::report::{Check, Goal, Report, Spread};

const FEW: usize = 100;
const MANY: usize = 10_000;
const IN_FLIGHT: usize = 64;

/// Measures it and gives the report.
pub(crate) async fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("growth", options.quick);
    let dir = tempfile::tempdir()?;
    let _awake = Running::awake()?;
    report.note(fixture::RAISED);
    let few = Fixture::new(options, &dir.path().join("few"), FEW).await?;
    let many = Fixture::new(options, &dir.path().join("many"), MANY).await?;
    let (mut at_few, mut at_many) = (few.target(0..IN_FLIGHT).await?, many.target(0..IN_FLIGHT).await?);
    let (rounds, time) = if options.quick { (5, 700) } else { (9, 3000) };
    let mut pairs = Vec::new();
    for round in 0..=rounds {
        let small = cpu(&few, &mut at_few, Duration::from_millis(time)).await?;
        let large = cpu(&many, &mut at_many, Duration::from_millis(time)).await?;
        if round > 0 {
            pairs.push((large, small));
        }
    }
    report.floor(Spread::of(pairs.iter().map(|p| p.1)));
    let what = "exponent of a command's CPU over devices registered, 100 -> 10,000";
    let mut exponent = Check::ratio(what, "us", "with 100 registered", &pairs, Goal::AtMost(0.05));
    let steps = (MANY as f64 / FEW as f64).ln();
    exponent.value = Spread::of(pairs.iter().map(|(large, small)| (large / small).ln() / steps));
    report.push(exponent);
    Ok(report)
}

/// Server CPU per command, microseconds.
async fn cpu(fixture: &Fixture, target: &mut Target, time: Duration) -> Result<f64> {
    target.connect(IN_FLIGHT).await?;
    let before = usage(fixture.server.pid());
    let slice = target.slice(IN_FLIGHT, time).await?;
    Ok((usage(fixture.server.pid()) - before).cpu_us / slice.commands)
}
