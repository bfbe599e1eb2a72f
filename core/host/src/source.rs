//! Where a plugin is read from: a folder of the plugins directory, or the program itself.

use std::path::PathBuf;

/// A plugin that is part of the program.
#[derive(Clone, Copy)]
pub struct EmbeddedPlugin {
    /// The id that its manifest has.
    pub id: &'static str,
    /// The text of its `plugin.toml`.
    pub manifest: &'static str,
    /// The bytes of its `plugin.wasm`, a component.
    pub wasm: &'static [u8],
}

impl std::fmt::Debug for EmbeddedPlugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedPlugin").field("id", &self.id).finish_non_exhaustive()
    }
}

/// One place that holds a plugin.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// With `plugin.toml` and `plugin.wasm`.
    Folder(PathBuf),
    Embedded(EmbeddedPlugin),
}

impl Source {
    /// What its plugin is called until the manifest says its id.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Folder(dir) => dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            Self::Embedded(plugin) => plugin.id.to_owned(),
        }
    }
}
