//! What `hexa sim` shows: progress and errors on stderr, the report on stdout if it is asked for there.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the output of a command line tool, in one place")]

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Plain lines come only so often (in seconds) when nobody looks at a terminal.
const PLAIN_LINE_EVERY: u64 = 10;

/// Shows progress and errors on stderr.
#[derive(Debug)]
pub(super) struct Screen {
    quiet: bool,
    terminal: bool,
    line_open: AtomicBool,
}

impl Screen {
    /// For this process's stderr.
    pub(super) fn new(quiet: bool) -> Self {
        Self { quiet, terminal: std::io::stderr().is_terminal(), line_open: AtomicBool::new(false) }
    }
    /// Something to know; nothing when quiet.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            self.end_line();
            eprintln!("hexa sim: {text}");
        }
    }
    /// Something that went wrong; always shown.
    pub(super) fn error(&self, text: &str) {
        self.end_line();
        error(text);
    }
    /// The summary, once a second: in place on a terminal, as a line every ten seconds otherwise.
    pub(super) fn progress(&self, second: u64, summary: &str) {
        if self.quiet {
            return;
        }
        if self.terminal {
            self.line_open.store(true, Ordering::Relaxed);
            eprint!("\r\x1b[2K{summary}");
            // A terminal that went away is no reason to stop the devices.
            let _ = std::io::stderr().flush();
        } else if second.is_multiple_of(PLAIN_LINE_EVERY) {
            eprintln!("{summary}");
        }
    }
    /// The last summary of the run.
    pub(super) fn finish(&self, summary: &str) {
        if self.quiet {
            return;
        }
        if self.terminal {
            eprint!("\r\x1b[2K");
        }
        self.line_open.store(false, Ordering::Relaxed);
        eprintln!("{summary}");
    }
    fn end_line(&self) {
        if self.line_open.swap(false, Ordering::Relaxed) {
            eprintln!();
        }
    }
}

/// Before there is a screen.
pub(super) fn error(text: &str) {
    eprintln!("hexa sim: {text}");
}

/// The report on stdout.
pub(super) fn report(text: &str) {
    println!("{text}");
}
