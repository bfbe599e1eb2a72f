//! As containers and careful operators run it: any user, directories of others, files that others could have written.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use hexa_tests::process::{self, Lines};
use hexa_tests::server::ScratchDir;
use hexa_tests::{Options, TestServer, eventually};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// A uid without a line in /etc/passwd, where the tests may take one; else their own.
fn some_uid(own: u32) -> u32 {
    if own == 0 { 54_321 } else { own }
}

#[tokio::test]
async fn any_user_serves_from_a_volume_of_its_group_and_makes_nothing_for_others() {
    let scratch = ScratchDir::new();
    let own = std::fs::metadata(scratch.path()).unwrap().uid();
    let uid = some_uid(own);
    // Where such a user may read: the program, the plugins, and a working directory that it cannot write.
    set_mode(scratch.path(), 0o755);
    let program = scratch.path().join("hexa");
    if std::fs::hard_link(process::hexa(), &program).is_err() {
        std::fs::copy(process::hexa(), &program).unwrap();
    }
    let plugins = scratch.path().join("plugins");
    let copied = Command::new("cp").arg("-r").arg(process::plugins()).arg(&plugins).status().unwrap();
    assert!(copied.success());
    let volume = scratch.path().join("volume");
    std::fs::create_dir(&volume).unwrap();
    if own == 0 {
        chown(&volume, Some(0), Some(uid)).unwrap();
    }
    set_mode(&volume, 0o2775);
    let mut command = Command::new(&program);
    command.arg("serve").env_clear().env("HOME", "/").env("HEXA_LISTEN", "127.0.0.1:0").current_dir("/");
    command.env("HEXA_DATA_DIR", &volume).env("HEXA_PLUGINS_DIR", &plugins);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    if own == 0 {
        command.uid(uid).gid(uid);
    }
    let mut child = process::spawn(command).unwrap();
    let log = Lines::default();
    log.follow(child.stdout.take().unwrap());
    log.follow(child.stderr.take().unwrap());
    let address = eventually("it listens", || async {
        let ended = log.text().contains("hexa: ");
        assert!(!ended || log.text().contains("bootstrap_secret"), "{}", log.text());
        std::fs::read_to_string(volume.join("listen.addr")).ok().and_then(|text| text.parse().ok())
    })
    .await;
    eventually("it is ready", || async {
        (hexa_tests::raw::status_blocking(address, "/ready") == Some(200) && log.text().contains("plugin active"))
            .then_some(())
    })
    .await;
    assert_eq!((mode(&volume), std::fs::metadata(&volume).unwrap().uid()), (0o2775, own), "left as it was");
    let mut made = vec![volume.clone()];
    let mut seen = 0;
    while let Some(dir) = made.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten() {
            let about = entry.metadata().unwrap();
            assert_eq!((about.uid(), about.mode() & 0o077), (uid, 0), "{}: {:o}", entry.path().display(), about.mode());
            seen += 1;
            if about.is_dir() {
                made.push(entry.path());
            }
        }
    }
    assert!(seen > 5, "database, secrets, cache");
    process::signal(&child, libc::SIGTERM);
    let status = process::ended(&mut child, std::time::Duration::from_secs(15)).await;
    assert_eq!(status.code(), Some(0), "{}", log.text());
}

fn refused(options: &Options, dir: &Path) -> String {
    let out = options.command(dir).output().unwrap();
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(!out.status.success(), "{said}");
    said
}

#[tokio::test]
async fn a_directory_that_everybody_writes_in_is_refused_and_left_alone() {
    let shared = ScratchDir::new();
    let dir = shared.path().join("like-tmp");
    std::fs::create_dir(&dir).unwrap();
    set_mode(&dir, 0o1777);
    let link = shared.path().join("link");
    symlink(&dir, &link).unwrap();
    for named in [&dir, &link] {
        let options = Options::new().env("HEXA_DATA_DIR", named.to_str().unwrap());
        let said = refused(&options, shared.path());
        assert!(said.contains("HEXA_DATA_DIR") && said.contains("1777"), "{said}");
    }
    assert_eq!((mode(&dir), std::fs::read_dir(&dir).unwrap().count()), (0o1777, 0));
    // One inside it is made, for this user alone; and secrets that others may look at are no secrets.
    let inside = dir.join("hexa");
    let options = Options::new().env("HEXA_DATA_DIR", inside.to_str().unwrap());
    let mut child = process::spawn(options.command(shared.path())).unwrap();
    eventually("it listens", || async { inside.join("listen.addr").exists().then_some(()) }).await;
    assert_eq!(mode(&inside), 0o700);
    process::signal(&child, libc::SIGTERM);
    process::ended(&mut child, std::time::Duration::from_secs(15)).await;
    set_mode(&inside.join("secrets"), 0o755);
    let said = refused(&Options::new(), &inside);
    assert!(said.contains("secrets") && said.contains("chmod 700"), "{said}");
}

#[test]
fn what_others_could_have_written_configures_nothing() {
    let dir = ScratchDir::new();
    let check = |env: &[(&str, &str)]| {
        let mut command = Command::new(process::hexa());
        command.args(["config", "check"]).env_clear().envs(env.iter().copied()).current_dir(dir.path());
        let out = command.output().unwrap();
        (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
    };
    let file = dir.path().join("hexa.toml");
    std::fs::write(&file, "limit_flap = 20\n").unwrap();
    assert_eq!(check(&[]).0, Some(0));
    set_mode(&file, 0o666);
    let (code, said) = check(&[]);
    assert!(code == Some(78) && said.contains("hexa.toml") && said.contains("chmod o-w"), "{said}");
    std::fs::remove_file(&file).unwrap();
    let secret = dir.path().join("token");
    std::fs::write(&secret, "a-token-for-the-scraper\n").unwrap();
    let named = [("METRICS_TOKEN_FILE", secret.to_str().unwrap())];
    assert_eq!(check(&named).0, Some(0));
    set_mode(&secret, 0o606);
    let (code, said) = check(&named);
    assert!(code == Some(78) && said.contains("METRICS_TOKEN_FILE") && !said.contains("scraper"), "{said}");
}

#[tokio::test]
async fn a_pipe_in_the_place_of_a_plugin_keeps_no_server_from_starting() {
    let dir = ScratchDir::new();
    let plugins = dir.path().join("plugins");
    for (name, pipe) in [("one", "plugin.toml"), ("two", "plugin.wasm")] {
        let folder = plugins.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        if pipe == "plugin.wasm" {
            let manifest = process::plugins().join("hexa.relay-controller/plugin.toml");
            std::fs::copy(&manifest, folder.join("plugin.toml"))
                .unwrap_or_else(|e| panic!("{}: {e}", manifest.display()));
        }
        assert!(Command::new("mkfifo").arg(folder.join(pipe)).status().unwrap().success());
    }
    let server = TestServer::start(Options::new().env("HEXA_PLUGINS_DIR", plugins.to_str().unwrap()));
    let listed = server.admin().await.get("/api/v1/admin/plugins").await.expect(200);
    assert!(listed.to_string().contains("is not a file"), "{listed}");
}
