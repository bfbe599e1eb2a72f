//! The audit for admins: pages, filters, exports, retention, and `hexa audit`.

use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use hexa_model::audit::AuditEntry;
use hexa_model::{Actor, Source, TimeMs};
use hexa_store::{Changed, Store, StoreConfig, StoreError};
use hexa_tests::process::{Finished, finish, hexa};
use hexa_tests::server::ScratchDir;
use hexa_tests::{Client, Db, Options, Shared, TestServer, eventually};
use reqwest::Method;
use serde_json::{Value, json};

fn server() -> Shared {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    TestServer::shared(&SERVER)
}

const AUDIT: &str = "/api/v1/admin/audit";
const EXPORT: &str = "/api/v1/admin/audit/export";

/// Every row that fits, page by page.
async fn all(client: &Client, filter: &str, limit: usize) -> Vec<Value> {
    let mut rows: Vec<Value> = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = client.get(&format!("{AUDIT}?limit={limit}{cursor}{filter}")).await.expect(200);
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= limit);
        rows.extend(items.iter().cloned());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return rows,
        }
    }
}

fn seqs(rows: &[Value]) -> Vec<i64> {
    rows.iter().map(|r| r["seq"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn rows_show_who_did_what_and_pages_lose_none() {
    let server = server();
    let (admin, user) = (server.admin().await, server.user().await);
    let mut device = server.device(&user, 2).await;
    let uid = device.uid().to_owned();
    for n in 0..12u16 {
        let (user, uid) = (user.clone(), uid.clone());
        let command = tokio::spawn(async move { user.set_relay(&uid, n % 2, n % 4 < 2).await });
        let sent = device.expect_command().await;
        device.ack(&sent).await;
        command.await.unwrap().expect(200);
    }
    let of_device = format!("&device={uid}");
    let rows = all(&admin, &of_device, 500).await;
    let newest = rows.iter().find(|r| r["action"] == "set_relay").unwrap();
    let members: Vec<_> = newest.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = [
        "action",
        "actor",
        "at",
        "chain",
        "changes",
        "command_id",
        "details",
        "device_name",
        "device_uid",
        "follow_up",
        "latency_ms",
        "outcome",
        "relay",
        "seq",
        "source",
        "state",
    ];
    assert_eq!(members, expected);
    assert_eq!(newest["actor"], json!({ "kind": "user", "id": user.id, "email": user.email }));
    assert_eq!((&newest["source"], &newest["outcome"]), (&json!("api"), &json!("executed")));
    assert_eq!((&newest["device_uid"], &newest["relay"], &newest["state"]), (&json!(uid), &json!(1), &json!(false)));
    assert_eq!(newest["changes"], json!([{ "index": 1, "state": false, "version": 6 }]));
    hexa_tests::shapes::assert_time(&newest["at"], "at");
    let asked = user.command(newest["command_id"].as_str().unwrap()).await;
    assert_eq!(asked["status"], "executed");
    // Pages of any size give the same rows in the same order, whatever is written meanwhile.
    for limit in [1, 5] {
        assert_eq!(seqs(&all(&admin, &of_device, limit).await), seqs(&rows));
    }
    let whole = all(&admin, "", 3).await;
    let mut unique = seqs(&whole);
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), whole.len(), "none twice");
    // Each filter gives exactly the rows that fit.
    let ours = |name: &str, value: &str| -> Vec<i64> {
        seqs(&rows.iter().filter(|r| r[name] == value).cloned().collect::<Vec<_>>())
    };
    for (filter, expected) in [
        ("&action=set_relay", ours("action", "set_relay")),
        ("&action=set_*", ours("action", "set_relay")),
        ("&outcome=executed", ours("outcome", "executed")),
        ("&outcome=done", ours("outcome", "done")),
        ("&source=api", ours("source", "api")),
        ("&source=device", ours("source", "device")),
        ("&action=*", seqs(&rows)),
        ("&action=device.*&outcome=rejected", Vec::new()),
    ] {
        assert_eq!(seqs(&all(&admin, &format!("{of_device}{filter}"), 4).await), expected, "{filter}");
    }
    let by_user = all(&admin, &format!("&actor={}", user.id), 100).await;
    assert!(by_user.len() >= 13 && by_user.iter().all(|r| r["actor"]["id"] == user.id.as_str()), "{by_user:?}");
    let by_email = all(&admin, &format!("&actor={}", user.email.to_uppercase().replace('@', "%40")), 100).await;
    assert_eq!(seqs(&by_email), seqs(&by_user));
    assert!(all(&admin, "&actor=nobody%40example.org", 10).await.is_empty());
    // A window of time: its beginning belongs to it, its end does not.
    let commands: Vec<_> = rows.iter().filter(|r| r["action"] == "set_relay").collect();
    let (until, since) = (commands[2]["at"].as_str().unwrap(), commands[8]["at"].as_str().unwrap());
    let window = all(&admin, &format!("{of_device}&since={since}&until={until}"), 2).await;
    let text = |r: &Value| r["at"].as_str().unwrap().to_owned();
    let within: Vec<_> =
        rows.iter().filter(|r| text(r).as_str() >= since && text(r).as_str() < until).cloned().collect();
    assert!(!within.is_empty());
    assert_eq!(seqs(&window), seqs(&within));
    // Nobody and nothing of that name.
    let nobody = "&actor=019f0000-0000-7000-8000-000000000000";
    assert!(all(&admin, nobody, 10).await.is_empty() && all(&admin, "&device=hx-none", 10).await.is_empty());
}

#[tokio::test]
async fn bad_filters_are_named() {
    let server = server();
    let admin = server.admin().await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("cursor=d1", "cursor"),
        ("cursor=b1.2", "cursor"),
        // Of a version whose places had no chain.
        ("cursor=a1764374400000.42", "cursor"),
        ("actor=me", "actor"),
        ("device=a%20b", "device"),
        ("action=", "action"),
        ("action=a%25", "action"),
        ("action=%27;drop", "action"),
        ("outcome=good", "outcome"),
        ("source=door", "source"),
        ("since=yesterday", "since"),
        ("until=2026-01-01", "until"),
        ("since=2026-02-01T00:00:00Z&until=2026-01-01T00:00:00Z", "until"),
    ] {
        let error = admin.get(&format!("{AUDIT}?{query}")).await.expect_error(400, "validation_error");
        assert_eq!(error["details"]["field"], field, "{query}: {error}");
    }
    for query in ["limit=x", "other=1", "format=csv", "limit=1&limit=2"] {
        admin.get(&format!("{AUDIT}?{query}")).await.expect_error(400, "validation_error");
    }
    for query in ["", "format=xml", "format=csv&limit=1", "format=csv&outcome=good"] {
        admin.get(&format!("{EXPORT}?{query}")).await.expect_error(400, "validation_error");
    }
}

