//! A COMMIT whose answer is lost: whoever waits hears the truth, memory follows what is stored, and nothing else stops.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hexa_model::audit::AuditEntry;
use hexa_model::{Actor, Change, Source, TimeMs, UserId, UserKey};
use hexa_store::{Changed, Fact, Observer, Store, StoreError, Tx};

use crate::rig::{Home, command, device, write};
use hexa_testpg::proxy::{Cut, Proxy};

/// Which changes were applied to memory.
#[derive(Default)]
pub(super) struct Applied(Mutex<BTreeSet<i64>>);

impl Observer for Applied {
    fn apply(&self, facts: &[Fact]) {
        for fact in facts {
            if let Change::Account { epoch, .. } = fact.change() {
                self.0.lock().unwrap().insert(*epoch);
            }
        }
    }
}

impl Applied {
    fn has(&self, n: i64) -> bool {
        self.0.lock().unwrap().contains(&n)
    }
}

/// A change that leaves a row of this name and a fact of this number.
pub(super) async fn mark(store: &Store, n: i64) -> Result<(), StoreError> {
    let work = store.change(move |tx: &mut Tx| {
        Box::pin(async move {
            tx.put_setting(&format!("mark {n}"), "1").await?;
            tx.audit(&AuditEntry::event(TimeMs(n), Actor::System, Source::System, "mark")).await?;
            let id = UserId::at(TimeMs(1), [1; 10]);
            let changes = vec![Change::Account { user: UserKey(1), id, epoch: n, ends_access: false }];
            Ok::<_, StoreError>(Changed { answer: (), changes })
        })
    });
    work.await
}

pub(super) async fn marked(store: &Store, n: i64) -> bool {
    store.setting(&format!("mark {n}")).await.unwrap().is_some()
}

