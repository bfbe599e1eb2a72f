//! Times that were written while the clock was ahead: every one of them is put right, and no other.

use std::time::Duration;

use hexa_model::TimeMs;
use hexa_store::set_right::{NOT_KNOWN_YET, RULES, SetRight};

use crate::rig::{change, device, store, user};

const BY: SetRight = SetRight {
    newest: TimeMs(10_000),
    now: TimeMs(9_000),
    rotation_grace: Duration::from_millis(100),
    refresh_idle: Duration::from_millis(400),
    key_lifetime: Duration::from_millis(200),
    reset_lifetime: Duration::from_millis(50),
};

/// What lies ahead, and what can have been: the column, both values, and what the first one becomes.
const TIMES: [(&str, &str, i64, i64, i64); 19] = [
    ("refresh_families", "created_at", 70_000, 10_000, 9_000),
    ("refresh_families", "expires_at", 70_500, 10_500, 9_500),
    ("refresh_families", "revoked_at", 70_000, 10_000, 9_000),
    ("refresh_tokens", "issued_at", 70_000, 10_000, 9_000),
    ("refresh_tokens", "expires_at", 70_400, 10_400, 9_400),
    ("refresh_tokens", "spent_at", 70_000, 10_000, 9_000),
    ("access_tokens", "created_at", 70_000, 10_000, 9_000),
    ("access_tokens", "expires_at", 70_300, 10_300, 9_300),
    ("access_tokens", "last_used_at", 70_000, 10_000, 9_000),
    ("access_tokens", "revoked_at", 70_000, 10_000, 9_000),
    ("invitations", "created_at", 70_000, 10_000, 9_000),
    ("invitations", "expires_at", 70_200, 10_200, 9_200),
    ("invitations", "ended_at", 70_000, 10_000, 9_000),
    ("devices", "claim_made_at", 70_000, 10_000, 9_000),
    ("devices", "claim_expires_at", 70_100, 10_100, 9_100),
    ("devices", "previous_token_until", 70_100, 10_100, 9_100),
    ("idempotency", "expires_at", NOT_KNOWN_YET.0, 70_200, 9_200),
    ("users", "failed_at", 70_000, 10_000, 9_000),
    ("grants", "ended_at", 70_000, 10_000, 9_000),
];

#[tokio::test(flavor = "multi_thread")]
async fn every_time_that_cannot_be_is_put_right_and_no_other() {
    let (store, home) = store().await;
    let mut raw = home.raw().await;
    let blob = |n: u8| raw.either("x'0N'", "'\\x0N'").replace('N', &n.to_string());
    let blobs: Vec<_> = (0..6).map(blob).collect();
    // The first two of each are ahead.
    for n in 1..=5u8 {
        let (user, device, blob) = (user(&store, n).await.0, device(&store, n).await.0, &blobs[usize::from(n)]);
        for insert in [
            format!(
                "insert into refresh_families (uid, user_id, created_at, expires_at) values ('f{n}', {user}, 1, 1);
                 insert into refresh_tokens (family_id, hash, issued_at, expires_at) \
                 values ((select id from refresh_families where uid = 'f{n}'), {blob}, 1, 1)"
            ),
            format!(
                "insert into access_tokens (uid, user_id, name, hash, scopes, created_at) \
                 values ('t{n}', {user}, 'n', {blob}, '', 1);
                 insert into invitations (uid, hash, maker_id, created_at, expires_at, ended_why) \
                 values ('i{n}', {blob}, {user}, 1, 1, 'used')"
            ),
            format!(
                "insert into idempotency (scope, key, fingerprint, request_id, created_at, expires_at) \
                 values ({blob}, 'k', {blob}, 'r', 70000, 70000);
                 insert into grants (uid, device_id, user_id, access, created_at) \
                 values ('g{n}', {device}, {user}, 'read', 1);
                 insert into settings (name, value) values ('reset:{n}', '{}'), ('other:{n}', 'not a number')",
                if n <= 2 { 10_051 } else { 10_050 }
            ),
        ] {
            raw.run(&insert).await.unwrap();
        }
    }
    let rows = |table: &str, ahead: bool| {
        let at = if ahead { "<=" } else { ">" };
        format!("id {at} (select id from {table} order by id limit 1 offset 1)")
    };
    for (table, column, ahead, well, _) in TIMES {
        for (is_ahead, value) in [(true, ahead), (false, well)] {
            let rows = rows(table, is_ahead);
            raw.run(&format!("update {table} set {column} = {value} where {rows}")).await.unwrap();
        }
    }
    let mut changed = 0;
    for rule in 0..RULES {
        let mut after = None;
        loop {
            let beyond = store.beyond(rule, &BY, after.take(), 1).await.unwrap();
            let Some(last) = beyond.last() else { break };
            after = Some(last);
            changed += change!(store, |tx| { tx.set_right(&beyond, &BY).await? });
        }
    }
    assert_eq!(changed, 2 * RULES as u64);
    for (table, column, _, well, right) in TIMES {
        for (is_ahead, value) in [(true, right), (false, well)] {
            let rows = rows(table, is_ahead);
            let n = raw.number(&format!("select count(*) from {table} where {column} = {value} and {rows}")).await;
            assert_eq!(n, if is_ahead { 2 } else { 3 }, "{table}.{column}");
        }
    }
    assert_eq!(raw.number("select count(*) from settings where name like 'reset:%'").await, 3);
    assert_eq!(raw.number("select count(*) from settings where name like 'other:%'").await, 5);
    assert!(store.close().await);
}