#[tokio::test]
async fn the_audit_is_for_admins() {
    let server = server();
    let user = server.user().await;
    for path in [AUDIT.to_owned(), format!("{AUDIT}?limit=0"), format!("{EXPORT}?format=csv")] {
        user.client.get(&path).await.expect_error(403, "forbidden");
        server.client().get(&path).await.expect_error(401, "invalid_token");
    }
    let tried = server.db().actions("audit.exported");
    let asked = |row: &&hexa_tests::db::AuditRow| row.details.as_deref().unwrap_or_default().contains(&user.id);
    assert_eq!(tried.iter().filter(asked).count(), 0);
    for method in [Method::POST, Method::DELETE, Method::PATCH, Method::PUT] {
        let admin = server.admin().await;
        admin.send(admin.request(method, AUDIT)).await.expect_error(405, "method_not_allowed");
    }
}

/// Reads CSV as RFC 4180 says, which the names in it try to break.
fn csv_rows(text: &str) -> Vec<Vec<String>> {
    let (mut rows, mut row, mut cell, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, quoted) {
            ('"', true) if letters.peek() == Some(&'"') => cell.extend(letters.next()),
            ('"', _) => quoted = !quoted,
            (',', false) => row.push(std::mem::take(&mut cell)),
            ('\r', false) => assert_eq!(letters.peek(), Some(&'\n')),
            ('\n', false) => {
                row.push(std::mem::take(&mut cell));
                rows.push(std::mem::take(&mut row));
            }
            _ => cell.push(letter),
        }
    }
    assert!(!quoted && cell.is_empty() && row.is_empty(), "the file ends with a line");
    rows
}

