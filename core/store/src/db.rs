//! One interface to both databases: the same statement text and binds go to either, rows come back as one type.
//!
//! Run-time queries in the common subset (`dialect`), because compile-time checked ones would need every query twice
//! (docs/adr/0013).

use std::future::Future;
use std::time::Duration;

use hexa_model::TimeMs;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Decode, PgPool, Postgres, Row as _, SqlSafeStr, SqlStr, Sqlite, SqlitePool, Type};

use crate::error::StoreError;

/// A statement on PostgreSQL that takes longer is given up by us, when the network is gone and nobody else says so.
/// The server's own `statement_timeout` is a little shorter, so that it usually speaks first.
pub(crate) const QUERY_TIMEOUT: Duration = Duration::from_secs(5);

/// Commits on PostgreSQL. The `select` fails in a transaction in which a statement failed: a COMMIT alone would undo it
/// and say that all is well.
pub(crate) const COMMIT: &str = "select 1; commit";

/// A pool of connections for reads, of either database.
pub(crate) enum Db {
    /// Readers of the file.
    Sqlite(SqlitePool),
    /// Readers; changes and hot writes have a connection each of their own.
    Postgres(PgPool),
}

/// A value to bind. NULL has a type, because PostgreSQL wants to know.
#[derive(Debug)]
pub(crate) enum Arg {
    Int(Option<i64>),
    Bool(Option<bool>),
    Text(Option<String>),
    Bytes(Option<Vec<u8>>),
    /// A list of keys; SQLite gets it as JSON (`dialect`).
    Keys(Vec<i64>),
    /// A list of texts, likewise.
    Texts(Vec<String>),
}

macro_rules! arg {
    ($($from:ty => |$v:ident| $arg:expr),+ $(,)?) => {
        $(impl From<$from> for Arg { fn from($v: $from) -> Self { $arg } })+
    };
}

arg! {
    i64 => |v| Self::Int(Some(v)),
    Option<i64> => |v| Self::Int(v),
    u16 => |v| Self::Int(Some(v.into())),
    u32 => |v| Self::Int(Some(v.into())),
    TimeMs => |v| Self::Int(Some(v.0)),
    Option<TimeMs> => |v| Self::Int(v.map(|t| t.0)),
    bool => |v| Self::Bool(Some(v)),
    Option<bool> => |v| Self::Bool(v),
    &str => |v| Self::Text(Some(v.to_owned())),
    Option<&str> => |v| Self::Text(v.map(str::to_owned)),
    String => |v| Self::Text(Some(v)),
    &String => |v| Self::Text(Some(v.clone())),
    Option<String> => |v| Self::Text(v),
    &Option<String> => |v| Self::Text(v.clone()),
    Vec<u8> => |v| Self::Bytes(Some(v)),
    Option<Vec<u8>> => |v| Self::Bytes(v),
    &[u8; 32] => |v| Self::Bytes(Some(v.to_vec())),
    [u8; 32] => |v| Self::Bytes(Some(v.to_vec())),
    Vec<i64> => |v| Self::Keys(v),
    Vec<String> => |v| Self::Texts(v),
}

/// PostgreSQL refuses a text with a NUL, and with it the whole transaction; SQLite keeps one and cuts it off in some
/// functions. The API refuses such texts; whatever comes another way (a device, a driver) must not cost others their
/// commit.
pub(crate) fn storable(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// A statement with its binds.
pub(crate) struct Query {
    sql: SqlStr,
    args: Vec<Arg>,
}

/// Begins a statement; `bind` adds its values in order.
pub(crate) fn query(sql: impl SqlSafeStr) -> Query {
    Query { sql: sql.into_sql_str(), args: Vec::new() }
}

/// Where a plan is.
pub(crate) fn plan_column(sqlite: bool) -> &'static str {
    if sqlite { "detail" } else { "QUERY PLAN" }
}

/// Something that runs statements: the readers, or an open transaction.
pub(crate) enum Executor<'a> {
    Sqlite(&'a SqlitePool),
    Postgres(&'a PgPool),
    SqliteTx(&'a mut sqlx::SqliteConnection),
    PostgresTx(&'a mut sqlx::PgConnection),
}

impl Executor<'_> {
    /// Which of the two it is.
    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self, Self::Sqlite(_) | Self::SqliteTx(_))
    }
}

impl Query {
    /// Binds the next value.
    pub(crate) fn bind(mut self, arg: impl Into<Arg>) -> Self {
        self.args.push(match arg.into() {
            Arg::Text(Some(text)) => Arg::Text(Some(storable(text))),
            Arg::Texts(texts) => Arg::Texts(texts.into_iter().map(storable).collect()),
            other => other,
        });
        self
    }

    /// The same with the database's plan for it instead of its rows, in the column [`plan_column`].
    pub(crate) fn explained(self, sqlite: bool) -> Self {
        let how = if sqlite { "explain query plan" } else { "explain" };
        let sql = sqlx::AssertSqlSafe(format!("{how} {}", self.sql.as_str())).into_sql_str();
        Self { sql, ..self }
    }

