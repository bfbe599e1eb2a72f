//! What the long tests do to a machine: file systems of their own, a disk that can be copied as a power cut would leave
//! it, a clock that jumps.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::ScratchDir;

/// Whether the long variants are asked for (`HEXA_LONG`).
pub fn is_long() -> bool {
    std::env::var_os("HEXA_LONG").is_some()
}

/// Whether this group of tests is asked for (`HEXA_WITH`), which is left out by itself.
pub fn with(group: &str) -> bool {
    std::env::var("HEXA_WITH").is_ok_and(|groups| groups.split(' ').any(|name| name == group))
}

/// The same for a test that has no short variant: says so when it is skipped.
pub fn long(test: &str) -> bool {
    let asked = is_long();
    if !asked {
        skip(test, "it runs with HEXA_LONG=1 (`cargo xtask test --long`)");
    }
    asked
}

/// Names the file to which tests append what they leave out; `cargo xtask test` prints it at the end.
const SKIPPED: &str = "HEXA_SKIPPED";

/// Says that a test proves nothing this time: a test that returns early looks like one that passed.
///
/// # Panics
/// When the list of skipped tests cannot be written.
pub fn skip(test: &str, why: &str) {
    use std::io::Write;
    eprintln!("{test}: skipped, {why}");
    if let Some(list) = std::env::var_os(SKIPPED) {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&list);
        let line = format!("{test}: {why}\n");
        file.and_then(|mut f| f.write_all(line.as_bytes())).unwrap_or_else(|e| panic!("{}: {e}", list.display()));
    }
}

/// What a test needs of the machine, if it is there. A machine without it fails the test, unless whoever runs the tests
/// leaves out what needs it by this variable.
///
/// # Panics
/// When it is missing and not left out.
fn needed<T>(test: &str, found: Result<T, String>, remedy: &str, variable: &str) -> Option<T> {
    match found_or_left_out(found, remedy, variable) {
        Ok(found) => Some(found),
        Err(why) => {
            skip(test, &why);
            None
        }
    }
}

/// The same, with the reason when it is left out.
fn found_or_left_out<T>(found: Result<T, String>, remedy: &str, variable: &str) -> Result<T, String> {
    found.map_err(|why| {
        let left_out = std::env::var_os(variable).is_some();
        assert!(left_out, "{why}: {remedy}, or leave out the tests that need it with {variable}=1");
        format!("{variable} is set, and {why}")
    })
}

/// A clock for the server of this test; none when the tests of clocks are left out (`HEXA_SKIP_CLOCK`).
///
/// # Panics
/// When libfaketime is missing and they are not.
pub fn clock(test: &str) -> Option<FakeClock> {
    needed(test, FakeClock::new(), "run `cargo xtask setup --tests`", "HEXA_SKIP_CLOCK")
}

/// A disk on a loop device; none when the tests of disks are left out (`HEXA_SKIP_DISKS`).
///
/// # Panics
/// When there are no loop devices and they are not.
pub fn disk(test: &str, mib: u32) -> Option<Disk> {
    needed(test, Disk::new(mib), "give this machine loop devices and ext4", "HEXA_SKIP_DISKS")
}

/// Runs a program to its end; its output is the error.
///
/// # Errors
/// What it said, when it cannot be started or fails.
pub fn run(program: &str, args: &[&str]) -> Result<String, String> {
    let done = Command::new(program).args(args).output().map_err(|e| format!("{program}: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if done.status.success() {
        return Ok(text(&done.stdout));
    }
    Err(format!("{program} {}: {} {}", args.join(" "), text(&done.stdout), text(&done.stderr)))
}

fn must(program: &str, args: &[&str]) -> String {
    run(program, args).unwrap_or_else(|e| panic!("{e}"))
}

/// Set in a process that may mount what it likes: nobody else sees it, and it is gone with the process.
const PRIVATE: &str = "HEXA_TEST_PRIVATE_MOUNTS";

/// Runs the test named `test` again in a mount namespace of its own; true in there, false when that is done (or is left
/// out with `HEXA_SKIP_DISKS`) and the caller has nothing left to do.
///
/// # Panics
/// When the test failed in there, or this process may not mount.
pub fn in_private_mounts(test: &str) -> bool {
    if std::env::var_os(PRIVATE).is_some() {
        return true;
    }
    let allowed = run("unshare", &["--mount", "--propagation", "private", "true"]);
    let allowed = allowed.map_err(|why| format!("this process may not mount ({why})"));
    if needed(test, allowed, "run the tests as root", "HEXA_SKIP_DISKS").is_none() {
        return false;
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]).arg(std::env::current_exe().expect("a test program"));
    command.args(["--exact", test, "--nocapture"]).env(PRIVATE, "1");
    let mut child = crate::process::spawn(command).expect("unshare can be started");
    assert!(child.wait().expect("our own child").success(), "{test} failed");
    false
}

/// A small file system in memory.
#[derive(Debug)]
pub struct SmallDisk(ScratchDir);

