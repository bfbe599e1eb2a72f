//! Figures as ratios within one run: median of paired slices with the spread, goals, and what they say together.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

/// A floor that moved by more than this between slices makes the run noisy: ratios that fall short are not judged.
const NOISY: f64 = 0.3;
/// Beyond this nothing that was timed is judged.
const HOPELESS: f64 = 0.6;

/// Exit codes of every bench.
pub(crate) const HOLDS: i32 = 0;
pub(crate) const FALLS_SHORT: i32 = 1;
pub(crate) const TOO_NOISY: i32 = 3;

/// Median, least and most of several runs.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else { return Self::default() };
        Self { median: values[values.len() / 2], min: *min, max: *max }
    }
    pub(crate) fn one(value: f64) -> Self {
        Self { median: value, min: value, max: value }
    }
    /// How far apart least and most are, as a part of the median.
    pub(crate) fn width(&self) -> f64 {
        if self.median > 0.0 { (self.max - self.min) / self.median } else { 0.0 }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = match self.median.abs() {
            m if m < 0.1 => 3,
            m if m < 10.0 => 2,
            m if m < 100.0 => 1,
            _ => 0,
        };
        write!(f, "{:.digits$}", self.median)?;
        if self.min.total_cmp(&self.max).is_ne() {
            write!(f, " [{:.digits$}..{:.digits$}]", self.min, self.max)?;
        }
        Ok(())
    }
}

/// What a figure is held to.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
    /// It is shown and held to nothing.
    None,
}

impl Goal {
    fn met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bar) => value >= bar,
            Self::AtMost(bar) => value <= bar,
            Self::None => true,
        }
    }
}

impl std::fmt::Display for Goal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bar) => write!(f, ">= {bar}"),
            Self::AtMost(bar) => write!(f, "<= {bar}"),
            Self::None => write!(f, "-"),
        }
    }
}

/// A figure beside its floor and its goal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Check {
    pub(crate) what: String,
    /// Of `ours` and `floor`.
    pub(crate) unit: String,
    pub(crate) ours: Spread,
    pub(crate) floor: Option<Spread>,
    /// What the floor is.
    pub(crate) against: String,
    /// What is judged: the ratio, pair by pair, or `ours` where there is no floor.
    pub(crate) value: Spread,
    pub(crate) goal: Goal,
    /// Whether a noisy machine moves it. Counts and bytes are not.
    pub(crate) timed: bool,
}

impl Check {
    /// Ours and the floor's, slice by slice; what is judged is ours / floor.
    pub(crate) fn ratio(what: &str, unit: &str, against: &str, pairs: &[(f64, f64)], goal: Goal) -> Self {
        Self {
            what: what.to_owned(),
            unit: unit.to_owned(),
            ours: Spread::of(pairs.iter().map(|p| p.0)),
            floor: Some(Spread::of(pairs.iter().map(|p| p.1))),
            against: against.to_owned(),
            value: Spread::of(pairs.iter().map(|p| p.0 / p.1)),
            goal,
            timed: true,
        }
    }
    /// A figure that is judged as it is.
    pub(crate) fn plain(what: &str, unit: &str, ours: Spread, goal: Goal) -> Self {
        let (what, unit) = (what.to_owned(), unit.to_owned());
        Self { what, unit, ours, floor: None, against: String::new(), value: ours, goal, timed: true }
    }
    /// A figure that noise does not move.
    pub(crate) fn counted(what: &str, unit: &str, ours: f64, goal: Goal) -> Self {
        Self { timed: false, ..Self::plain(what, unit, Spread::one(ours), goal) }
    }
    /// Beside a floor that is shown, but not what the goal is about.
    pub(crate) fn beside(mut self, against: &str, floor: Spread) -> Self {
        against.clone_into(&mut self.against);
        self.floor = Some(floor);
        self
    }
    pub(crate) fn holds(&self) -> bool {
        self.goal.met(self.value.median)
    }
    /// `holds`, `falls short`, or nothing where there is no goal.
    pub(crate) fn verdict(&self) -> &'static str {
        match (self.goal, self.holds()) {
            (Goal::None, _) => "",
            (_, true) => "holds",
            (_, false) => "falls short",
        }
    }
}

/// What one bench found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) bench: String,
    pub(crate) quick: bool,
    /// What was raised, left out, or is to be known when reading the figures.
    pub(crate) notes: Vec<String>,
    /// The first one is the headline.
    pub(crate) checks: Vec<Check>,
    /// How far the floor moved between slices, as a part of its median.
    pub(crate) floor_moved: f64,
}

impl Report {
    pub(crate) fn new(bench: &str, quick: bool) -> Self {
        Self { bench: bench.to_owned(), quick, notes: Vec::new(), checks: Vec::new(), floor_moved: 0.0 }
    }
    pub(crate) fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        eprintln!("bench: {note}");
        self.notes.push(note);
    }
    pub(crate) fn push(&mut self, check: Check) {
        self.checks.push(check);
    }
    /// The steadiness of a reference of this run.
    pub(crate) fn floor(&mut self, floor: Spread) {
        self.floor_moved = self.floor_moved.max(floor.width());
    }

    pub(crate) fn code(&self) -> i32 {
        let short = |timed: bool| self.checks.iter().any(|c| c.timed == timed && !c.holds());
        if short(false) {
            FALLS_SHORT
        } else if self.floor_moved > HOPELESS || (self.floor_moved > NOISY && short(true)) {
            TOO_NOISY
        } else if short(true) {
            FALLS_SHORT
        } else {
            HOLDS
        }
    }

    /// For people, or as JSON with the same content.
    pub(crate) fn print(&self, as_json: bool) -> anyhow::Result<()> {
        if as_json {
            println!("{}", serde_json::to_string(self)?);
            return Ok(());
        }
        for c in &self.checks {
            let floor = c.floor.map_or(String::new(), |f| format!("{}: {f} {}", c.against, c.unit));
            println!("  {:<58} {} {}", c.what, c.ours, c.unit);
            let ratio = if c.floor.is_some() { format!("value {}  ", c.value) } else { String::new() };
            let goal = if matches!(c.goal, Goal::None) { String::new() } else { format!("goal {}: ", c.goal) };
            println!("      {ratio}{goal}{}  {floor}", c.verdict());
        }
        println!("{}", self.summary());
        Ok(())
    }

    /// One line: the headline, how many goals hold, which do not.
    pub(crate) fn summary(&self) -> String {
        let judged: Vec<_> = self.checks.iter().filter(|c| !matches!(c.goal, Goal::None)).collect();
        let short: Vec<_> = judged.iter().filter(|c| !c.holds()).map(|c| c.what.as_str()).collect();
        let head = self.checks.first().map_or(String::new(), |c| {
            let name = if c.floor.is_some() { "ratio" } else { "value" };
            format!(" {name}={:.3} (goal {}) {}", c.value.median, c.goal, c.what)
        });
        let mut line = format!("{}{head}; {} of {} goals hold", self.bench, judged.len() - short.len(), judged.len());
        if !short.is_empty() {
            let _ = write!(line, "; short: {}", short.join(", "));
        }
        if self.floor_moved > NOISY {
            let _ = write!(line, "; noisy: the floor moved by {:.0} % between slices", self.floor_moved * 100.0);
        }
        line
    }
}
