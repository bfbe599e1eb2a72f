//! From text to values, with errors for people.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;

use hexa_api::PublicUrl;
use secrecy::SecretString;

use super::table::{SETTINGS, Setting};
use super::{ConfigError, Overrides, files};

const DEFAULT_FILE: &str = "hexa.toml";

/// Every setting's text and where it came from.
pub(super) struct Values {
    map: BTreeMap<&'static str, (String, &'static str)>,
    warnings: Vec<String>,
}

impl Values {
    /// Puts the sources over each other.
    pub(super) fn collect(overrides: Overrides, env: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let mut warnings = Vec::new();
        let default = Path::new(DEFAULT_FILE);
        let found = overrides.file.as_deref().or_else(|| default.exists().then_some(default));
        let mut file = match found {
            Some(path) => read_file(path, overrides.file.is_some(), &mut warnings)?,
            None => BTreeMap::new(),
        };
        let mut map = BTreeMap::new();
        for setting in SETTINGS {
            let mut value = (setting.default.to_owned(), "default");
            if let Some(text) = file.remove(&setting.name.to_lowercase()) {
                value = (text, "file");
            }
            if let Some(text) = env(setting.name) {
                value = (text, "environment");
            }
            if setting.secret {
                let by_file = file.remove(&format!("{}_file", setting.name.to_lowercase()));
                if let Some(path) = env(&format!("{}_FILE", setting.name)).or(by_file) {
                    if value.1 != "default" {
                        let message = format!("{0} and {0}_FILE are both given; give one", setting.name);
                        return Err(ConfigError(message));
                    }
                    let text = files::read_secret(Path::new(&path), &mut warnings)
                        .map_err(|what| ConfigError(format!("{}_FILE: {path}: {what}", setting.name)))?;
                    value = (text.trim_end().to_owned(), "secret file");
                }
            }
            if let Some(text) = overrides.values.get(setting.name) {
                value = (text.clone(), "command line");
            }
            map.insert(setting.name, value);
        }
        if let Some(unknown) = file.keys().next() {
            let known: Vec<_> = SETTINGS.iter().map(|s| s.name.to_lowercase()).collect();
            let message = format!("unknown setting {unknown:?} in the file; known are: {}", known.join(", "));
            return Err(ConfigError(message));
        }
        Ok(Self { map, warnings })
    }

    pub(super) fn text(&self, name: &'static str) -> &str {
        self.map.get(name).map_or("", |(text, _)| text.as_str())
    }

    /// The error for this setting.
    pub(super) fn wrong(&self, name: &'static str, allowed: &str) -> ConfigError {
        let secret = SETTINGS.iter().any(|s| s.name == name && s.secret);
        let (text, from) = self.map.get(name).cloned().unwrap_or_default();
        let shown = if secret { "is not usable".to_owned() } else { format!("is {text:?} ({from})") };
        ConfigError(format!("{name} {shown}; allowed: {allowed}"))
    }

    pub(super) fn parse<T: FromStr>(&self, name: &'static str, allowed: &str) -> Result<T, ConfigError> {
        self.text(name).parse().map_err(|_| self.wrong(name, allowed))
    }

    pub(super) fn number(&self, name: &'static str, range: RangeInclusive<u32>) -> Result<u32, ConfigError> {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        self.parse(name, &allowed)
            .and_then(|n| if range.contains(&n) { Ok(n) } else { Err(self.wrong(name, &allowed)) })
    }

    pub(super) fn flag(&self, name: &'static str) -> Result<bool, ConfigError> {
        Ok(self.one_of(name, &["true", "false"])? == "true")
    }

    pub(super) fn one_of(&self, name: &'static str, allowed: &[&'static str]) -> Result<&'static str, ConfigError> {
        let found = allowed.iter().find(|a| **a == self.text(name));
        found.copied().ok_or_else(|| self.wrong(name, &allowed.join(", ")))
    }

    pub(super) fn list(&self, name: &'static str) -> Vec<String> {
        self.text(name).split(',').map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned).collect()
    }

    pub(super) fn url(&self, name: &'static str) -> Result<Option<PublicUrl>, ConfigError> {
        match self.text(name) {
            "" => Ok(None),
            text => PublicUrl::parse(text).map(Some).map_err(|allowed| self.wrong(name, allowed)),
        }
    }

    /// Whether somebody gave it a value.
    pub(super) fn is_given(&self, name: &'static str) -> bool {
        self.map.get(name).is_some_and(|(_, from)| *from != "default")
    }

    /// What was found out about the files that were read.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    pub(super) fn secret(&self, name: &'static str) -> Result<Option<SecretString>, ConfigError> {
        let text = self.text(name);
        if text.chars().any(char::is_control) {
            return Err(self.wrong(name, "one line without control characters"));
        }
        Ok(Some(text).filter(|t| !t.is_empty()).map(Into::into))
    }

    pub(super) fn secret_list(&self, name: &'static str) -> Result<Vec<SecretString>, ConfigError> {
        self.secret(name)?;
        Ok(self.list(name).into_iter().map(Into::into).collect())
    }

    /// For `hexa config check`.
    pub(super) fn effective(&self) -> BTreeMap<&'static str, (String, &'static str)> {
        let shown = |s: &Setting, text: &str| match (s.secret, text.is_empty()) {
            (true, true) => "[generated]".to_owned(),
            (true, false) => "[redacted]".to_owned(),
            (false, _) => text.to_owned(),
        };
        SETTINGS.iter().filter_map(|s| self.map.get(s.name).map(|(t, from)| (s.name, (shown(s, t), *from)))).collect()
    }
}

fn read_file(path: &Path, given: bool, warnings: &mut Vec<String>) -> Result<BTreeMap<String, String>, ConfigError> {
    let named = |what: String| ConfigError(format!("{}: {what}", path.display()));
    let text = files::read_config(path, given).map_err(named)?;
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| named(e.to_string()))?;
    let secret = |name: &String| SETTINGS.iter().any(|s| s.secret && s.name.to_lowercase() == *name);
    if table.keys().any(secret) {
        warnings.extend(files::readable_by_others(path));
    }
    table
        .into_iter()
        .map(|(name, value)| match value {
            toml::Value::String(text) => Ok((name, text)),
            toml::Value::Integer(n) => Ok((name, n.to_string())),
            toml::Value::Boolean(b) => Ok((name, b.to_string())),
            _ => Err(named(format!("{name} must be a text, a whole number, or true or false"))),
        })
        .collect()
}
