use std::fs;

use hexa_store::{OpenError, Store, StoreConfig};

use crate::rig::{device, open, raw, store, write};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_is_there_after_reopening() {
    let (store, dir) = store().await;
    let device = device(&store, 1).await;
    store.writer().commit(write(device, 1, true)).await.unwrap();
    store.close().await;
    assert!(!dir.path().join("hexa.unclean").exists(), "a clean stop is marked");
    drop(store);
    let store = open(dir.path()).await.unwrap();
    assert!(store.relay_states(device).await.unwrap()[0].on);
    store.writer().commit(write(device, 2, false)).await.unwrap();
    let check = store.verify_audit().await.unwrap();
    assert_eq!((check.rows, check.first_bad), (2, None), "the chain goes on");
    store.close().await;
    assert!(store.writer().commit(write(device, 3, true)).await.is_err(), "a closed store takes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_refused_by_name() {
    let (_store, dir) = store().await;
    let refused = open(dir.path()).await.unwrap_err();
    let OpenError::Locked { holder, .. } = refused else { panic!("{refused}") };
    assert_eq!(holder, format!("pid {}", std::process::id()));
}

/// Nothing that is not a sound database of ours is opened, and not one byte of it changes.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_foreign_and_empty_files_are_refused_and_kept() {
    let (store, source) = store().await;
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
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hexa.db");
        fs::write(&path, &bytes).unwrap();
        let refused = open(dir.path()).await.expect_err(name);
        assert!(matches!(refused, OpenError::Corrupt { .. }), "{name}: {refused}");
        assert!(refused.to_string().contains("Restore it from a backup"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), bytes, "{name} was changed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema_is_refused_and_kept() {
    let (store, dir) = store().await;
    store.close().await;
    drop(store);
    let sql = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
               values (9999, 'from the future', 1, x'00', 0)";
    raw(dir.path()).execute_batch(sql).unwrap();
    let refused = open(dir.path()).await.unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 9999, .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_is_refused_without_repeating_its_password() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = StoreConfig::new(dir.path().to_owned());
    config.database_url = Some("postgres://u:canary@h/db".into());
    let refused = Store::open(config).await.unwrap_err().to_string();
    assert!(refused.contains("postgres://") && !refused.contains("canary"), "{refused}");
}