#[tokio::test]
async fn an_export_is_a_file_without_formulas() {
    let server = server();
    let (admin, user) = (server.admin().await, server.user().await);
    let device = server.device(&user, 1).await;
    let uid = device.uid().to_owned();
    let path = format!("/api/v1/devices/{uid}");
    for name in ["=HYPERLINK(\"http://evil\",\"x\")", "+1", "-2+3", "@SUM(A1)", "</script><img onerror=x>", "a,\"b\""] {
        user.client.patch(&path, &json!({ "name": name })).await.expect(200);
        let reply = admin.get(&format!("{EXPORT}?format=csv&device={uid}")).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert!(reply.header("content-type").unwrap().starts_with("text/csv"));
        let file = reply.header("content-disposition").unwrap();
        assert!(file.starts_with("attachment; filename=\"hexa-audit-20") && file.ends_with(".csv\""), "{file}");
        let rows = csv_rows(&reply.text);
        assert_eq!((rows[0][0].as_str(), rows[0].len()), ("seq", 18));
        assert!(rows.len() > 2 && rows.iter().all(|r| r.len() == 18), "{}", reply.text);
        for cell in rows.iter().flatten() {
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']), "{cell:?}");
        }
        let column = rows[0].iter().position(|c| c == "device_name").unwrap();
        let shown = if name.starts_with(['=', '+', '-', '@']) { format!("'{name}") } else { name.to_owned() };
        assert_eq!(rows[1][column], shown);
    }
    // As JSON lines, with the same rows as the pages.
    let reply = admin.get(&format!("{EXPORT}?format=jsonl&device={uid}&action=device.*")).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/x-ndjson")));
    let lines: Vec<Value> = reply.text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines, all(&admin, &format!("&device={uid}&action=device.*"), 100).await);
    // Who took it is in the audit, with what was asked for.
    let exported = all(&admin, "&action=audit.exported", 100).await;
    let last = exported.iter().find(|r| r["details"]["device"] == uid.as_str()).unwrap();
    assert_eq!((&last["details"]["format"], &last["details"]["action"]), (&json!("jsonl"), &json!("device.*")));
    assert_eq!(last["actor"]["email"], "admin@example.org");
    // Nothing fits: the names of the columns alone.
    let empty = admin.get(&format!("{EXPORT}?format=csv&device=hx-none")).await;
    assert_eq!(csv_rows(&empty.text).len(), 1, "{}", empty.text);
}

/// `hexa audit …` on this data directory.
async fn audit(dir: &Path, args: &[&str]) -> Finished {
    let mut command = std::process::Command::new(hexa());
    command.arg("audit").args(args).arg("--data-dir").arg(dir).current_dir(dir);
    match hexa_tests::db::address(dir) {
        Some(address) => command.env("DATABASE_URL", address),
        None => command.env_remove("DATABASE_URL"),
    };
    finish(command, Duration::from_secs(60)).await
}

fn verdict(done: &Finished) -> Value {
    serde_json::from_str(&done.stdout).unwrap_or_else(|e| panic!("{e}: {} {}", done.stdout, done.stderr))
}

