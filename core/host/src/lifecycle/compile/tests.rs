use std::fs;
use std::time::Instant;

use super::*;

/// A child that runs this shell script; the limits arrive as its arguments.
fn script(text: &str, wall: Duration) -> Compiler {
    let args = vec!["-c".into(), text.into()];
    let limits = CompileLimits { wall, ..CompileLimits::default() };
    Compiler::Child(ChildCompiler::new("/bin/sh".into(), args, limits))
}

fn error(text: &str) -> String {
    let engine = crate::engine::for_compiling().unwrap();
    // More than a pipe holds, so that a child that reads nothing is met while it is written to.
    let wasm = vec![0; 1 << 20];
    script(text, Duration::from_secs(60)).compile(&engine, &wasm).expect_err("no code").to_string()
}

#[test]
fn a_child_that_ends_badly_or_says_rubbish_is_an_error() {
    let whole = "the compiler gave no whole result";
    for (text, expected) in [
        ("exit 0", "it is too short"),
        ("cat >/dev/null", "it is too short"),
        ("cat >/dev/null; head -c 100000 /dev/zero", "it is something else"),
        ("cat >/dev/null; yes", "longer than is allowed"),
    ] {
        let said = error(text);
        assert!(said.contains(whole) && said.contains(expected), "{text}: {said}");
    }
    assert!(error("kill -9 $$").contains("ended with signal: 9"));
    assert!(error("kill -XCPU $$").contains("more than the 25 s of processor time"));
    assert!(error("echo 'memory allocation of 9 bytes failed' >&2; kill -ABRT $$").contains("1024 MiB of memory"));
    let said = error("printf 'bad\\033[2J section\\n' >&2; exit 3");
    assert_eq!(said, "plugin.wasm is not a valid component: bad [2J section");
    let said = error("echo broken >&2; exit 7");
    assert!(said.contains("ended with exit status: 7 (broken)"), "{said}");
}

#[test]
fn a_child_that_hangs_is_ended_with_all_that_it_started() {
    let engine = crate::engine::for_compiling().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mark = dir.path().join("pid");
    for text in [
        // Silent; with its outputs closed; with a child of its own that holds them.
        "exec sleep 1000".to_owned(),
        "exec >/dev/null 2>/dev/null; exec sleep 1000".to_owned(),
        format!("sleep 1000 & echo $! >{}; wait", mark.display()),
    ] {
        let begun = Instant::now();
        let result = script(&text, Duration::from_millis(300)).compile(&engine, &[0; 100]);
        assert!(matches!(result, Err(CompileError::Time(_, "time"))), "{text}: {result:?}");
        assert!(begun.elapsed() < Duration::from_secs(60), "{text}");
    }
    let pid = fs::read_to_string(&mark).unwrap();
    // Killed with its parent; gone once it is reaped.
    let alive = || fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|s| !s.contains(") Z "));
    let begun = Instant::now();
    while alive() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the grandchild lives");
        std::thread::yield_now();
    }
}

#[test]
fn a_program_that_is_not_there_is_named_and_a_large_component_is_not_begun() {
    let engine = crate::engine::for_compiling().unwrap();
    let compiler = Compiler::Child(ChildCompiler::new("/no/such".into(), vec![], CompileLimits::default()));
    let said = compiler.compile(&engine, b"x").expect_err("no program").to_string();
    assert!(said.contains("could not be started: No such file"), "{said}");
    let said = compiler.compile(&engine, &vec![0; (4 << 20) + 1]).expect_err("too large").to_string();
    assert!(said.contains("4194305 bytes long; 4194304 are allowed"), "{said}");
}

#[test]
fn a_result_is_whole_or_refused() {
    let mut sent = Vec::new();
    frame::write(&mut sent, b"some code").unwrap();
    assert_eq!(frame::read(&sent[..]).unwrap(), b"some code");
    for cut in 0..sent.len() {
        assert!(frame::read(&sent[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..sent.len() {
        let mut damaged = sent.clone();
        damaged[at] ^= 1;
        assert!(frame::read(&damaged[..]).is_err(), "damaged at {at}");
    }
    sent.push(0);
    assert_eq!(frame::read(&sent[..]), Err("its length is not what it says"));
}

#[test]
fn the_environment_is_empty_and_the_limits_arrive() {
    let said = error("echo \"$(env | grep -cv -e ^PWD= -e ^SHLVL= -e ^_=) $1 $2 $(pwd)\" >&2; exit 3");
    // $0 is the parent.
    assert!(said.ends_with(": 0 25 1073741824 /"), "{said}");
}

#[test]
fn one_child_runs_at_a_time() {
    let engine = crate::engine::for_compiling().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let busy = dir.path().join("busy");
    let text = format!("mkdir '{0}' || exit 7; cat >/dev/null; rmdir '{0}'; exit 3", busy.display());
    let compiler = script(&text, Duration::from_secs(60));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let result = compiler.compile(&engine, &[0; 100]);
                    assert!(matches!(result, Err(CompileError::Invalid(_))), "two at a time: {result:?}");
                }
            });
        }
    });
}
