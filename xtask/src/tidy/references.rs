//! References: a document that a comment or another document names is in the checkout, its anchor too, and nobody needs
//! a list of codes to read a comment.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Problem;

/// Generated from a document that is checked itself.
const GENERATED: &[&str] = &["dashboard/src/api/schema.d.ts"];

/// Checks every source and every document.
pub(super) fn check(root: &Path) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    let mut anchors = BTreeMap::new();
    for path in super::files(root)? {
        let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        if GENERATED.iter().any(|prefix| relative.starts_with(prefix)) {
            continue;
        }
        let (named, codes): (Names, bool) = match path.extension().and_then(|e| e.to_str()) {
            Some("rs" | "ts" | "tsx" | "toml" | "py") => (in_comment, true),
            Some("md") => (in_links, false),
            _ => continue,
        };
        for (at, line) in fs::read_to_string(&path)?.lines().enumerate() {
            let mut told = |message: String| problems.push(Problem::new(root, &path, at + 1, message));
            for name in named(line) {
                if let Err(message) = find(root, &path, name, &mut anchors) {
                    told(message);
                }
            }
            if let Some(code) = comment(line).filter(|_| codes).and_then(code) {
                told(format!(
                    "{code} names a list that is not here: give the reason itself, or an anchor of docs/PLATFORM.md"
                ));
            }
        }
    }
    Ok(problems)
}

type Names = fn(&str) -> Vec<&str>;

/// What stands behind `//`, `#` or ` * `, but in no string.
fn comment(line: &str) -> Option<&str> {
    let start = line.trim_start();
    if start.starts_with('#') && !start.starts_with("#[") && !start.starts_with("#!") || start.starts_with("* ") {
        return Some(start);
    }
    let code = |at: &usize| line[..*at].matches('"').count().is_multiple_of(2);
    line.match_indices("//").map(|(at, _)| at).find(code).map(|at| &line[at..])
}

/// Documents that a comment names, with their anchors.
fn in_comment(line: &str) -> Vec<&str> {
    let ends = |c: char| c.is_whitespace() || "()[]`'\",;".contains(c);
    let words = comment(line).unwrap_or_default().split(ends).map(|word| word.trim_end_matches(['.', ':']));
    words.filter(|word| word.split('#').next().is_some_and(|name| name.len() > 3 && name.ends_with(".md"))).collect()
}

/// Relative targets of links.
fn in_links(line: &str) -> Vec<&str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
    targets.filter(|target| !target.contains("://") && !target.starts_with("mailto:")).collect()
}

/// A document is named from the root of the workspace, or from where it is named.
fn find(root: &Path, from: &Path, name: &str, known: &mut BTreeMap<PathBuf, BTreeSet<String>>) -> Result<(), String> {
    let (file, anchor) = name.split_once('#').map_or((name, None), |(file, anchor)| (file, Some(anchor)));
    let beside = from.parent().unwrap_or(root).join(file);
    let file = match file {
        "" => from.to_owned(),
        _ if beside.exists() => beside,
        _ => root.join(file),
    };
    if !file.exists() {
        return Err(format!("{name} is not in this checkout: name a document that is, or give the reason itself"));
    }
    let Some(anchor) = anchor else { return Ok(()) };
    let anchors = match known.entry(file) {
        std::collections::btree_map::Entry::Occupied(found) => found.into_mut(),
        std::collections::btree_map::Entry::Vacant(new) => {
            let text = fs::read_to_string(new.key()).map_err(|e| format!("{name}: {e}"))?;
            new.insert(anchors(&text))
        }
    };
    if anchors.contains(anchor) { Ok(()) } else { Err(format!("{name}: there is no such heading or anchor")) }
}

/// Headings as they become anchors, and `<a id="…">`.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#')).map(|line| {
        let kept = |c: &char| c.is_alphanumeric() || " -_".contains(*c);
        line.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect::<String>().replace(' ', "-")
    });
    let ids = text.split("<a id=\"").skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned);
    headings.chain(ids).collect()
}

/// Two capitals with a number behind a dash, or the row of a list.
fn code(comment: &str) -> Option<&str> {
    let ends = |c: char| !(c.is_alphanumeric() || c == '-');
    let listed = |word: &&str| {
        let digits = |rest: &str| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit());
        let capitals = |name: &str| name.len() == 2 && name.bytes().all(|b| b.is_ascii_uppercase());
        word.split_once('-').is_some_and(|(name, number)| capitals(name) && digits(number))
    };
    let row = || comment.find("(row ").or_else(|| comment.find("(rows ")).map(|at| comment[at..].trim_end_matches('.'));
    comment.split(ends).find(listed).or_else(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_found_in_comments_and_links_only() {
        assert_eq!(
            in_comment("//! As docs/API.md says, and (docs/PLATFORM.md#audit)."),
            ["docs/API.md", "docs/PLATFORM.md#audit"]
        );
        assert_eq!(in_comment("let x = 1; // see `api.md`"), ["api.md"]);
        assert!(in_comment("let x = \"docs/none.md\";").is_empty());
        assert!(in_comment("let x = \"https://example.com/none.md\";").is_empty());
        assert_eq!(in_comment("# see none.md"), ["none.md"]);
        assert!(in_comment("#[doc = \"none.md\"]").is_empty());
        assert!(in_comment("// every *.md, and .md").len() < 2);
        assert_eq!(in_links("[a](b.md), [c](#d) and [e](https://example.com/f.md)"), ["b.md", "#d"]);
    }

    #[test]
    fn headings_and_ids_are_anchors() {
        let found = anchors("# A relay command\n\n- <a id=\"i5\"></a>Five.\n## What's `new`, 2\n");
        assert!(["a-relay-command", "i5", "whats-new-2"].into_iter().all(|a| found.contains(a)), "{found:?}");
    }

    #[test]
    fn codes_of_lists_are_found() {
        assert_eq!(code("// refused (AU-4)."), Some("AU-4"));
        assert_eq!(code("// refused (row 24)."), Some("(row 24)"));
        for fine in ["// SHA-256 and UTF-8", "// RFC 9700 section 4", "// one-way", "// a row of 4", "// I9 holds"] {
            assert_eq!(code(fine), None, "{fine}");
        }
    }
}
