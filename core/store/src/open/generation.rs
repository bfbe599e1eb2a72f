//! Which process may write to a PostgreSQL database: a number that every process raises when it begins to write under
//! its node's name, and that every transaction, cold and hot, compares.
//!
//! An advisory lock on a session says who writes *now*, but not every transaction runs on that session, and a session can
//! end unnoticed. So a transaction takes a shared lock of its own and then looks whether the number is still its
//! process's; whoever raises the number takes that lock exclusively, and so waits for every transaction that has looked
//! already. Both locks are of the transaction: nothing survives it, whatever stands between us and the database.
//!
//! The lock and the number are read by two statements, because a statement's snapshot is older than a lock that it waits
//! for: in one statement a transaction would read the number from before it had the lock.

use sha2::{Digest, Sha256};
use sqlx::{PgConnection, Row as _};

use crate::chain::{ChainHead, ChainLock};
use crate::change::head_of;
use crate::error::{OpenError, StoreError};

/// The number under which this process may write (ADR 0029).
#[derive(Clone, Debug)]
pub(crate) struct Generation {
    node: String,
    lock: i64,
    number: i64,
}

/// What finds out what became of a transaction.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    id: String,
    backend: i32,
}

/// The number, the chain's head, and what the transaction is called. `pg_current_xact_id` gives it its number at once.
const LOOK: &str = "select (select generation from nodes where node = $1) as generation, \
     pg_current_xact_id()::text as xid, pg_backend_pid() as pid, newest.seq, newest.hash from (select 1) as one \
     left join lateral (select seq, hash from (select seq, hash from audit_tail where chain = $1 \
     union all select seq, hash from audit where chain = $1) as both_tables order by seq desc limit 1) as newest on true";

/// What PostgreSQL says of a transaction's number that it has not given yet (`invalid_parameter_value`).
const FUTURE: &str = "22023";

impl Generation {
    /// Raises the number of this node. A process with the number before writes nothing any more.
    pub(crate) async fn take(connection: &mut PgConnection, node: &str) -> Result<Self, OpenError> {
        let lock = lock_of(node);
        let run = |sql: String| sqlx::raw_sql(sqlx::AssertSqlSafe(sql));
        let begin = format!("begin; select pg_advisory_xact_lock({lock})");
        run(begin).execute(&mut *connection).await.map_err(StoreError::from)?;
        let raise = "insert into nodes (node, generation) values ($1, 1) \
             on conflict (node) do update set generation = nodes.generation + 1 returning generation";
        let row = sqlx::query(raise).bind(node).fetch_one(&mut *connection).await.map_err(StoreError::from)?;
        let number = row.try_get("generation").map_err(StoreError::from)?;
        alone(connection, node).await?;
        run("commit".into()).execute(connection).await.map_err(StoreError::from)?;
        Ok(Self { node: node.to_owned(), lock, number })
    }

    /// Whether this process may still write, when a transaction cannot even begin.
    ///
    /// # Errors
    /// `Fenced` when it is over.
    pub(crate) async fn check(&self, connection: &mut PgConnection) -> Result<(), StoreError> {
        let look = sqlx::query("select generation from nodes where node = $1").bind(&self.node);
        let row = crate::db::within(look.fetch_optional(connection)).await?;
        self.compare(row.map(|row| row.try_get("generation")).transpose()?)
    }

    fn compare(&self, found: Option<i64>) -> Result<(), StoreError> {
        if found == Some(self.number) {
            return Ok(());
        }
        Err(StoreError::Fenced(format!(
            "another process has begun to write as node {:?} (generation {}, this one is {})",
            self.node,
            found.map_or_else(|| "none".to_owned(), |n| n.to_string()),
            self.number
        )))
    }

    /// Begins a transaction of this generation; gives the chain's head as it stands inside of it.
    ///
    /// # Errors
    /// `Fenced` when another process has a later generation, or when the database is not the one that this process wrote to.
    pub(crate) async fn begin(
        &self,
        connection: &mut PgConnection,
        gate: &mut ChainLock,
    ) -> Result<(ChainHead, Transaction), StoreError> {
        let begin = format!("begin; select pg_advisory_xact_lock_shared({})", self.lock);
        sqlx::raw_sql(sqlx::AssertSqlSafe(begin)).execute(&mut *connection).await?;
        let row = sqlx::query(LOOK).bind(&self.node).fetch_one(connection).await?;
        let number: Option<i64> = row.try_get("generation")?;
        let transaction = Transaction { id: row.try_get("xid")?, backend: row.try_get("pid")? };
        let head = head_of(&self.node, row)?;
        self.compare(number)?;
        // Under one number nobody else appends: a head that is not ours, or is older than ours while the end of a commit is
        // not known, is that of a database that went back.
        let known = &gate.head;
        let same = (head.seq, head.hash) == (known.seq, known.hash);
        if !(same || gate.stale && head.seq > known.seq) {
            return Err(StoreError::Fenced(format!(
                "the database ends its audit at row {}, this process had written row {}: it is an older copy",
                head.seq, gate.head.seq
            )));
        }
        gate.head = head.clone();
        gate.stale = false;
        Ok((head, transaction))
    }
}

/// That another name writes to the same database is refused here and nowhere else.
async fn alone(connection: &mut PgConnection, node: &str) -> Result<(), OpenError> {
    let other = sqlx::query("select node from nodes where node <> $1 order by node limit 1").bind(node);
    match other.fetch_optional(connection).await.map_err(StoreError::from)? {
        None => Ok(()),
        Some(row) => {
            let other = row.try_get("node").map_err(StoreError::from)?;
            Err(OpenError::OtherNode { node: node.to_owned(), other })
        }
    }
}

impl Transaction {
    /// What became of it: stored or not, or nothing is known yet. A session that still runs it is ended first.
    pub(crate) async fn end(&self, connection: &mut PgConnection) -> Result<Option<bool>, StoreError> {
        let end = "select pg_terminate_backend(pid, 1000) from pg_stat_activity where pid = $1 \
             and pid <> pg_backend_pid() and application_name = current_setting('application_name')";
        sqlx::query(end).bind(self.backend).execute(&mut *connection).await?;
        let status = sqlx::query("select pg_xact_status($1::xid8) as status").bind(&self.id);
        let status: Option<String> = match status.fetch_one(connection).await {
            Ok(row) => row.try_get("status")?,
            // An older copy of the database, which has not come as far as this number: it does not have it.
            Err(sqlx::Error::Database(said)) if said.code().as_deref() == Some(FUTURE) => return Ok(Some(false)),
            Err(error) => return Err(error.into()),
        };
        Ok(match status.as_deref() {
            Some("committed") => Some(true),
            Some("aborted") => Some(false),
            _ => None,
        })
    }
}

/// The lock of a node's transactions; that of its session has another number.
fn lock_of(node: &str) -> i64 {
    let digest = Sha256::digest(format!("hexa transactions of {node}"));
    let mut key = [0; 8];
    key.copy_from_slice(&digest[..8]);
    i64::from_be_bytes(key)
}

#[cfg(test)]
mod tests {
    use sqlx::Connection as _;

    use super::*;

    /// An older copy of a database has not come as far as the transactions of the newer one.
    #[tokio::test]
    async fn a_transaction_that_the_server_has_never_seen_was_not_stored() {
        let mut connection = PgConnection::connect(&hexa_testpg::database()).await.unwrap();
        let transaction = Transaction { id: "4000000000".into(), backend: 0 };
        assert_eq!(transaction.end(&mut connection).await.unwrap(), Some(false));
    }
}
