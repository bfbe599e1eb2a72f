//! The schemas of both databases say the same: columns, keys, references, checks, triggers and indexes, line by line.

use std::collections::BTreeSet;

use sqlx::{Connection, Row};

use crate::rig::Home;

/// What a schema says, a line a fact.
type Facts = BTreeSet<String>;

/// Facts of SQLite that are otherwise in PostgreSQL, and the other way round: SQLite stores the audit in the order of its
/// key, which stands at the end of every index by itself; in PostgreSQL the order of the chains among rows of one
/// millisecond is made when they are read.
const ONLY_SQLITE: [&str; 7] = [
    // PostgreSQL's sequence gives no key twice by itself.
    "devices: trigger before delete",
    "index audit_action on audit (action, at)",
    "index audit_actor on audit (actor_id, at)",
    "index audit_at on audit (at)",
    "index audit_device on audit (device_id, at)",
    "index audit_outcome on audit (outcome, at) where outcome<>'executed'",
    "index audit_source on audit (source, at) where source<>'api'",
];
const ONLY_POSTGRES: [&str; 6] = [
    "index audit_action on audit (action, at, seq)",
    "index audit_actor on audit (actor_id, at, seq)",
    "index audit_at on audit (at, seq)",
    "index audit_device on audit (device_id, at, seq)",
    "index audit_outcome on audit (outcome, at, seq) where outcome<>'executed'",
    "index audit_source on audit (source, at, seq) where source<>'api'",
];

/// Without what one database writes and the other does not, where it means the same.
fn plain(sql: &str) -> String {
    let mut text = sql.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    for (from, to) in [("public.", ""), (" using btree", ""), ("::text", ""), (" collate \"c\"", ""), (" asc", "")] {
        text = text.replace(from, to);
    }
    text
}

/// A condition without spaces and brackets.
fn condition(sql: &str) -> String {
    let text: String = plain(sql).chars().filter(|c| !matches!(c, ' ' | '(' | ')')).collect();
    text.replace("=anyarray[", "in").replace(']', "")
}

fn index(sql: &str) -> String {
    let text = plain(sql);
    let (head, filter) = text.split_once(" where ").unwrap_or((&text, ""));
    let head = head.trim_start_matches("create ").replace('(', " (").replace("  (", " (");
    if filter.is_empty() { head } else { format!("{head} where {}", condition(filter)) }
}

fn reference(table: &str, column: &str, to: &str, on_delete: &str) -> String {
    format!("{table}: {column} references {to} on delete {}", on_delete.to_lowercase())
}

fn column(table: &str, name: &str, kind: &str, required: bool, default: Option<&str>) -> String {
    let kind = match kind.to_lowercase().as_str() {
        "bigint" | "integer" | "smallint" | "boolean" => "integer",
        "bytea" | "blob" => "bytes",
        "text" => "text",
        "double precision" | "real" => "real",
        other => panic!("{table}.{name} is {other}: say here what that is in the other database"),
    };
    let default = default.map(|d| match plain(d).as_str() {
        "true" => "1".to_owned(),
        "false" => "0".to_owned(),
        other => other.to_owned(),
    });
    let (required, default) = (if required { " not null" } else { "" }, default.map(|d| format!(" default {d}")));
    format!("{table}.{name} {kind}{required}{}", default.unwrap_or_default())
}

/// What is in the brackets behind each `check`.
fn checks(sql: &str) -> Vec<String> {
    let text = plain(sql);
    let mut found = Vec::new();
    for (at, word) in text.match_indices("check (") {
        let rest = &text[at + word.len()..];
        let mut depth = 1;
        let end = rest.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        found.push(condition(&rest[..end.expect("brackets close")]));
    }
    found
}

