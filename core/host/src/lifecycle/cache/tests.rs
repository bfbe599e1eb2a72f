use super::*;

fn component() -> Vec<u8> {
    wat::parse_str("(component (core module (func (export \"f\"))))").expect("valid text")
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(dir).expect("exists").flatten().map(|e| e.path()).collect();
    entries.sort();
    entries
}

/// Where a component came from.
#[derive(Debug, PartialEq)]
enum Origin {
    Compiled,
    Cached,
}

/// A start with this cache.
fn origin(dir: &Path, key: u8, wasm: &[u8]) -> Origin {
    origin_in(&Cache::new(dir, [key; 32]), wasm)
}

fn origin_in(cache: &Cache, wasm: &[u8]) -> Origin {
    let engine = crate::engine::for_compiling().expect("an engine");
    if cache.get(&engine, wasm).is_some() {
        return Origin::Cached;
    }
    cache.compile(&engine, wasm, &Compiler::InProcess).expect("a component");
    Origin::Compiled
}

#[test]
fn the_second_start_does_not_compile() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("plugin-cache");
    assert_eq!(origin(&cache, 1, &component()), Origin::Compiled);
    assert_eq!(origin(&cache, 1, &component()), Origin::Cached);
    let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&cache), 0o700);
    assert_eq!(entries(&cache).iter().map(|p| mode(p)).collect::<Vec<_>>(), [0o600]);
}

#[test]
fn a_damaged_or_foreign_entry_is_compiled_anew_and_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    type Change = fn(&mut Vec<u8>);
    let damage = |change: Change| {
        let path = &entries(dir.path())[0];
        let mut bytes = fs::read(path).unwrap();
        change(&mut bytes);
        fs::write(path, bytes).unwrap();
    };
    assert_eq!(origin(dir.path(), 1, &component()), Origin::Compiled);
    let changes: [Change; 5] =
        [|b| b[0] ^= 1, |b| *b.last_mut().unwrap() ^= 1, |b| b.truncate(b.len() / 2), |b| b.truncate(7), |b| b.push(0)];
    for change in changes {
        damage(change);
        assert_eq!(origin(dir.path(), 1, &component()), Origin::Compiled);
        assert_eq!(origin(dir.path(), 1, &component()), Origin::Cached);
    }
    // Signed with another installation's secret: whole, but not ours.
    assert_eq!(origin(dir.path(), 2, &component()), Origin::Compiled);
    assert_eq!(origin(dir.path(), 1, &component()), Origin::Compiled);
}

#[test]
fn an_entry_is_good_for_its_own_component_only() {
    let dir = tempfile::tempdir().unwrap();
    let other = wat::parse_str("(component (core module (func (export \"g\"))))").unwrap();
    assert_eq!(origin(dir.path(), 1, &component()), Origin::Compiled);
    let first = entries(dir.path()).remove(0);
    assert_eq!(origin(dir.path(), 1, &other), Origin::Compiled);
    let second = entries(dir.path()).into_iter().find(|p| *p != first).unwrap();
    fs::copy(&first, &second).unwrap();
    assert_eq!(origin(dir.path(), 1, &other), Origin::Compiled);
}

#[test]
fn a_link_is_not_followed_and_leftovers_go() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(origin(dir.path(), 1, &component()), Origin::Compiled);
    let entry = entries(dir.path()).remove(0);
    let elsewhere = dir.path().join("elsewhere");
    fs::rename(&entry, &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &entry).unwrap();
    assert_eq!(origin(dir.path(), 1, &component()), Origin::Compiled);
    assert!(!fs::symlink_metadata(&entry).unwrap().is_symlink());

    for leftover in ["old.cwasm", "half.123.tmp", "mine.txt"] {
        fs::write(dir.path().join(leftover), "x").unwrap();
    }
    let cache = Cache::new(dir.path(), [1; 32]);
    assert_eq!(origin_in(&cache, &component()), Origin::Cached);
    cache.prune();
    let names: Vec<_> = entries(dir.path()).iter().map(|p| p.file_name().unwrap().to_owned()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(entry.exists() && dir.path().join("mine.txt").exists());
}

#[test]
fn without_a_usable_folder_everything_still_loads() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "x").unwrap();
    assert_eq!(origin(&file, 1, &component()), Origin::Compiled);
}

#[test]
fn an_entry_that_others_could_have_written_is_compiled_anew() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(origin(dir.path(), 1, &component()), Origin::Compiled);
    let entry = entries(dir.path()).remove(0);
    for mode in [0o602, 0o620] {
        fs::set_permissions(&entry, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(origin(dir.path(), 1, &component()), Origin::Compiled, "{mode:o}");
        assert_eq!(fs::metadata(&entry).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(origin(dir.path(), 1, &component()), Origin::Cached);
    }
}

#[test]
fn what_is_no_file_delays_nothing() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(origin(dir.path(), 1, &component()), Origin::Compiled);
    let entry = entries(dir.path()).remove(0);
    fs::remove_file(&entry).unwrap();
    // Opened as files are, a pipe would wait for a writer.
    let made = std::process::Command::new("mkfifo").arg(&entry).status().unwrap();
    assert!(made.success());
    assert_eq!(origin(dir.path(), 1, &component()), Origin::Compiled);
    assert_eq!(origin(dir.path(), 1, &component()), Origin::Cached);
    fs::remove_file(&entry).unwrap();
    fs::create_dir(&entry).unwrap();
    assert_eq!(origin(dir.path(), 1, &component()), Origin::Compiled);
    assert_eq!(entries(dir.path()), [entry], "nothing half written stays");
}

#[test]
fn code_of_another_compiler_has_another_entry() {
    let mut config = wasmtime::Config::new();
    config.epoch_interruption(true);
    let other = Engine::new(&config).unwrap();
    let ours = crate::engine::for_compiling().unwrap();
    assert_ne!(entry_name(&ours, b"x"), entry_name(&other, b"x"));
    assert_ne!(entry_name(&ours, b"x"), entry_name(&ours, b"y"));
    // The engine that runs code and the one that makes it agree.
    assert_eq!(entry_name(&ours, b"x"), entry_name(&crate::engine::new().unwrap(), b"x"));

    // Whole and ours, but in the place of what this engine expects: wasmtime refuses it.
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache::new(dir.path(), [1; 32]);
    let code = other.precompile_component(&component()).unwrap();
    let name = entry_name(&ours, &component());
    cache.write(&dir.path().join(&name), &name, &code).unwrap();
    assert!(cache.get(&ours, &component()).is_none());
}

#[test]
fn a_full_cache_refuses_and_everything_still_loads() {
    let dir = tempfile::tempdir().unwrap();
    let cache = Cache { max_bytes: 4096, ..Cache::new(dir.path(), [1; 32]) };
    assert_eq!(origin_in(&cache, &component()), Origin::Compiled);
    assert_eq!(origin_in(&cache, &component()), Origin::Compiled);
    assert_eq!(entries(dir.path()), Vec::<PathBuf>::new());
    let small = Cache { max_bytes: 1 << 20, ..Cache::new(dir.path(), [1; 32]) };
    assert_eq!(origin_in(&small, &component()), Origin::Compiled);
    assert_eq!(origin_in(&cache, &component()), Origin::Cached);
}

#[test]
fn a_folder_that_is_a_link_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let (elsewhere, link) = (dir.path().join("elsewhere"), dir.path().join("cache"));
    fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    assert_eq!(origin(&link, 1, &component()), Origin::Compiled);
    assert_eq!(entries(&elsewhere), Vec::<PathBuf>::new());
}
