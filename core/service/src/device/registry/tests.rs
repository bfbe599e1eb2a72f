use hexa_model::{DeviceClass, SystemClock, TimeMs};
use hexa_store::{NewDevice, StoreConfig};

use super::*;
use crate::config::DeviceConfig;

async fn registry() -> (Registry, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut config = StoreConfig::new(dir.path().to_owned());
    config.database_url = hexa_testpg::chosen().then(|| hexa_testpg::database().into());
    let store = Store::open(config).await.unwrap();
    let device = DeviceConfig { heartbeat: Duration::from_secs(20), flap_per_minute: 15 };
    let grants = Arc::new(Grants::new(crate::limit::Rate::new(5, Duration::from_secs(60))));
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
        claim_hash: [n; 32],
        claim_expires_at: TimeMs(9),
        created_at: TimeMs(1),
    };
    let mut tx = registry.store.begin().await.unwrap();
    let key = tx.insert_device(&new).await.unwrap();
    tx.commit().await.unwrap();
    (key, uid)
}

async fn delete(registry: &Registry, key: hexa_model::DeviceKey, uid: &DeviceUid) {
    let mut tx = registry.store.begin().await.unwrap();
    assert!(tx.delete_device(key).await.unwrap());
    tx.commit().await.unwrap();
    registry.forget(uid);
}

#[tokio::test]
async fn a_row_that_was_read_before_the_deletion_makes_no_device() {
    let (registry, _dir) = registry().await;
    let (key, uid) = insert(&registry, 1).await;
    let read = registry.stored(&uid).await.unwrap().unwrap();
    delete(&registry, key, &uid).await;
    assert!(registry.enter(read).await.unwrap().is_none());
    assert!(registry.is_empty());
    // Another device's deletion costs one more read, and nothing else.
    let ((other, gone), (_, uid)) = (insert(&registry, 2).await, insert(&registry, 3).await);
    let read = registry.stored(&uid).await.unwrap().unwrap();
    delete(&registry, other, &gone).await;
    let live = registry.enter(read).await.unwrap().unwrap();
    assert!(live.active() && Arc::ptr_eq(&live, &registry.find(&uid).await.unwrap().unwrap()));
}