fn of_sqlite(file: &rusqlite::Connection) -> Facts {
    let rows = |sql: &str, columns: usize| -> Vec<Vec<Option<String>>> {
        let mut statement = file.prepare(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        let row = |row: &rusqlite::Row<'_>| {
            (0..columns).map(|n| row.get::<_, rusqlite::types::Value>(n)).collect::<Result<Vec<_>, _>>()
        };
        let text = |value| match value {
            rusqlite::types::Value::Null => None,
            rusqlite::types::Value::Integer(n) => Some(n.to_string()),
            rusqlite::types::Value::Text(text) => Some(text),
            other => panic!("{other:?}"),
        };
        let rows = statement.query_map([], row).unwrap();
        rows.map(|row| row.unwrap().into_iter().map(text).collect()).collect()
    };
    let some = |value: &Option<String>| value.clone().unwrap();
    let mut facts = Facts::new();
    let tables = "select name, sql from sqlite_schema where type = 'table' and name not like 'sqlite_%' \
                  and name not like '_sqlx%'";
    for table in rows(tables, 2) {
        let (table, sql) = (some(&table[0]), some(&table[1]));
        let mut key = Vec::new();
        let columns =
            format!("select name, type, \"notnull\" or pk > 0, dflt_value, pk from pragma_table_info('{table}')");
        for c in rows(&format!("{columns} order by pk, cid"), 5) {
            let (name, kind, required) = (some(&c[0]), some(&c[1]), c[2].as_deref() == Some("1"));
            facts.insert(column(&table, &name, &kind, required, c[3].as_deref()));
            if c[4].as_deref() != Some("0") {
                key.push(name);
            }
        }
        facts.insert(format!("{table}: primary key ({})", key.join(", ")));
        for unique in rows(&format!("select name from pragma_index_list('{table}') where origin = 'u'"), 1) {
            let columns = format!("select name from pragma_index_info('{}') order by seqno", some(&unique[0]));
            let columns: Vec<_> = rows(&columns, 1).iter().map(|c| some(&c[0])).collect();
            facts.insert(format!("{table}: unique ({})", columns.join(", ")));
        }
        let references =
            format!("select \"from\", \"table\", \"to\", on_delete from pragma_foreign_key_list('{table}')");
        for r in rows(&references, 4) {
            let to = format!("{}({})", some(&r[1]), some(&r[2]));
            facts.insert(reference(&table, &some(&r[0]), &to, &some(&r[3])));
        }
        facts.extend(checks(&sql).into_iter().map(|check| format!("{table}: check {check}")));
    }
    for found in rows("select sql from sqlite_schema where type = 'index' and sql is not null", 1) {
        facts.insert(index(&some(&found[0])));
    }
    for trigger in rows("select tbl_name, sql from sqlite_schema where type = 'trigger'", 2) {
        let (table, sql) = (some(&trigger[0]), plain(&some(&trigger[1])));
        let words: Vec<_> = sql.split(' ').skip(3).take(2).collect();
        facts.insert(format!("{table}: trigger {}", words.join(" ")));
    }
    facts
}

