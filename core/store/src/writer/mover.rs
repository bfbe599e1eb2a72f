//! Moves the audit's tail, in device order, to the indexed table: an index is cheap to extend in its own order and
//! dear to extend at random places.

use rusqlite::{Connection, params};

use crate::error::StoreError;

/// Moved, also under load, when the tail has grown to this: a burst up to here does not pay for it.
pub(super) const FULL_TAIL: u64 = 262_144;
/// Moved when nothing else is to do and the tail has grown to this.
pub(super) const IDLE_TAIL: u64 = 1_000;
/// Rows per move: one transaction of some milliseconds, for which every writer waits.
pub(super) const CHUNK: i64 = 2_048;

/// Moves up to one chunk of a chain's oldest rows; gives how many.
pub(super) fn move_chunk(connection: &Connection, chain: &str) -> Result<u64, StoreError> {
    let done = (|| -> Result<u64, StoreError> {
        connection.execute_batch("begin immediate")?;
        let oldest: Option<i64> =
            connection.query_row("select min(seq) from audit_tail where chain = $1", [chain], |row| row.get(0))?;
        let Some(oldest) = oldest else {
            connection.execute_batch("commit")?;
            return Ok(0);
        };
        let until = oldest + CHUNK;
        let copy =
            "insert into audit select * from audit_tail where chain = ?1 and seq < ?2 order by device_id, at, seq";
        connection.prepare_cached(copy)?.execute(params![chain, until])?;
        let leave = "delete from audit_tail where chain = ?1 and seq < ?2";
        let moved = connection.prepare_cached(leave)?.execute(params![chain, until])?;
        connection.execute_batch("commit")?;
        Ok(moved as u64)
    })();
    if done.is_err() && !connection.is_autocommit() {
        let _ = connection.execute_batch("rollback");
    }
    done
}
