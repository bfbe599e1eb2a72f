//! What happened, counted over all devices.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde_json::{Value, json};

use super::model::Tally;

/// Different error texts that are kept and shown.
const ERRORS_SHOWN: usize = 10;

/// Counters of a run.
#[derive(Debug, Default)]
pub(super) struct Stats {
    connected: AtomicU64,
    connected_max: AtomicU64,
    connects: AtomicU64,
    reconnects: AtomicU64,
    commands: AtomicU64,
    duplicates: AtomicU64,
    resends: AtomicU64,
    acks_sent: AtomicU64,
    acks_dropped: AtomicU64,
    acks_duplicated: AtomicU64,
    expired: AtomicU64,
    inputs: AtomicU64,
    errors: AtomicU64,
    // Locks are held for a map operation only, never across an await.
    close_codes: Mutex<BTreeMap<u16, u64>>,
    error_texts: Mutex<BTreeSet<String>>,
    last_error: Mutex<Option<String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Counters stay usable even if a task panicked while it held the lock.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Stats {
    /// A device is connected; `again` when it was before.
    pub(super) fn connected(&self, again: bool) {
        let now = self.connected.fetch_add(1, Relaxed) + 1;
        self.connected_max.fetch_max(now, Relaxed);
        self.connects.fetch_add(1, Relaxed);
        if again {
            self.reconnects.fetch_add(1, Relaxed);
        }
    }
    /// It is not any more.
    pub(super) fn disconnected(&self) {
        self.connected.fetch_sub(1, Relaxed);
    }
    /// The server closed with this code.
    pub(super) fn closed(&self, code: u16) {
        *locked(&self.close_codes).entry(code).or_default() += 1;
    }
    /// A button was pressed or a relay switched by hand.
    pub(super) fn input(&self) {
        self.inputs.fetch_add(1, Relaxed);
    }
    /// Adds what a device has counted.
    pub(super) fn add(&self, tally: &Tally) {
        self.commands.fetch_add(tally.commands, Relaxed);
        self.duplicates.fetch_add(tally.duplicates, Relaxed);
        self.resends.fetch_add(tally.resends, Relaxed);
        self.acks_sent.fetch_add(tally.acks_sent, Relaxed);
        self.acks_dropped.fetch_add(tally.acks_dropped, Relaxed);
        self.acks_duplicated.fetch_add(tally.acks_duplicated, Relaxed);
        self.expired.fetch_add(tally.expired, Relaxed);
    }
    /// An error; true when its text is new and should be shown.
    pub(super) fn error(&self, text: &str) -> bool {
        self.errors.fetch_add(1, Relaxed);
        *locked(&self.last_error) = Some(text.to_owned());
        let mut texts = locked(&self.error_texts);
        texts.len() < ERRORS_SHOWN && texts.insert(text.to_owned())
    }
    /// The newest error of any device.
    pub(super) fn last_error(&self) -> Option<String> {
        locked(&self.last_error).clone()
    }
    /// Whether any device ever connected.
    pub(super) fn ever_connected(&self) -> bool {
        self.connects.load(Relaxed) > 0
    }
    /// One line for people.
    pub(super) fn summary(&self, devices: usize) -> String {
        let n = |counter: &AtomicU64| counter.load(Relaxed);
        format!(
            "connected {}/{devices}  commands {}  acks {} (dropped {}, doubled {})  reconnects {}  errors {}",
            n(&self.connected),
            n(&self.commands),
            n(&self.acks_sent),
            n(&self.acks_dropped),
            n(&self.acks_duplicated),
            n(&self.reconnects),
            n(&self.errors),
        )
    }
    /// The report. `resends_seen` counts command ids that came more than once, `duplicates_received` the frames.
    pub(super) fn report(&self, seed: u64, devices: usize) -> Value {
        let n = |counter: &AtomicU64| counter.load(Relaxed);
        let codes: BTreeMap<String, u64> =
            locked(&self.close_codes).iter().map(|(code, count)| (code.to_string(), *count)).collect();
        json!({
            "seed": seed,
            "devices": devices,
            "connected_max": n(&self.connected_max),
            "commands_received": n(&self.commands),
            "duplicates_received": n(&self.duplicates),
            "resends_seen": n(&self.resends),
            "acks_sent": n(&self.acks_sent),
            "acks_dropped": n(&self.acks_dropped),
            "acks_duplicated": n(&self.acks_duplicated),
            "expired_refused": n(&self.expired),
            "inputs": n(&self.inputs),
            "reconnects": n(&self.reconnects),
            "errors": n(&self.errors),
            "last_error": self.last_error(),
            "close_codes": codes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Stats;
    use crate::sim::model::Tally;

    #[test]
    fn a_report_holds_what_was_counted() {
        let stats = Stats::default();
        stats.connected(false);
        stats.connected(false);
        stats.disconnected();
        stats.connected(true);
        stats.closed(1012);
        stats.closed(1012);
        stats.add(&Tally { commands: 5, acks_sent: 4, acks_dropped: 1, ..Tally::default() });
        assert!(stats.error("refused"));
        assert!(!stats.error("refused"), "the same text is shown once");
        let report = stats.report(9, 2);
        assert_eq!(report["connected_max"], 2);
        assert_eq!(report["reconnects"], 1);
        assert_eq!(report["commands_received"], 5);
        assert_eq!(report["close_codes"]["1012"], 2);
        assert_eq!((&report["errors"], report["last_error"].as_str()), (&2.into(), Some("refused")));
        assert!(stats.summary(2).starts_with("connected 2/2  commands 5  acks 4 (dropped 1"));
    }
}
