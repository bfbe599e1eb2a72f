//! What concerns the file of SQLite.

use std::fs;

use hexa_store::OpenError;

use crate::rig::{Home, device, write};

/// Nothing that is not a sound database of ours is opened, and not one byte of it changes.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_foreign_and_empty_files_are_refused_and_kept() {
    let source = Home::sqlite();
    let store = source.open().await.unwrap();
    let device = device(&store, 1).await;
    for n in 0..500 {
        store.writer().commit(write(device, n, true)).await.unwrap();
    }
    store.close().await;
    let sound = fs::read(source.path().join("hexa.db")).unwrap();
    let mut scrambled = sound.clone();
    let middle = scrambled.len() / 2;
    scrambled[middle..middle + 4096].fill(0x5a);
    let foreign = {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.db");
        rusqlite::Connection::open(&path).unwrap().execute_batch("create table mine (id integer)").unwrap();
        fs::read(path).unwrap()
    };
    let cases: [(&str, Vec<u8>); 5] = [
        ("empty", Vec::new()),
        ("garbage", b"this is no database, whatever its name says".repeat(100)),
        ("truncated", sound[..sound.len() / 3].to_vec()),
        ("scrambled", scrambled),
        ("foreign", foreign),
    ];
    for (name, bytes) in cases {
        let home = Home::sqlite();
        let path = home.path().join("hexa.db");
        fs::write(&path, &bytes).unwrap();
        let refused = home.open().await.expect_err(name);
        assert!(matches!(refused, OpenError::Corrupt { .. }), "{name}: {refused}");
        assert!(refused.to_string().contains("Restore it from a backup"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name} was changed");
    }
}
