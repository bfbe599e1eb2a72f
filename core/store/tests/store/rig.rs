//! A store with one user and one device, in SQLite or (`HEXA_TEST_DB=postgres`) in a database of PostgreSQL.

use std::path::Path;

use hexa_model::audit::{AuditEntry, RelaySet};
use hexa_model::{Actor, CommandId, DeviceClass, DeviceKey, DeviceUid, Role, Source, TimeMs, UserId, UserKey};
use hexa_store::{Effect, HotWrite, KeptCode, NewDevice, NewUser, OpenError, Store, StoreConfig};
use smallvec::smallvec;
use sqlx::Connection;

/// Makes a change of these statements, and gives what they give.
macro_rules! change {
    ($store:expr, |$tx:ident| $work:block) => {
        $store
            .change(move |$tx: &mut hexa_store::Tx| {
                Box::pin(async move { Ok::<_, hexa_store::StoreError>(hexa_store::Changed::only($work)) })
            })
            .await
            .unwrap()
    };
}
pub(crate) use change;

/// A claim code as it is kept.
pub(crate) fn kept(n: u8) -> KeptCode {
    KeptCode { mac: [n; 32], key: "test".into() }
}

/// Where a store lives: its directory, and its database if that is elsewhere.
pub(crate) struct Home {
    dir: tempfile::TempDir,
    url: Option<String>,
}

impl Home {
    pub(crate) fn new() -> Self {
        if hexa_testpg::chosen() { Self::postgres() } else { Self::sqlite() }
    }
    pub(crate) fn sqlite() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), url: None }
    }
    pub(crate) fn postgres() -> Self {
        Self::at(hexa_testpg::database())
    }
    pub(crate) fn at(url: String) -> Self {
        Self { dir: tempfile::tempdir().unwrap(), url: Some(url) }
    }
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
    pub(crate) fn config(&self) -> StoreConfig {
        let mut config = StoreConfig::new(self.path().to_owned());
        config.database_url = self.url.clone().map(Into::into);
        config
    }
    pub(crate) async fn open(&self) -> Result<Store, OpenError> {
        Store::open(self.config()).await
    }
    /// Another connection to the same data, as an attacker with a shell would have.
    pub(crate) async fn raw(&self) -> Raw {
        match &self.url {
            None => Raw::Sqlite(rusqlite::Connection::open(self.path().join("hexa.db")).unwrap()),
            Some(url) => Raw::Postgres(sqlx::PgConnection::connect(url).await.unwrap()),
        }
    }
}

pub(crate) enum Raw {
    Sqlite(rusqlite::Connection),
    Postgres(sqlx::PgConnection),
}

impl Raw {
    pub(crate) async fn run(&mut self, sql: &str) -> Result<(), String> {
        match self {
            Self::Sqlite(c) => c.execute_batch(sql).map_err(|e| e.to_string()),
            Self::Postgres(c) => {
                let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(c).await;
                done.map(drop).map_err(|e| e.to_string())
            }
        }
    }
    /// The number that this statement gives.
    pub(crate) async fn number(&mut self, sql: &str) -> i64 {
        match self {
            Self::Sqlite(c) => c.query_row(sql, [], |row| row.get(0)).unwrap(),
            Self::Postgres(c) => sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(c).await.unwrap(),
        }
    }
    /// The statement of this database.
    pub(crate) fn either(&self, sqlite: &'static str, postgres: &'static str) -> &'static str {
        match self {
            Self::Sqlite(_) => sqlite,
            Self::Postgres(_) => postgres,
        }
    }
}

pub(crate) async fn store() -> (Store, Home) {
    let home = Home::new();
    (home.open().await.unwrap(), home)
}

pub(crate) fn new_user(n: u8) -> NewUser {
    NewUser {
        id: UserId::at(TimeMs(1), [n; 10]),
        email: format!("u{n}@example.com"),
        name: None,
        role: Role::User,
        password_hash: "x".into(),
        created_at: TimeMs(1),
    }
}

pub(crate) async fn user(store: &Store, n: u8) -> UserKey {
    let new = new_user(n);
    change!(store, |tx| { tx.insert_user(&new).await.unwrap() })
}

pub(crate) async fn device(store: &Store, n: u8) -> DeviceKey {
    let new = NewDevice {
        uid: DeviceUid::generate([n; 10]),
        class: DeviceClass::RelayController,
        model: None,
        hardware: None,
        firmware: None,
        serial: Some(format!("SN{n}")),
        relay_count: 4,
        input_count: 0,
        capabilities: vec!["relay".into()],
        token_hash: [n; 32],
        claim: kept(n),
        claim_expires_at: TimeMs(1_000),
        claim_made_at: TimeMs(0),
        created_at: TimeMs(1),
    };
    change!(store, |tx| { tx.insert_device(&new).await.unwrap() })
}

pub(crate) fn command(n: u16) -> CommandId {
    let mut random = [0; 10];
    random[..2].copy_from_slice(&n.to_be_bytes());
    CommandId::at(TimeMs(1_000 + i64::from(n)), random)
}

/// Relay 0 to `on`, as command `n`.
pub(crate) fn write(device: DeviceKey, n: u16, on: bool) -> HotWrite {
    let entry = AuditEntry::event(TimeMs(5_000 + i64::from(n)), Actor::System, Source::Api, "set_relay").device(device);
    let audit = AuditEntry { command: Some(command(n)), outcome: hexa_model::Outcome::Executed, ..entry };
    HotWrite::row(device, audit).with(Effect::Relays(smallvec![RelaySet { index: 0, on }]))
}