#[tokio::test]
async fn verify_tells_a_good_database_from_a_tampered_one() {
    let mut server = TestServer::start(Options::new());
    let user = server.user().await;
    let device = server.device(&user, 1).await;
    let path = format!("/api/v1/devices/{}", device.uid());
    for n in 0..5 {
        user.client.patch(&path, &json!({ "name": format!("lamp {n}") })).await.expect(200);
    }
    // Beside the running server.
    let dir = server.data_dir().to_owned();
    let done = audit(&dir, &["verify"]).await;
    assert_eq!(done.code, 0, "{} {}", done.stdout, done.stderr);
    assert!(done.stdout.contains("the audit is whole"), "{}", done.stdout);
    user.client.patch(&path, &json!({ "name": "last" })).await.expect(200);
    server.stop().await;
    // And over what a stop left.
    let good = audit(&dir, &["verify", "--json"]).await;
    assert_eq!(good.code, 0, "{} {}", good.stdout, good.stderr);
    let good = verdict(&good);
    let rows = good["rows"].as_i64().unwrap();
    assert!(good["whole"] == true && rows >= 8 && good["problem"].is_null(), "{good}");
    let head = format!("{}:{}", good["heads"][0]["seq"], good["heads"][0]["hash"].as_str().unwrap());
    assert_eq!(audit(&dir, &["verify", "--head", &head]).await.code, 0);
    // Exported without a server: every row, newest first.
    let lines = audit(&dir, &["export", "--format", "jsonl"]).await;
    assert_eq!((lines.code, lines.stdout.lines().count() as i64), (0, rows), "{}", lines.stderr);
    let csv = audit(&dir, &["export", "--format", "csv"]).await;
    assert_eq!(csv_rows(&csv.stdout).len() as i64, rows + 1);
    // Somebody with the database's own rights covers traces.
    let db = Db::open(&dir);
    let unlock = if db.is_sqlite() {
        "drop trigger audit_tail_no_update; drop trigger audit_tail_move_only"
    } else {
        "drop trigger audit_tail_no_update on audit_tail; drop trigger audit_tail_move_only on audit_tail"
    };
    db.tamper(unlock);
    db.tamper(&format!("delete from audit_tail where seq = {rows}"));
    assert_eq!(audit(&dir, &["verify"]).await.code, 0, "nothing says that there was one more row …");
    let cut = audit(&dir, &["verify", "--json", "--head", &head]).await;
    assert_eq!((cut.code, &verdict(&cut)["problem"]["kind"]), (1, &json!("head")), "… but who has noted the head");
    db.tamper("update audit_tail set actor_id = 999 where seq = 5");
    let edited = audit(&dir, &["verify", "--json"]).await;
    let problem = &verdict(&edited)["problem"];
    assert_eq!((edited.code, &problem["kind"], &problem["seq"]), (1, &json!("edited"), &json!(5)));
    let edited = audit(&dir, &["verify"]).await;
    assert!(edited.code == 1 && edited.stdout.contains("row 5 was edited"), "{}", edited.stdout);
    db.tamper("delete from audit_tail where seq = 3");
    let missing = audit(&dir, &["verify"]).await;
    assert!(missing.code == 1 && missing.stdout.contains("row 3, before row 4, is missing"), "{}", missing.stdout);
}

#[tokio::test]
async fn what_cannot_be_checked_is_neither_good_nor_bad() {
    let empty = ScratchDir::new();
    let mut command = std::process::Command::new(hexa());
    command.args(["audit", "verify", "--data-dir"]).arg(empty.path()).current_dir(empty.path());
    command.env_remove("DATABASE_URL");
    let done = finish(command, Duration::from_secs(30)).await;
    assert_eq!(done.code, 78, "{} {}", done.stdout, done.stderr);
    assert!(done.stderr.contains("hexa.db"), "{}", done.stderr);
    assert!(!empty.path().join("hexa.db").exists());
    assert_eq!(audit(empty.path(), &["verify", "--head", "nonsense"]).await.code, 2);
}

/// A database whose oldest rows are of 2001, as the server would find it.
async fn with_old_rows(dir: &Path, rows: i64) {
    let mut config = StoreConfig::new(dir.to_owned());
    config.database_url = hexa_tests::db::address(dir).map(Into::into);
    let store = Store::open(config).await.unwrap();
    for first in (0..rows).step_by(500) {
        let made = store.change(move |tx| {
            Box::pin(async move {
                for n in first..rows.min(first + 500) {
                    let at = TimeMs(1_000_000_000_000 + n);
                    tx.audit(&AuditEntry::event(at, Actor::System, Source::System, "test.old")).await?;
                }
                Ok::<_, StoreError>(Changed::only(()))
            })
        });
        made.await.unwrap();
    }
    store.close().await;
}

