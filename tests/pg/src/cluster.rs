//! One cluster: initdb, start, restart, stop.

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What goes wrong, in words.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// A running cluster. It is stopped and removed when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    dir: PathBuf,
    port: u16,
}

/// Where Debian keeps the programs that are not on the path.
fn program(name: &str) -> Result<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin").join(name))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found.pop().ok_or_else(|| {
        format!("PostgreSQL's {name} is missing: run `cargo xtask setup --tests`, or `apt-get install postgresql`")
    })
}

/// The command, as the user `postgres` where we are root.
fn as_postgres(program: &Path) -> Result<Command> {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LC_ALL", "C.UTF-8").current_dir("/").stdin(Stdio::null());
    if let Some((uid, gid)) = postgres_user()? {
        command.uid(uid).gid(gid);
    }
    Ok(command)
}

/// None when we are an ordinary user ourselves.
fn postgres_user() -> Result<Option<(u32, u32)>> {
    let me = std::fs::read_to_string("/proc/self/status").map_err(|e| e.to_string())?;
    let root =
        me.lines().find_map(|l| l.strip_prefix("Uid:")).is_some_and(|l| l.split_whitespace().next() == Some("0"));
    if !root {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd").map_err(|e| e.to_string())?;
    let entry = users.lines().find_map(|l| l.strip_prefix("postgres:"));
    let fields: Vec<&str> = entry.ok_or("there is no user `postgres`: install PostgreSQL")?.split(':').collect();
    match (fields.get(1).map(|f| f.parse()), fields.get(2).map(|f| f.parse())) {
        (Some(Ok(uid)), Some(Ok(gid))) => Ok(Some((uid, gid))),
        _ => Err("the user `postgres` has no numbers in /etc/passwd".into()),
    }
}

fn run(command: &mut Command) -> Result<String> {
    let what = format!("{command:?}");
    let done = command.output().map_err(|e| format!("{what}: {e}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(format!("{what}: {}\n{said}", done.status))
}

impl Cluster {
    /// A new cluster on a free port. Its data survives the end of any process, not the loss of power (`fsync=off`):
    /// the tests that pull the plug do so on SQLite.
    ///
    /// # Errors
    /// In words that say what is missing.
    pub fn start() -> Result<Self> {
        let initdb = program("initdb")?;
        let dir =
            std::env::temp_dir().join(format!("hexa-pg-{}-{}", std::process::id(), uuid::Uuid::now_v7().simple()));
        std::fs::create_dir(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        if let Some((uid, gid)) = postgres_user()? {
            std::os::unix::fs::chown(&dir, Some(uid), Some(gid)).map_err(|e| format!("{}: {e}", dir.display()))?;
        }
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(|e| e.to_string())?.port();
        let cluster = Self { dir, port };
        run(as_postgres(&initdb)?.arg("--pgdata").arg(cluster.data()).args([
            "--username=postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-sync",
            "--no-instructions",
        ]))?;
        cluster.launch()?;
        Ok(cluster)
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn control(&self) -> Result<Command> {
        let mut command = as_postgres(&program("pg_ctl")?)?;
        command.arg("--pgdata").arg(self.data()).arg("--wait").arg("--silent");
        // The server would keep a pipe of ours open.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command)
    }

    /// Starts the stopped server and waits until it answers.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn launch(&self) -> Result<()> {
        let settings = format!(
            "-c port={} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off \
             -c full_page_writes=off -c max_connections=200 -c shared_buffers=32MB -c log_min_messages=warning",
            self.port
        );
        let log = self.dir.join("log");
        let mut command = self.control()?;
        let started = command.arg("--options").arg(settings).arg("--log").arg(&log).arg("start").status();
        match started {
            Ok(status) if status.success() => Ok(()),
            other => {
                let log = std::fs::read_to_string(&log).unwrap_or_default();
                let tail: Vec<&str> = log.lines().rev().take(10).collect();
                Err(format!("PostgreSQL did not start: {other:?}\n{}", tail.join("\n")))
            }
        }
    }

    /// Ends the server at once, connections and all, as a crash would; [`Cluster::launch`] starts it again.
    ///
    /// # Errors
    /// When there is nothing to end.
    pub fn crash(&self) -> Result<()> {
        let mut command = self.control()?;
        match command.args(["--mode", "immediate", "stop"]).status() {
            Ok(status) if status.success() => Ok(()),
            other => Err(format!("PostgreSQL was not stopped: {other:?}")),
        }
    }

    /// Stops (or lets go on) every process of the server without ending a connection: a network that swallows
    /// everything looks like this.
    ///
    /// # Errors
    /// When the server is gone.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let pid_file = self.data().join("postmaster.pid");
        let text = std::fs::read_to_string(&pid_file).map_err(|e| format!("{}: {e}", pid_file.display()))?;
        let main: i32 = text.lines().next().and_then(|l| l.trim().parse().ok()).ok_or("no pid")?;
        let children = std::fs::read_to_string(format!("/proc/{main}/task/{main}/children")).unwrap_or_default();
        let children = children.split_whitespace().filter_map(|p| p.parse().ok());
        let signal = if frozen { libc::SIGSTOP } else { libc::SIGCONT };
        for pid in std::iter::once(main).chain(children) {
            // SAFETY: kill takes two numbers; the pids are this cluster's own.
            #[expect(unsafe_code, reason = "there is no safe kill in the standard library")]
            unsafe {
                libc::kill(pid, signal);
            }
        }
        Ok(())
    }

    /// Its address without a database.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}", self.port)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.freeze(false);
        let _ = self.crash();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A fresh database in the cluster at `base`; gives its address.
pub(crate) fn create_database(base: &str) -> Result<String> {
    let name = format!("t_{}", uuid::Uuid::now_v7().simple());
    let mut psql = Command::new("psql");
    psql.arg(format!("{base}/postgres")).args(["--quiet", "--no-psqlrc", "--command"]);
    run(psql.arg(format!("create database {name}")))?;
    Ok(format!("{base}/{name}"))
}
