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

/// The log has room made in advance; what a crash leaves of it, zeros behind the last commit included, is read as it
/// should be.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_with_room_behind_its_end_is_read_after_a_crash() {
    let (before, after) = (Home::sqlite(), Home::sqlite());
    let store = before.open().await.unwrap();
    let device = device(&store, 1).await;
    for n in 0..40 {
        store.writer().commit(write(device, n, n % 2 == 0)).await.unwrap();
    }
    let log = before.path().join("hexa.db-wal");
    let used = fs::read(&log).unwrap();
    assert!(used.len() >= 4 << 20, "{} bytes", used.len());
    assert!(used[used.len() - (1 << 20)..].iter().all(|b| *b == 0), "the end is room");
    // The files as they are on the disk now, without a stop.
    for name in ["hexa.db", "hexa.db-wal"] {
        fs::copy(before.path().join(name), after.path().join(name)).unwrap();
    }
    let copy = after.open().await.unwrap();
    assert_eq!(copy.relay_states(device).await.unwrap()[0].version, 40);
    let check = copy.verify_audit().await.unwrap();
    assert_eq!((check.rows, check.first_bad), (40, None));
    copy.writer().commit(write(device, 40, true)).await.unwrap();
    copy.close().await;
    store.close().await;
    assert!(!log.exists(), "a clean stop leaves no log");
}

/// However much is written, the log is folded and begins again.
#[tokio::test(flavor = "multi_thread")]
async fn the_log_does_not_grow_without_end() {
    let home = Home::sqlite();
    let store = home.open().await.unwrap();
    let devices = [device(&store, 1).await, device(&store, 2).await];
    for round in 0..250u16 {
        let sent: Vec<_> = (0..200)
            .map(|n| store.writer().send(write(devices[usize::from(n % 2)], round * 200 + n, n % 4 < 2)))
            .collect();
        for done in sent {
            done.await.unwrap().unwrap();
        }
    }
    let length = fs::metadata(home.path().join("hexa.db-wal")).unwrap().len();
    let database = fs::metadata(home.path().join("hexa.db")).unwrap().len();
    assert!(length <= 32 << 20, "{length} bytes of log");
    assert!(database > 1 << 20, "nothing was folded: {database} bytes of database, {length} of log");
    store.close().await;
}