#[tokio::test]
async fn old_rows_go_under_checkpoints_and_the_audit_stays_whole() {
    let dir = ScratchDir::new();
    with_old_rows(dir.path(), 2_300).await;
    let mut server = TestServer::start(Options::new().data_dir(dir.path()).env("AUDIT_RETENTION_DAYS", "0"));
    let admin = server.admin().await;
    assert_eq!(all(&admin, "&action=test.old", 500).await.len(), 2_300, "0 keeps everything");
    // A file of several parts has each row once, and one line of names.
    let file = admin.get(&format!("{EXPORT}?format=csv&action=test.*")).await;
    let rows: Vec<_> = csv_rows(&file.text).into_iter().map(|r| r[0].clone()).collect();
    let expected = std::iter::once("seq".to_owned()).chain((1..=2_300).rev().map(|n: i64| n.to_string()));
    assert!(rows.iter().cloned().eq(expected), "{} lines", rows.len());
    server.stop().await;
    // The clock was years ahead of the newest row, and would be doubted for a day: it has been one.
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    server.db().tamper(&format!("update settings set value = '{now} 0' where name = 'clock'"));
    server.set_env("AUDIT_RETENTION_DAYS", Some("365"));
    server.restart();
    let admin = server.admin().await;
    eventually("the old rows to be gone", || async {
        all(&admin, "&action=test.old", 500).await.is_empty().then_some(())
    })
    .await;
    let checkpoints = all(&admin, "&action=audit.checkpoint", 10).await;
    let sizes: Vec<_> = checkpoints.iter().map(|r| r["details"]["rows"].as_i64().unwrap()).collect();
    assert_eq!(sizes, [300, 1_000, 1_000], "at most a thousand at a time, newest first");
    // Beside the running server, after a kill, and after a stop.
    for stop in ["none", "kill", "stop"] {
        match stop {
            "kill" => server.kill9(),
            "stop" => {
                server.restart();
                server.stop().await;
            }
            _ => {}
        }
        let done = audit(dir.path(), &["verify", "--json"]).await;
        assert_eq!(done.code, 0, "{stop}: {} {}", done.stdout, done.stderr);
        let told = verdict(&done);
        assert_eq!((&told["checkpoints"], &told["removed"]), (&json!(3), &json!(2_300)), "{stop}: {told}");
    }
    let forged = "update audit_checkpoints set row_count = row_count + 1 where up_to_seq = 1000";
    let db = Db::open(dir.path());
    let unlock = if db.is_sqlite() {
        "drop trigger audit_checkpoints_no_update"
    } else {
        "drop trigger audit_checkpoints_no_change on audit_checkpoints"
    };
    db.tamper(unlock);
    db.tamper(forged);
    let done = audit(dir.path(), &["verify", "--json"]).await;
    assert_eq!((done.code, &verdict(&done)["problem"]["kind"]), (1, &json!("checkpoint")));
}

