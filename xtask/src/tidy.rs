//! `cargo xtask tidy`: rules of this repository that reading files can check, in less than two seconds.

mod adr;
mod deny;
mod doc_comments;
mod floors;
mod lock;
mod references;
mod size;
mod source;
pub(crate) mod wit;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use serde::Serialize;

use crate::process::root;

/// A place where a rule is broken.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Problem {
    /// Path below the workspace.
    file: String,
    /// 1 where the file as a whole is meant.
    line: usize,
    /// What is wrong and what is allowed.
    message: String,
}

impl Problem {
    fn new(root: &Path, file: &Path, line: usize, message: impl Into<String>) -> Self {
        let file = file.strip_prefix(root).unwrap_or(file).display().to_string();
        Self { file, line, message: message.into() }
    }
}

/// Checks everything and prints what is wrong.
pub(crate) fn run(as_json: bool) -> Result<()> {
    let mut problems = check(&root())?;
    problems.extend(deny::check_built(&root())?);
    if as_json {
        println!("{}", serde_json::to_string_pretty(&problems)?);
    } else {
        for p in &problems {
            println!("{}:{}: {}", p.file, p.line, p.message);
        }
    }
    if !problems.is_empty() {
        bail!("tidy: {} problem(s)", problems.len());
    }
    if !as_json {
        println!("tidy: floors, files, dependencies, licences, contract and ADRs are in order");
    }
    Ok(())
}

/// Every rule over a tree that needs its files alone.
pub(crate) fn check(root: &Path) -> Result<Vec<Problem>> {
    let mut problems = floors::check(root)?;
    problems.extend(source::check(root)?);
    problems.extend(size::check(root)?);
    problems.extend(adr::check(root)?);
    problems.extend(references::check(root)?);
    problems.extend(lock::check(root)?);
    problems.extend(deny::check(root)?);
    problems.extend(wit::check(root)?);
    problems.sort_by(|a, b| (&a.file, a.line).cmp(&(&b.file, b.line)));
    Ok(problems)
}

/// Files below `dir`, without what git ignores or what is not ours.
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        if !dir.exists() {
            continue;
        }
        for entry in fs::read_dir(&dir)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), "target" | "node_modules" | ".git" | "hexa-data" | "__pycache__") {
                    todo.push(path);
                }
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests;
