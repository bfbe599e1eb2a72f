//! Keys of commands, which are taken in the group commits of the hot writer.

use hexa_model::audit::RelaySet;
use hexa_model::{IdempotencyKey, TimeMs};
use hexa_store::{CommandClaim, Effect, HotWrite, Store, StoreError};
use smallvec::smallvec;

use crate::rig::{change, command, device, store, write};

fn claim(caller: u8, key: &str) -> IdempotencyKey {
    let (scope, request_id) = ([caller; 32], "r".to_owned());
    IdempotencyKey {
        scope,
        key: key.into(),
        fingerprint: [1; 32],
        request_id,
        at: TimeMs(10),
        expires_at: TimeMs(1_000),
        counted: false,
    }
}

fn taking(device: hexa_model::DeviceKey, claim: IdempotencyKey, n: u16) -> HotWrite {
    HotWrite { claim: Some(Box::new(CommandClaim { claim, command: command(n) })), ..HotWrite::of(device) }
}

/// Gives the writer all of these while another writer holds the gate, so that they share transactions.
async fn together(store: &Store, writes: Vec<HotWrite>) -> Vec<Result<hexa_store::Committed, StoreError>> {
    let (held, holds) = tokio::sync::oneshot::channel();
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let other = store.clone();
    let holder = tokio::spawn(async move {
        change!(other, |_tx| {
            held.send(()).unwrap();
            gone.await.unwrap();
        });
    });
    holds.await.unwrap();
    let ends: Vec<_> = writes.into_iter().map(|w| store.writer().send(w)).collect();
    go.send(()).unwrap();
    holder.await.unwrap();
    let mut done = Vec::new();
    for end in ends {
        done.push(end.await.unwrap());
    }
    done
}

fn refused(end: &Result<hexa_store::Committed, StoreError>, by: &str) -> bool {
    matches!(end, Err(StoreError::Conflict(what)) if what == by)
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_keys_are_one_commit_and_a_used_one_refuses_its_own_write_alone() {
    let (store, _home) = store().await;
    let device = device(&store, 1).await;
    let before = store.writer().stats();
    let mut sets_too = taking(device, claim(1, "a"), 3);
    sets_too.effects.push(Effect::Relays(smallvec![RelaySet { index: 1, on: true }]));
    let mut writes = vec![taking(device, claim(1, "a"), 1), taking(device, claim(1, "a"), 2), sets_too];
    writes.extend([taking(device, claim(1, "b"), 4), taking(device, claim(2, "a"), 5), write(device, 6, true)]);
    writes.extend((10..74).map(|n| taking(device, claim(3, &n.to_string()), n)));
    let ends = together(&store, writes).await;
    let after = store.writer().stats();
    assert!(ends[0].is_ok(), "{:?}", ends[0]);
    assert!(refused(&ends[1], "idempotency.key") && refused(&ends[2], "idempotency.key"), "{ends:?}");
    assert!(ends[3..].iter().all(Result::is_ok), "{ends:?}");
    // The first one may have begun before the others were there.
    assert!(after.batches - before.batches <= 2, "{} commits", after.batches - before.batches);
    assert_eq!(store.relay_states(device).await.unwrap().len(), 1, "what a used key refused is not stored");
    let kept = store.kept_answer(&[1; 32], "a", TimeMs(10)).await.unwrap().unwrap();
    assert_eq!((kept.command, kept.answer), (Some(command(1)), None));
    for (caller, key, n) in [(1, "b", 4), (2, "a", 5), (3, "73", 73)] {
        let kept = store.kept_answer(&[caller; 32], key, TimeMs(10)).await.unwrap().unwrap();
        assert_eq!(kept.command, Some(command(n)));
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commands_key_that_is_over_is_taken_over_and_an_answer_with_it() {
    let (store, _home) = store().await;
    let device = device(&store, 1).await;
    let first = claim(1, "a");
    change!(store, |tx| { tx.keep_answer(&first, b"sealed").await.unwrap() });
    let early = taking(device, IdempotencyKey { at: TimeMs(999), expires_at: TimeMs(5_000), ..claim(1, "a") }, 1);
    assert!(refused(&store.writer().commit(early).await, "idempotency.key"));
    let due = taking(device, IdempotencyKey { at: TimeMs(1_000), expires_at: TimeMs(5_000), ..claim(1, "a") }, 2);
    store.writer().commit(due).await.unwrap();
    let kept = store.kept_answer(&[1; 32], "a", TimeMs(1_000)).await.unwrap().unwrap();
    assert_eq!((kept.command, kept.answer), (Some(command(2)), None));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_with_ten_thousand_keys_gets_no_command_more_and_others_are_not_concerned() {
    let (store, _home) = store().await;
    let device = device(&store, 1).await;
    let many: Vec<_> = (0..10_000).map(|n| claim(1, &n.to_string())).collect();
    change!(store, |tx| {
        for one in &many {
            tx.keep_answer(one, b"x").await.unwrap();
        }
    });
    let counted = |caller: u8, key: &str| IdempotencyKey { counted: true, ..claim(caller, key) };
    let ends = together(
        &store,
        vec![taking(device, counted(1, "more"), 1), taking(device, counted(2, "more"), 2), write(device, 3, true)],
    )
    .await;
    assert!(refused(&ends[0], "idempotency.full"), "{ends:?}");
    assert!(ends[1..].iter().all(Result::is_ok), "{ends:?}");
    assert!(store.kept_answer(&[1; 32], "more", TimeMs(10)).await.unwrap().is_none());
    store.close().await;
}