/// Rows of a chain of another node, as they would stand in this database, oldest first.
async fn foreign_rows(dir: &Path, rows: i64, postgres: bool) -> Vec<String> {
    let mut config = StoreConfig::new(dir.to_owned());
    config.node = "attic".into();
    let store = Store::open(config).await.unwrap();
    let made = store.change(move |tx| {
        Box::pin(async move {
            for n in 0..rows {
                let at = TimeMs(1_900_000_000_000 + n);
                tx.audit(&AuditEntry::event(at, Actor::System, Source::System, "test.attic")).await?;
            }
            Ok::<_, StoreError>(Changed::only(()))
        })
    });
    made.await.unwrap();
    store.close().await;
    let file = rusqlite::Connection::open(dir.join("hexa.db")).unwrap();
    let read = "select seq, at, actor_kind, source, action, outcome, hex(prev), hex(hash) from audit_tail order by seq";
    let mut statement = file.prepare(read).unwrap();
    let bytes = |hex: String| if postgres { format!("decode('{hex}', 'hex')") } else { format!("x'{hex}'") };
    let no = if postgres { "false" } else { "0" };
    let inserts = statement.query_map([], |row| {
        let text = |n: usize| row.get::<_, String>(n);
        let (seq, at): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok(format!(
            "insert into audit_tail (seq, chain, at, actor_kind, source, action, follow_up, outcome, prev, hash) \
             values ({seq}, 'attic', {at}, '{}', '{}', '{}', {no}, '{}', {}, {})",
            text(2)?,
            text(3)?,
            text(4)?,
            text(5)?,
            bytes(text(6)?),
            bytes(text(7)?)
        ))
    });
    inserts.unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn every_chain_is_listed_exported_and_verified_by_its_name() {
    let mut server = TestServer::start(Options::new());
    let admin = server.admin().await;
    let (dir, source) = (server.data_dir().to_owned(), ScratchDir::new());
    let db = Db::open(&dir);
    for insert in foreign_rows(source.path(), 10, !db.is_sqlite()).await {
        db.tamper(&insert);
    }
    let whole = all(&admin, "", 3).await;
    let mut places: Vec<_> = whole.iter().map(|r| (r["chain"].as_str().unwrap(), r["seq"].as_i64().unwrap())).collect();
    assert_eq!(places.iter().filter(|(chain, _)| *chain == "attic").count(), 10);
    assert!(places.contains(&("main", 1)) && places.contains(&("attic", 1)), "{places:?}");
    let count = places.len();
    places.sort_unstable();
    places.dedup();
    assert_eq!(places.len(), count, "none twice");
    let attic = all(&admin, "&action=test.attic", 4).await;
    assert_eq!(seqs(&attic), (1..=10).rev().collect::<Vec<_>>());
    let file = admin.get(&format!("{EXPORT}?format=csv&action=test.attic")).await;
    let rows = csv_rows(&file.text);
    let column = rows[0].iter().position(|c| c == "chain").unwrap();
    assert!(rows.len() == 11 && rows[1..].iter().all(|r| r[column] == "attic"), "{}", file.text);
    // Each by itself, beside the running server and without one.
    for stopped in [false, true] {
        if stopped {
            server.stop().await;
        }
        let done = audit(&dir, &["verify"]).await;
        assert_eq!(done.code, 0, "{} {}", done.stdout, done.stderr);
        for line in ["chain attic is whole: 10 rows", "chain main is whole", "the audit is whole"] {
            assert!(done.stdout.contains(line), "{line}: {}", done.stdout);
        }
    }
    let good = verdict(&audit(&dir, &["verify", "--json"]).await);
    let chains = good["chains"].as_array().unwrap();
    assert_eq!(
        (&chains[0]["chain"], &chains[0]["rows"], &chains[1]["chain"]),
        (&json!("attic"), &json!(10), &json!("main"))
    );
    let heads: Vec<_> = chains
        .iter()
        .map(|c| &c["head"])
        .map(|h| format!("{}:{}:{}", h["chain"].as_str().unwrap(), h["seq"], h["hash"].as_str().unwrap()))
        .collect();
    let noted = ["verify", "--json", "--head", &heads[0], "--head", &heads[1]];
    assert_eq!(audit(&dir, &noted).await.code, 0);
    let unlock = if db.is_sqlite() {
        "drop trigger audit_tail_no_update; drop trigger audit_tail_move_only"
    } else {
        "drop trigger audit_tail_no_update on audit_tail; drop trigger audit_tail_move_only on audit_tail"
    };
    db.tamper(unlock);
    db.tamper("delete from audit_tail where chain = 'attic' and seq = 10");
    assert_eq!(audit(&dir, &["verify"]).await.code, 0);
    let cut = audit(&dir, &noted).await;
    let problem = &verdict(&cut)["problem"];
    assert_eq!((cut.code, &problem["kind"], &problem["chain"]), (1, &json!("head"), &json!("attic")));
    db.tamper("update audit_tail set action = 'innocent' where seq = 4 and chain = 'attic'");
    let edited = audit(&dir, &["verify"]).await;
    for line in ["chain main is whole", "THE AUDIT WAS TAMPERED WITH: in chain attic, row 4 was edited"] {
        assert!(edited.code == 1 && edited.stdout.contains(line), "{line}: {}", edited.stdout);
    }
    assert!(!edited.stdout.contains("the audit is whole"), "{}", edited.stdout);
    let told = verdict(&audit(&dir, &["verify", "--json"]).await);
    assert_eq!(
        (&told["whole"], &told["chains"][0]["whole"], &told["chains"][1]["whole"]),
        (&json!(false), &json!(false), &json!(true))
    );
    assert_eq!((&told["problem"]["chain"], &told["problem"]["seq"]), (&json!("attic"), &json!(4)));
}
