//! Builds the plugins for WebAssembly and lays them out as a plugin directory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::{cargo_command, root, run, target};

/// What a component starts with; a core module has `01 00 00 00` behind the magic.
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

#[derive(serde::Deserialize)]
struct Manifest {
    plugin: Plugin,
}
#[derive(serde::Deserialize)]
struct Plugin {
    id: String,
}

/// Builds every folder of `plugins/` with a `plugin.toml`; gives the directory, which the next build of the server takes
/// into the binary. Plugins whose id begins with `test.` are for tests only: they go into a directory of their own, beside
/// it.
pub(crate) fn build() -> Result<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(root().join("plugins")).context("cannot read the folder plugins/")? {
        let dir = entry?.path();
        let manifest = dir.join("plugin.toml");
        if manifest.exists() {
            let text = fs::read_to_string(&manifest).with_context(|| manifest.display().to_string())?;
            let parsed: Manifest = toml::from_str(&text).with_context(|| manifest.display().to_string())?;
            found.push((package_name(&dir)?, parsed.plugin.id, manifest));
        }
    }
    found.sort();
    let mut args = vec!["build", "--quiet", "--target", "wasm32-wasip2", "--profile", "guest"];
    for (package, _, _) in &found {
        args.extend(["--package", package]);
    }
    let mut command = cargo_command(&args);
    // Flags meant for the host would turn the component into a core module, or fail to link.
    run(command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS"))?;
    let out = target().join("plugins");
    // What is left of one that has gone, or has another id now, would be taken into the server.
    for entry in fs::read_dir(&out).into_iter().flatten().flatten() {
        if entry.path().is_dir() && found.iter().all(|(_, id, _)| entry.file_name() != id.as_str()) {
            fs::remove_dir_all(entry.path()).with_context(|| entry.path().display().to_string())?;
        }
    }
    for (package, id, manifest) in &found {
        let built = target().join("wasm32-wasip2/guest").join(package.replace('-', "_") + ".wasm");
        let wasm = fs::read(&built).with_context(|| built.display().to_string())?;
        if !wasm.starts_with(COMPONENT) {
            bail!("{} is not a component; is RUSTFLAGS set in a cargo config?", built.display());
        }
        let dir = if id.starts_with("test.") { target().join("plugins-test").join(id) } else { out.join(id) };
        fs::create_dir_all(&dir)?;
        put(&dir.join("plugin.wasm"), &wasm)?;
        put(&dir.join("plugin.toml"), &fs::read(manifest)?)?;
        eprintln!("plugins: {id} ({} KB)", wasm.len() / 1024);
    }
    Ok(out)
}

fn package_name(dir: &Path) -> Result<String> {
    #[derive(serde::Deserialize)]
    struct Cargo {
        package: Package,
    }
    #[derive(serde::Deserialize)]
    struct Package {
        name: String,
    }
    let path = dir.join("Cargo.toml");
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    Ok(toml::from_str::<Cargo>(&text).with_context(|| path.display().to_string())?.package.name)
}

/// Writes only what changed, and never half of it: a server may be reading.
fn put(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let temporary = path.with_extension("new");
    fs::write(&temporary, bytes)?;
    fs::rename(&temporary, path).with_context(|| path.display().to_string())
}
