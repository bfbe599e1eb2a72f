//! The first-party plugins that this binary was built with (`build.rs`), and which of them are loaded.

use hexa_host::EmbeddedPlugin;

include!(concat!(env!("OUT_DIR"), "/plugins.rs"));

/// Which of the plugins in this program are loaded (`HEXA_EMBEDDED_PLUGINS`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Chosen {
    /// Every one.
    All,
    /// These, by id; none of them when it is empty.
    Only(Vec<String>),
}

/// The plugins that were chosen. A name that is none of them is told to the log.
pub(crate) fn chosen(which: &Chosen) -> Vec<EmbeddedPlugin> {
    let Chosen::Only(ids) = which else { return PLUGINS.to_vec() };
    for id in ids.iter().filter(|id| PLUGINS.iter().all(|plugin| plugin.id != id.as_str())) {
        tracing::warn!(plugin.id = %id, "HEXA_EMBEDDED_PLUGINS names a plugin that is not in this program");
    }
    PLUGINS.iter().filter(|plugin| ids.iter().any(|id| id == plugin.id)).copied().collect()
}
