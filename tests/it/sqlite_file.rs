//! What concerns the file of SQLite; left out when the tests run on PostgreSQL.

use std::time::Duration;

use hexa_tests::machine::{SmallDisk, in_private_mounts};
use hexa_tests::process::{Finished, finish};
use hexa_tests::server::ScratchDir;
use hexa_tests::{Options, TestServer};

/// Runs a server that is expected to end by itself.
async fn refused(dir: &std::path::Path) -> Finished {
    finish(Options::new().command(dir), Duration::from_secs(30)).await
}

#[tokio::test]
async fn a_damaged_database_is_refused_and_not_replaced() {
    let scratch = ScratchDir::new();
    let file = scratch.path().join("hexa.db");
    for damaged in [b"".to_vec(), b"this is no database".repeat(500), half_a_database().await] {
        std::fs::write(&file, &damaged).unwrap();
        let ended = refused(scratch.path()).await;
        assert_eq!(ended.code, 78, "{}", ended.stderr);
        assert!(ended.stderr.contains("hexa.db") && ended.stderr.contains("backup"), "{}", ended.stderr);
        assert_eq!(std::fs::read(&file).unwrap(), damaged, "not a byte is changed");
        for side in ["hexa.db-wal", "hexa.db-shm"] {
            let _ = std::fs::remove_file(scratch.path().join(side));
        }
    }
}

/// A real database with its second half overwritten.
async fn half_a_database() -> Vec<u8> {
    let mut server = TestServer::start(Options::new());
    server.user().await;
    server.stop().await;
    let mut bytes = std::fs::read(server.data_dir().join("hexa.db")).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..].fill(0x5a);
    bytes
}

#[tokio::test]
async fn a_newer_database_is_refused_and_not_changed() {
    let mut server = TestServer::start(Options::new());
    server.stop().await;
    let file = server.data_dir().join("hexa.db");
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection
        .execute(
            "insert into _sqlx_migrations (version, description, installed_on, success, checksum, execution_time) \
             values (999999, 'of the future', current_timestamp, 1, x'00', 0)",
            [],
        )
        .unwrap();
    drop(connection);
    let before = std::fs::read(&file).unwrap();
    let ended = refused(server.data_dir()).await;
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    assert!(ended.stderr.contains("999999") && ended.stderr.contains("newer"), "{}", ended.stderr);
    assert_eq!(std::fs::read(&file).unwrap(), before);
}

/// A database that is to be brought up to date, on a disk without room for the copy that is made first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_the_start_that_would_change_the_schema() {
    let name = "sqlite_file::a_full_disk_refuses_the_start_that_would_change_the_schema";
    if !in_private_mounts(name) {
        return;
    }
    let disk = SmallDisk::new(4);
    let before = crate::used::sqlite_file();
    let file = disk.path().join("hexa.db");
    std::fs::write(&file, &before).unwrap();
    let full = disk.fill();
    // What is written at every start anyway needs some room.
    std::fs::remove_file(disk.path().join("filler")).unwrap();
    let left = vec![0u8; (4 << 20) - before.len() - (400 << 10)];
    std::fs::write(disk.path().join("filler"), left).unwrap();
    let ended = refused(disk.path()).await;
    assert_eq!(ended.code, 78, "{}", ended.stderr);
    for said in ["hexa.db.before-", "Nothing was changed", "Make room for"] {
        assert!(ended.stderr.contains(said), "{}", ended.stderr);
    }
    assert_eq!(std::fs::read(&file).unwrap(), before, "not a byte is changed");
    let left = std::fs::read_dir(disk.path()).unwrap().flatten().map(|e| e.file_name().into_string().unwrap());
    assert!(!left.into_iter().any(|name| name.contains("before") || name.contains("part")));
    drop(full);
}