    /// All rows that the statement gives.
    pub(crate) async fn fetch_all(self, on: Executor<'_>) -> Result<Vec<Row>, StoreError> {
        let Self { sql, args } = self;
        Ok(match on {
            Executor::Sqlite(pool) => sqlite(sql, args).fetch_all(pool).await?.into_iter().map(Row::Sqlite).collect(),
            Executor::SqliteTx(tx) => sqlite(sql, args).fetch_all(tx).await?.into_iter().map(Row::Sqlite).collect(),
            Executor::Postgres(pool) => {
                within(postgres(sql, args).fetch_all(pool)).await?.into_iter().map(Row::Postgres).collect()
            }
            Executor::PostgresTx(tx) => {
                within(postgres(sql, args).fetch_all(tx)).await?.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    /// The first row, if there is one.
    pub(crate) async fn fetch_optional(self, on: Executor<'_>) -> Result<Option<Row>, StoreError> {
        Ok(self.fetch_all(on).await?.into_iter().next())
    }

    /// The first row, which there must be.
    pub(crate) async fn fetch_one(self, on: Executor<'_>) -> Result<Row, StoreError> {
        self.fetch_optional(on).await?.ok_or_else(|| sqlx::Error::RowNotFound.into())
    }

    /// Runs it and gives how many rows it changed.
    pub(crate) async fn execute(self, on: Executor<'_>) -> Result<u64, StoreError> {
        let Self { sql, args } = self;
        Ok(match on {
            Executor::Sqlite(pool) => sqlite(sql, args).execute(pool).await?.rows_affected(),
            Executor::SqliteTx(tx) => sqlite(sql, args).execute(tx).await?.rows_affected(),
            Executor::Postgres(pool) => within(postgres(sql, args).execute(pool)).await?.rows_affected(),
            Executor::PostgresTx(tx) => within(postgres(sql, args).execute(tx)).await?.rows_affected(),
        })
    }
}

fn sqlite(sql: SqlStr, args: Vec<Arg>) -> sqlx::query::Query<'static, Sqlite, SqliteArguments> {
    let mut query = sqlx::query(sql);
    for arg in args {
        query = match arg {
            Arg::Int(v) => query.bind(v),
            Arg::Bool(v) => query.bind(v),
            Arg::Text(v) => query.bind(v),
            Arg::Bytes(v) => query.bind(v),
            Arg::Keys(v) => query.bind(serde_json::Value::from(v).to_string()),
            Arg::Texts(v) => query.bind(serde_json::Value::from(v).to_string()),
        };
    }
    query
}

pub(crate) fn postgres(sql: SqlStr, args: Vec<Arg>) -> sqlx::query::Query<'static, Postgres, PgArguments> {
    let mut query = sqlx::query(sql);
    for arg in args {
        query = match arg {
            Arg::Int(v) => query.bind(v),
            Arg::Bool(v) => query.bind(v),
            Arg::Text(v) => query.bind(v),
            Arg::Bytes(v) => query.bind(v),
            Arg::Keys(v) => query.bind(v),
            Arg::Texts(v) => query.bind(v),
        };
    }
    query
}

/// Waits for PostgreSQL, but not for ever.
pub(crate) async fn within<T>(work: impl Future<Output = sqlx::Result<T>>) -> Result<T, StoreError> {
    match tokio::time::timeout(QUERY_TIMEOUT, work).await {
        Ok(done) => Ok(done?),
        Err(_) => Err(StoreError::Unavailable {
            source: format!("PostgreSQL did not answer within {} s", QUERY_TIMEOUT.as_secs()).into(),
        }),
    }
}

/// A row of either.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// A type that both databases have.
pub(crate) trait Cell:
    for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres>
{
}

impl<T> Cell for T where T: for<'r> Decode<'r, Sqlite> + Type<Sqlite> + for<'r> Decode<'r, Postgres> + Type<Postgres> {}

impl Row {
    /// A column by its name.
    pub(crate) fn get<T: Cell>(&self, name: &str) -> Result<T, StoreError> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(name)?,
            Self::Postgres(row) => row.try_get(name)?,
        })
    }

    /// A boolean, or none. SQLite keeps it as a number and would take any other for true.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, StoreError> {
        let Self::Sqlite(_) = self else { return self.get(name) };
        match self.get::<Option<i64>>(name)? {
            None => Ok(None),
            Some(0) => Ok(Some(false)),
            Some(1) => Ok(Some(true)),
            Some(other) => Err(StoreError::Corrupt(format!("{name} = {other}"))),
        }
    }

    /// A column that holds a small number: relay indexes and counts.
    pub(crate) fn small(&self, name: &str) -> Result<u16, StoreError> {
        let wide: i64 = self.get(name)?;
        wide.try_into().map_err(|_| StoreError::Corrupt(format!("{name} = {wide}")))
    }

    /// A time, or none.
    pub(crate) fn time(&self, name: &str) -> Result<Option<TimeMs>, StoreError> {
        Ok(self.get::<Option<i64>>(name)?.map(TimeMs))
    }
}
