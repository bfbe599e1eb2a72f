//! What concerns the file of SQLite; left out when the house is tested on PostgreSQL.

use std::time::Duration;

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
