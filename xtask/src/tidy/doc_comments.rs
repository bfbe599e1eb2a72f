//! Doc comments say something: one of fewer than four words repeats the name that it stands over.

use std::path::Path;

use super::Problem;

const MIN_WORDS: usize = 4;

/// Checks the doc comments of one Rust file.
pub(super) fn check(root: &Path, path: &Path, text: &str) -> Vec<Problem> {
    short(text)
        .into_iter()
        .map(|(line, comment)| {
            let message = format!(
                "the doc comment {comment:?} has fewer than {MIN_WORDS} words: say what the name does not (unit, range, \
                 who sets it, why), or leave it out"
            );
            Problem::new(root, path, line, message)
        })
        .collect()
}

/// Every paragraph of consecutive `///` or `//!` lines that is too short: its first line, from 1, and its words.
fn short(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        let Some((mark, first)) = doc(line) else { continue };
        let mut words: Vec<&str> = words(first).collect();
        while let Some((_, (_, more))) = lines.peek().and_then(|(n, l)| Some((n, doc(l).filter(|(m, _)| *m == mark)?)))
        {
            words.extend(self::words(more));
            lines.next();
        }
        if words.len() < MIN_WORDS {
            found.push((at + 1, words.join(" ")));
        }
    }
    found
}

/// What kind of doc comment a line is, and what it says.
fn doc(line: &str) -> Option<(&'static str, &str)> {
    let line = line.trim_start();
    ["///", "//!"].into_iter().find_map(|mark| {
        let text = line.strip_prefix(mark)?;
        (!text.starts_with('/')).then_some((mark, text))
    })
}

/// Dashes, bars and other signs are no words.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace().filter(|word| word.contains(char::is_alphanumeric))
}
