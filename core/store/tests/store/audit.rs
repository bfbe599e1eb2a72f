//! The audit's chain, its checkpoints and its pages.

use hexa_model::audit::AuditEntry;
use hexa_model::{Actor, DeviceKey, Outcome, Role, Source, TimeMs, UserId, UserKey};
use hexa_store::{
    ActionFilter, AuditCheck, AuditFilter, AuditHead, AuditPlace, AuditReader, OpenError, Store, StoreError, Wrong,
};

use crate::rig::{Home, Raw, change, command, device, store, user, write};

/// `n` rows of the time 1000, 1001, …
pub(crate) async fn rows(store: &Store, n: u16) {
    change!(store, |tx| {
        for i in 0..i64::from(n) {
            let action = if i % 2 == 0 { "test.even" } else { "test.odd" };
            tx.audit(&AuditEntry::event(TimeMs(1_000 + i), Actor::System, Source::System, action)).await.unwrap();
        }
    });
}

/// What is left of the protection when somebody has the database's own rights.
pub(crate) async fn unprotect(raw: &mut Raw) {
    let sql = raw.either(
        "drop trigger audit_no_update; drop trigger audit_no_delete; drop trigger audit_tail_no_update; \
         drop trigger audit_tail_move_only; drop trigger audit_checkpoints_no_update; \
         drop trigger audit_checkpoints_no_delete; drop trigger audit_checkpoints_on_a_row",
        "drop trigger audit_no_update on audit; drop trigger audit_no_delete on audit; \
         drop trigger audit_tail_no_update on audit_tail; drop trigger audit_tail_move_only on audit_tail; \
         drop trigger audit_checkpoints_no_change on audit_checkpoints; \
         drop trigger audit_checkpoints_no_delete on audit_checkpoints; \
         drop trigger audit_checkpoints_on_a_row on audit_checkpoints",
    );
    raw.run(sql).await.unwrap();
}

