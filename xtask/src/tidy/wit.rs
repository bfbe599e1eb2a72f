//! The contract with plugins: `sdk/wit/wit.lock` holds a hash of every package in `sdk/wit`. While a package is 0.x it may
//! change, but not unnoticed; from 1.0.0 on it is published, and stays as it is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use semver::Version;
use sha2::{Digest, Sha256};

use super::Problem;

const HEAD: &str = "# SHA-256 of each package of the contract, without comments. Written by `cargo xtask wit-lock`.\n";
const REMEDY: &str = "run `cargo xtask wit-lock` and note the change in CHANGELOG.md";

struct Package {
    file: PathBuf,
    hash: String,
}

/// Compares the packages with the lock.
pub(super) fn check(root: &Path) -> Result<Vec<Problem>> {
    let (found, locked) = (packages(root)?, locked(root)?);
    let lock = lock_file(root);
    let mut problems = Vec::new();
    for (name, package) in &found {
        let message = match locked.get(name) {
            Some(hash) if *hash == package.hash => continue,
            Some(_) if published(name)? => frozen(name),
            Some(_) => format!("{name} is not what sdk/wit/wit.lock says: {REMEDY}"),
            None => format!("{name} is not in sdk/wit/wit.lock: {REMEDY}"),
        };
        problems.push(Problem::new(root, &package.file, 1, message));
    }
    for (line, name) in locked.keys().filter(|name| !found.contains_key(*name)).enumerate() {
        let message = if published(name)? { gone(name) } else { format!("{name} is gone: {REMEDY}") };
        problems.push(Problem::new(root, &lock, line + 1, message));
    }
    Ok(problems)
}

/// `cargo xtask wit-lock`: locks the packages as they are now, except where one is published and would change.
pub(crate) fn write(root: &Path) -> Result<()> {
    let (found, locked) = (packages(root)?, locked(root)?);
    for (name, hash) in &locked {
        match found.get(name) {
            Some(package) if package.hash != *hash && published(name)? => bail!(frozen(name)),
            None if published(name)? => bail!(gone(name)),
            _ => {}
        }
    }
    let mut text = HEAD.to_owned();
    for (name, package) in &found {
        writeln!(text, "{name} {}", package.hash)?;
    }
    let path = lock_file(root);
    fs::write(&path, text).with_context(|| path.display().to_string())
}

fn frozen(name: &str) -> String {
    format!("{name} is published and must not change: undo it, and put what is new into a new version of the package")
}

fn gone(name: &str) -> String {
    format!("{name} is published and must stay: plugins were built with it; restore its file")
}

fn lock_file(root: &Path) -> PathBuf {
    root.join("sdk/wit/wit.lock")
}

fn published(name: &str) -> Result<bool> {
    let version = name.split_once('@').map_or("", |(_, version)| version);
    Ok(Version::parse(version).with_context(|| format!("the version of the WIT package {name:?}"))?.major > 0)
}

fn locked(root: &Path) -> Result<BTreeMap<String, String>> {
    let path = lock_file(root);
    let Ok(text) = fs::read_to_string(&path) else { return Ok(BTreeMap::new()) };
    let mut locked = BTreeMap::new();
    for line in text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty()) {
        let (name, hash) = line.split_once(' ').with_context(|| format!("{}: {line:?}", path.display()))?;
        locked.insert(name.to_owned(), hash.trim().to_owned());
    }
    Ok(locked)
}

fn packages(root: &Path) -> Result<BTreeMap<String, Package>> {
    let mut packages = BTreeMap::new();
    let files = super::files(&root.join("sdk/wit"))?;
    for file in files.into_iter().filter(|f| f.extension().is_some_and(|e| e == "wit")) {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let contract = without_comments(&text).split_whitespace().collect::<Vec<_>>().join(" ");
        let name = contract.strip_prefix("package ").and_then(|rest| rest.split_once(';')).map(|(name, _)| name.trim());
        let name = name.with_context(|| format!("{} does not begin with its package", file.display()))?.to_owned();
        let hash = Sha256::digest(&contract).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
        if let Some(other) = packages.insert(name.clone(), Package { file: file.clone(), hash }) {
            bail!("{name} is in {} and in {}", other.file.display(), file.display());
        }
    }
    Ok(packages)
}

