//! A pooler between a store and PostgreSQL takes a session apart, or keeps its settings from it: refused in words.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hexa_store::OpenError;

use crate::rig::Home;

/// A running PgBouncer. It is ended when it is dropped.
struct Pooler {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Pooler {
    /// In front of the server of this address, with these settings.
    fn before(url: &str, settings: &str) -> Self {
        let server = url.split_once('@').unwrap().1.split('/').next().unwrap().rsplit_once(':').unwrap().1;
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={server} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nauth_type = any\nunix_socket_dir =\ndefault_pool_size = 20\n{settings}\n"
        );
        std::fs::write(&file, text).unwrap();
        // It refuses root, and then reads its file as the user that it became.
        let root = std::fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
        let mut command = Command::new(program());
        if root {
            std::os::unix::fs::chown(dir.path(), Some(postgres()), None).unwrap();
            std::os::unix::fs::chown(&file, Some(postgres()), None).unwrap();
            command.args(["-u", "postgres"]);
        }
        let log = std::fs::File::create(dir.path().join("log")).unwrap();
        let child = command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        let mut pooler = Self { child: child.unwrap(), port, dir };
        let since = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = pooler.child.try_wait().unwrap();
            assert!(ended.is_none() && since.elapsed() < Duration::from_secs(10), "{ended:?}: {}", pooler.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        pooler
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn url(&self, url: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{}", self.port, url.rsplit_once('/').unwrap().1)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    let found = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"].map(PathBuf::from).into_iter().find(|p| p.is_file());
    found.expect("PgBouncer is missing: run `cargo xtask setup --tests`, or `apt-get install pgbouncer`")
}

/// The number of the user `postgres`.
fn postgres() -> u32 {
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let entry = users.lines().find_map(|l| l.strip_prefix("postgres:")).expect("the user postgres");
    entry.split(':').nth(1).unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_is_refused_with_what_to_do() {
    const IGNORE: &str = "ignore_startup_parameters = options,extra_float_digits";
    for (mode, settings, what) in [
        ("transaction", "", "unsupported startup parameter"),
        ("transaction", IGNORE, "two transactions of one connection ran in two sessions"),
        ("session", "", "unsupported startup parameter"),
        ("session", IGNORE, "the settings that a connection begins with do not reach its session"),
    ] {
        let direct = hexa_testpg::database();
        let pooler = Pooler::before(&direct, &format!("pool_mode = {mode}\n{settings}"));
        let home = Home::at(pooler.url(&direct));
        let refused = home.open().await.unwrap_err();
        println!("{mode} {settings:?}: {refused}");
        assert!(matches!(refused, OpenError::Pooled(_)), "{mode} {settings:?}: {refused}");
        let said = refused.to_string();
        for part in ["pooler", "PgBouncer", "connect to PostgreSQL itself", what] {
            assert!(said.contains(part), "{mode} {settings:?}: {said}, and not {part}");
        }
        // Nothing was changed: the schema is not there.
        let mut raw = Home::at(direct.clone()).raw().await;
        assert!(raw.run("select 1 from users").await.is_err(), "{mode} {settings:?}");
        drop(pooler);
        Home::at(direct).open().await.unwrap().close().await;
    }
}
