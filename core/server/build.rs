//! Puts into the binary what was built before: the console that `cargo xtask dashboard` left in dashboard/dist, and the
//! plugins that `cargo xtask plugins` left in target/plugins. Without them, or with empty folders, the server is built all
//! the same and says how to have them. Nothing is compiled or downloaded here.

#![expect(clippy::unnecessary_debug_formatting, reason = "paths become string literals of Rust")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR").unwrap_or_default()).join("../..");
    let out = PathBuf::from(env::var("OUT_DIR").unwrap_or_default());
    println!("cargo::rerun-if-changed=build.rs");
    dashboard(&root.join("dashboard/dist"), &out);
    // Where xtask leaves them.
    println!("cargo::rerun-if-env-changed=CARGO_TARGET_DIR");
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    plugins(&root.join(target).join("plugins"), &out);
}

/// A folder as it is now: it may be built anew while the compiler reads.
fn kept(from: &Path, to: PathBuf) -> PathBuf {
    // Cargo runs a build script each time when what it watches is not there.
    let _ = fs::create_dir_all(from);
    println!("cargo::rerun-if-changed={}", from.display());
    let _ = fs::remove_dir_all(&to);
    copy(from, &to).unwrap_or_else(|e| panic!("{}: {e}", to.display()));
    to
}

/// Each folder with both files of a plugin.
fn plugins(built: &Path, out: &Path) {
    let kept = kept(built, out.join("plugins"));
    let mut folders: Vec<_> = fs::read_dir(&kept).into_iter().flatten().flatten().map(|e| e.path()).collect();
    folders.sort();
    let mut text = String::from("const PLUGINS: &[EmbeddedPlugin] = &[\n");
    for folder in folders {
        let (manifest, wasm) = (folder.join("plugin.toml"), folder.join("plugin.wasm"));
        if manifest.is_file() && wasm.is_file() {
            let id = folder.file_name().unwrap_or_default().to_string_lossy();
            let _ = writeln!(
                text,
                "EmbeddedPlugin {{ id: {id:?}, manifest: include_str!({manifest:?}), wasm: include_bytes!({wasm:?}) }},"
            );
        }
    }
    text.push_str("];\n");
    let out = out.join("plugins.rs");
    fs::write(&out, text).unwrap_or_else(|e| panic!("{}: {e}", out.display()));
}

fn dashboard(dist: &Path, out: &Path) {
    let kept = kept(dist, out.join("dashboard"));
    let mut files = Vec::new();
    find(&kept, &kept, &mut files);
    files.sort();
    let page = kept.join("index.html");
    let mut text = String::from("const PAGE: Option<&str> = ");
    if page.is_file() {
        let _ = writeln!(text, "Some(include_str!({page:?}));");
    } else {
        text.push_str("None;\n");
    }
    text.push_str("const ASSETS: &[Asset] = &[\n");
    for (name, path) in &files {
        let (brotli, gzip, kind) = (beside(path, "br"), beside(path, "gz"), kind(name));
        let _ = if brotli.is_file() && gzip.is_file() {
            writeln!(text, "packed({name:?}, {kind:?}, include_bytes!({brotli:?}), include_bytes!({gzip:?})),")
        } else {
            writeln!(text, "plain({name:?}, {kind:?}, include_bytes!({path:?})),")
        };
    }
    text.push_str("];\n");
    let out = out.join("dashboard.rs");
    fs::write(&out, text).unwrap_or_else(|e| panic!("{}: {e}", out.display()));
}

/// A folder with all that is in it; nothing where there is none.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let Ok(entries) = fs::read_dir(from) else { return Ok(()) };
    fs::create_dir_all(to)?;
    for entry in entries {
        let entry = entry?;
        let (path, to) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() { copy(&path, &to)? } else { fs::copy(&path, &to).map(drop)? }
    }
    Ok(())
}

fn beside(path: &Path, extension: &str) -> PathBuf {
    PathBuf::from(format!("{}.{extension}", path.display()))
}

/// Files by their names below the folder, without their compressed forms and the page.
fn find(root: &Path, dir: &Path, files: &mut Vec<(String, PathBuf)>) {
    for path in fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()) {
        if path.is_dir() {
            find(root, &path, files);
            continue;
        }
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
        let form = path.extension().is_some_and(|e| e == "br" || e == "gz");
        if !form && name != "index.html" && !name.starts_with('.') {
            files.push((name, fs::canonicalize(&path).unwrap_or(path)));
        }
    }
}

fn kind(name: &str) -> &'static str {
    match name.rsplit('.').next().unwrap_or_default() {
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "woff2" => "font/woff2",
        "json" | "webmanifest" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}
