//! `docs/GUARANTEES.md` and `docs/PLATFORM.md` name a test behind each promise, `docs/SECURITY.md` behind each bound, and
//! each of these tests exists.

use std::path::Path;

/// The text of a test's module: `tests/it crash` is `tests/it/crash.rs`; `tests` of a source file may be in it or beside it.
fn module(root: &Path, place: &str, path: &[&str]) -> String {
    let beside = root.join(place).join(path.join("/")).with_extension("rs");
    let path: Vec<_> = path.iter().copied().filter(|part| *part != "tests").collect();
    let within = root.join(place).join(path.join("/")).with_extension("rs");
    let file = if beside.exists() { beside } else { within };
    std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()))
}

/// Whether the text has a test of this name: a function under a test attribute, or a line of a macro that makes one.
fn has_test(text: &str, name: &str) -> bool {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let function = [format!("fn {name}("), format!("async fn {name}(")];
    let made = format!("{name}: \"");
    lines.iter().enumerate().any(|(n, line)| {
        let under = lines[n.saturating_sub(3)..n].iter().any(|l| l.starts_with("#[") && l.contains("test"));
        (under && function.iter().any(|f| line.starts_with(f))) || line.starts_with(&made)
    })
}

/// The rows of the table with this head, cell by cell.
fn table<'a>(document: &'a str, head: &str) -> Vec<Vec<&'a str>> {
    let rows = document.lines().skip_while(|line| !line.starts_with(head)).skip(2);
    let rows = rows.take_while(|line| line.starts_with("| "));
    rows.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// What stands in backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// `place module::test`, or `dashboard/e2e/file the beginning of a title`, exists; `of` is what the test holds.
fn assert_exists(name: &str, of: &str) {
    let (place, path) = name.split_once(' ').unwrap_or_else(|| panic!("`place module::test`, not `{name}`"));
    if place.starts_with("dashboard/") {
        let text = std::fs::read_to_string(root().join(place)).unwrap_or_else(|e| panic!("{place}: {e}"));
        let titled = |line: &str| line.starts_with("test") && line.contains(&format!("('{path}"));
        assert!(text.lines().any(titled), "there is no browser test `{name}`, named in: {of}");
        return;
    }
    let mut path: Vec<_> = path.split("::").collect();
    let test = path.pop().unwrap();
    assert!(!path.is_empty(), "{name}: no module");
    assert!(has_test(&module(root(), place, &path), test), "there is no test `{name}`, named in: {of}");
}

/// The last cell of each row names tests that exist.
fn assert_held(document: &str, head: &str, columns: usize, least: usize) {
    let document = std::fs::read_to_string(root().join(document)).unwrap();
    let rows = table(&document, head);
    assert!(rows.len() >= least, "{} rows", rows.len());
    for row in &rows {
        assert_eq!(row.len(), columns, "{head}: {row:?}");
        let names = quoted(row[columns - 1]);
        assert!(!names.is_empty(), "no test holds: {}", row[0]);
        for name in names {
            assert_exists(name, row[0]);
        }
    }
}

#[test]
fn every_promise_names_tests_that_exist() {
    assert_held("docs/GUARANTEES.md", "| promise", 3, 15);
}

#[test]
fn every_bound_names_tests_that_exist() {
    assert_held("docs/SECURITY.md", "| what | bound, setting", 4, 40);
}

#[test]
fn what_the_platform_promises_names_tests_that_exist() {
    let document = std::fs::read_to_string(root().join("docs/PLATFORM.md")).unwrap();
    let (built, _later) = document.split_once("## Not built yet").expect("what is planned stands at the end");
    let promises: Vec<_> = built.lines().filter(|line| line.contains("<a id=\"") && !line.starts_with("| ")).collect();
    assert!(promises.len() >= 75, "{} promises", promises.len());
    for promise in promises {
        let (what, tests) = promise.split_once(" Held by ").unwrap_or_else(|| panic!("no test holds: {promise}"));
        let names = quoted(tests);
        assert!(!names.is_empty(), "no test holds: {promise}");
        for name in names {
            assert_exists(name, what);
        }
    }
}

#[test]
fn a_name_without_a_test_is_found() {
    let text = "#[test]\nfn real() {}\n\nfn helper() {}\n    made: \"x\",\n";
    assert!(has_test(text, "real") && has_test(text, "made"));
    assert!(!has_test(text, "gone") && !has_test("fn helper() {}", "helper") && !has_test(text, "rea"));
}
