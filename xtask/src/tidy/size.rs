//! How large crates and structs may become.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Problem;

/// Lines of the source of one crate: beyond that a room is two rooms.
const CRATE_LINES: usize = 10_000;
/// Fields of one struct: beyond that it has more than one owner.
const FIELDS: usize = 16;
/// Structs that may be larger: rows and bodies have as many fields as their table or their document, and what they are
/// for is to be flat.
const FLAT: &[&str] = &["Row", "Body"];

/// Larger ones that are there and may not grow: they go to the rooms that their fields are for.
const KNOWN: &[(&str, usize)] = &[("Metrics", 22), ("Settings", 42), ("SimArgs", 17)];

/// Checks every crate and struct of `core`.
pub(super) fn check(root: &Path) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    let mut crates = BTreeMap::<PathBuf, usize>::new();
    let core = root.join("core");
    for path in super::files(root)? {
        let Ok(within) = path.strip_prefix(&core) else { continue };
        let mut parts = within.components();
        let (Some(name), Some(src)) = (parts.next(), parts.next()) else { continue };
        if src.as_os_str() != "src" || path.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        *crates.entry(core.join(name)).or_default() += text.lines().count();
        for (line, name, fields) in large_structs(&text) {
            let message = format!("{name} has {fields} fields; at most {FIELDS}: split it by what they are for");
            problems.push(Problem::new(root, &path, line, message));
        }
    }
    for (path, lines) in crates {
        if lines > CRATE_LINES {
            let message = format!("{lines} lines of source; at most {CRATE_LINES}: make another crate");
            problems.push(Problem::new(root, &path.join("Cargo.toml"), 1, message));
        }
    }
    Ok(problems)
}

/// The structs with too many fields: line, name, how many.
fn large_structs(text: &str) -> Vec<(usize, String, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, String, String, usize)> = None;
    for (number, line) in text.lines().enumerate() {
        let indent: String = line.chars().take_while(|c| c.is_whitespace()).collect();
        let rest = line.trim();
        match &mut open {
            None => {
                let words: Vec<_> = rest.split_whitespace().collect();
                let at = words.iter().position(|w| *w == "struct");
                let declared = at.is_some_and(|at| words[..at].iter().all(|w| w.starts_with("pub")));
                if declared && rest.ends_with('{') {
                    let name = words[at.unwrap_or(0) + 1].trim_end_matches('{');
                    let name = name.split('<').next().unwrap_or(name).to_owned();
                    open = Some((number + 1, name, indent, 0));
                }
            }
            Some((line, name, outer, fields)) => {
                if rest == "}" && indent == *outer {
                    let most = KNOWN.iter().find(|(known, _)| known == name).map_or(FIELDS, |(_, most)| *most);
                    if *fields > most && !FLAT.iter().any(|end| name.ends_with(end)) {
                        found.push((*line, name.clone(), *fields));
                    }
                    open = None;
                } else if indent.len() == outer.len() + 4 && is_field(rest) {
                    *fields += 1;
                }
            }
        }
    }
    found
}

fn is_field(line: &str) -> bool {
    let line = line.split_once(')').filter(|(before, _)| before.starts_with("pub(")).map_or(line, |(_, after)| after);
    let line = line.trim_start().strip_prefix("pub ").unwrap_or(line).trim_start();
    let name: String = line.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '#')).collect();
    !name.is_empty() && line[name.len()..].starts_with(':') && !line[name.len()..].starts_with("::")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_and_not_what_looks_like_them() {
        let fields = "    /// Field: it counts.\n    pub(crate) field: u8,\n".repeat(17);
        let text = format!("pub struct Large<T> {{\n{fields}}}\nstruct Small {{\n    one: crate::Two,\n}}\n");
        assert_eq!(large_structs(&text), [(1, "Large".to_owned(), 17)]);
        assert!(large_structs(&text.replace("Large<T>", "LargeRow")).is_empty());
    }
}
