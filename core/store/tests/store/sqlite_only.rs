//! What concerns the file of SQLite.

use std::fs;

use hexa_model::audit::AuditEntry;
use hexa_model::{Actor, DeviceKey, Source, TimeMs};
use hexa_store::{Changed, HotWrite, OpenError, Store, StoreError};

use crate::rig::{Home, change, device, kept, write};

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

/// A file that is gone while something says that there was one is not replaced by an empty one.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_file_is_not_replaced() {
    for left in ["hexa.db-wal", "hexa.unclean"] {
        let home = Home::sqlite();
        fs::write(home.path().join(left), b"").unwrap();
        let refused = home.open().await.expect_err(left);
        assert!(matches!(refused, OpenError::Corrupt { .. }), "{left}: {refused}");
        assert!(refused.to_string().contains("it is gone"), "{refused}");
        assert!(!home.path().join("hexa.db").exists(), "{left}");
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

/// A database as an earlier version left it: with the first migrations only, and a row.
fn of_before(home: &Home, schema: i64) -> Vec<u8> {
    let path = home.path().join("hexa.db");
    let file = rusqlite::Connection::open(&path).unwrap();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations/sqlite");
    file.execute_batch(
        "create table _sqlx_migrations (version bigint primary key, description text not null, \
         installed_on timestamp not null default current_timestamp, success boolean not null, checksum blob not null, \
         execution_time bigint not null)",
    )
    .unwrap();
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    for migration in files {
        let name = migration.file_stem().unwrap().to_str().unwrap();
        let (number, description) = name.split_once('_').unwrap();
        let number: i64 = number.parse().unwrap();
        if number > schema {
            break;
        }
        let sql = fs::read_to_string(&migration).unwrap();
        file.execute_batch(&sql).unwrap();
        let sum = sha2_384(sql.as_bytes());
        let done = "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
                    values (?1, ?2, true, ?3, 0)";
        file.execute(done, rusqlite::params![number, description.replace('_', " "), sum]).unwrap();
    }
    let row = "insert into users (uid, email, name, role, password_hash, created_at, updated_at) \
               values ('01890000-0000-7000-8000-000000000000', 'a@example.org', 'Öfen', 'user', 'x', 1, 1)";
    file.execute_batch(row).unwrap();
    drop(file);
    fs::read(path).unwrap()
}

fn sha2_384(bytes: &[u8]) -> Vec<u8> {
    use sha2::Digest;
    sha2::Sha384::digest(bytes).to_vec()
}

fn copies(home: &Home) -> Vec<String> {
    let names = fs::read_dir(home.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut copies: Vec<_> = names.filter(|n| n.contains("before") || n.contains("part")).collect();
    copies.sort();
    copies
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_copied_before_its_schema_changes_and_the_newest_copy_stays() {
    let home = Home::sqlite();
    of_before(&home, 9);
    // What an earlier change and a start that was cut off left.
    fs::write(home.path().join("hexa.db.before-0004"), "older").unwrap();
    fs::write(home.path().join("hexa.db.part"), "half").unwrap();
    let store = home.open().await.unwrap();
    assert_eq!(copies(&home), ["hexa.db.before-0010"]);
    let users = hexa_store::UserFilter { search: Some("ÖFEN".into()), limit: 10, ..Default::default() };
    assert_eq!(store.list_users(&users).await.unwrap().len(), 1);
    store.close().await;
    drop(store);
    let copy = rusqlite::Connection::open(home.path().join("hexa.db.before-0010")).unwrap();
    let read = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, String>(0)).unwrap();
    assert_eq!(read("select cast(max(version) as text) from _sqlx_migrations"), "9");
    assert_eq!((read("select name from users"), read("pragma integrity_check")), ("Öfen".into(), "ok".into()));
    drop(copy);
    // Nothing to change, nothing to copy; and a new database is none that was there before.
    fs::remove_file(home.path().join("hexa.db.before-0010")).unwrap();
    home.open().await.unwrap().close().await;
    assert!(copies(&home).is_empty());
    let fresh = Home::sqlite();
    fresh.open().await.unwrap().close().await;
    assert!(copies(&fresh).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_for_the_copy_nothing_is_changed() {
    let home = Home::sqlite();
    let before = of_before(&home, 9);
    // Nothing can be written in its place: as with a full disk, the copy fails.
    fs::create_dir(home.path().join("hexa.db.part")).unwrap();
    let refused = home.open().await.unwrap_err();
    let OpenError::NoCopy { copy, bytes, .. } = &refused else { panic!("{refused}") };
    assert!(copy.ends_with("hexa.db.before-0010") && *bytes == before.len() as u64, "{refused}");
    assert!(refused.to_string().contains("Nothing was changed") && refused.to_string().contains("Make room"));
    assert_eq!(fs::read(home.path().join("hexa.db")).unwrap(), before, "not a byte is changed");
    fs::remove_dir(home.path().join("hexa.db.part")).unwrap();
    home.open().await.unwrap().close().await;
    assert_eq!(copies(&home), ["hexa.db.before-0010"]);
}

/// Two processes on one file are two stores whose lock somebody took away.
async fn twice(home: &Home) -> (Store, Store) {
    let first = home.open().await.unwrap();
    std::fs::remove_file(home.path().join("hexa.lock")).unwrap();
    (first, home.open().await.unwrap())
}

fn row() -> AuditEntry {
    AuditEntry::event(TimeMs(1), Actor::System, Source::Api, "set_relay")
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_write_one_file_the_one_that_finds_out_stops_and_the_chain_stays_whole() {
    for hot in [true, false] {
        let home = Home::sqlite();
        let (first, second) = twice(&home).await;
        let append = async |store: &Store| {
            if hot {
                let write = HotWrite::row(DeviceKey(0), row());
                store.writer().commit(write).await.map(drop)
            } else {
                store.change(|tx| Box::pin(async move { Ok(Changed::only(tx.audit(&row()).await?)) })).await
            }
        };
        append(&second).await.unwrap();
        assert!(first.lost().is_none());
        let found = append(&first).await;
        assert!(matches!(&found, Err(StoreError::Fenced(why)) if why.contains("hexa.lock")), "{hot} {found:?}");
        assert!(first.lost().is_some() && first.ready().await.is_err());
        assert!(matches!(append(&first).await, Err(StoreError::Fenced(_))), "it never writes again");
        append(&second).await.unwrap();
        second.ready().await.unwrap();
        first.close().await;
        second.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_writes_nothing_finds_out_when_it_is_asked() {
    let home = Home::sqlite();
    let (first, second) = twice(&home).await;
    let write = HotWrite::row(DeviceKey(0), row());
    // The head is known once something was written.
    first.may_write().await.unwrap();
    second.writer().commit(write).await.unwrap();
    second.may_write().await.unwrap();
    assert!(first.ready().await.is_err(), "it says so the first time it is asked");
    assert!(first.lost().is_some());
    first.close().await;
    second.close().await;
}

/// Plain hashes of claim codes leave nothing behind, not even between the rows.
#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_a_plain_hash_is_left_in_the_file() {
    let home = Home::sqlite();
    let store = home.open().await.unwrap();
    for n in 1..=200 {
        device(&store, n).await;
    }
    store.close().await;
    let plain = "update devices set claim_key = null, claim_hash = unhex(printf('b1a%061x', id))";
    home.raw().await.run(plain).await.unwrap();
    let left = || {
        let file = fs::read(home.path().join("hexa.db")).unwrap();
        // Its beginning, and as much of the rest as is the same in all of them.
        file.windows(24).filter(|w| w[..2] == [0xb1, 0xa0] && w[2..].iter().all(|b| *b == 0)).count()
    };
    let store = home.open().await.unwrap();
    assert!(left() >= 200, "they are where we look for them");
    let mut place = 0;
    loop {
        let piece = store.plain_claim_codes(64).await.unwrap();
        let Some((last, _)) = piece.last() else { break };
        assert!(last.0 > place);
        place = last.0;
        let codes: Vec<_> = piece.iter().map(|(key, _)| (*key, kept(key.0 as u8))).collect();
        change!(store, |tx| { tx.seal_claim_codes(&codes).await.unwrap() });
    }
    assert_eq!(place, 200);
    store.close().await;
    assert_eq!(left(), 0);
}

#[tokio::test]
async fn the_last_audit_row_is_found_without_a_look_at_the_others() {
    let store = Home::sqlite().open().await.unwrap();
    for plan in store.newest_audit_plans("hexa").await.unwrap() {
        assert!(plan.contains("SEARCH") && !plan.contains("B-TREE"), "{plan}");
    }
}
