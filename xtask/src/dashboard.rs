//! The console: Node, its packages, its build and its tests. `cargo build` needs none of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{hexa, output, root, run as run_command, target};

/// Options of `cargo xtask dashboard`.
#[derive(Debug, clap::Args)]
pub(crate) struct DashboardArgs {
    /// Serve the sources with hot reloading, in front of the server at HEXA_SERVER (http://127.0.0.1:8080).
    #[arg(long)]
    dev: bool,
    /// Build, and say how large each part is.
    #[arg(long)]
    report: bool,
    /// Measure it in a browser, against a release build, with 10,000 devices; takes some minutes.
    #[arg(long)]
    figures: bool,
    /// Make the pictures of docs/images, against a release build; takes some minutes.
    #[arg(long)]
    images: bool,
}

/// The oldest Node that the tools run on.
const OLDEST: (u32, u32) = (20, 19);
/// What is installed where the system has none, or an older one: the npm package `node` brings the binary.
const PINNED: &str = "node@24.9.0";
/// The page with what it needs at once, as it goes over the wire.
const FIRST_LOAD_KB: u64 = 250;

/// Node and npm, by the folders that hold them.
pub(crate) struct Node {
    bin: Option<PathBuf>,
}

fn version(program: &str) -> Option<(u32, u32)> {
    let text = output(program, &["--version"])?;
    let mut parts = text.trim().trim_start_matches('v').split('.').map(|n| n.parse().ok());
    Some((parts.next()??, parts.next()??))
}

impl Node {
    /// The system's if it is new enough, else our own, else brought here.
    ///
    /// # Errors
    /// When there is none and none can be brought; the message says how to get one.
    pub(crate) fn find() -> Result<Self> {
        if version("node").is_some_and(|v| v >= OLDEST) && output("npm", &["--version"]).is_some() {
            return Ok(Self { bin: None });
        }
        let dir = target().join("node");
        let bin = dir.join("node_modules/node/bin");
        if version(&bin.join("node").to_string_lossy()).is_none() {
            Self::bring(&dir)?;
        }
        Ok(Self { bin: Some(bin) })
    }

