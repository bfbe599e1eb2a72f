//! Generated files that are kept in git: compared with what the code says today.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::process::{cargo, hexa, output, root};

/// File below the workspace, and what makes it: arguments of `hexa`.
const GENERATED: &[(&str, &[&str])] = &[
    ("docs/generated/errors.md", &["docs", "errors"]),
    ("docs/generated/config.md", &["docs", "config"]),
    ("docs/generated/routes.md", &["docs", "routes"]),
    ("docs/openapi.json", &["docs", "openapi"]),
];

/// Compares the generated files with the code, or writes them.
pub(crate) fn run(write: bool) -> Result<()> {
    // As the tests build it: another set of features would take the place of their server, and be linked twice.
    cargo(&["build", "--quiet", "--package", "hexa-server", "--features", "failpoints"])?;
    let binary = hexa("debug");
    let mut stale = Vec::new();
    for (file, args) in GENERATED {
        let text =
            output(&binary.to_string_lossy(), args).with_context(|| format!("hexa {} failed", args.join(" ")))?;
        let path = root().join(file);
        if write {
            fs::create_dir_all(path.parent().unwrap_or(&path))?;
            fs::write(&path, text)?;
        } else if fs::read_to_string(&path).unwrap_or_default() != text {
            stale.push(*file);
        }
    }
    if !stale.is_empty() {
        bail!("not up to date with the code: {}; run `cargo xtask drift --write`", stale.join(", "));
    }
    Ok(())
}
