use std::collections::BTreeSet;
use std::sync::Arc;

use hexa_model::TimeMs;
use hexa_store::{Changed, DevicePresence, DurableState, Effect, HotWrite, NewFamily, StoreError};

use crate::rig::{change, command, device, kept, store, user, write};

#[tokio::test(flavor = "multi_thread")]
async fn many_commits_share_transactions_and_versions_have_no_gap() {
    let (store, _home) = store().await;
    let device = device(&store, 1).await;
    let before = store.writer().stats().batches;
    let writes: Vec<_> = (0..200).map(|n| store.writer().send(write(device, n, n % 2 == 0))).collect();
    let mut versions = BTreeSet::new();
    for done in writes {
        versions.insert(done.await.unwrap().unwrap().relays[0].version);
    }
    assert_eq!(versions, (1..=200).collect());
    let stats = store.writer().stats();
    assert!(stats.batches - before < 200, "{} batches for 200 writes", stats.batches - before);
    assert_eq!(store.relay_states(device).await.unwrap()[0].version, 200);
    let check = store.verify_audit().await.unwrap();
    assert_eq!((check.rows, check.first_bad), (200, None));
    let row = store.command_result(command(7)).await.unwrap().unwrap();
    assert_eq!((row.changes[0].version, row.changes[0].on), (8, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_command_and_a_deleted_device_fail_alone() {
    let (store, _home) = store().await;
    let (kept, gone) = (device(&store, 1).await, device(&store, 2).await);
    assert!(change!(store, |tx| { tx.delete_device(gone).await.unwrap() }));
    let sent: Vec<_> = [write(kept, 1, true), write(kept, 1, false), write(gone, 2, true), write(kept, 3, false)]
        .into_iter()
        .map(|w| store.writer().send(w))
        .collect();
    let mut done = Vec::new();
    for s in sent {
        done.push(s.await.unwrap());
    }
    assert!(done[0].is_ok() && done[3].is_ok());
    assert!(matches!(done[1], Err(StoreError::Conflict(_))), "{:?}", done[1]);
    assert!(matches!(done[2], Err(StoreError::Conflict(_))), "{:?}", done[2]);
    let state = store.relay_states(kept).await.unwrap()[0];
    assert_eq!((state.on, state.version), (false, 2));
    assert_eq!(store.verify_audit().await.unwrap().first_bad, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_and_driver_state_are_stored_for_their_own_device() {
    let (store, home) = store().await;
    let (a, b) = (device(&store, 1).await, device(&store, 2).await);
    for (at, ip) in [(10, "1.1.1.1"), (20, "2.2.2.2")] {
        let (last_seen_at, ip) = (TimeMs(at), Some(ip.to_owned()));
        store.writer().note(DevicePresence {
            device: b,
            last_seen_at,
            ip,
            firmware: Some("9".into()),
            online: Some(true),
        });
    }
    store.writer().note(DevicePresence { device: b, last_seen_at: TimeMs(30), ip: None, firmware: None, online: None });
    let durable = DurableState { blob: vec![1, 2], version: "p@1".into() };
    store.writer().commit(HotWrite::of(b).with(Effect::DriverState(durable))).await.unwrap();
    store.close().await;
    let store = home.open().await.unwrap();
    let row = store.device_by_key(b).await.unwrap().unwrap();
    assert_eq!(row.last_seen_at, Some(TimeMs(30)));
    assert_eq!((row.last_ip.as_deref(), row.firmware.as_deref()), (Some("2.2.2.2"), Some("9")));
    assert_eq!((row.driver_durable.as_deref(), row.driver_version.as_deref()), (Some(&[1, 2][..]), Some("p@1")));
    let other = store.device_by_key(a).await.unwrap().unwrap();
    assert_eq!((other.last_seen_at, other.driver_durable), (None, None));
    assert_eq!(other.capabilities, ["relay"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_takes_nothing_stores_nothing_and_says_so() {
    let (store, home) = store().await;
    let device = device(&store, 1).await;
    store.writer().commit(write(device, 1, true)).await.unwrap();
    // A lock held from outside is what a dead disk looks like to the writer: its transaction does not get on.
    let mut outside = home.raw().await;
    let lock = outside.either("begin immediate", "begin; lock table audit_tail in exclusive mode");
    outside.run(lock).await.unwrap();
    let refused = store.writer().commit(write(device, 2, false)).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
    assert!(store.relay_states(device).await.unwrap()[0].on, "reads go on, nothing was stored");
    outside.run("rollback").await.unwrap();
    let done = store.writer().commit(write(device, 3, false)).await.unwrap();
    assert_eq!(done.relays[0].version, 2);
    assert_eq!(store.verify_audit().await.unwrap().first_bad, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tail_moves_and_everything_is_still_found() {
    let (store, _home) = store().await;
    let device = device(&store, 1).await;
    let sent: Vec<_> = (0..1_500).map(|n| store.writer().send(write(device, n, true))).collect();
    for s in sent {
        s.await.unwrap().unwrap();
    }
    // Idle for a second with more than a thousand rows: the writer moves them.
    let started = std::time::Instant::now();
    while store.writer().stats().tail_rows > 1_000 {
        assert!(started.elapsed().as_secs() < 30, "{:?}", store.writer().stats());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(store.command_result(command(3)).await.unwrap().is_some());
    store.writer().commit(write(device, 2_000, false)).await.unwrap();
    let check = store.verify_audit().await.unwrap();
    assert_eq!((check.rows, check.first_bad), (1_501, None));
    assert_eq!(store.audit_rows_for_device(device, None, 2).await.unwrap()[0].seq, 1_501);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_refuses_edits_and_shows_those_made_behind_its_back() {
    let (store, home) = store().await;
    let device = device(&store, 1).await;
    for n in 0..3 {
        store.writer().commit(write(device, n, true)).await.unwrap();
    }
    let mut raw = home.raw().await;
    for edit in ["update audit_tail set outcome = 'noop' where seq = 2", "delete from audit_tail where seq = 2"] {
        let refused = raw.run(edit).await.unwrap_err();
        assert!(refused.contains("append-only"), "{refused}");
    }
    let edit = raw.either(
        "drop trigger audit_tail_no_update; update audit_tail set outcome = 'noop' where seq = 2",
        "drop trigger audit_tail_no_update on audit_tail; update audit_tail set outcome = 'noop' where seq = 2",
    );
    raw.run(edit).await.unwrap();
    assert_eq!(store.verify_audit().await.unwrap().first_bad, Some(2));
    let edit = raw.either(
        "drop trigger audit_tail_move_only; delete from audit_tail where seq = 2",
        "drop trigger audit_tail_move_only on audit_tail; delete from audit_tail where seq = 2",
    );
    raw.run(edit).await.unwrap();
    assert_eq!(store.verify_audit().await.unwrap().first_bad, Some(3));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_set_many_times_in_one_batch_keeps_every_version() {
    let (store, _home) = store().await;
    let (a, b) = (device(&store, 1).await, device(&store, 2).await);
    let sent: Vec<_> =
        (0..120).map(|n| store.writer().send(write(if n % 3 == 0 { a } else { b }, n, n % 2 == 0))).collect();
    let mut versions = [Vec::new(), Vec::new()];
    for (n, done) in sent.into_iter().enumerate() {
        versions[usize::from(n % 3 != 0)].push(done.await.unwrap().unwrap().relays[0].version);
    }
    assert_eq!(versions[0], (1..=40).collect::<Vec<_>>());
    assert_eq!(versions[1], (1..=80).collect::<Vec<_>>());
    let last = store.relay_states(b).await.unwrap()[0];
    assert_eq!((last.on, last.version), (false, 80), "the last write of the batch stands");
    for n in [0, 17, 119] {
        let row = store.command_result(command(n)).await.unwrap().unwrap();
        assert_eq!(row.changes[0].on, n % 2 == 0, "each row holds its own state");
    }
    assert_eq!(store.verify_audit().await.unwrap().first_bad, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_refuses_leaves_no_trace_and_costs_others_nothing() {
    let (store, _home) = store().await;
    let device = device(&store, 1).await;
    // At once, so that they share transactions: every third one refuses after it has written, or panics.
    let changes = (0..60u16).map(|n| {
        let store = store.clone();
        tokio::spawn(async move {
            let entry = write(device, n, true).audit.unwrap();
            let made = store.change(move |tx| {
                Box::pin(async move {
                    tx.put_setting(&format!("s{n}"), "1").await?;
                    tx.audit(&entry).await?;
                    assert!(n % 6 != 1, "a change that panics");
                    if n % 3 == 0 { Err(StoreError::Conflict("no".into())) } else { Ok(Changed::only(())) }
                })
            });
            made.await
        })
    });
    let changes: Vec<_> = changes.collect();
    for (n, change) in changes.into_iter().enumerate() {
        let made = change.await.unwrap();
        let expected = match n {
            n if n % 6 == 1 => matches!(made, Err(StoreError::Panicked)),
            n if n % 3 == 0 => matches!(&made, Err(StoreError::Conflict(what)) if what == "no"),
            _ => made.is_ok(),
        };
        assert!(expected, "{n}: {made:?}");
        assert_eq!(store.setting(&format!("s{n}")).await.unwrap().is_some(), n % 3 != 0 && n % 6 != 1, "{n}");
    }
    store.writer().commit(write(device, 200, true)).await.unwrap();
    let check = store.verify_audit().await.unwrap();
    assert_eq!((check.rows, check.first_bad), (31, None));
    let stats = store.writer().stats();
    assert!(stats.cold_transactions < 50, "changes that wait together share transactions: {stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_racers_claim_one_code_and_one_gets_it() {
    let (store, _home) = store().await;
    device(&store, 7).await;
    let owner = user(&store, 1).await;
    let store = Arc::new(store);
    let racers: Vec<_> = (0..50)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                change!(store, |tx| {
                    tx.claim_device(&kept(7), owner, (TimeMs(500), TimeMs(500))).await.unwrap().is_some()
                })
            })
        })
        .collect();
    let mut won = 0;
    for racer in racers {
        won += u32::from(racer.await.unwrap());
    }
    assert_eq!(won, 1);
    device(&store, 8).await;
    let late = change!(store, |tx| { tx.claim_device(&kept(8), owner, (TimeMs(500), TimeMs(1_000))).await.unwrap() });
    assert_eq!(late, None, "expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_is_spent_once() {
    let (store, _home) = store().await;
    let owner = user(&store, 1).await;
    let id = hexa_model::SessionId::at(TimeMs(1), [3; 10]);
    let family =
        NewFamily { id, user: owner, created_at: TimeMs(1), expires_at: TimeMs(99), user_agent: None, ip: None };
    change!(store, |tx| {
        let family = tx.insert_family(&family).await.unwrap();
        let first = tx.insert_refresh(family, &[1; 32], TimeMs(1), TimeMs(50)).await.unwrap();
        let second = tx.insert_refresh(family, &[2; 32], TimeMs(1), TimeMs(50)).await.unwrap();
        assert!(tx.spend_refresh(first, second, TimeMs(2)).await.unwrap());
        assert!(!tx.spend_refresh(first, second, TimeMs(3)).await.unwrap());
        let row = tx.refresh_by_hash(&[1; 32]).await.unwrap().unwrap();
        assert_eq!((row.spent_at, row.successor, row.successor_spent), (Some(TimeMs(2)), Some(second), false));
        assert!(tx.revoke_family(family, TimeMs(4)).await.unwrap());
    });
    assert!(!store.family_active(id).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_has_ten_thousand_keys_a_day_and_others_are_not_concerned() {
    let (store, _home) = store().await;
    let claim = |caller: u8, n: u32| {
        // As the server makes them: spread evenly.
        let mut fingerprint = [0; 32];
        fingerprint[..4].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
        let (scope, request_id) = ([caller; 32], String::new());
        let (at, expires_at) = (TimeMs(1), TimeMs(1_000));
        let counted = fingerprint[0].is_multiple_of(16);
        hexa_model::IdempotencyKey { scope, key: n.to_string(), fingerprint, request_id, at, expires_at, counted }
    };
    change!(store, |tx| {
        let mut kept = 0;
        let refused = loop {
            match tx.keep_answer(&claim(1, kept), b"x").await {
                Ok(()) => kept += 1,
                Err(error) => break error,
            }
            assert!(kept < 10_200, "no end");
        };
        assert!(matches!(refused, StoreError::Conflict(what) if what == "idempotency.full"));
        assert!(kept >= 10_000, "{kept}");
        tx.keep_answer(&claim(2, 0), b"x").await.unwrap();
        assert!(matches!(
            tx.keep_answer(&claim(2, 0), b"x").await,
            Err(StoreError::Conflict(what)) if what == "idempotency.key"
        ));
    });
}

#[tokio::test]
async fn a_devices_key_is_given_once() {
    let (store, _home) = store().await;
    let (first, newest) = (device(&store, 1).await, device(&store, 2).await);
    assert!(change!(store, |tx| { tx.delete_device(newest).await.unwrap() }));
    let next = device(&store, 3).await;
    assert!(next != newest && next != first, "what is late of the deleted one must not land here");
    let late = store.writer().commit(write(newest, 1, true)).await;
    assert!(matches!(late, Err(StoreError::Conflict(_))), "{late:?}");
    assert!(store.relay_states(next).await.unwrap().is_empty());
}