pub(crate) fn found(check: &AuditCheck) -> (Option<i64>, Option<Wrong>) {
    (check.first_bad, check.wrong)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_of_any_column_is_found() {
    let (store, home) = store().await;
    let device = device(&store, 1).await;
    for n in 0..4 {
        store.writer().commit(write(device, n, true)).await.unwrap();
    }
    let mut raw = home.raw().await;
    unprotect(&mut raw).await;
    let bytes = |n: usize| raw.either("x'", "'\\x").to_owned() + &"5a".repeat(n) + "'";
    let (id, hash) = (bytes(16), bytes(32));
    let edits: [(&str, &str); 18] = [
        ("seq", "77"),
        ("chain", "'other'"),
        ("at", "at + 1"),
        ("actor_kind", "'user'"),
        ("actor_id", "5"),
        ("source", "'ws'"),
        ("action", "'set_relaY'"),
        ("device_id", "device_id + 1"),
        ("command_id", &id),
        ("follow_up", raw.either("1", "true")),
        ("outcome", "'noop'"),
        ("relay", "3"),
        ("state", raw.either("0", "false")),
        ("latency_ms", "0"),
        ("changes", "'[[0,0,1]]'"),
        ("details", "'{}'"),
        ("prev", &hash),
        ("hash", &hash),
    ];
    // The last row as well: nothing comes after it that could miss it.
    for seq in [1, 3, 4] {
        for (column, value) in &edits {
            raw.run("create table kept as select * from audit_tail").await.unwrap();
            raw.run(&format!("update audit_tail set {column} = {value} where seq = {seq}")).await.unwrap();
            let check = store.verify_audit().await.unwrap();
            // A last row that says to belong elsewhere is missed where that is.
            assert!(check.first_bad.is_some(), "{column} of row {seq}: {check:?}");
            assert!(check.rows < 4, "{column} of row {seq}: {check:?}");
            let restore = "delete from audit_tail; insert into audit_tail select * from kept; drop table kept";
            raw.run(restore).await.unwrap();
            assert_eq!(found(&store.verify_audit().await.unwrap()), (None, None), "{column} of row {seq}, put back");
        }
    }
    // SQLite has no types that would keep a value out.
    if matches!(raw, Raw::Sqlite(_)) {
        for edit in
            ["follow_up = 2", "follow_up = null", "hash = x'00'", "prev = 'text'", "at = 'soon'", "outcome = x'ff'"]
        {
            raw.run("create table kept as select * from audit_tail").await.unwrap();
            let done = raw.run(&format!("update audit_tail set {edit} where seq = 2")).await;
            if done.is_ok() {
                assert_eq!(found(&store.verify_audit().await.unwrap()), (Some(2), Some(Wrong::Edited)), "{edit}");
            }
            raw.run("delete from audit_tail; insert into audit_tail select * from kept; drop table kept")
                .await
                .unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_swapped_foreign_and_cut_off_rows_are_told_apart() {
    let (store, home) = store().await;
    rows(&store, 6).await;
    let whole = store.verify_audit().await.unwrap();
    assert_eq!((whole.rows, found(&whole)), (6, (None, None)));
    let head: AuditHead = whole.heads[0].clone();
    assert_eq!((head.chain.as_str(), head.seq), ("main", 6));
    let mut raw = home.raw().await;
    unprotect(&mut raw).await;
    let swap = "update audit_tail set seq = 99 where seq = 2; update audit_tail set seq = 2 where seq = 4; \
        update audit_tail set seq = 4 where seq = 99";
    for (edit, expected) in [
        ("delete from audit_tail where seq = 3", (Some(4), Some(Wrong::Missing { from: 3, to: 3 }))),
        ("delete from audit_tail where seq < 3", (Some(3), Some(Wrong::Missing { from: 1, to: 2 }))),
        (swap, (Some(2), Some(Wrong::Swapped { belongs_at: 4 }))),
        // One that is there twice, each whole by itself.
        ("insert into audit select * from audit_tail where seq = 2", (Some(2), Some(Wrong::Foreign))),
        // What was cut off at the end is seen by whoever has noted the head.
        ("delete from audit_tail where seq = 6", (Some(6), Some(Wrong::Head))),
        ("delete from audit_tail", (Some(6), Some(Wrong::Head))),
    ] {
        raw.run("create table kept as select * from audit_tail").await.unwrap();
        raw.run(edit).await.unwrap();
        assert_eq!(found(&store.audit_reader().verify(std::slice::from_ref(&head)).await.unwrap()), expected, "{edit}");
        raw.run(
            "delete from audit; delete from audit_tail; insert into audit_tail select * from kept; drop table kept",
        )
        .await
        .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_rows_go_under_a_checkpoint_and_the_chain_goes_on() {
    let (store, home) = store().await;
    rows(&store, 50).await;
    // The first thirty are old enough, in pieces of twelve: 12, 12, 6.
    let mut gone = Vec::new();
    loop {
        let n = store.prune_audit(TimeMs(1_030), TimeMs(90_000), 12).await.unwrap();
        if n == 0 {
            break;
        }
        gone.push(n);
    }
    assert_eq!(gone, [12, 12, 6]);
    let check = store.verify_audit().await.unwrap();
    assert_eq!(found(&check), (None, None));
    // Twenty are left, and each checkpoint has a row.
    assert_eq!((check.rows, check.checkpoints, check.removed), (23, 3, 30));
    let left = store.audit_reader().list(&AuditFilter::default(), None, 100).await.unwrap();
    assert_eq!(left.iter().map(|r| r.place.seq).min(), Some(31));
    assert_eq!(left.iter().filter(|r| r.action == "audit.checkpoint").count(), 3);
    // The chain goes on, also after a restart.
    store.close().await;
    drop(store);
    let store = home.open().await.unwrap();
    rows(&store, 3).await;
    let check = store.verify_audit().await.unwrap();
    assert_eq!((check.rows, found(&check)), (26, (None, None)));
    assert_eq!(check.heads[0].seq, 56);
    assert!(store.writer().stats().tail_rows <= 26, "{:?}", store.writer().stats());
    // A row that is not old enough keeps those behind it, however old they say they are.
    rows(&store, 0).await;
    assert_eq!(store.prune_audit(TimeMs(1_030), TimeMs(91_000), 1_000).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_what_a_checkpoint_covers_can_be_deleted() {
    let (store, home) = store().await;
    rows(&store, 40).await;
    assert_eq!(store.prune_audit(TimeMs(1_020), TimeMs(90_000), 1_000).await.unwrap(), 20);
    let mut raw = home.raw().await;
    // The rest into the table, as the writer moves it.
    raw.run("insert into audit select * from audit_tail; delete from audit_tail").await.unwrap();
    let forged = raw.either(
        "insert into audit_checkpoints values ('main', 30, x'00', 10, 1, x'00', x'00')",
        "insert into audit_checkpoints values ('main', 30, '\\x00', 10, 1, '\\x00', '\\x00')",
    );
    let older = "insert into audit_checkpoints select chain, up_to_seq, up_to_hash, row_count, at, prev, hash \
        from audit_checkpoints";
    for edit in [
        "delete from audit where seq = 21",
        "delete from audit where seq <= 25",
        "delete from audit",
        "update audit set outcome = 'noop' where seq = 25",
        "update audit_checkpoints set up_to_seq = 30",
        "update audit_checkpoints set up_to_hash = prev",
        "delete from audit_checkpoints",
        forged,
        older,
        raw.either("update audit set details = null", "truncate audit"),
        raw.either("update audit set seq = 500 where seq = 21", "truncate audit_checkpoints"),
    ] {
        let refused = raw.run(edit).await.unwrap_err();
        assert!(refused.contains("append-only") || refused.contains("stands on a row"), "{edit}: {refused}");
    }
    let check = store.verify_audit().await.unwrap();
    assert_eq!((check.rows, found(&check)), (21, (None, None)));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_or_removed_checkpoint_is_found() {
    let (store, home) = store().await;
    rows(&store, 40).await;
    for before in [1_010, 1_020] {
        assert_eq!(store.prune_audit(TimeMs(before), TimeMs(90_000), 1_000).await.unwrap(), 10);
    }
    let mut raw = home.raw().await;
    unprotect(&mut raw).await;
    let hash = raw.either("x'", "'\\x").to_owned() + &"5a".repeat(32) + "'";
    let mut edits = Vec::new();
    for place in [10, 20] {
        for (column, value) in [
            ("chain", "'other'"),
            ("up_to_seq", "up_to_seq + 1"),
            ("up_to_hash", &hash),
            ("row_count", "row_count - 1"),
            ("at", "at - 1"),
            ("prev", &hash),
            ("hash", &hash),
        ] {
            edits.push(format!("update audit_checkpoints set {column} = {value} where up_to_seq = {place}"));
        }
        edits.push(format!("delete from audit_checkpoints where up_to_seq = {place}"));
    }
    edits.push("delete from audit_checkpoints".into());
    for edit in edits {
        raw.run("create table kept as select * from audit_checkpoints").await.unwrap();
        raw.run(&edit).await.unwrap();
        let check = store.verify_audit().await.unwrap();
        assert!(check.wrong.is_some() && check.first_bad.is_some(), "{edit}: {check:?}");
        let restore =
            "delete from audit_checkpoints; insert into audit_checkpoints select * from kept; drop table kept";
        raw.run(restore).await.unwrap();
        assert_eq!(found(&store.verify_audit().await.unwrap()), (None, None), "{edit}, put back");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_do_not_fit_are_never_removed() {
    let (store, home) = store().await;
    rows(&store, 10).await;
    let mut raw = home.raw().await;
    unprotect(&mut raw).await;
    raw.run("update audit_tail set action = 'innocent' where seq = 4").await.unwrap();
    let refused = store.prune_audit(TimeMs(2_000), TimeMs(90_000), 1_000).await.unwrap_err();
    assert!(matches!(&refused, StoreError::Corrupt(what) if what.contains("row 4")), "{refused}");
    assert_eq!(found(&store.verify_audit().await.unwrap()), (Some(4), Some(Wrong::Edited)));
    let left = store.audit_reader().list(&AuditFilter::default(), None, 100).await.unwrap();
    assert_eq!(left.len(), 10, "nothing went, and no checkpoint was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_needs_no_lock_and_writes_nothing() {
    let (store, home) = store().await;
    rows(&store, 5).await;
    // Beside the open store.
    let beside = AuditReader::open(&home.config()).await.unwrap();
    assert_eq!(beside.verify(&[]).await.unwrap().rows, 5);
    rows(&store, 2).await;
    assert_eq!(beside.verify(&[]).await.unwrap().rows, 7, "what was written since is seen");
    store.close().await;
    drop((store, beside));
    // And over what it left.
    let after = AuditReader::open(&home.config()).await.unwrap();
    let check = after.verify(&[]).await.unwrap();
    assert_eq!((check.rows, found(&check)), (7, (None, None)));
    drop(after);
    // It may not bring a database up to date, so it says who can.
    let newest = "delete from _sqlx_migrations where version = (select max(version) from _sqlx_migrations)";
    home.raw().await.run(newest).await.unwrap();
    let refused = AuditReader::open(&home.config()).await.unwrap_err();
    assert!(
        matches!(refused, OpenError::Older { .. }) && refused.to_string().contains("Start the server"),
        "{refused}"
    );
    let nowhere = Home::sqlite();
    assert!(AuditReader::open(&nowhere.config()).await.is_err());
    assert!(!nowhere.path().join("hexa.db").exists(), "it makes no database");
}

/// Every page behind another, and no row twice.
pub(crate) async fn pages(reader: &AuditReader, filter: &AuditFilter, limit: u32) -> Vec<AuditPlace> {
    let (mut all, mut before): (Vec<AuditPlace>, _) = (Vec::new(), None);
    loop {
        let page = reader.list(filter, before.as_ref(), limit).await.unwrap();
        all.extend(page.iter().map(|r| r.place.clone()));
        before = page.last().map(|r| r.place.clone());
        if page.len() < limit as usize {
            break;
        }
    }
    assert!(all.windows(2).all(|w| w[0] > w[1]), "newest first, none twice: {all:?}");
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_and_filters_find_exactly_their_rows() {
    let (store, home) = store().await;
    let (lamp, fan) = (device(&store, 1).await, device(&store, 2).await);
    let ann = user(&store, 3).await;
    let actor = Actor::User { key: ann, id: UserId::at(TimeMs(1), [3; 10]), role: Role::User };
    let actions = ["set_relay", "security.origin", "security.token", "device.renamed"];
    let outcomes = [Outcome::Executed, Outcome::Done, Outcome::Rejected];
    let sources = [Source::Api, Source::Ws, Source::System];
    let mut told = Vec::new();
    let mut entries = Vec::new();
    for n in 0..240usize {
        // Three rows to a time, so that pages end between rows of one time; and the clock once goes back.
        let at = TimeMs(1_000 + n as i64 / 3 - if n > 200 { 40 } else { 0 });
        let by = if n % 5 == 0 { actor } else { Actor::System };
        let entry = AuditEntry::event(at, by, sources[n % 3], actions[n % 4]).outcome(outcomes[(n / 2) % 3]);
        let of: Option<DeviceKey> = [None, Some(lamp), Some(fan)][n % 3];
        let entry = AuditEntry { device: of, ..entry };
        entries.push(entry.clone());
        told.push((n as i64 + 1, entry, by == actor));
    }
    change!(store, |tx| {
        for entry in &entries {
            tx.audit(entry).await.unwrap();
        }
    });
    let reader = store.audit_reader();
    let exact = |action: &str| Some(ActionFilter::Exact(action.into()));
    let prefix = |action: &str| Some(ActionFilter::Prefix(action.into()));
    let none = AuditFilter::default;
    let filters = [
        none(),
        AuditFilter { device: Some(lamp), ..none() },
        AuditFilter { actor: Some(ann), ..none() },
        AuditFilter { action: exact("set_relay"), ..none() },
        AuditFilter { action: prefix("security."), ..none() },
        AuditFilter { action: prefix("nothing."), ..none() },
        AuditFilter { outcome: Some("executed".into()), ..none() },
        AuditFilter { outcome: Some("rejected".into()), ..none() },
        AuditFilter { source: Some("api".into()), ..none() },
        AuditFilter { source: Some("ws".into()), ..none() },
        AuditFilter { since: Some(TimeMs(1_030)), until: Some(TimeMs(1_033)), ..none() },
        AuditFilter { device: Some(fan), action: prefix("s"), since: Some(TimeMs(1_010)), ..none() },
        AuditFilter {
            actor: Some(ann),
            outcome: Some("done".into()),
            source: Some("system".into()),
            action: exact("device.renamed"),
            ..none()
        },
        AuditFilter { device: Some(DeviceKey(999)), ..none() },
        AuditFilter { actor: Some(UserKey(999)), ..none() },
    ];
    // Half of it in the table, as the writer moves it.
    for round in 0..2 {
        for filter in &filters {
            let mut expected: Vec<(i64, i64)> =
                told.iter().filter(|t| fits(filter, t)).map(|t| (t.1.at.0, t.0)).collect();
            expected.sort_unstable_by(|a, b| b.cmp(a));
            let expected: Vec<_> = expected.into_iter().map(|e| e.1).collect();
            for limit in [1, 7, 500] {
                let seqs: Vec<_> = pages(&reader, filter, limit).await.into_iter().map(|place| place.seq).collect();
                assert_eq!(seqs, expected, "round {round}: {filter:?} by {limit}");
            }
        }
        let mut raw = home.raw().await;
        raw.run("insert into audit select * from audit_tail where seq <= 120; delete from audit_tail where seq <= 120")
            .await
            .unwrap();
    }
    let row = &reader.list(&filters[2], None, 1).await.unwrap()[0];
    assert_eq!(row.actor.as_ref().map(|a| a.1.as_str()), Some("u3@example.com"));
    let row = &reader.list(&filters[1], None, 1).await.unwrap()[0];
    assert!(row.device_uid.as_deref().is_some_and(|uid| uid.starts_with("hx")), "{row:?}");
    store.writer().commit(write(lamp, 1, true)).await.unwrap();
    let row = &reader.list(&none(), None, 1).await.unwrap()[0];
    assert_eq!((row.command, row.changes.len(), row.changes[0].version), (Some(command(1)), 1, 1));
}

fn fits(filter: &AuditFilter, (_, entry, by_user): &(i64, AuditEntry, bool)) -> bool {
    let text = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
    filter.actor.is_none_or(|key| *by_user && key != UserKey(999))
        && filter.device.is_none_or(|key| entry.device == Some(key))
        && text(&filter.outcome, entry.outcome.as_str())
        && text(&filter.source, entry.source.as_str())
        && filter.since.is_none_or(|at| entry.at >= at)
        && filter.until.is_none_or(|at| entry.at < at)
        && match &filter.action {
            None => true,
            Some(ActionFilter::Exact(action)) => entry.action == action,
            Some(ActionFilter::Prefix(prefix)) => entry.action.starts_with(prefix.as_str()),
        }
}

/// Each filter reads its own index from the place where the page begins, and sorts nothing of the table.
#[tokio::test(flavor = "multi_thread")]
async fn every_filter_has_an_index() {
    let home = Home::sqlite();
    let store = home.open().await.unwrap();
    let filters: [(&str, AuditFilter); 7] = [
        ("audit_at", AuditFilter::default()),
        (
            "audit_device",
            AuditFilter { device: Some(DeviceKey(1)), outcome: Some("done".into()), ..Default::default() },
        ),
        ("audit_actor", AuditFilter { actor: Some(UserKey(1)), source: Some("ws".into()), ..Default::default() }),
        ("audit_action", AuditFilter { action: Some(ActionFilter::Exact("x".into())), ..Default::default() }),
        ("audit_outcome", AuditFilter { outcome: Some("done".into()), ..Default::default() }),
        ("audit_source", AuditFilter { source: Some("ws".into()), ..Default::default() }),
        ("audit_at", AuditFilter { since: Some(TimeMs(1)), until: Some(TimeMs(9)), ..Default::default() }),
    ];
    for (index, filter) in filters {
        let before = Some(AuditPlace { at: TimeMs(5), chain: "main".into(), seq: 5 });
        let plan = store.audit_reader().plan(&filter, before.as_ref(), 50).await.unwrap().join("\n");
        let searched = format!("SEARCH audit USING INDEX {index} (");
        assert!(plan.contains(&searched), "{filter:?}:\n{plan}");
        assert!(!plan.contains("SCAN audit\n") && !plan.contains("SCAN audit "), "{filter:?}:\n{plan}");
    }
}
