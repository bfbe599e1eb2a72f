//! Imports go down only (docs/ARCHITECTURE.md#floors), dev-dependencies included; some foreign crates are for one of
//! ours alone.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::Problem;

/// Which of our crates a crate may name. `tests` may name all; whoever is not listed may name none.
const FLOORS: &[(&str, &[&str])] = &[
    ("hexa-model", &[]),
    ("hexa-crypto", &["hexa-model"]),
    // `hexa-testpg` serves tests only, and knows no crate of ours.
    ("hexa-testpg", &[]),
    ("hexa-store", &["hexa-model", "hexa-testpg"]),
    ("hexa-hap", &[]),
    ("hexa-service", &["hexa-model", "hexa-crypto", "hexa-store", "hexa-testpg"]),
    ("hexa-api", &["hexa-model", "hexa-service"]),
    ("hexa-host", &["hexa-model", "hexa-crypto", "hexa-service"]),
    ("hexa-script", &["hexa-model", "hexa-service"]),
    ("hexa-transport", &["hexa-model", "hexa-service", "hexa-hap"]),
    ("hexa-cluster", &["hexa-model", "hexa-service"]),
    (
        "hexa-server",
        &[
            "hexa-model",
            "hexa-crypto",
            "hexa-store",
            "hexa-service",
            "hexa-api",
            "hexa-host",
            "hexa-script",
            "hexa-transport",
            "hexa-cluster",
        ],
    ),
    ("hexa-simulation", &["hexa-model", "hexa-service"]),
    ("hexa-sdk", &[]),
    ("xtask", &[]),
];

/// Foreign crates that one of our crates alone may use. The tests and this program are free.
const ROOMS: &[(&str, &str)] = &[
    ("argon2", "hexa-crypto"),
    ("aes-gcm", "hexa-crypto"),
    ("jsonwebtoken", "hexa-crypto"),
    ("sqlx", "hexa-store"),
    ("rusqlite", "hexa-store"),
    ("axum", "hexa-api"),
    ("tower-http", "hexa-api"),
    ("rust-embed", "hexa-api"),
    ("wasmtime", "hexa-host"),
    ("rhai", "hexa-script"),
    ("rumqttc", "hexa-transport"),
    ("async-nats", "hexa-cluster"),
    ("clap", "hexa-server"),
    ("figment", "hexa-server"),
    ("tracing-subscriber", "hexa-server"),
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
    let room = ROOMS.iter().find(|(foreign, _)| *foreign == dependency)?.1;
    (room != name && !FREE.contains(&name)).then(|| format!("{dependency} lives in {room} and nowhere else"))
}
