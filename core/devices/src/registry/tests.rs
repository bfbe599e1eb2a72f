use hexa_model::{DeviceClass, SystemClock, TimeMs};
use hexa_store::{Changed, KeptCode, NewDevice, StoreConfig, StoreError};

use super::*;
use crate::config::DeviceConfig;

async fn registry() -> (Registry, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = StoreConfig::new(dir.path().to_owned());
    config.database_url = hexa_testpg::chosen().then(|| hexa_testpg::database().into());
    let store = Store::open(config).await.unwrap();
    let device = DeviceConfig { heartbeat: Duration::from_secs(20), flap_per_minute: 15 };
    let grants = Arc::new(Grants::new(hexa_platform::limit::Rate::new(5, Duration::from_secs(60))));
    let (bus, metrics) = (Arc::default(), Arc::new(Metrics::new()));
    (Registry::new(store, Arc::new(SystemClock::new()), bus, metrics, grants, &device), dir)
}

async fn insert(registry: &Registry, n: u8) -> (hexa_model::DeviceKey, DeviceUid) {
    let uid = DeviceUid::parse(&format!("hx-{n:032x}")).unwrap();
    let new = NewDevice {
        uid: uid.clone(),
        class: DeviceClass::RelayController,
        model: None,
        hardware: None,
        firmware: None,
        serial: None,
        relay_count: 1,
        input_count: 0,
        capabilities: Vec::new(),
        token_hash: [n; 32],
        claim: KeptCode { mac: [n; 32], key: "test".into() },
        claim_expires_at: TimeMs(9),
        claim_made_at: TimeMs(0),
        created_at: TimeMs(1),
    };
    let made = registry
        .store
        .change(move |tx| Box::pin(async move { Ok::<_, StoreError>(Changed::only(tx.insert_device(&new).await?)) }));
    (made.await.unwrap(), uid)
}

async fn delete(registry: &Registry, key: hexa_model::DeviceKey, uid: &DeviceUid) {
    let made = registry
        .store
        .change(move |tx| Box::pin(async move { Ok::<_, StoreError>(Changed::only(tx.delete_device(key).await?)) }));
    assert!(made.await.unwrap());
    registry.changed(uid);
    registry.forget(uid);
}

#[tokio::test]
async fn a_row_that_was_read_before_the_deletion_makes_no_device() {
    let (registry, _dir) = registry().await;
    let (key, uid) = insert(&registry, 1).await;
    let seen = registry.seen(&uid);
    let read = registry.stored(&uid).await.unwrap().unwrap();
    delete(&registry, key, &uid).await;
    assert!(registry.enter(read, seen).await.unwrap().is_none());
    assert!(registry.find(&uid).await.unwrap().is_none() && registry.is_empty());
    // One that was read after the last change is there.
    let (_, uid) = insert(&registry, 3).await;
    let (seen, read) = (registry.seen(&uid), registry.stored(&uid).await.unwrap().unwrap());
    let live = registry.enter(read, seen).await.unwrap().unwrap();
    assert!(live.active() && Arc::ptr_eq(&live, &registry.find(&uid).await.unwrap().unwrap()));
}
