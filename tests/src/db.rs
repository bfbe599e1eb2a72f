//! The server's database file, read only, with the SQLite that the server itself is built with.

use std::path::Path;

use rusqlite::types::FromSql;
use rusqlite::{Connection, OpenFlags, Params, Row};

use crate::evidence::{ChainRow, Evidence, RelayRow, Witness};

/// A read-only look, live or after the server has ended.
#[derive(Debug)]
pub struct Db(Connection);

/// A row of the audit.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditRow {
    /// What was done.
    pub action: String,
    /// Through which door.
    pub source: String,
    /// How it ended.
    pub outcome: String,
    /// Whether it is the follow-up of its command.
    pub follow_up: bool,
    /// The relay asked for.
    pub relay: Option<i64>,
    /// JSON details.
    pub details: Option<String>,
    /// The changes, as stored.
    pub changes: Option<String>,
}

const AUDIT: &str = "(select * from audit_tail union all select * from audit)";

impl Db {
    /// Opens `hexa.db` of a data directory.
    ///
    /// # Panics
    /// When it is not there.
    pub fn open(data_dir: &Path) -> Self {
        let path = data_dir.join("hexa.db");
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection =
            Connection::open_with_flags(&path, flags).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        connection.busy_timeout(crate::wait::PATIENCE).expect("a timeout can be set");
        assert!(rusqlite::version_number() >= 3_051_003, "SQLite {} is too old to read beside", rusqlite::version());
        Self(connection)
    }
    /// One value.
    ///
    /// # Panics
    /// When there is none.
    pub fn value<T: FromSql>(&self, sql: &str, params: impl Params) -> T {
        self.0.query_row(sql, params, |row| row.get(0)).unwrap_or_else(|e| panic!("{sql}: {e}"))
    }
    /// Rows.
    ///
    /// # Panics
    /// On a wrong statement.
    pub fn rows<T>(&self, sql: &str, params: impl Params, read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
        let mut statement = self.0.prepare(sql).unwrap_or_else(|e| panic!("{sql}: {e}"));
        let found = statement.query_map(params, read).unwrap_or_else(|e| panic!("{sql}: {e}"));
        found.collect::<Result<_, _>>().unwrap_or_else(|e| panic!("{sql}: {e}"))
    }
    /// State and version of a relay; none when nothing is known of it.
    pub fn relay(&self, uid: &str, relay: u16) -> Option<(bool, i64)> {
        let sql = "select state, version from relay_states join devices on devices.id = device_id \
                   where uid = ?1 and relay = ?2";
        self.rows(sql, (uid, relay), |r| Ok((r.get(0)?, r.get(1)?))).pop()
    }
    /// The audit rows of a command: the primary one, then its follow-up.
    pub fn command(&self, id: &str) -> Vec<AuditRow> {
        let id = uuid::Uuid::parse_str(id).unwrap_or_else(|e| panic!("{id} is no command id: {e}"));
        self.audit("command_id = ?1", [id.as_bytes().to_vec()])
    }
    /// The audit rows of a device, oldest first.
    pub fn device_audit(&self, uid: &str) -> Vec<AuditRow> {
        self.audit("device_id = (select id from devices where uid = ?1)", [uid])
    }
    /// The audit rows with this action, oldest first.
    pub fn actions(&self, action: &str) -> Vec<AuditRow> {
        self.audit("action = ?1", [action])
    }
    fn audit(&self, condition: &str, params: impl Params) -> Vec<AuditRow> {
        let sql = format!(
            "select action, source, outcome, follow_up, relay, details, changes from {AUDIT} \
             where {condition} order by seq"
        );
        self.rows(&sql, params, |r| {
            Ok(AuditRow {
                action: r.get(0)?,
                source: r.get(1)?,
                outcome: r.get(2)?,
                follow_up: r.get(3)?,
                relay: r.get(4)?,
                details: r.get(5)?,
                changes: r.get(6)?,
            })
        })
    }
    /// The whole file and its references are sound, and sequence numbers of the audit have no gap.
    ///
    /// # Panics
    /// When they are not.
    pub fn assert_sound(&self) {
        assert_eq!(self.value::<String>("pragma integrity_check", []), "ok");
        assert!(self.rows("pragma foreign_key_check", [], |_| Ok(())).is_empty(), "a reference leads nowhere");
        let gaps: i64 = self.value(&format!("select count(*) - coalesce(max(seq), 0) from {AUDIT}"), []);
        assert_eq!(gaps, 0, "the audit's sequence has gaps");
        let broken = format!(
            "select count(*) from {AUDIT} as later join {AUDIT} as earlier on earlier.seq = later.seq - 1 \
             where later.prev <> earlier.hash"
        );
        assert_eq!(self.value::<i64>(&broken, []), 0, "the audit's chain is broken");
    }
}

impl Witness for Db {
    fn evidence(&self) -> Evidence {
        // One read transaction, so that states and causes are of the same moment.
        let _snapshot = self.0.unchecked_transaction().expect("a read can begin");
        let audit = self.rows(&format!("select * from {AUDIT} order by seq"), [], |r| {
            Ok(ChainRow {
                seq: r.get("seq")?,
                chain: r.get("chain")?,
                at: r.get("at")?,
                actor_kind: r.get("actor_kind")?,
                actor_id: r.get("actor_id")?,
                source: r.get("source")?,
                action: r.get("action")?,
                device_id: r.get("device_id")?,
                command_id: r.get("command_id")?,
                follow_up: r.get("follow_up")?,
                outcome: r.get("outcome")?,
                relay: r.get("relay")?,
                state: r.get("state")?,
                latency_ms: r.get("latency_ms")?,
                changes: r.get("changes")?,
                details: r.get("details")?,
                prev: r.get("prev")?,
                hash: r.get("hash")?,
            })
        });
        let sql = "select device_id, uid, relay, state, version from relay_states \
                   join devices on devices.id = device_id order by device_id, relay";
        let relays = self.rows(sql, [], |r| {
            let (device_id, uid, relay, state, version) = (r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?);
            Ok(RelayRow { device_id, uid, relay, state, version })
        });
        let mut damage = self.rows("pragma integrity_check", [], |r| r.get::<_, String>(0));
        damage.retain(|line| line != "ok");
        let lost = |r: &Row<'_>| Ok(format!("a row of {} refers to nothing", r.get::<_, String>(0)?));
        damage.extend(self.rows("pragma foreign_key_check", [], lost));
        Evidence { audit, relays, damage }
    }
}
