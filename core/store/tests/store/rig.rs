//! A store with one user and one device.

use std::path::Path;

use hexa_model::audit::{AuditEntry, RelaySet};
use hexa_model::{Actor, CommandId, DeviceClass, DeviceKey, DeviceUid, Role, Source, TimeMs, UserId, UserKey};
use hexa_store::{HotWrite, NewDevice, NewUser, OpenError, Store, StoreConfig};
use smallvec::smallvec;

pub(crate) async fn open(dir: &Path) -> Result<Store, OpenError> {
    Store::open(StoreConfig::new(dir.to_owned())).await
}

pub(crate) async fn store() -> (Store, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (open(dir.path()).await.unwrap(), dir)
}

pub(crate) async fn user(store: &Store, n: u8) -> UserKey {
    let mut tx = store.begin().await.unwrap();
    let new = NewUser {
        id: UserId::at(TimeMs(1), [n; 10]),
        email: format!("u{n}@example.com"),
        name: None,
        role: Role::User,
        password_hash: "x".into(),
        created_at: TimeMs(1),
    };
    let key = tx.insert_user(&new).await.unwrap();
    tx.commit().await.unwrap();
    key
}

pub(crate) async fn device(store: &Store, n: u8) -> DeviceKey {
    let mut tx = store.begin().await.unwrap();
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
        claim_hash: [n; 32],
        claim_expires_at: TimeMs(1_000),
        created_at: TimeMs(1),
    };
    let key = tx.insert_device(&new).await.unwrap();
    tx.commit().await.unwrap();
    key
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
    HotWrite { device, relays: smallvec![RelaySet { index: 0, on }], audit: Some(audit), durable: None }
}

/// Another connection to the same file, as an attacker with a shell would have.
pub(crate) fn raw(dir: &Path) -> rusqlite::Connection {
    rusqlite::Connection::open(dir.join("hexa.db")).unwrap()
}