async fn of_postgres(server: &mut sqlx::PgConnection) -> Facts {
    let mut facts = Facts::new();
    let columns = "select table_name::text, column_name::text, data_type::text, is_nullable = 'NO', \
                   column_default::text from information_schema.columns \
                   where table_schema = 'public' and table_name not like '\\_sqlx%'";
    for row in sqlx::query(columns).fetch_all(&mut *server).await.unwrap() {
        let (table, name, kind): (String, String, String) = (row.get(0), row.get(1), row.get(2));
        facts.insert(column(&table, &name, &kind, row.get(3), row.get::<Option<String>, _>(4).as_deref()));
    }
    let constraints = "select conrelid::regclass::text, contype::text, pg_get_constraintdef(oid) from pg_constraint \
                       where connamespace = 'public'::regnamespace and conrelid::regclass::text not like '\\_sqlx%'";
    for row in sqlx::query(constraints).fetch_all(&mut *server).await.unwrap() {
        let (table, kind, text): (String, String, String) = (row.get(0), row.get(1), plain(row.get(2)));
        facts.insert(match kind.as_str() {
            "p" | "u" => format!("{table}: {text}"),
            "c" => format!("{table}: check {}", condition(text.trim_start_matches("check "))),
            "f" => {
                let (column, rest) = text.split_once(") references ").unwrap();
                let (to, on_delete) = rest.split_once(" on delete ").unwrap_or((rest, "no action"));
                reference(&table, column.trim_start_matches("foreign key ("), to, on_delete)
            }
            other => panic!("{table} has a constraint of kind {other}: say here what that is in SQLite"),
        });
    }
    let indexes = "select pg_get_indexdef(i.indexrelid) from pg_index i join pg_class c on c.oid = i.indrelid \
                   where c.relnamespace = 'public'::regnamespace and c.relname not like '\\_sqlx%' \
                   and not exists (select 1 from pg_constraint where conindid = i.indexrelid and contype in ('p', 'u'))";
    for row in sqlx::query(indexes).fetch_all(&mut *server).await.unwrap() {
        facts.insert(index(row.get(0)));
    }
    let triggers = "select tgrelid::regclass::text, tgtype::int from pg_trigger where not tgisinternal";
    for row in sqlx::query(triggers).fetch_all(&mut *server).await.unwrap() {
        let (table, kind): (String, i32) = (row.get(0), row.get(1));
        let when = if kind & 2 > 0 { "before" } else { "after" };
        // SQLite knows no `truncate`.
        for (bit, event) in [(4, "insert"), (8, "delete"), (16, "update")] {
            if kind & bit > 0 {
                facts.insert(format!("{table}: trigger {when} {event}"));
            }
        }
    }
    facts
}

#[tokio::test(flavor = "multi_thread")]
async fn both_schemas_say_the_same() {
    let (sqlite, postgres) = (Home::sqlite(), Home::postgres());
    sqlite.open().await.unwrap().close().await;
    postgres.open().await.unwrap().close().await;
    let file = rusqlite::Connection::open(sqlite.path().join("hexa.db")).unwrap();
    let url = postgres.config().database_url.unwrap();
    let mut server = sqlx::PgConnection::connect(secrecy::ExposeSecret::expose_secret(&url)).await.unwrap();
    let (left, right) = (of_sqlite(&file), of_postgres(&mut server).await);
    for some in ["primary key (", ": unique (", " references ", ": check ", ": trigger before ", "index ", " default "]
    {
        assert!(left.iter().any(|fact| fact.contains(some)), "nothing with {some:?}: {left:#?}");
    }
    let only = |these: &Facts, those: &Facts| these.difference(those).cloned().collect::<Vec<_>>();
    assert_eq!((only(&left, &right), only(&right, &left)), {
        let known = |list: &[&str]| list.iter().map(|fact| (*fact).to_owned()).collect();
        (known(&ONLY_SQLITE), known(&ONLY_POSTGRES))
    });
    let numbers = |folder: &str| {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations").join(folder);
        let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(numbers("sqlite"), numbers("postgres"));
}

/// A difference of each kind is a difference of what is compared.
#[test]
fn each_kind_of_difference_is_seen() {
    let base = "create table t (id integer primary key, a text not null default 'x', b text, \
                c integer references t (id) on delete cascade, check (a in ('x', 'y')), unique (a, b)); \
                create index i on t (a, b) where c is not null; \
                create trigger g before update on t begin select 1; end;";
    let facts = |sql: &str| {
        let file = rusqlite::Connection::open_in_memory().unwrap();
        file.execute_batch(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        of_sqlite(&file)
    };
    for (from, to) in [
        ("not null ", ""),
        (" default 'x'", " default 'y'"),
        ("b text", "b blob"),
        (" on delete cascade", ""),
        ("'y'", "'z'"),
        (", unique (a, b)", ""),
        ("on t (a, b)", "on t (b, a)"),
        (" where c is not null", ""),
        ("before update", "before delete"),
        ("integer primary key", "integer"),
    ] {
        assert!(base.contains(from));
        assert_ne!(facts(base), facts(&base.replacen(from, to, 1)), "{from} against {to}");
    }
}
