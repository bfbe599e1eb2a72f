//! Decisions: a file with number and title each in docs/adr, numbered without gaps, short, in the index.

use std::fs;
use std::path::Path;

use anyhow::Result;

use super::Problem;

const MAX_LINES: usize = 60;

/// Checks the files of docs/adr.
pub(super) fn check(root: &Path) -> Result<Vec<Problem>> {
    let dir = root.join("docs/adr");
    let index_file = dir.join("README.md");
    let index = fs::read_to_string(&index_file).unwrap_or_default();
    let mut problems = Vec::new();
    let mut expected = 1;
    for path in super::files(&dir)?.into_iter().filter(|p| *p != index_file) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let number = name.split('-').next().filter(|n| n.len() == 4).and_then(|n| n.parse::<u32>().ok());
        if number != Some(expected) || path.extension().is_none_or(|e| e != "md") {
            let message = format!("expected {expected:04}-title.md here: numbers are consecutive");
            problems.push(Problem::new(root, &path, 1, message));
        }
        expected = number.unwrap_or(expected) + 1;
        let text = fs::read_to_string(&path)?;
        let lines = text.lines().count();
        if lines > MAX_LINES {
            problems.push(Problem::new(root, &path, lines, format!("{lines} lines; an ADR has at most {MAX_LINES}")));
        }
        let heading = text.lines().next().unwrap_or_default();
        let Some((_, title)) =
            heading.split_once(". ").filter(|(start, _)| *start == format!("# {}", &name[..4.min(name.len())]))
        else {
            problems.push(Problem::new(
                root,
                &path,
                1,
                "begins with `# ` and its number, a full stop, and what was decided",
            ));
            continue;
        };
        if !index.lines().any(|line| line == format!("- [{name}]({name}) {title}")) {
            let message = format!("not listed in docs/adr/README.md as `- [{name}]({name}) {title}`");
            problems.push(Problem::new(root, &path, 1, message));
        }
    }
    Ok(problems)
}
