//! deny.toml: licences, banned crates and sources. Checked here from Cargo.lock and `cargo metadata`, so that a fresh
//! machine needs nothing; by cargo-deny as well where it is installed, which knows more (texts of licences, other
//! targets).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::Problem;
use crate::process::{cargo_command, output};

const FILE: &str = "deny.toml";

/// What deny.toml says, as far as it is checked here.
#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Ban>,
}

#[derive(Deserialize)]
struct Ban {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Licensed>,
}

#[derive(Deserialize)]
struct Licensed {
    name: String,
    version: String,
    license: Option<String>,
}

fn read(root: &Path) -> Result<(PathBuf, Deny)> {
    let path = root.join(FILE);
    let text = fs::read_to_string(&path).context(FILE)?;
    Ok((path, toml::from_str(&text).context(FILE)?))
}

/// Checks bans and sources against Cargo.lock, if there is one. It names the packages of all targets.
pub(super) fn check(root: &Path) -> Result<Vec<Problem>> {
    let Some((lock_file, lock)) = super::lock::read(root)? else { return Ok(Vec::new()) };
    let (_, deny) = read(root)?;
    let mut problems = Vec::new();
    for package in lock.package {
        if let Some(ban) = deny.bans.deny.iter().find(|ban| ban.name == package.name) {
            let message = format!("{} has no place here: {}", package.name, ban.reason);
            problems.push(Problem::new(root, &lock_file, 1, message));
        }
        // A package without a source is one of the workspace.
        let Some(source) = package.source else { continue };
        if !deny.sources.allow_registry.iter().any(|url| source.strip_prefix("registry+") == Some(url)) {
            let message = format!("{} comes from {source}; {FILE} allows crates.io alone", package.name);
            problems.push(Problem::new(root, &lock_file, 1, message));
        }
    }
    Ok(problems)
}

/// Checks the licences of everything that is built for this machine, and lets cargo-deny check all where it is installed.
pub(super) fn check_built(root: &Path) -> Result<Vec<Problem>> {
    let (path, deny) = read(root)?;
    let mut problems: Vec<Problem> = refused(&deny.licenses.allow, &packages()?)
        .into_iter()
        .map(|message| Problem::new(root, &path, 1, message))
        .collect();
    if output("cargo", &["deny", "--version"]).is_some() {
        let out = cargo_command(&["deny", "--locked", "check", "licenses", "bans", "sources"]).output()?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr);
            problems.push(Problem::new(root, &path, 1, format!("cargo deny refuses: {}", said.trim())));
        }
    }
    Ok(problems)
}

fn packages() -> Result<Vec<Licensed>> {
    let rustc = output("rustc", &["-vV"]).context("cannot run rustc")?;
    let host = rustc.lines().find_map(|l| l.strip_prefix("host: ")).context("rustc names no host")?;
    let out = cargo_command(&["metadata", "--format-version", "1", "--locked", "--filter-platform", host]).output()?;
    if !out.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&out.stderr).trim());
    }
    let metadata: Metadata = serde_json::from_slice(&out.stdout).context("cargo metadata")?;
    Ok(metadata.packages)
}

/// One message for each licence that is not allowed, with the packages that have it.
fn refused(allowed: &[String], packages: &[Licensed]) -> Vec<String> {
    let mut by_licence: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for package in packages {
        let licence = package.license.as_deref().unwrap_or_default();
        if !permits(allowed, licence) {
            by_licence.entry(licence).or_default().push(format!("{} {}", package.name, package.version));
        }
    }
    by_licence
        .into_iter()
        .map(|(licence, of)| {
            let of = of.join(", ");
            match licence {
                "" => format!("{of} names no licence"),
                _ => format!(
                    "the licence {licence:?} of {of} is not allowed: use another crate, or allow it after reading it"
                ),
            }
        })
        .collect()
}

/// Whether an SPDX expression can be met with the licences that are allowed. `AND` binds closer than `OR`; `/` is the
/// `OR` of former times.
fn permits(allowed: &[String], expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut tokens = spaced.split_whitespace().peekable();
    let met = alternatives(allowed, &mut tokens);
    met && tokens.next().is_none()
}

type Tokens<'t> = std::iter::Peekable<std::str::SplitWhitespace<'t>>;

fn alternatives(allowed: &[String], tokens: &mut Tokens<'_>) -> bool {
    let mut met = together(allowed, tokens);
    while tokens.next_if_eq(&"OR").is_some() {
        met |= together(allowed, tokens);
    }
    met
}

fn together(allowed: &[String], tokens: &mut Tokens<'_>) -> bool {
    let mut met = licence(allowed, tokens);
    while tokens.next_if_eq(&"AND").is_some() {
        met &= licence(allowed, tokens);
    }
    met
}

fn licence(allowed: &[String], tokens: &mut Tokens<'_>) -> bool {
    let Some(mut name) = tokens.next().map(str::to_owned) else { return false };
    if name == "(" {
        let met = alternatives(allowed, tokens);
        return tokens.next() == Some(")") && met;
    }
    if tokens.next_if_eq(&"WITH").is_some() {
        name = format!("{name} WITH {}", tokens.next().unwrap_or_default());
    }
    allowed.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed() -> Vec<String> {
        ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).to_vec()
    }

    #[test]
    fn an_expression_is_met_by_licences_that_are_allowed() {
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0/MIT", true),
            ("GPL-3.0 / MIT", true),
            ("MIT AND ISC", true),
            ("MIT AND GPL-3.0", false),
            ("MIT OR GPL-3.0 AND GPL-2.0", true),
            ("(MIT OR GPL-3.0) AND GPL-2.0", false),
            ("(MIT OR GPL-3.0) AND ISC", true),
            ("Apache-2.0 WITH LLVM-exception", true),
            ("Apache-2.0", false),
            ("GPL-3.0 WITH LLVM-exception", false),
            ("(MIT", false),
            ("MIT ISC", false),
            ("", false),
        ] {
            assert_eq!(permits(&allowed(), expression), expected, "{expression}");
        }
    }

    #[test]
    fn a_licence_that_is_not_allowed_is_named_with_who_has_it() {
        let package = |name: &str, license: Option<&str>| Licensed {
            name: name.to_owned(),
            version: "1.2.3".to_owned(),
            license: license.map(str::to_owned),
        };
        let packages = [package("a", Some("MIT")), package("b", Some("AGPL-3.0")), package("c", None)];
        let said = refused(&allowed(), &packages);
        assert_eq!(said.len(), 2, "{said:?}");
        assert_eq!(said[0], "c 1.2.3 names no licence");
        assert!(said[1].contains("\"AGPL-3.0\" of b 1.2.3 is not allowed"), "{said:?}");
    }

    #[test]
    fn what_is_built_for_this_machine_is_allowed() {
        assert!(packages().unwrap().len() > 100, "cargo metadata names the packages");
        assert_eq!(check_built(&crate::process::root()).unwrap(), []);
    }
}
