//! Cargo.lock: version floors below which a crate has a known hole. Advisory data may be out of reach where this runs,
//! so the floors stand on their own.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use semver::Version;

use super::Problem;

/// The lowest version that is good, for every major line in use.
const FLOORS: &[(&str, &str)] = &[
    ("wasmtime", "48.0.6"),
    ("jsonwebtoken", "10.3.0"),
    ("sqlx", "0.9.0"),
    ("libsqlite3-sys", "0.37.0"),
    ("rustls", "0.23.46"),
    ("rustls-webpki", "0.103.13"),
    ("bytes", "1.11.1"),
    ("time", "0.3.47"),
    ("tungstenite", "0.20.1"),
    ("curve25519-dalek", "4.1.3"),
    ("ed25519-dalek", "2.0.0"),
    ("hyper", "1.0.0"),
];
#[derive(serde::Deserialize)]
pub(super) struct Lock {
    #[serde(default)]
    pub(super) package: Vec<Package>,
}
#[derive(serde::Deserialize)]
pub(super) struct Package {
    pub(super) name: String,
    version: String,
    pub(super) source: Option<String>,
}

/// Cargo.lock with its path, if there is one.
pub(super) fn read(root: &Path) -> Result<Option<(PathBuf, Lock)>> {
    let path = root.join("Cargo.lock");
    let Ok(text) = fs::read_to_string(&path) else { return Ok(None) };
    Ok(Some((path, toml::from_str(&text).context("Cargo.lock")?)))
}

/// Checks Cargo.lock, if there is one.
pub(super) fn check(root: &Path) -> Result<Vec<Problem>> {
    let Some((path, lock)) = read(root)? else { return Ok(Vec::new()) };
    let mut problems = Vec::new();
    for package in lock.package {
        let Some((_, floor)) = FLOORS.iter().find(|(name, _)| *name == package.name) else { continue };
        if Version::parse(&package.version)? < Version::parse(floor)? {
            let message =
                format!("{} {} is below {floor}: cargo update -p {}", package.name, package.version, package.name);
            problems.push(Problem::new(root, &path, 1, message));
        }
    }
    Ok(problems)
}
