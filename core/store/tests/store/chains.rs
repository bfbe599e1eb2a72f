//! More than one chain of the audit in a database, and checkpoints that go.

use std::time::Duration;

use hexa_model::TimeMs;
use hexa_store::{ActionFilter, AuditFilter, AuditHead, AuditReader, Store, Wrong};
use rusqlite::types::ValueRef;

use crate::audit::{found, pages, rows, unprotect};
use crate::rig::{Home, Raw, command, device, store, write};

const OTHER: &str = "attic";

/// Puts a chain of `n` rows of another node beside what is there: of the same times, with numbers of its own.
async fn beside(home: &Home, n: u16) {
    let source = Home::sqlite();
    let mut config = source.config();
    config.node = OTHER.into();
    let store = Store::open(config).await.unwrap();
    rows(&store, n).await;
    store.close().await;
    let file = rusqlite::Connection::open(source.path().join("hexa.db")).unwrap();
    let mut read = file.prepare("select * from audit_tail order by seq").unwrap();
    let names: Vec<_> = read.column_names().iter().map(|name| (*name).to_owned()).collect();
    let mut raw = home.raw().await;
    let postgres = matches!(raw, Raw::Postgres(_));
    let mut all = read.query([]).unwrap();
    while let Some(row) = all.next().unwrap() {
        let value = |(at, name): (usize, &String)| match row.get_ref(at).unwrap() {
            ValueRef::Null => "null".to_owned(),
            ValueRef::Integer(n) if postgres && ["follow_up", "state"].contains(&name.as_str()) => (n == 1).to_string(),
            ValueRef::Integer(n) => n.to_string(),
            ValueRef::Text(text) => format!("'{}'", String::from_utf8_lossy(text)),
            ValueRef::Blob(bytes) => {
                let hex = bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat();
                if postgres { format!("'\\x{hex}'") } else { format!("x'{hex}'") }
            }
            ValueRef::Real(n) => panic!("{name}: {n}"),
        };
        let values: Vec<_> = names.iter().enumerate().map(value).collect();
        raw.run(&format!("insert into audit_tail ({}) values ({})", names.join(", "), values.join(", ")))
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_chains_in_one_database_are_listed_paged_and_verified() {
    let (store, home) = store().await;
    rows(&store, 30).await;
    beside(&home, 20).await;
    let device = device(&store, 1).await;
    let check = async |main: u64| {
        let check = store.verify_audit().await.unwrap();
        let told: Vec<_> = check.chains.iter().map(|c| (c.head.chain.as_str(), c.head.seq, c.rows, c.wrong)).collect();
        assert_eq!(told, [(OTHER, 20, 20, None), ("main", main as i64, main, None)]);
        assert_eq!((check.rows, found(&check)), (main + 20, (None, None)));
    };
    check(30).await;
    let (reader, everything) = (store.audit_reader(), AuditFilter::default());
    let even = AuditFilter { action: Some(ActionFilter::Prefix("test.e".into())), ..AuditFilter::default() };
    // Rows of one time are in both chains, so that pages end between them.
    for limit in [1, 3, 7, 100] {
        for (filter, main, other) in [(&everything, 30, 20), (&even, 15, 10)] {
            let places = pages(&reader, filter, limit).await;
            let of = |chain: &str| places.iter().filter(|p| p.chain == chain).count();
            assert_eq!((of("main"), of(OTHER), places.len()), (main, other, main + other), "{limit}");
        }
    }
    // The chain of this node goes on, hot and cold, and its rows alone are moved.
    for n in 0..1_100 {
        store.writer().commit(write(device, n, true)).await.unwrap();
    }
    rows(&store, 2).await;
    while store.writer().stats().tail_rows > 1_000 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    check(1_132).await;
    assert!(store.command_result(command(7)).await.unwrap().is_some());
    let history = AuditFilter { device: Some(device), ..AuditFilter::default() };
    assert_eq!(pages(&reader, &history, 400).await.len(), 1_100);
    store.close().await;
    drop((store, reader));
    // A row leaves the tail only for the table: those of the other chain have not left it.
    let mut raw = home.raw().await;
    raw.run("delete from audit_tail where chain = 'main' and seq <= 1000").await.unwrap();
    assert!(
        raw.run("delete from audit_tail where chain = 'attic' and seq = 1").await.unwrap_err().contains("append-only")
    );
    drop(raw);
    // Beside the other one it is still this node's database.
    let store = home.open().await.unwrap();
    rows(&store, 1).await;
    let check = AuditReader::open(&home.config()).await.unwrap().verify(&[]).await.unwrap();
    assert_eq!((check.heads.len(), check.rows, found(&check)), (2, 1_153, (None, None)));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_one_chain_is_named_and_the_other_is_read() {
    let (store, home) = store().await;
    rows(&store, 10).await;
    beside(&home, 8).await;
    let heads = store.verify_audit().await.unwrap().heads;
    let mut raw = home.raw().await;
    unprotect(&mut raw).await;
    let verify = async |noted: &[AuditHead]| {
        let check = store.audit_reader().verify(noted).await.unwrap();
        let told = check.chains.iter().map(|c| (c.head.chain.clone(), c.first_bad, c.wrong)).collect::<Vec<_>>();
        let [other, main] = <[_; 2]>::try_from(told).unwrap();
        assert_eq!((other.0.as_str(), main.0.as_str()), (OTHER, "main"));
        ((other.1, other.2), (main.1, main.2), found(&check))
    };
    let (good, edited) = ((None, None), |seq| (Some(seq), Some(Wrong::Edited)));
    assert_eq!(verify(&heads).await, (good, good, good));
    raw.run("create table kept as select * from audit_tail").await.unwrap();
    let missing = (Some(6), Some(Wrong::Missing { from: 5, to: 5 }));
    let head = |seq| (Some(seq), Some(Wrong::Head));
    for (edit, other, main, first) in [
        ("update audit_tail set at = 1 where chain = 'main' and seq = 3", good, edited(3), edited(3)),
        ("update audit_tail set at = 1 where chain = 'attic' and seq = 7", edited(7), good, edited(7)),
        ("update audit_tail set at = 1 where seq = 4", edited(4), edited(4), edited(4)),
        ("delete from audit_tail where chain = 'attic' and seq = 5", missing, good, missing),
        ("delete from audit_tail where chain = 'attic' and seq = 8", head(8), good, head(8)),
        ("delete from audit_tail where chain = 'main' and seq > 8", good, head(10), head(10)),
        // Moved into the other chain, where its place is free.
        ("update audit_tail set chain = 'attic' where chain = 'main' and seq = 9", edited(9), good, edited(9)),
    ] {
        raw.run(edit).await.unwrap();
        let (a, b, c) = verify(&heads).await;
        if edit.contains("set chain") {
            assert_eq!((a, b.0, c), (other, Some(10), first), "{edit}");
        } else {
            assert_eq!((a, b, c), (other, main, first), "{edit}");
        }
        raw.run("delete from audit_tail; insert into audit_tail select * from kept").await.unwrap();
        assert_eq!(verify(&heads).await, (good, good, good), "{edit}, put back");
    }
    // All of a chain is missed by whoever has noted its head.
    raw.run("delete from audit_tail where chain = 'attic'").await.unwrap();
    assert_eq!(store.verify_audit().await.unwrap().chains.len(), 1);
    let check = store.audit_reader().verify(&heads).await.unwrap();
    assert_eq!((check.chains[1].head.chain.as_str(), found(&check)), (OTHER, head(8)));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_of_one_chain_go_and_both_stay_whole() {
    let (store, home) = store().await;
    rows(&store, 30).await;
    beside(&home, 30).await;
    assert_eq!(store.prune_audit(TimeMs(1_012), TimeMs(90_000), 7).await.unwrap(), 7);
    assert_eq!(store.prune_audit(TimeMs(1_012), TimeMs(90_001), 7).await.unwrap(), 5);
    let check = store.verify_audit().await.unwrap();
    let told: Vec<_> = check.chains.iter().map(|c| (c.rows, c.checkpoints, c.removed, c.wrong)).collect();
    assert_eq!(told, [(30, 0, 0, None), (20, 2, 12, None)]);
    // A checkpoint is of its chain alone: it lets no row of another one go, and stands on none.
    let mut raw = home.raw().await;
    raw.run("insert into audit select * from audit_tail; delete from audit_tail").await.unwrap();
    let forged = "insert into audit_checkpoints select 'attic', 20, hash, 8, 1, hash, hash from audit \
         where chain = 'main' and seq = 20";
    for edit in ["delete from audit where chain = 'attic' and seq = 1", "delete from audit where seq <= 12", forged] {
        let refused = raw.run(edit).await.unwrap_err();
        assert!(refused.contains("append-only") || refused.contains("stands on a row"), "{edit}: {refused}");
    }
    assert_eq!(store.verify_audit().await.unwrap().rows, 50);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_go_with_the_rows_that_name_them_and_the_newest_stays() {
    let (store, home) = store().await;
    rows(&store, 12).await;
    // Twelve checkpoints of one row each, named by rows of the times 2000 to 2011.
    for n in 0..12 {
        assert_eq!(store.prune_audit(TimeMs(1_012), TimeMs(2_000 + n), 1).await.unwrap(), 1);
    }
    let check = async |checkpoints: u64, removed: u64| {
        let check = store.verify_audit().await.unwrap();
        assert_eq!((check.checkpoints, check.removed, found(&check)), (checkpoints, removed, (None, None)));
    };
    check(12, 12).await;
    assert_eq!(store.forget_checkpoints(100).await.unwrap(), 0, "each is named");
    // The rows that name the first ten go.
    assert_eq!(store.prune_audit(TimeMs(2_010), TimeMs(3_000), 100).await.unwrap(), 10);
    check(13, 22).await;
    for (gone, left) in [(4, 9), (4, 5), (2, 3), (0, 3)] {
        assert_eq!(store.forget_checkpoints(4).await.unwrap(), gone, "in pieces");
        check(left, 22).await;
    }
    // One that is named and gone is found; the newest cannot even be deleted.
    let mut raw = home.raw().await;
    let refused = raw.run("delete from audit_checkpoints").await.unwrap_err();
    assert!(refused.contains("append-only"), "{refused}");
    check(3, 22).await;
    raw.run("delete from audit_checkpoints where up_to_seq = 11").await.unwrap();
    assert_eq!(found(&store.verify_audit().await.unwrap()), (Some(11), Some(Wrong::Checkpoint)));
    // When nobody names it any more either, all is well again, also after a restart.
    assert_eq!(store.prune_audit(TimeMs(2_900), TimeMs(4_000), 100).await.unwrap(), 2);
    check(3, 24).await;
    assert_eq!(store.forget_checkpoints(100).await.unwrap(), 1);
    check(2, 24).await;
    store.close().await;
    drop(store);
    let store = home.open().await.unwrap();
    let check = store.verify_audit().await.unwrap();
    assert_eq!((check.checkpoints, check.removed, found(&check)), (2, 24, (None, None)));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_put_before_the_first_one_or_under_a_checkpoint_are_found() {
    for (pruned, forged) in [(false, 0), (false, -7), (true, 5), (true, 10), (true, -1)] {
        let (store, home) = store().await;
        rows(&store, 30).await;
        if pruned {
            store.prune_audit(TimeMs(i64::MAX), TimeMs(1), 10).await.unwrap();
        }
        assert_eq!(found(&store.verify_audit().await.unwrap()), (None, None));
        let insert = format!(
            "insert into audit select {forged}, chain, at, actor_kind, actor_id, source, 'user.forged', device_id, null, \
             follow_up, outcome, relay, state, latency_ms, changes, details, prev, hash from audit_tail where seq = 25"
        );
        home.raw().await.run(&insert).await.unwrap();
        let check = store.verify_audit().await.unwrap();
        assert_eq!(found(&check), (Some(forged), Some(Wrong::Foreign)), "{pruned} {forged}");
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_noted_head_of_a_chain_is_compared_as_far_as_it_can_be() {
    let (store, _home) = store().await;
    rows(&store, 30).await;
    let reader = store.audit_reader();
    let head = |seq: i64, hash: [u8; 32]| AuditHead { chain: "main".into(), seq, hash };
    let newest = store.verify_audit().await.unwrap().heads[0].clone();
    let check = reader.verify(&[newest.clone(), head(12, [7; 32])]).await.unwrap();
    assert_eq!(found(&check), (Some(12), Some(Wrong::Head)), "the second one counts as well");
    store.prune_audit(TimeMs(i64::MAX), TimeMs(1), 10).await.unwrap();
    // One stands under a checkpoint on its own row, another on a row that is gone.
    let check = reader.verify(&[newest.clone(), head(10, [7; 32])]).await.unwrap();
    assert_eq!(found(&check), (Some(10), Some(Wrong::Head)));
    let check = reader.verify(&[newest, head(9, [7; 32])]).await.unwrap();
    assert_eq!((found(&check), check.chains[0].uncompared), ((None, None), Some(9)));
    store.close().await;
}