/// Changes until one is stored.
async fn until_marked(store: &Store, n: i64) -> Duration {
    let since = Instant::now();
    loop {
        match mark(store, n).await {
            Ok(()) => return since.elapsed(),
            Err(StoreError::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(other) => panic!("{other}"),
        }
        assert!(since.elapsed() < Duration::from_secs(20), "changes did not come back");
    }
}

struct Cutting {
    store: Store,
    applied: Arc<Applied>,
    proxy: Proxy,
    _home: Home,
}

async fn cutting() -> Cutting {
    let (proxy, url) = Proxy::before(&hexa_testpg::database()).await;
    let home = Home::at(url);
    let store = home.open().await.unwrap();
    let applied = Arc::new(Applied::default());
    store.observe(Arc::clone(&applied) as Arc<dyn Observer>);
    Cutting { store, applied, proxy, _home: home }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_made_a_write_hears_what_became_of_it_when_the_answer_to_its_commit_is_lost() {
    let Cutting { store, applied, proxy, _home } = cutting().await;
    let device = device(&store, 1).await;
    let mut seed = uuid::Uuid::now_v7().as_u128() as u64;
    println!("seed {seed}");
    let mut below = |most: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % most
    };
    let (mut cold, mut hot) = (Vec::new(), Vec::new());
    let mut n = 0u16;
    for round in 0..80u32 {
        let cut = match below(4) {
            0 => Cut::Before,
            1 => Cut::After,
            2 => Cut::Racing(Duration::from_micros(below(3_000))),
            _ => Cut::Late(Duration::from_micros(below(20_000))),
        };
        proxy.cut(cut);
        let (colds, hots) = [(3, 0), (0, 3), (3, 3)][below(3) as usize];
        let changes: Vec<_> = (n..n + colds)
            .map(|n| {
                let store = store.clone();
                (n, tokio::spawn(async move { mark(&store, i64::from(n)).await }))
            })
            .collect();
        n += colds;
        let writes: Vec<_> = (n..n + hots).map(|n| (n, store.writer().send(write(device, n, true)))).collect();
        n += hots;
        for (n, heard) in changes {
            cold.push((n, judged(heard.await.unwrap(), &format!("change {n} in round {round}, {cut:?}"))));
            assert_eq!(applied.has(i64::from(n)), cold.last().unwrap().1, "change {n} in round {round}, {cut:?}");
        }
        for (n, heard) in writes {
            hot.push((n, judged(heard.await.unwrap().map(drop), &format!("write {n} in round {round}, {cut:?}"))));
        }
    }
    assert!(proxy.cuts() >= 60, "{} cuts through {}", proxy.cuts(), proxy.address());
    until_marked(&store, 1_000_000).await;
    for (n, stored) in &cold {
        assert_eq!(marked(&store, i64::from(*n)).await, *stored, "change {n}");
    }
    for (n, stored) in &hot {
        assert_eq!(store.command_result(command(*n)).await.unwrap().is_some(), *stored, "write {n}");
    }
    for (what, all) in [("changes", &cold), ("writes", &hot)] {
        let stored = all.iter().filter(|one| one.1).count();
        println!("{what}: {stored} of {} stored", all.len());
        assert!(stored > 0 && stored < all.len(), "the cuts of {what} were all of one kind");
    }
    assert_eq!(store.verify_audit().await.unwrap().first_bad, None);
    store.ready().await.unwrap();
    store.close().await;
}

/// Whether it was stored, as its caller heard; while the database is there, that is always known.
fn judged(heard: Result<(), StoreError>, what: &str) -> bool {
    match heard {
        Ok(()) => true,
        Err(StoreError::Unavailable { .. }) => false,
        Err(other) => panic!("{what}: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stays_away_after_a_commit_is_waited_for_and_believed() {
    for (cut, there) in [(Cut::Before, false), (Cut::After, true)] {
        let Cutting { store, applied, proxy, _home } = cutting().await;
        let device = device(&store, 1).await;
        mark(&store, 1).await.unwrap();
        proxy.cut_and_close(cut);
        let since = Instant::now();
        let waiting = {
            let store = store.clone();
            tokio::spawn(async move { (mark(&store, 2).await, since.elapsed()) })
        };
        let hot = loop {
            if proxy.cuts() > 0 {
                break store.writer().send(write(device, 1, true));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        let (heard, after) = waiting.await.unwrap();
        assert!(matches!(heard, Err(StoreError::Unknown)), "{cut:?}: {heard:?}");
        assert!(after >= Duration::from_secs(5) && after < Duration::from_secs(8), "{after:?}");
        let heard = hot.await.unwrap();
        assert!(matches!(heard, Err(StoreError::Unavailable { .. })), "{heard:?}");
        // Behind it nobody waits for as long as the database is away.
        let behind = tokio::time::timeout(Duration::from_secs(8), mark(&store, 3)).await.expect("it waits");
        assert!(matches!(behind, Err(StoreError::Unavailable { .. })), "{behind:?}");
        assert!(store.ready().await.is_err());
        assert!(!applied.has(2), "memory was ahead of what is known");
        proxy.open();
        let took = until_marked(&store, 4).await;
        println!("{cut:?}: changes again after {took:?}");
        super::until_committed(&store, device, 2).await;
        assert_eq!((marked(&store, 2).await, applied.has(2)), (there, there), "{cut:?}");
        assert_eq!((marked(&store, 3).await, applied.has(3)), (false, false), "{cut:?}");
        assert!(store.command_result(command(1)).await.unwrap().is_none());
        store.ready().await.unwrap();
        assert_eq!(store.verify_audit().await.unwrap().first_bad, None);
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_tries_again_is_not_told_of_a_failure_that_was_before() {
    let url = hexa_testpg::database();
    let store = Home::at(url.clone()).open().await.unwrap();
    let mut admin = super::fence::outside(&url).await;
    let name = super::fence::name_of(&mut admin).await;
    for round in 0..150 {
        mark(&store, 1_000 + round).await.unwrap_or_else(|e| panic!("round {round}: {e}"));
        super::fence::end_sessions(&mut admin, &name).await;
        let heard = mark(&store, round).await;
        assert!(matches!(heard, Err(StoreError::Unavailable { .. })), "round {round}: {heard:?}");
    }
    store.close().await;
}

/// The answer is lost, and before it can be looked up another process has taken over: what was stored is still known.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_before_another_process_took_over_is_said_to_be_stored() {
    for (cut, hot) in [(Cut::After, true), (Cut::After, false), (Cut::Before, true), (Cut::Before, false)] {
        let direct = hexa_testpg::database();
        let (proxy, url) = Proxy::before(&direct).await;
        let (first, second) = (Home::at(url), Home::at(direct));
        let a = first.open().await.unwrap();
        let applied = Arc::new(Applied::default());
        a.observe(Arc::clone(&applied) as Arc<dyn Observer>);
        let device = device(&a, 1).await;
        a.writer().commit(write(device, 1, true)).await.unwrap();
        mark(&a, 1).await.unwrap();
        proxy.cut_and_close(cut);
        let waiting = {
            let a = a.clone();
            tokio::spawn(async move {
                if hot { a.writer().commit(write(device, 2, true)).await.map(drop) } else { mark(&a, 2).await }
            })
        };
        while proxy.cuts() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let b = second.open().await.unwrap();
        proxy.open();
        let heard = waiting.await.unwrap();
        let there = matches!(cut, Cut::After);
        let right = if there { heard.is_ok() } else { matches!(heard, Err(StoreError::Unavailable { .. })) };
        assert!(right, "hot {hot}, {cut:?}: {heard:?}");
        assert_eq!(b.command_result(command(2)).await.unwrap().is_some(), there && hot);
        assert_eq!((marked(&b, 2).await, applied.has(2)), (there && !hot, there && !hot));
        let next = if hot { a.writer().commit(write(device, 3, true)).await.map(drop) } else { mark(&a, 3).await };
        assert!(matches!(next, Err(StoreError::Fenced(_))), "hot {hot}: {next:?}");
        mark(&b, 4).await.unwrap();
        assert_eq!(b.verify_audit().await.unwrap().first_bad, None);
        a.close().await;
        b.close().await;
    }
}

/// PostgreSQL answers the COMMIT of a failed transaction without an error, and undoes it.
#[tokio::test(flavor = "multi_thread")]
async fn work_that_hides_an_error_is_not_said_to_be_stored() {
    let home = Home::postgres();
    let store = home.open().await.unwrap();
    let applied = Arc::new(Applied::default());
    store.observe(Arc::clone(&applied) as Arc<dyn Observer>);
    let user = crate::rig::user(&store, 1).await;
    let heard = store.change(move |tx: &mut Tx| {
        Box::pin(async move {
            tx.put_setting("hidden", "1").await?;
            let conflict = tx.insert_user(&crate::rig::new_user(1)).await;
            assert!(matches!(conflict, Err(StoreError::Conflict(_))), "{conflict:?}");
            let id = UserId::at(TimeMs(1), [1; 10]);
            let changes = vec![Change::Account { user, id, epoch: 9, ends_access: false }];
            Ok::<_, StoreError>(Changed { answer: (), changes })
        })
    });
    let heard = heard.await;
    assert!(matches!(heard, Err(StoreError::Unavailable { .. })), "{heard:?}");
    assert_eq!(store.setting("hidden").await.unwrap(), None);
    assert!(!applied.has(9));
    mark(&store, 1).await.unwrap();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_says_why_not_and_comes_back_by_itself() {
    let (proxy, url) = Proxy::before(&hexa_testpg::database()).await;
    let home = Home::at(url);
    let mut config = home.config();
    config.probe_after = Duration::from_millis(300);
    let store = Store::open(config).await.unwrap();
    mark(&store, 1).await.unwrap();
    store.ready().await.unwrap();
    assert_eq!(store.setting("write_probe").await.unwrap(), None, "a write of a moment ago says enough");
    tokio::time::sleep(Duration::from_millis(350)).await;
    store.ready().await.unwrap();
    let first = store.setting("write_probe").await.unwrap();
    assert!(first.is_some(), "nothing was written for so long, and nothing was tried");
    proxy.close();
    assert!(matches!(mark(&store, 2).await, Err(StoreError::Unavailable { .. })));
    let why = store.ready().await.unwrap_err();
    assert!(matches!(why, StoreError::Unavailable { .. }), "{why}");
    assert!(why.to_string().contains("the database is unavailable: "), "{why}");
    proxy.open();
    // Readers that were cut off are made anew by the first that asks.
    let since = Instant::now();
    while let Err(why) = store.ready().await {
        assert!(since.elapsed() < Duration::from_secs(10), "{why}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_ne!(store.setting("write_probe").await.unwrap(), first, "a failed write is tried again before it says ok");
    store.close().await;
}
