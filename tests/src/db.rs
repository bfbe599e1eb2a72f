//! The server's database as a bystander sees it: the SQLite file, with the SQLite that the server itself is built
//! with, or its database in PostgreSQL.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::evidence::{ChainRow, Evidence, RelayRow, Witness};

/// Where a data directory says which database of PostgreSQL is its own.
const ADDRESS: &str = "test-database-url";

/// A look at the stored data, live or after the server has ended.
#[derive(Debug)]
pub struct Db(Kind);

#[derive(Debug)]
enum Kind {
    Sqlite(Connection),
    /// The address that it is reached by.
    Postgres(String),
}

/// A row of the audit.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct AuditRow {
    /// Name of the action, such as `set_relay`.
    pub action: String,
    /// Where it came from: `api`, `ws`, `device`, `system`.
    pub source: String,
    /// How it ended, such as `executed`.
    pub outcome: String,
    /// Whether it is the follow-up of its command.
    pub follow_up: bool,
    /// The relay asked for.
    pub relay: Option<i64>,
    /// Details as JSON text.
    pub details: Option<String>,
    /// The changes, as stored.
    pub changes: Option<String>,
}

const AUDIT: &str = "(select * from audit_tail union all select * from audit) as rows";
/// Columns that SQLite keeps as numbers and PostgreSQL as booleans.
const BOOLEANS: [&str; 3] = ["follow_up", "state", "active"];

/// The database that a server on this directory uses: none = the file in it.
///
/// # Panics
/// When PostgreSQL is asked for and cannot be had.
pub fn address(data_dir: &Path) -> Option<String> {
    let file = data_dir.join(ADDRESS);
    if let Ok(address) = std::fs::read_to_string(&file) {
        return Some(address);
    }
    if !hexa_testpg::chosen() {
        return None;
    }
    let address = hexa_testpg::database();
    use_address(data_dir, &address);
    Some(address)
}

/// Makes the servers on this directory use this database.
///
/// # Panics
/// When the directory cannot be written.
pub fn use_address(data_dir: &Path, address: &str) {
    let file = data_dir.join(ADDRESS);
    std::fs::write(&file, address).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
    // As everything in there.
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("a file of its own");
}

impl Db {
    /// Opens the database of a data directory.
    ///
    /// # Panics
    /// When it is not there.
    pub fn open(data_dir: &Path) -> Self {
        if let Some(address) = address(data_dir) {
            return Self(Kind::Postgres(address));
        }
        let path = data_dir.join("hexa.db");
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(&path, flags).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        connection.busy_timeout(crate::wait::PATIENCE).expect("a timeout can be set");
        assert!(rusqlite::version_number() >= 3_051_003, "SQLite {} is too old to read beside", rusqlite::version());
        Self(Kind::Sqlite(connection))
    }

    /// Whether it is the file.
    pub fn is_sqlite(&self) -> bool {
        matches!(self.0, Kind::Sqlite(_))
    }