impl SmallDisk {
    /// Of so many MiB.
    ///
    /// # Panics
    /// When it cannot be mounted.
    pub fn new(mib: u32) -> Self {
        let dir = ScratchDir::new();
        must("mount", &["-t", "tmpfs", "-o", &format!("size={mib}m,mode=0700"), "hexa-test", &shown(dir.path())]);
        Self(dir)
    }
    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
    /// Takes all that is left; dropping the file gives it back.
    ///
    /// # Panics
    /// When nothing at all can be written.
    pub fn fill(&self) -> Filler {
        use std::io::Write;
        let path = self.path().join("filler");
        let mut file = std::fs::File::create(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        for size in [1 << 20, 4096] {
            let block = vec![0u8; size];
            while file.write_all(&block).is_ok() {}
        }
        Filler(path)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = run("umount", &["--lazy", &shown(self.path())]);
    }
}

/// A full disk's fullness.
#[derive(Debug)]
pub struct Filler(PathBuf);

impl Drop for Filler {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// An ext4 file system in a file, through a loop device that writes past the page cache: the file is at every moment
/// what a disk would hold after a power cut.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    mounted: PathBuf,
    _scratch: ScratchDir,
}

impl Disk {
    /// A fresh one of so many MiB.
    ///
    /// # Errors
    /// When this machine has no loop devices to give.
    pub fn new(mib: u32) -> Result<Self, String> {
        let scratch = ScratchDir::new();
        let image = scratch.path().join("disk.img");
        run("truncate", &["--size", &format!("{mib}M"), &shown(&image)])?;
        run("mkfs.ext4", &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", &shown(&image)])?;
        Self::mount(scratch, image)
    }
    fn mount(scratch: ScratchDir, image: PathBuf) -> Result<Self, String> {
        let mounted = scratch.path().join("mounted");
        std::fs::create_dir(&mounted).map_err(|e| e.to_string())?;
        let device = run("losetup", &["--find", "--show", "--direct-io=on", &shown(&image)])?;
        let done = run("mount", &["-t", "ext4", &device, &shown(&mounted)]);
        // Detached once nobody has it mounted any more.
        run("losetup", &["--detach", &device])?;
        done?;
        Ok(Self { image, mounted, _scratch: scratch })
    }
    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mounted
    }
    /// Mounts a copy of what is on the disk now. What only the page cache has is not in it.
    ///
    /// # Panics
    /// When it cannot be copied or mounted.
    #[must_use]
    pub fn after_power_cut(&self) -> Self {
        let scratch = ScratchDir::new();
        let copy = scratch.path().join("disk.img");
        must("cp", &["--sparse=always", &shown(&self.image), &shown(&copy)]);
        Self::mount(scratch, copy).unwrap_or_else(|e| panic!("the copy of the disk: {e}"))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = run("umount", &["--lazy", &shown(&self.mounted)]);
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The wall clock of a server, which a test can move; its monotonic clock goes on (libfaketime).
#[derive(Debug)]
pub struct FakeClock {
    library: PathBuf,
    offset: PathBuf,
    _scratch: ScratchDir,
}

impl FakeClock {
    /// At the true time.
    ///
    /// # Errors
    /// When libfaketime is not installed.
    pub fn new() -> Result<Self, String> {
        let found = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let mut places = found.map(|e| e.path().join("faketime/libfaketimeMT.so.1"));
        let library = places.find(|p| p.is_file()).ok_or("libfaketime is not installed (Debian: faketime)")?;
        let scratch = ScratchDir::new();
        let clock = Self { library, offset: scratch.path().join("offset"), _scratch: scratch };
        clock.set("+0");
        Ok(clock)
    }
    /// What the server's environment needs.
    pub fn options(&self, options: crate::Options) -> crate::Options {
        options
            .env("LD_PRELOAD", &shown(&self.library))
            .env("FAKETIME_TIMESTAMP_FILE", &shown(&self.offset))
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("NO_FAKE_STAT", "1")
    }
    /// Moves it against the true time, like `-2h`.
    ///
    /// # Panics
    /// When the file cannot be replaced.
    pub fn set(&self, offset: &str) {
        // In one step: the library reads it at any moment.
        let next = self.offset.with_extension("next");
        std::fs::write(&next, format!("{offset}\n")).expect("a scratch file");
        std::fs::rename(&next, &self.offset).expect("a scratch file");
    }
}

#[cfg(test)]
mod tests {
    use super::{found_or_left_out, needed};

    #[test]
    #[should_panic(expected = "no clock: install one, or leave out the tests that need it with HEXA_SKIP_NOTHING=1")]
    fn what_is_missing_fails_the_test_that_needs_it() {
        let _ = needed::<()>("a test", Err("no clock".into()), "install one", "HEXA_SKIP_NOTHING");
    }

    #[test]
    fn what_is_left_out_is_left_out_only_where_it_is_missing() {
        // A variable that is set everywhere.
        let left_out = found_or_left_out::<u8>(Err("no clock".into()), "install one", "PATH");
        assert_eq!(left_out, Err("PATH is set, and no clock".into()));
        assert_eq!(found_or_left_out(Ok(7), "install one", "PATH"), Ok(7));
    }
}
