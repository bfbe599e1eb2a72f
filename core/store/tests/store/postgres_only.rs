//! What concerns PostgreSQL: the fence, lost connections, poolers, and a schema equal to SQLite's.

mod commits;
mod fence;
mod pooled;
mod schemas;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hexa_store::{OpenError, Store, StoreError};
use hexa_testpg::Cluster;
use sqlx::Connection;

use crate::rig::{Home, command, device, write};

/// Commits until it succeeds; gives how long that took.
async fn until_committed(store: &Store, device: hexa_model::DeviceKey, mut n: u16) -> Duration {
    let started = Instant::now();
    loop {
        match store.writer().commit(write(device, n, true)).await {
            Ok(_) => return started.elapsed(),
            Err(StoreError::Unavailable { .. }) => {}
            Err(other) => panic!("{other}"),
        }
        assert!(started.elapsed() < Duration::from_secs(30), "it did not recover");
        n += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_the_same_database_is_refused() {
    let url = hexa_testpg::database();
    let (first, second) = (Home::at(url.clone()), Home::at(url));
    let store = first.open().await.unwrap();
    let refused = second.open().await.unwrap_err();
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    assert!(refused.to_string().contains("another hexa process (hexa main"), "{refused}");
    store.close().await;
    second.open().await.unwrap().close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_of_the_database_costs_nothing_that_was_acknowledged() {
    let cluster = Cluster::start().unwrap();
    let home = Home::at(format!("{}/postgres", cluster.url()));
    let store = Arc::new(home.open().await.unwrap());
    let device = device(&store, 1).await;
    let load = {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let (mut acknowledged, mut refused) = (Vec::new(), 0);
            for n in 0..20_000u16 {
                match store.writer().commit(write(device, n, n % 2 == 0)).await {
                    Ok(done) => acknowledged.push((n, done.relays[0].version)),
                    Err(StoreError::Unavailable { .. }) => refused += 1,
                    Err(other) => panic!("{other}"),
                }
                if refused > 0 && acknowledged.last().is_some_and(|l| l.0 == n) && acknowledged.len() > 200 {
                    break;
                }
                if refused > 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            (acknowledged, refused)
        })
    };
    while store.writer().stats().rows < 100 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    cluster.crash().unwrap();
    assert!(store.health().await.is_err(), "readers say so too");
    cluster.launch().unwrap();
    let recovered = Instant::now();
    let (acknowledged, refused) = load.await.unwrap();
    assert!(recovered.elapsed() < Duration::from_secs(20), "{:?}", recovered.elapsed());
    assert!(refused > 0, "the crash was not noticed");
    store.health().await.unwrap();
    for (n, version) in &acknowledged {
        let row = store.command_result(command(*n)).await.unwrap().unwrap_or_else(|| panic!("command {n} is lost"));
        assert_eq!(row.changes[0].version, *version);
    }
    let check = store.verify_audit().await.unwrap();
    assert_eq!(check.first_bad, None);
    assert_eq!(store.relay_states(device).await.unwrap()[0].version, check.rows, "a version for each row, no gap");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_database_is_given_up_and_found_again() {
    let cluster = Cluster::start().unwrap();
    let home = Home::at(format!("{}/postgres", cluster.url()));
    let store = home.open().await.unwrap();
    let device = device(&store, 1).await;
    store.writer().commit(write(device, 1, true)).await.unwrap();
    cluster.freeze(true).unwrap();
    let started = Instant::now();
    let refused = store.writer().commit(write(device, 2, false)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Unavailable { .. }), "{refused}");
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    cluster.freeze(false).unwrap();
    let took = until_committed(&store, device, 3).await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    let check = store.verify_audit().await.unwrap();
    assert_eq!(check.first_bad, None);
    assert_eq!(store.relay_states(device).await.unwrap()[0].version, check.rows);
    store.close().await;
}

/// Every connection is ended at moments that nobody chose, also between a commit and its answer: what is then said of
/// a write is true.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_said_of_a_write_is_true_when_connections_break() {
    let home = Home::postgres();
    let store = Arc::new(home.open().await.unwrap());
    let device = device(&store, 1).await;
    let breaker = {
        let url = home.config().database_url.unwrap();
        tokio::spawn(async move {
            let mut outside = sqlx::PgConnection::connect(secrecy::ExposeSecret::expose_secret(&url)).await.unwrap();
            for _ in 0..40 {
                let end = "select pg_terminate_backend(pid) from pg_stat_activity \
                           where datname = current_database() and pid <> pg_backend_pid()";
                sqlx::query(end).execute(&mut outside).await.unwrap();
                tokio::time::sleep(Duration::from_millis(23)).await;
            }
        })
    };
    let (mut hot, mut cold) = (Vec::new(), Vec::new());
    let mut n = 0u16;
    while !breaker.is_finished() {
        let sent: Vec<_> = (n..n + 8).map(|n| (n, store.writer().send(write(device, n, true)))).collect();
        let changed = commits::mark(&store, i64::from(n)).await;
        cold.push((n, changed));
        for (n, done) in sent {
            hot.push((n, done.await.unwrap().map(drop)));
        }
        n += 8;
    }
    breaker.await.unwrap();
    until_committed(&store, device, n).await;
    for (what, heard) in [("write", &hot), ("change", &cold)] {
        let (mut stored, mut refused, mut unknown) = (0, 0, 0);
        for (n, heard) in heard {
            let there = match what {
                "write" => store.command_result(command(*n)).await.unwrap().is_some(),
                _ => commits::marked(&store, i64::from(*n)).await,
            };
            match heard {
                Ok(()) => {
                    stored += 1;
                    assert!(there, "{what} {n} was acknowledged and is lost");
                }
                // True either way, and for a database that stays away alone.
                Err(StoreError::Unknown) => unknown += 1,
                Err(error) => {
                    refused += 1;
                    assert!(!there, "{what} {n} is there, and its caller heard: {error}");
                }
            }
        }
        println!("{what}s: {stored} stored, {refused} refused, {unknown} not known");
        assert!(stored > 0 && refused > 0, "{what}s: {stored} stored, {refused} refused");
        assert!(unknown * 100 <= stored, "{what}s: {unknown} not known");
    }
    let check = store.verify_audit().await.unwrap();
    assert_eq!(check.first_bad, None);
    let version = store.relay_states(device).await.unwrap()[0].version;
    let marks = cold.iter().filter(|one| one.1.is_ok()).count() as u64;
    assert_eq!(version + marks, check.rows, "a version for each command, no gap");
    store.close().await;
}
