//! Figures as ratios within one run: median of paired slices, with the spread.

use serde::Serialize;

/// Median, least, most.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(min), Some(max)) = (values.first(), values.last()) else { return Self::default() };
        Self { median: values[values.len() / 2], min: *min, max: *max }
    }
    /// Whether the reference itself moved too much to be one.
    pub(crate) fn noisy(&self) -> bool {
        self.median > 0.0 && (self.max - self.min) / self.median > 0.6
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = if self.median < 10.0 { 2 } else { 0 };
        write!(f, "{:.digits$} [{:.digits$}..{:.digits$}]", self.median, self.min, self.max)
    }
}

/// One line of the table: so many commands in flight.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Row {
    pub(crate) in_flight: usize,
    pub(crate) floor_per_second: Spread,
    pub(crate) sqlite_per_second: Spread,
    pub(crate) sqlite_batch_us: Spread,
    pub(crate) hexa_per_second: Spread,
    /// Ours / F2, slice by slice.
    pub(crate) ratio: Spread,
    pub(crate) floor_p50_us: Spread,
    pub(crate) floor_p99_us: Spread,
    pub(crate) hexa_p50_us: Spread,
    pub(crate) hexa_p99_us: Spread,
    pub(crate) floor_cpu_us: Spread,
    pub(crate) hexa_cpu_us: Spread,
    pub(crate) hexa_switches: Spread,
    pub(crate) transactions_per_command: f64,
    pub(crate) rows_per_batch: f64,
    pub(crate) encodes_per_command: f64,
}

/// For people.
pub(crate) fn print(rows: &[Row]) {
    for r in rows {
        println!("\n{} in flight", r.in_flight);
        println!(
            "  F2 (raw relay)       {} /s   p50 {} us  p99 {} us  cpu {} us",
            r.floor_per_second, r.floor_p50_us, r.floor_p99_us, r.floor_cpu_us
        );
        println!("  SQ (bare batches)    {} /s   one batch {} us", r.sqlite_per_second, r.sqlite_batch_us);
        println!(
            "  hexa                 {} /s   p50 {} us  p99 {} us  cpu {} us",
            r.hexa_per_second, r.hexa_p50_us, r.hexa_p99_us, r.hexa_cpu_us
        );
        println!(
            "  hexa / F2            {}   p99/p50 {:.2} (F2 {:.2})",
            r.ratio,
            div(r.hexa_p99_us, r.hexa_p50_us),
            div(r.floor_p99_us, r.floor_p50_us)
        );
        println!(
            "  p50 / (F2 + SQ)      {:.2}",
            r.hexa_p50_us.median / (r.floor_p50_us.median + r.sqlite_batch_us.median)
        );
        println!(
            "  per command          {:.3} transactions, {:.1} rows a batch, {} voluntary switches, {:.2} encodes",
            r.transactions_per_command, r.rows_per_batch, r.hexa_switches, r.encodes_per_command
        );
    }
}

fn div(a: Spread, b: Spread) -> f64 {
    if b.median > 0.0 { a.median / b.median } else { 0.0 }
}
