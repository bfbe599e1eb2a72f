//! A plugin's own log: bounded in rate and length, without control characters, its last lines in memory.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hexa_model::Clock;
use parking_lot::Mutex;

/// Lines of one plugin in a second; the rest is dropped and counted.
const LINES_PER_S: u32 = 50;
/// Bytes of one line; the rest is cut.
const LINE_BYTES: usize = 1024;
/// Lines that stay in memory.
const RECENT_LINES: usize = 32;

/// The contract's log levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
}

impl Level {
    pub(crate) fn enabled(self) -> bool {
        match self {
            Self::Trace => tracing::enabled!(target: "plugin", tracing::Level::TRACE),
            Self::Debug => tracing::enabled!(target: "plugin", tracing::Level::DEBUG),
            Self::Info => tracing::enabled!(target: "plugin", tracing::Level::INFO),
            Self::Warn => tracing::enabled!(target: "plugin", tracing::Level::WARN),
            Self::Error => tracing::enabled!(target: "plugin", tracing::Level::ERROR),
        }
    }
}

/// The log of one plugin, shared by its instances.
pub(crate) struct PluginLog {
    id: String,
    version: String,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    second: Option<u64>,
    lines: u32,
    dropped: u32,
    recent: VecDeque<String>,
}

impl PluginLog {
    pub(crate) fn new(id: &str, version: &str, clock: Arc<dyn Clock>) -> Self {
        Self { id: id.to_owned(), version: version.to_owned(), clock, state: Mutex::default() }
    }

    /// Writes one line of a call for this device.
    pub(crate) fn write(&self, level: Level, device: &str, text: &str) {
        let line = clean(text);
        let second = self.clock.monotonic().as_secs();
        let dropped_before = {
            let mut state = self.state.lock();
            let mut dropped_before = 0;
            if state.second != Some(second) {
                dropped_before = std::mem::take(&mut state.dropped);
                state.second = Some(second);
                state.lines = 0;
            }
            if state.lines >= LINES_PER_S {
                state.dropped = state.dropped.saturating_add(1);
                return;
            }
            state.lines += 1;
            if state.recent.len() >= RECENT_LINES {
                state.recent.pop_front();
            }
            state.recent.push_back(line.clone());
            dropped_before
        };
        let (id, version) = (self.id.as_str(), self.version.as_str());
        if dropped_before > 0 {
            tracing::warn!(target: "plugin", { plugin.id = id, lines = dropped_before }, "log lines over the rate dropped");
        }
        macro_rules! at {
            ($level:ident) => {
                tracing::$level!(target: "plugin", { plugin.id = id, plugin.version = version, device.uid = device }, "{line}")
            };
        }
        match level {
            Level::Trace => at!(trace),
            Level::Debug => at!(debug),
            Level::Info => at!(info),
            Level::Warn => at!(warn),
            Level::Error => at!(error),
        }
    }

    /// The last lines, oldest first.
    pub(crate) fn recent(&self) -> Vec<String> {
        self.state.lock().recent.iter().cloned().collect()
    }

    /// The clock that guests are given the time of.
    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }
}

/// Cut to the limit, without control characters: a guest cannot fake lines or colours in the server's log.
fn clean(text: &str) -> String {
    let mut end = text.len().min(LINE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Collects what a guest prints into lines.
#[derive(Debug, Default)]
pub(crate) struct Printed {
    line: Vec<u8>,
}

impl Printed {
    /// Takes printed bytes and gives every finished line to `sink`.
    pub(crate) fn take(&mut self, bytes: &[u8], mut sink: impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let free = LINE_BYTES.saturating_sub(self.line.len());
            self.line.extend_from_slice(&piece[..piece.len().min(free)]);
            if piece.ends_with(b"\n") {
                sink(String::from_utf8_lossy(&self.line).trim_end());
                self.line.clear();
            }
        }
    }
}

/// Nanoseconds of a duration; the contract and the counters have no larger unit.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use hexa_model::{ManualClock, TimeMs};

    use super::*;

    #[test]
    fn fifty_lines_a_second_are_kept_and_the_rest_counted() {
        let clock = Arc::new(ManualClock::at(TimeMs(0)));
        let log = PluginLog::new("a.b", "1.0.0", clock.clone());
        for i in 0..60 {
            log.write(Level::Info, "hx1", &format!("line {i}"));
        }
        assert_eq!(log.recent().last().map(String::as_str), Some("line 49"));
        assert_eq!((log.recent().len(), log.state.lock().dropped), (RECENT_LINES, 10));
        clock.advance(Duration::from_secs(1));
        log.write(Level::Info, "hx1", "again");
        assert_eq!(log.recent().last().map(String::as_str), Some("again"));
        assert_eq!(log.state.lock().dropped, 0);
    }

    #[test]
    fn lines_are_cut_and_cleaned() {
        assert_eq!(clean("a\nb\u{1b}[31m"), "a b [31m");
        assert_eq!(clean(&"é".repeat(600)).len(), 1024);
        let mut printed = Printed::default();
        let mut lines = Vec::new();
        printed.take(b"one\ntw", |l| lines.push(l.to_owned()));
        printed.take(b"o\n", |l| lines.push(l.to_owned()));
        printed.take(&[b'x'; 5000], |l| lines.push(l.to_owned()));
        printed.take(b"\n", |l| lines.push(l.to_owned()));
        assert_eq!((lines.len(), lines[1].as_str(), lines[2].len()), (3, "two", 1024));
    }
}