    /// One value.
    ///
    /// # Panics
    /// When there is none.
    pub fn value<T: DeserializeOwned>(&self, sql: &str) -> T {
        let row: Map<String, Value> = self.rows(sql).pop().unwrap_or_else(|| panic!("{sql}: no row"));
        let value = row.into_iter().next().unwrap_or_else(|| panic!("{sql}: no column")).1;
        serde_json::from_value(value).unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// Rows, by the names of their columns; bytes are `\x` and hexadecimal digits.
    ///
    /// # Panics
    /// On a wrong statement.
    pub fn rows<T: DeserializeOwned>(&self, sql: &str) -> Vec<T> {
        let rows = self.snapshot(&[sql]).pop().unwrap_or_default();
        rows.into_iter().map(|r| serde_json::from_value(r).unwrap_or_else(|e| panic!("{sql}: {e}"))).collect()
    }

    /// Several reads at one moment; rows as in [`rows`](Self::rows).
    ///
    /// # Panics
    /// On a wrong statement.
    pub fn snapshot(&self, statements: &[&str]) -> Vec<Vec<Value>> {
        match &self.0 {
            Kind::Sqlite(connection) => {
                let _snapshot = connection.unchecked_transaction().expect("a read can begin");
                statements.iter().map(|sql| sqlite_rows(connection, sql)).collect()
            }
            Kind::Postgres(address) => postgres_rows(address, statements),
        }
    }

    /// Changes the data behind the server's back.
    ///
    /// # Panics
    /// When it is refused.
    pub fn tamper(&self, sql: &str) {
        self.try_tamper(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    }

    /// The same, for what may be refused: with the reason.
    ///
    /// # Errors
    /// When the database refuses it.
    ///
    /// # Panics
    /// When there is no psql.
    pub fn try_tamper(&self, sql: &str) -> Result<(), String> {
        match &self.0 {
            Kind::Sqlite(connection) => connection.execute_batch(sql).map_err(|e| e.to_string()),
            Kind::Postgres(address) => {
                let done = psql(address).arg("--command").arg(sql).output().expect("psql runs");
                if done.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&done.stderr).into_owned()) }
            }
        }
    }

    /// Keeps every write of the server waiting until the guard is dropped.
    ///
    /// # Panics
    /// When the lock is not to be had.
    pub fn lock_out_writers(&self) -> LockedOut<'_> {
        match &self.0 {
            Kind::Sqlite(connection) => {
                connection.execute_batch("begin immediate").expect("the lock is free for a moment");
                LockedOut { sqlite: Some(connection), session: None }
            }
            Kind::Postgres(address) => locked(address, "exclusive"),
        }
    }

    /// Locks out those who read the audit as well, until this is dropped; none where nobody can, as with SQLite.
    pub fn lock_out_readers(&self) -> Option<LockedOut<'_>> {
        match &self.0 {
            Kind::Sqlite(_) => None,
            Kind::Postgres(address) => Some(locked(address, "access exclusive")),
        }
    }

    /// State and version of a relay; none when nothing is known of it.
    pub fn relay(&self, uid: &str, relay: u16) -> Option<(bool, i64)> {
        #[derive(Deserialize)]
        struct Found {
            state: bool,
            version: i64,
        }
        let sql = format!(
            "select state, version from relay_states join devices on devices.id = device_id \
             where uid = {} and relay = {relay}",
            quoted(uid)
        );
        self.rows::<Found>(&sql).pop().map(|f| (f.state, f.version))
    }
    /// The audit rows of a command: the primary one, then its follow-up.
    ///
    /// # Panics
    /// When it is no command's id.
    pub fn command(&self, id: &str) -> Vec<AuditRow> {
        let id = uuid::Uuid::parse_str(id).unwrap_or_else(|e| panic!("{id} is no command id: {e}")).simple();
        self.audit(&match self.0 {
            Kind::Sqlite(_) => format!("command_id = x'{id}'"),
            Kind::Postgres(_) => format!("command_id = '\\x{id}'::bytea"),
        })
    }
    /// The audit rows of a device, oldest first.
    pub fn device_audit(&self, uid: &str) -> Vec<AuditRow> {
        self.audit(&format!("device_id = (select id from devices where uid = {})", quoted(uid)))
    }
    /// The audit rows with this action, oldest first.
    pub fn actions(&self, action: &str) -> Vec<AuditRow> {
        self.audit(&format!("action = {}", quoted(action)))
    }
    fn audit(&self, condition: &str) -> Vec<AuditRow> {
        self.rows(&format!(
            "select action, source, outcome, follow_up, relay, details, changes from {AUDIT} \
             where {condition} order by seq"
        ))
    }
    /// The whole database and its references are sound, and the audit's chain has no gap and no break.
    ///
    /// # Panics
    /// When they are not.
    pub fn assert_sound(&self) {
        self.evidence().assert_whole();
    }
}

/// Ends the lock of [`Db::lock_out_writers`].
#[derive(Debug)]
pub struct LockedOut<'a> {
    sqlite: Option<&'a Connection>,
    session: Option<std::process::Child>,
}

impl Drop for LockedOut<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.sqlite {
            let _ = connection.execute_batch("rollback");
        }
        if let Some(session) = &mut self.session {
            drop(session.stdin.take());
            let _ = session.wait();
        }
    }
}

fn locked(address: &str, mode: &str) -> LockedOut<'static> {
    let mut session = psql(address)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("psql runs");
    let input = session.stdin.as_mut().expect("stdin is piped");
    let lock = format!("begin; lock table audit_tail in {mode} mode; \\echo locked\n");
    std::io::Write::write_all(input, lock.as_bytes()).expect("psql reads");
    let mut said = String::new();
    let output = session.stdout.as_mut().expect("stdout is piped");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut said).expect("psql answers");
    assert_eq!(said.trim(), "locked");
    LockedOut { sqlite: None, session: Some(session) }
}

/// A text as a literal of SQL.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

fn psql(address: &str) -> std::process::Command {
    let mut psql = std::process::Command::new("psql");
    psql.arg(address).args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1"]);
    psql
}

