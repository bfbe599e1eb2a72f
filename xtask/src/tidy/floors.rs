//! Imports go down only (docs/ARCHITECTURE.md#floors), dev-dependencies included; some foreign crates are for one of
//! ours alone.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Problem;

/// What the rooms that stand over the devices, side by side, may name.
const ROOMS_BELOW: &[&str] = &[
    "hexa-model",
    "hexa-crypto",
    "hexa-machine",
    "hexa-store",
    "hexa-platform",
    "hexa-accounts",
    "hexa-devices",
    "hexa-testpg",
];

/// Which of our crates a crate may name. `tests` may name all; whoever is not listed may name none.
const FLOORS: &[(&str, &[&str])] = &[
    ("hexa-model", &[]),
    ("hexa-crypto", &["hexa-model"]),
    // `hexa-testpg` serves tests only, and knows no crate of ours.
    ("hexa-testpg", &[]),
    ("hexa-store", &["hexa-model", "hexa-testpg"]),
    ("hexa-machine", &["hexa-model"]),
    ("hexa-hap", &[]),
    ("hexa-platform", &["hexa-model", "hexa-crypto", "hexa-store", "hexa-testpg"]),
    ("hexa-accounts", &["hexa-model", "hexa-crypto", "hexa-store", "hexa-platform", "hexa-testpg"]),
    (
        "hexa-devices",
        &["hexa-model", "hexa-crypto", "hexa-machine", "hexa-store", "hexa-platform", "hexa-accounts", "hexa-testpg"],
    ),
    ("hexa-automation", ROOMS_BELOW),
    ("hexa-ota", ROOMS_BELOW),
    ("hexa-operations", ROOMS_BELOW),
    ("hexa-listen", &["hexa-model", "hexa-platform"]),
    ("hexa-api", &["hexa-model", "hexa-platform", "hexa-accounts", "hexa-devices", "hexa-operations", "hexa-listen"]),
    ("hexa-host", &["hexa-model", "hexa-crypto", "hexa-devices"]),
    ("hexa-script", &["hexa-model", "hexa-devices"]),
    ("hexa-transport", &["hexa-model", "hexa-devices", "hexa-hap"]),
    ("hexa-cluster", &["hexa-model", "hexa-devices"]),
    (
        "hexa-server",
        &[
            "hexa-model",
            "hexa-crypto",
            "hexa-store",
            "hexa-platform",
            "hexa-accounts",
            "hexa-devices",
            "hexa-operations",
            "hexa-listen",
            "hexa-api",
            "hexa-host",
            "hexa-script",
            "hexa-transport",
            "hexa-cluster",
        ],
    ),
    ("hexa-simulation", &["hexa-model", "hexa-machine"]),
    ("hexa-sdk", &[]),
    ("xtask", &[]),
];

/// Foreign crates that live in one crate of ours, or two. The tests and this program are free.
const HOMES: &[(&str, &[&str])] = &[
    ("argon2", &["hexa-crypto"]),
    ("aes-gcm", &["hexa-crypto"]),
    ("jsonwebtoken", &["hexa-crypto"]),
    ("sqlx", &["hexa-store"]),
    ("rusqlite", &["hexa-store"]),
    ("axum", &["hexa-listen", "hexa-api"]),
    ("tower-http", &["hexa-api"]),
    ("rust-embed", &["hexa-api"]),
    ("wasmtime", &["hexa-host"]),
    ("rhai", &["hexa-script"]),
    ("rumqttc", &["hexa-transport"]),
    ("async-nats", &["hexa-cluster"]),
    ("clap", &["hexa-server"]),
    ("tracing-subscriber", &["hexa-server"]),
];
const FREE: &[&str] = &["hexa-tests", "hexa-simulation", "xtask"];

/// Checks every member's manifest.
pub(super) fn check(root: &Path) -> Result<Vec<Problem>> {
    let mut problems = Vec::new();
    for path in super::files(root)?.into_iter().filter(|p| p.ends_with("Cargo.toml")) {
        let text = fs::read_to_string(&path)?;
        let manifest: toml::Table = text.parse().with_context(|| path.display().to_string())?;
        let Some(name) = manifest.get("package").and_then(|p| p.get("name")).and_then(toml::Value::as_str) else {
            continue;
        };
        let guest = path.strip_prefix(root).is_ok_and(|p| p.starts_with("plugins"));
        for dependency in dependencies(&manifest) {
            if let Some(message) = refuse(name, guest, &dependency) {
                let line = text.lines().position(|l| l.trim_start().starts_with(dependency.as_str())).unwrap_or(0) + 1;
                problems.push(Problem::new(root, &path, line, message));
            }
        }
    }
    Ok(problems)
}

fn dependencies(manifest: &toml::Table) -> Vec<String> {
    let mut tables = vec![manifest];
    if let Some(targets) = manifest.get("target").and_then(toml::Value::as_table) {
        tables.extend(targets.values().filter_map(toml::Value::as_table));
    }
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    tables
        .into_iter()
        .flat_map(|t| kinds.iter().filter_map(|k| t.get(*k).and_then(toml::Value::as_table)))
        .flat_map(|t| t.keys().cloned())
        .collect()
}

fn refuse(name: &str, guest: bool, dependency: &str) -> Option<String> {
    if dependency.starts_with("hexa-") && name != "hexa-tests" {
        let allowed: &[&str] = match FLOORS.iter().find(|(n, _)| *n == name) {
            _ if guest => &["hexa-sdk"],
            Some((_, allowed)) => allowed,
            None => &[],
        };
        if !allowed.contains(&dependency) {
            let list = if allowed.is_empty() { "none of our crates".to_owned() } else { allowed.join(", ") };
            return Some(format!("{name} may not import {dependency}; its floor allows {list}"));
        }
    }
    let homes = HOMES.iter().find(|(foreign, _)| *foreign == dependency)?.1;
    let lives = || format!("{dependency} lives in {} and nowhere else", homes.join(" and "));
    (!homes.contains(&name) && !FREE.contains(&name)).then(lives)
}