    fn bring(dir: &Path) -> Result<()> {
        let how = "the console needs Node 20.19 or later with npm: install it from your system or nodejs.org";
        let root_user = output("id", &["-u"]).is_some_and(|id| id.trim() == "0");
        if output("npm", &["--version"]).is_none() {
            if !root_user || output("apt-get", &["--version"]).is_none() {
                bail!("{how}");
            }
            eprintln!("setup: installing npm");
            let apt = |args: &[&str]| {
                run_command(Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive"))
            };
            apt(&["update", "-qq"])?;
            apt(&["install", "-y", "-qq", "--no-install-recommends", "npm"])?;
        }
        if version("node").is_some_and(|v| v >= OLDEST) {
            return Ok(());
        }
        eprintln!("setup: installing {PINNED} into {}", dir.display());
        fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
        let mut npm = Command::new("npm");
        npm.args(["install", "--silent", "--no-save", "--prefix"]).arg(dir).arg(PINNED);
        run_command(&mut npm).with_context(|| how.to_owned())
    }

    /// A program of npm's, in dashboard/, with this Node.
    fn npm(&self, args: &[&str]) -> Command {
        let mut command = Command::new("npm");
        command.args(args).current_dir(root().join("dashboard"));
        if let Some(bin) = &self.bin {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let all = std::iter::once(bin.clone()).chain(std::env::split_paths(&path));
            if let Ok(path) = std::env::join_paths(all) {
                command.env("PATH", path);
            }
        }
        command
    }

    /// The packages of the lock file; nothing to do when they are there.
    pub(crate) fn packages(&self) -> Result<()> {
        let dir = root().join("dashboard");
        let (lock, noted) = (dir.join("package-lock.json"), dir.join("node_modules/.hexa-lock"));
        let wanted = fs::read(&lock).with_context(|| lock.display().to_string())?;
        if fs::read(&noted).is_ok_and(|had| had == wanted) {
            return Ok(());
        }
        eprintln!("setup: npm ci");
        run_command(&mut self.npm(&["ci", "--silent", "--no-fund", "--no-audit"]))?;
        fs::write(&noted, wanted).with_context(|| noted.display().to_string())
    }

    fn script(&self, name: &str, more: &[&str]) -> Command {
        let mut args = vec!["run", "--silent", name];
        if !more.is_empty() {
            args.push("--");
            args.extend(more);
        }
        self.npm(&args)
    }
}

/// Builds, or serves the sources.
pub(crate) fn run(args: &DashboardArgs) -> Result<()> {
    let node = Node::find()?;
    node.packages()?;
    if args.dev {
        return run_command(&mut node.script("dev", &[]));
    }
    build_with(&node, true)?;
    if args.report {
        print!("{}", report()?);
    }
    for (_, name) in [(args.figures, "figures"), (args.images, "images")].into_iter().filter(|(wanted, _)| *wanted) {
        let plugins = crate::plugins::build()?;
        crate::process::cargo(&["build", "--release", "--package", "hexa-server"])?;
        let mut command = node.script(name, &[]);
        run_command(command.env("HEXA_BIN", hexa("release")).env("HEXA_PLUGINS_DIR", plugins))?;
    }
    Ok(())
}

/// The console, built where its sources changed since.
///
/// # Errors
/// When there is no Node, or the sources do not build.
pub(crate) fn build() -> Result<()> {
    let node = Node::find()?;
    node.packages()?;
    build_with(&node, false)
}

fn build_with(node: &Node, always: bool) -> Result<()> {
    let dir = root().join("dashboard");
    let built = dir.join("dist/index.html");
    let since = fs::metadata(&built).and_then(|m| m.modified()).ok();
    let sources = ["src", "public", "index.html", "vite.config.ts", "postcss.config.js", "package-lock.json"];
    let newest = sources.iter().filter_map(|name| newest(&dir.join(name))).max();
    if !always && since.is_some() && newest <= since {
        return Ok(());
    }
    run_command(&mut node.script("types", &[]))?;
    run_command(&mut node.script("build", &["--logLevel", "warn"]))
}

fn newest(path: &Path) -> Option<std::time::SystemTime> {
    let own = fs::metadata(path).and_then(|m| m.modified()).ok()?;
    let inside = fs::read_dir(path).into_iter().flatten().flatten().filter_map(|entry| newest(&entry.path()));
    inside.chain([own]).max()
}

/// Linter, unit tests, generated types, size of the first load.
pub(crate) fn check() -> Result<()> {
    let node = Node::find()?;
    node.packages()?;
    build_with(&node, false)?;
    let schema = root().join("dashboard/src/api/schema.d.ts");
    let before = fs::read(&schema).unwrap_or_default();
    run_command(&mut node.script("api", &[]))?;
    if fs::read(&schema).unwrap_or_default() != before {
        bail!("dashboard/src/api/schema.d.ts did not match docs/openapi.json; it was generated again: commit it");
    }
    run_command(&mut node.script("lint", &[]))?;
    run_command(&mut node.script("test", &[]))?;
    let first: u64 = first_load()?.iter().map(|(_, bytes)| bytes).sum();
    if first > FIRST_LOAD_KB * 1024 {
        bail!(
            "the first load of the console is {} KB, more than the {FIRST_LOAD_KB} KB that it may have:\n{}",
            first / 1024,
            report()?
        );
    }
    Ok(())
}

/// The tests in a browser, against the server that was built; `groups` are those that are left out otherwise.
pub(crate) fn browser(plugins: &Path, filter: &[String], groups: &[String]) -> Result<()> {
    let node = Node::find()?;
    node.packages()?;
    let filter: Vec<&str> = filter.iter().map(String::as_str).collect();
    let mut command = node.script("e2e", &filter);
    command.env("HEXA_WITH", groups.join(" "));
    run_command(command.env("HEXA_BIN", hexa("debug")).env("HEXA_PLUGINS_DIR", plugins))
}

/// What the page names and what it needs before it shows the sign-in, with Brotli.
fn first_load() -> Result<Vec<(String, u64)>> {
    let dist = root().join("dashboard/dist");
    let page = fs::read_to_string(dist.join("index.html"))
        .context("cannot read dashboard/dist/index.html; run `cargo xtask dashboard`")?;
    let mut all = vec![("index.html".to_owned(), page.len() as u64)];
    for part in page.split("/dashboard/").skip(1) {
        let name = part.split('"').next().unwrap_or_default().to_owned();
        let packed = fs::metadata(dist.join(format!("{name}.br"))).or_else(|_| fs::metadata(dist.join(&name)));
        all.push((name, packed.map_or(0, |m| m.len())));
    }
    // The style names the font that every Latin text needs.
    for entry in fs::read_dir(dist.join("assets"))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("inter-latin") {
            all.push((format!("assets/{name}"), entry.metadata()?.len()));
        }
    }
    Ok(all)
}

fn report() -> Result<String> {
    use std::fmt::Write as _;
    let mut text = String::from("first load, as it goes over the wire:\n");
    let first = first_load()?;
    let total: u64 = first.iter().map(|(_, bytes)| bytes).sum();
    for (name, bytes) in &first {
        let _ = writeln!(text, "{bytes:>9}  {name}");
    }
    let _ = writeln!(text, "{total:>9}  of {} that it may have", FIRST_LOAD_KB * 1024);
    let mut later = Vec::new();
    for entry in fs::read_dir(root().join("dashboard/dist/assets"))?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(bare) = name.strip_suffix(".br")
            && !first.iter().any(|(known, _)| known.ends_with(bare))
        {
            later.push((entry.metadata()?.len(), bare.to_owned()));
        }
    }
    later.sort_unstable_by(|a, b| b.cmp(a));
    text.push_str("\nwith the pages that need it:\n");
    for (bytes, name) in later {
        let _ = writeln!(text, "{bytes:>9}  assets/{name}");
    }
    Ok(text)
}

/// One line for people who have no Node: everything else goes on.
pub(crate) fn build_or_say() {
    if let Err(error) = build() {
        eprintln!("run: the console is not built, everything else runs: {error:#}");
    }
}
