//! One process writes a database at a time: whoever comes later fences off whoever was there, and a database that takes
//! no writes, or went back, is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hexa_model::DeviceKey;
use hexa_store::{OpenError, Store, StoreError};
use hexa_testpg::Cluster;
use sqlx::{Connection, PgConnection, Row};

use super::commits::{mark, marked};
use crate::rig::{Home, Raw, command, device, write};

pub(super) async fn outside(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

/// The name that all sessions of the one process there have.
pub(super) async fn name_of(outside: &mut PgConnection) -> String {
    let names = "select distinct application_name::text as name from pg_stat_activity \
         where datname = current_database() and application_name like 'hexa main %'";
    let rows = sqlx::query(names).fetch_all(outside).await.unwrap();
    assert_eq!(rows.len(), 1);
    rows[0].get("name")
}

/// Ends every session of a process, as an administrator may.
pub(super) async fn end_sessions(outside: &mut PgConnection, name: &str) -> u64 {
    let end = "select pg_terminate_backend(pid, 1000) from pg_stat_activity where application_name = $1";
    sqlx::query(end).bind(name).execute(outside).await.unwrap().rows_affected()
}

/// Whatever it is asked to write, it says that it may not, and nothing of it is stored.
async fn assert_fenced(store: &Store, device: DeviceKey, other: &Store, n: u16) {
    for n in n..n + 3 {
        let hot = store.writer().commit(write(device, n, true)).await;
        assert!(matches!(hot, Err(StoreError::Fenced(_))), "{hot:?}");
        let cold = mark(store, i64::from(n)).await;
        assert!(matches!(cold, Err(StoreError::Fenced(_))), "{cold:?}");
        assert!(other.command_result(command(n)).await.unwrap().is_none());
        assert!(!marked(other, i64::from(n)).await);
    }
    let why = store.lost().expect("it does not say that it lost its place");
    assert!(why.contains("another process has begun to write as node \"main\""), "{why}");
    assert!(matches!(store.ready().await, Err(StoreError::Fenced(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_sessions_ended_writes_nothing_beside_the_next_one() {
    for first_is_hot in [true, false] {
        let url = hexa_testpg::database();
        let (first, second) = (Home::at(url.clone()), Home::at(url.clone()));
        let a = first.open().await.unwrap();
        let device = device(&a, 1).await;
        a.writer().commit(write(device, 1, true)).await.unwrap();
        mark(&a, 1).await.unwrap();
        let mut admin = outside(&url).await;
        let name = name_of(&mut admin).await;
        assert!(end_sessions(&mut admin, &name).await > 1);
        let b = second.open().await.unwrap();
        // Either connection finds out by itself, whichever is asked first. The first statement on a session that has
        // ended says just that; nothing of it is stored, and the next one knows why.
        let heard = async |n: u16| {
            if first_is_hot {
                a.writer().commit(write(device, n, true)).await.map(drop)
            } else {
                mark(&a, i64::from(n)).await
            }
        };
        let first = heard(2).await;
        assert!(matches!(first, Err(StoreError::Unavailable { .. } | StoreError::Fenced(_))), "{first:?}");
        let second = heard(2).await;
        assert!(matches!(second, Err(StoreError::Fenced(_))), "hot {first_is_hot}: {second:?}");
        assert!(b.command_result(command(2)).await.unwrap().is_none() && !marked(&b, 2).await);
        assert_fenced(&a, device, &b, 3).await;
        b.writer().commit(write(device, 10, false)).await.unwrap();
        mark(&b, 10).await.unwrap();
        assert_fenced(&a, device, &b, 11).await;
        b.writer().commit(write(device, 20, true)).await.unwrap();
        assert!(b.command_result(command(1)).await.unwrap().is_some() && marked(&b, 1).await);
        let check = b.verify_audit().await.unwrap();
        assert_eq!(check.first_bad, None);
        assert_eq!(check.rows, 5, "three commands and two changes");
        a.close().await;
        mark(&b, 21).await.unwrap();
        b.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_writes_nothing_hears_that_it_was_replaced_when_it_is_asked() {
    let url = hexa_testpg::database();
    let (first, second) = (Home::at(url.clone()), Home::at(url.clone()));
    let a = first.open().await.unwrap();
    a.ready().await.unwrap();
    let mut admin = outside(&url).await;
    let name = name_of(&mut admin).await;
    end_sessions(&mut admin, &name).await;
    let b = second.open().await.unwrap();
    let heard = a.ready().await;
    assert!(matches!(heard, Err(StoreError::Fenced(_))), "{heard:?}");
    assert!(a.lost().is_some());
    b.ready().await.unwrap();
    a.close().await;
    b.close().await;
}

/// What was heard of each write.
type Heard = Vec<(u16, Result<(), StoreError>)>;

fn fenced(heard: &Heard) -> bool {
    matches!(heard.last(), Some((_, Err(StoreError::Fenced(_)))))
}

async fn hot_until_fenced(store: Store, device: DeviceKey) -> Heard {
    let mut heard = Heard::new();
    for n in (0..60_000u16).step_by(8) {
        let sent: Vec<_> = (n..n + 8).map(|n| (n, store.writer().send(write(device, n, n % 2 == 0)))).collect();
        for (n, done) in sent {
            heard.push((n, done.await.unwrap().map(drop)));
        }
        if fenced(&heard) {
            break;
        }
    }
    heard
}

async fn cold_until_fenced(store: Store) -> Heard {
    let mut heard = Heard::new();
    for n in 0..60_000u16 {
        heard.push((n, mark(&store, i64::from(n)).await));
        if fenced(&heard) {
            break;
        }
    }
    heard
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_is_replaced_in_the_middle_of_a_burst_says_the_truth_of_every_write() {
    let url = hexa_testpg::database();
    let (first, second) = (Home::at(url.clone()), Home::at(url.clone()));
    let a = first.open().await.unwrap();
    let device = device(&a, 1).await;
    let mut admin = outside(&url).await;
    let name = name_of(&mut admin).await;
    let (hot, cold) = (tokio::spawn(hot_until_fenced(a.clone(), device)), tokio::spawn(cold_until_fenced(a.clone())));
    while a.writer().stats().rows < 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let taken = Arc::new(AtomicBool::new(false));
    let ending = {
        let taken = Arc::clone(&taken);
        tokio::spawn(async move {
            while !taken.load(Ordering::SeqCst) {
                end_sessions(&mut admin, &name).await;
                tokio::time::sleep(Duration::from_millis(37)).await;
            }
        })
    };
    let since = Instant::now();
    let b = loop {
        match second.open().await {
            Ok(b) => break b,
            Err(OpenError::InUse { .. }) => assert!(since.elapsed() < Duration::from_secs(60), "never got the fence"),
            Err(other) => panic!("{other}"),
        }
    };
    taken.store(true, Ordering::SeqCst);
    ending.await.unwrap();
    let (hot, cold) = (hot.await.unwrap(), cold.await.unwrap());
    b.writer().commit(write(device, 65_000, true)).await.unwrap();
    mark(&b, 65_000).await.unwrap();
    let mut unknown = 0;
    let mut counts = [0u32; 4];
    for (which, heard) in [(0, &hot), (1, &cold)] {
        for (n, heard) in heard {
            let there = match which {
                0 => b.command_result(command(*n)).await.unwrap().is_some(),
                _ => marked(&b, i64::from(*n)).await,
            };
            match heard {
                Ok(()) => assert!(there, "{which}: {n} was acknowledged and is lost"),
                Err(StoreError::Unknown) => unknown += 1,
                Err(error) => assert!(!there, "{which}: {n} is there, and its caller heard {error}"),
            }
            counts[which * 2 + usize::from(heard.is_ok())] += 1;
        }
    }
    println!(
        "hot: {} refused, {} stored; cold: {} refused, {} stored; {unknown} not known",
        counts[0], counts[1], counts[2], counts[3]
    );
    assert!(counts.iter().all(|n| *n > 0), "{counts:?}");
    assert_eq!(unknown, 0, "the database was there all the time");
    assert_fenced(&a, device, &b, 61_000).await;
    assert_eq!(b.verify_audit().await.unwrap().first_bad, None);
    a.close().await;
    b.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_writes_is_refused_and_waited_for() {
    let cluster = Cluster::start().unwrap();
    let url = format!("{}/postgres", cluster.url());
    let home = Home::at(url.clone());
    let mut admin = outside(&url).await;
    let mut read_only = async |on: &str| {
        let set = format!("alter system set default_transaction_read_only = {on}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(set)).execute(&mut admin).await.unwrap();
        sqlx::raw_sql("select pg_reload_conf()").execute(&mut admin).await.unwrap();
        loop {
            let now = sqlx::query("select current_setting('default_transaction_read_only') as now");
            if now.fetch_one(&mut outside(&url).await).await.unwrap().get::<String, _>("now") == on {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    read_only("on").await;
    let refused = home.open().await.unwrap_err();
    assert!(matches!(refused, OpenError::ReadOnly(_)), "{refused}");
    read_only("off").await;
    let store = home.open().await.unwrap();
    let device = device(&store, 1).await;
    mark(&store, 1).await.unwrap();
    store.writer().commit(write(device, 1, true)).await.unwrap();
    store.ready().await.unwrap();
    read_only("on").await;
    // A session hears of it between two statements.
    let since = Instant::now();
    let mut n = 2;
    while mark(&store, n).await.is_ok() || store.writer().commit(write(device, n as u16, true)).await.is_ok() {
        assert!(since.elapsed() < Duration::from_secs(10), "it writes on");
        n += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for n in 5_000..5_003 {
        let hot = store.writer().commit(write(device, n, true)).await.map(drop);
        for heard in [hot, mark(&store, i64::from(n)).await, store.ready().await] {
            let error = heard.unwrap_err();
            assert!(matches!(error, StoreError::Unavailable { .. }), "{error}");
            let said = error.to_string();
            assert!(said.contains("takes no writes") || said.contains("read-only"), "{said}");
        }
        assert!(!marked(&store, i64::from(n)).await);
    }
    store.health().await.unwrap();
    read_only("off").await;
    let since = Instant::now();
    while mark(&store, 6_000).await.is_err() || store.writer().commit(write(device, 6_000, true)).await.is_err() {
        assert!(since.elapsed() < Duration::from_secs(10), "it did not come back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    store.ready().await.unwrap();
    assert_eq!(store.verify_audit().await.unwrap().first_bad, None);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_went_back_is_not_written_to() {
    for first_is_hot in [true, false] {
        let home = Home::postgres();
        let store = home.open().await.unwrap();
        let device = device(&store, 1).await;
        for n in 0..5 {
            store.writer().commit(write(device, n, n % 2 == 0)).await.unwrap();
        }
        let Raw::Postgres(mut raw) = home.raw().await else { unreachable!() };
        // The copy that a failover leads to has not got the last two rows yet.
        let back = "alter table audit_tail disable trigger all; \
             delete from audit_tail where seq > (select max(seq) - 2 from audit_tail); \
             alter table audit_tail enable trigger all";
        sqlx::raw_sql(back).execute(&mut raw).await.unwrap();
        let write_hot = async |n| store.writer().commit(write(device, n, true)).await.map(drop);
        let heard = if first_is_hot { write_hot(10).await } else { mark(&store, 10).await };
        let Err(StoreError::Fenced(why)) = heard else { panic!("hot {first_is_hot}: {heard:?}") };
        assert!(why.contains("ends its audit at row 3, this process had written row 5: it is an older copy"), "{why}");
        assert!(matches!(write_hot(11).await, Err(StoreError::Fenced(_))));
        assert!(matches!(mark(&store, 11).await, Err(StoreError::Fenced(_))));
        assert_eq!(store.lost().as_deref(), Some(why.as_str()));
        let rows: i64 = sqlx::query("select count(*) as n from audit_tail").fetch_one(&mut raw).await.unwrap().get("n");
        assert_eq!(rows, 3, "something was written");
        store.close().await;
        // A process that begins there takes the database as it is.
        let store = home.open().await.unwrap();
        mark(&store, 12).await.unwrap();
        assert_eq!(store.verify_audit().await.unwrap().first_bad, None);
        store.close().await;
    }
}