/// Each row as JSON; one transaction with one snapshot for all statements.
fn postgres_rows(address: &str, statements: &[&str]) -> Vec<Vec<Value>> {
    let mut command = psql(address);
    command.args(["--command", "begin isolation level repeatable read read only"]);
    for sql in statements {
        command.arg("--command").arg(format!("select row_to_json(r)::text from ({sql}) as r"));
        command.args(["--command", "select '--'"]);
    }
    let done = command.output().expect("psql runs");
    assert!(done.status.success(), "{statements:?}: {}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8_lossy(&done.stdout);
    let mut parts = vec![Vec::new()];
    for line in text.lines() {
        if line == "--" {
            parts.push(Vec::new());
        } else if let Some(part) = parts.last_mut() {
            part.push(serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")));
        }
    }
    parts.pop();
    parts
}

fn sqlite_rows(connection: &Connection, sql: &str) -> Vec<Value> {
    let mut statement = connection.prepare(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
    let names: Vec<String> = statement.column_names().into_iter().map(str::to_owned).collect();
    let row = |row: &rusqlite::Row<'_>| -> rusqlite::Result<Value> {
        let mut object = Map::new();
        for (at, name) in names.iter().enumerate() {
            let value = match row.get_ref(at)? {
                ValueRef::Null => Value::Null,
                ValueRef::Integer(n) if BOOLEANS.contains(&name.as_str()) => Value::Bool(n != 0),
                ValueRef::Integer(n) => n.into(),
                ValueRef::Real(n) => n.into(),
                ValueRef::Text(text) => String::from_utf8_lossy(text).into_owned().into(),
                ValueRef::Blob(bytes) => hex(bytes).into(),
            };
            object.insert(name.clone(), value);
        }
        Ok(Value::Object(object))
    };
    let found = statement.query_map([], row).unwrap_or_else(|e| panic!("{sql}: {e}"));
    found.collect::<Result<_, _>>().unwrap_or_else(|e| panic!("{sql}: {e}"))
}

/// As PostgreSQL writes bytes.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold("\\x".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn bytes(text: &str) -> Vec<u8> {
    let digits = text.strip_prefix("\\x").unwrap_or_else(|| panic!("{text} is not hexadecimal"));
    let pair = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).unwrap_or_else(|e| panic!("{text}: {e}"));
    (0..digits.len()).step_by(2).map(pair).collect()
}

/// [`ChainRow`] as it comes.
#[derive(Deserialize)]
struct StoredRow {
    seq: i64,
    chain: String,
    at: i64,
    actor_kind: String,
    actor_id: Option<i64>,
    source: String,
    action: String,
    device_id: Option<i64>,
    command_id: Option<String>,
    follow_up: bool,
    outcome: String,
    relay: Option<i64>,
    state: Option<bool>,
    latency_ms: Option<i64>,
    changes: Option<String>,
    details: Option<String>,
    prev: String,
    hash: String,
}

impl From<StoredRow> for ChainRow {
    fn from(r: StoredRow) -> Self {
        Self {
            seq: r.seq,
            chain: r.chain,
            at: r.at,
            actor_kind: r.actor_kind,
            actor_id: r.actor_id,
            source: r.source,
            action: r.action,
            device_id: r.device_id,
            command_id: r.command_id.as_deref().map(bytes),
            follow_up: r.follow_up,
            outcome: r.outcome,
            relay: r.relay,
            state: r.state,
            latency_ms: r.latency_ms,
            changes: r.changes,
            details: r.details,
            prev: bytes(&r.prev),
            hash: bytes(&r.hash),
        }
    }
}

impl Witness for Db {
    fn evidence(&self) -> Evidence {
        let audit = format!("select * from {AUDIT} order by seq");
        let relays = "select device_id, uid, relay, state, version from relay_states \
                      join devices on devices.id = device_id order by device_id, relay";
        // One moment, so that states and causes belong together.
        let mut parts = self.snapshot(&[&audit, relays]).into_iter();
        let mut part = || parts.next().unwrap_or_default().into_iter();
        let audit = part().map(|r| serde_json::from_value::<StoredRow>(r).expect("an audit row").into()).collect();
        let relays = part().map(|r| serde_json::from_value::<RelayRow>(r).expect("a relay state")).collect();
        // PostgreSQL checks its references itself, at every write; its pages it can only be believed.
        let mut damage = Vec::new();
        if let Kind::Sqlite(connection) = &self.0 {
            let mut found = sqlite_rows(connection, "pragma integrity_check");
            found.retain(|row| row["integrity_check"] != "ok");
            found.extend(sqlite_rows(connection, "pragma foreign_key_check"));
            damage = found.iter().map(Value::to_string).collect();
        }
        Evidence { audit, relays, damage }
    }
}
