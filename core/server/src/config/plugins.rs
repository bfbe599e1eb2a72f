//! Which plugins are loaded, and from where.

use std::path::PathBuf;

use hexa_host::PerCall;

use super::ConfigError;
use super::parse::Values;

/// Settings of the plugins.
#[derive(Debug)]
pub(crate) struct PluginSettings {
    pub(crate) dir: PathBuf,
    /// Somebody named the directory, so that it is expected to be there.
    pub(crate) dir_given: bool,
    pub(crate) embedded: Embedded,
    pub(crate) per_call: PerCall,
}

/// Which of the plugins in this program are loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Embedded {
    /// All that were built in.
    All,
    /// These, by id; none of them when it is empty.
    Only(Vec<String>),
}

impl PluginSettings {
    pub(super) fn read(v: &Values) -> Result<Self, ConfigError> {
        Ok(Self {
            dir: PathBuf::from(v.text("HEXA_PLUGINS_DIR")),
            dir_given: v.is_given("HEXA_PLUGINS_DIR"),
            embedded: ids(v, "HEXA_EMBEDDED_PLUGINS")?.map_or(Embedded::All, Embedded::Only),
            per_call: match ids(v, "HEXA_PLUGINS_PER_CALL")? {
                None => PerCall::All,
                Some(ids) if ids.is_empty() => PerCall::None,
                Some(ids) => PerCall::Some(ids),
            },
        })
    }
}

/// Plugins by id; none = all of them.
fn ids(v: &Values, name: &'static str) -> Result<Option<Vec<String>>, ConfigError> {
    let ids = v.list(name);
    let good = |id: &String| id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b));
    match ids.as_slice() {
        [all] if all == "*" => Ok(None),
        _ if ids.iter().all(good) => Ok(Some(ids)),
        _ => Err(v.wrong(name, "plugin ids such as acme.sensor-hub, separated by commas, or `*`")),
    }
}
