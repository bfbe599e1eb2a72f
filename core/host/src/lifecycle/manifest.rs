//! `plugin.toml`, read strictly: a typing error in a limit must not be ignored.

use std::time::Duration;

use hexa_model::DeviceClass;
use serde::Deserialize;

use crate::contract;
use crate::engine::limits::{Limits, MAX_CPU_MS, MAX_MEMORY_BYTES, MAX_STATE_BYTES};

/// What a manifest says, checked.
#[derive(Clone, Debug)]
pub(crate) struct Manifest {
    pub id: String,
    pub version: String,
    /// Version of the contract, one that this server supports.
    pub api: String,
    pub classes: Vec<DeviceClass>,
    pub limits: Limits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    plugin: RawPlugin,
    driver: RawDriver,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    #[expect(dead_code, reason = "read by the author's tools; here only its shape is checked")]
    test: RawTest,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "texts for people and tools; here only their presence and type are checked")]
struct RawPlugin {
    id: String,
    version: String,
    kind: String,
    api: String,
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    authors: Vec<String>,
    #[serde(default)]
    license: String,
    publisher: String,
    #[serde(default)]
    quality: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "matching by model and polling are not offered yet; the keys are part of the format")]
struct RawDriver {
    classes: Vec<String>,
    #[serde(default)]
    fingerprints: Vec<RawFingerprint>,
    #[serde(default)]
    channels: Vec<String>,
    #[serde(default)]
    poll_ms: u64,
    #[serde(default)]
    reconfigure_on: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "matching by model is not offered yet; the keys are part of the format")]
struct RawFingerprint {
    class: Option<String>,
    model: Option<String>,
    firmware: Option<String>,
    priority: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    memory: Option<String>,
    cpu_ms: Option<u64>,
    state_bytes: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read by the author's tools; here only its shape is checked")]
struct RawTest {
    golden: Option<String>,
    coverage: Option<toml::Table>,
}

impl Manifest {
    /// Reads and checks a manifest; the error says which key, what is allowed and what came.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let raw: Raw = toml::from_str(text).map_err(|e| format!("plugin.toml: {}", e.to_string().trim_end()))?;
        check_plugin(&raw.plugin)?;
        if raw.driver.classes.is_empty() {
            return Err("plugin.toml: driver.classes is empty; name at least one device class".into());
        }
        let classes = raw.driver.classes.iter().map(|c| class(c)).collect::<Result<_, _>>()?;
        let limits = limits(&raw.limits)?;
        let RawPlugin { id, version, api, .. } = raw.plugin;
        Ok(Self { id, version, api, classes, limits })
    }
}

fn check_plugin(plugin: &RawPlugin) -> Result<(), String> {
    let part = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if plugin.id.len() > 64 || !plugin.id.contains('.') || !plugin.id.split('.').all(part) {
        return Err(format!(
            "plugin.toml: plugin.id {:?} must be publisher.name in lower-case letters, digits and -, at most 64 bytes",
            plugin.id
        ));
    }
    if let Err(why) = semver::Version::parse(&plugin.version) {
        return Err(format!("plugin.toml: plugin.version {:?} must be like 1.2.3: {why}", plugin.version));
    }
    if plugin.kind != "driver" {
        return Err(format!("plugin.toml: plugin.kind {:?} is not served here; only \"driver\" is", plugin.kind));
    }
    if !contract::is_supported(&plugin.api) {
        let (asked, supported) = (&plugin.api, contract::supported());
        return Err(format!("plugin.toml: plugin.api {asked:?} is not supported; this server supports {supported}"));
    }
    Ok(())
}

fn class(name: &str) -> Result<DeviceClass, String> {
    DeviceClass::parse(name).ok_or_else(|| {
        let known = DeviceClass::ALL.map(DeviceClass::as_str).join(", ");
        format!("plugin.toml: driver.classes: {name:?} is no device class; there are {known}")
    })
}

fn limits(raw: &RawLimits) -> Result<Limits, String> {
    let mut limits = Limits::default();
    if let Some(memory) = &raw.memory {
        limits.memory_bytes = bytes(memory)
            .filter(|n| (64 << 10..=MAX_MEMORY_BYTES).contains(n))
            .ok_or_else(|| format!("plugin.toml: limits.memory {memory:?} must be like \"8MiB\", 64KiB to 64MiB"))?;
    }
    if let Some(ms) = raw.cpu_ms {
        if !(1..=MAX_CPU_MS).contains(&ms) {
            return Err(format!("plugin.toml: limits.cpu_ms {ms} must be from 1 to {MAX_CPU_MS}"));
        }
        limits.cpu = Duration::from_millis(ms);
    }
    if let Some(bytes) = raw.state_bytes {
        limits.state_bytes = usize::try_from(bytes)
            .ok()
            .filter(|n| *n <= MAX_STATE_BYTES)
            .ok_or_else(|| format!("plugin.toml: limits.state_bytes {bytes} must be at most {MAX_STATE_BYTES}"))?;
    }
    Ok(limits)
}

fn bytes(text: &str) -> Option<usize> {
    let (digits, shift) = match text.strip_suffix("MiB") {
        Some(digits) => (digits, 20),
        None => (text.strip_suffix("KiB")?, 10),
    };
    digits.parse::<usize>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[plugin]\nid='a.b'\nversion='1.0.0'\nkind='driver'\napi='0.1'\nname='B'\npublisher='a'\n\
                        [driver]\nclasses=['sensor_hub']\n";

    fn error(change: impl Fn(&str) -> String) -> String {
        Manifest::parse(&change(GOOD)).expect_err("refused")
    }

    #[test]
    fn a_manifest_gives_identity_classes_and_limits() {
        let text = format!("{GOOD}[limits]\nmemory='8MiB'\ncpu_ms=5\nstate_bytes=1024\n");
        let manifest = Manifest::parse(&text).unwrap();
        let Manifest { id, version, api, .. } = &manifest;
        assert_eq!((id.as_str(), version.as_str(), api.as_str()), ("a.b", "1.0.0", "0.1"));
        assert_eq!(manifest.classes, [DeviceClass::SensorHub]);
        let limits = Limits { memory_bytes: 8 << 20, cpu: Duration::from_millis(5), state_bytes: 1024 };
        assert_eq!(manifest.limits, limits);
        assert_eq!(Manifest::parse(GOOD).unwrap().limits, Limits::default());
    }

    #[test]
    fn every_mistake_is_named() {
        assert!(error(|t| t.replace("name=", "nmae=")).contains("nmae"));
        assert!(error(|t| format!("{t}[limits]\ncpu=5\n")).contains("unknown field `cpu`"));
        assert!(error(|t| format!("{t}[limits]\ncpu_ms=51\n")).contains("from 1 to 50"));
        assert!(error(|t| format!("{t}[limits]\nmemory='65MiB'\n")).contains("64KiB to 64MiB"));
        assert!(error(|t| format!("{t}[limits]\nstate_bytes=99999\n")).contains("at most 16384"));
        assert!(error(|t| t.replace("'driver'", "'bridge'")).contains("only \"driver\""));
        assert!(
            error(|t| t.replace("'0.1'", "'2.0'")).contains("\"2.0\" is not supported; this server supports \"0.1\"")
        );
        assert!(error(|t| t.replace("'1.0.0'", "'one'")).contains("like 1.2.3"));
        assert!(error(|t| t.replace("'a.b'", "'../b'")).contains("publisher.name"));
        assert!(error(|t| t.replace("sensor_hub", "toaster")).contains("relay_controller, ir_hub"));
        assert!(error(|t| t.replace("['sensor_hub']", "[]")).contains("at least one"));
    }
}
