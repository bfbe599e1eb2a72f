//! The first-party plugins that this binary was built with (`build.rs`), and which of them are loaded.

use hexa_host::EmbeddedPlugin;

use crate::config::Embedded;

include!(concat!(env!("OUT_DIR"), "/plugins.rs"));

/// The plugins that were chosen. A name that is none of them is told to the log.
pub(crate) fn chosen(which: &Embedded) -> Vec<EmbeddedPlugin> {
    let Embedded::Only(ids) = which else { return PLUGINS.to_vec() };
    for id in ids.iter().filter(|id| PLUGINS.iter().all(|plugin| plugin.id != id.as_str())) {
        tracing::warn!(plugin.id = %id, "HEXA_EMBEDDED_PLUGINS names a plugin that is not in this program");
    }
    PLUGINS.iter().filter(|plugin| ids.iter().any(|id| id == plugin.id)).copied().collect()
}