/// Comments say what is meant; a better word in one is no change of the contract.
fn without_comments(text: &str) -> String {
    let (mut kept, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find("//").into_iter().chain(rest.find("/*")).min() {
        kept.push_str(&rest[..at]);
        let comment = &rest[at..];
        let end = if comment.starts_with("//") {
            comment.find('\n').unwrap_or(comment.len())
        } else {
            comment.find("*/").map_or(comment.len(), |end| end + 2)
        };
        kept.push(' ');
        rest = &comment[end..];
    }
    kept + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(version: &str, body: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("sdk/wit")).unwrap();
        put(&dir, version, body);
        dir
    }

    fn put(dir: &tempfile::TempDir, version: &str, body: &str) {
        let text = format!("/// Words.\npackage a:b@{version};\n{body}\n");
        fs::write(dir.path().join(format!("sdk/wit/{version}.wit")), text).unwrap();
    }

    fn found(dir: &tempfile::TempDir) -> Vec<String> {
        check(dir.path()).unwrap().into_iter().map(|p| format!("{} {}", p.file, p.message)).collect()
    }

    #[test]
    fn a_version_0_may_change_but_not_unnoticed() {
        let dir = tree("0.3.0", "interface i { f: func(); }");
        assert_eq!(found(&dir).len(), 1);
        assert!(
            found(&dir)[0]
                .contains("sdk/wit/0.3.0.wit a:b@0.3.0 is not in sdk/wit/wit.lock: run `cargo xtask wit-lock`")
        );
        write(dir.path()).unwrap();
        assert_eq!(found(&dir), Vec::<String>::new());
        put(&dir, "0.3.0", "interface i { g: func(); }");
        assert!(found(&dir)[0].contains("run `cargo xtask wit-lock` and note the change in CHANGELOG"));
        write(dir.path()).unwrap();
        assert_eq!(found(&dir), Vec::<String>::new());
        fs::remove_file(dir.path().join("sdk/wit/0.3.0.wit")).unwrap();
        assert!(found(&dir)[0].contains("a:b@0.3.0 is gone: run"));
        write(dir.path()).unwrap();
        assert_eq!(found(&dir), Vec::<String>::new());
    }

    #[test]
    fn a_published_package_neither_changes_nor_goes() {
        let dir = tree("1.0.0", "interface i { f: func(); }");
        write(dir.path()).unwrap();
        assert_eq!(found(&dir), Vec::<String>::new());
        let locked = fs::read(lock_file(dir.path())).unwrap();
        put(&dir, "1.0.0", "interface i { f: func(a: u32); }");
        assert!(found(&dir)[0].contains("a:b@1.0.0 is published and must not change"));
        assert!(write(dir.path()).unwrap_err().to_string().contains("must not change"));
        fs::rename(dir.path().join("sdk/wit/1.0.0.wit"), dir.path().join("sdk/wit/x.txt")).unwrap();
        assert!(found(&dir)[0].contains("a:b@1.0.0 is published and must stay"));
        assert!(write(dir.path()).unwrap_err().to_string().contains("must stay"));
        assert_eq!(fs::read(lock_file(dir.path())).unwrap(), locked);
        // What is new goes beside it.
        put(&dir, "1.0.0", "interface i { f: func(); }");
        put(&dir, "1.1.0", "interface i { f: func(); } interface j { g: func(); }");
        assert!(found(&dir)[0].contains("a:b@1.1.0 is not in sdk/wit/wit.lock"));
        write(dir.path()).unwrap();
        assert_eq!(found(&dir), Vec::<String>::new());
    }

    #[test]
    fn comments_and_spaces_are_not_the_contract() {
        let dir = tree("1.0.0", "interface i {\n  /// Old words.\n  f: func();\n}");
        write(dir.path()).unwrap();
        put(&dir, "1.0.0", "interface i { // better words\n  f: /* really\n */ func();\n\n}");
        assert_eq!(found(&dir), Vec::<String>::new());
        assert_eq!(without_comments("a // b\nc /* d // */ e /// f"), "a  \nc   e  ");
    }

    #[test]
    fn a_file_without_package_or_a_package_in_two_files_is_an_error() {
        let dir = tree("0.1.0", "");
        fs::copy(dir.path().join("sdk/wit/0.1.0.wit"), dir.path().join("sdk/wit/copy.wit")).unwrap();
        assert!(check(dir.path()).unwrap_err().to_string().contains("a:b@0.1.0 is in"));
        fs::write(dir.path().join("sdk/wit/copy.wit"), "interface i {}").unwrap();
        assert!(check(dir.path()).unwrap_err().to_string().contains("does not begin with its package"));
    }
}
