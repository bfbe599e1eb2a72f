//! Uses of grants: taken, given back, and by whom they are ended.

use hexa_model::{DeviceUid, Grant, GrantAccess, GrantId, RelayMask, TimeMs, UserId, UserKey};
use hexa_store::{GrantRow, Store};

use crate::rig::{change, device, store, user};

async fn grant(store: &Store, device: hexa_model::DeviceKey, guest: UserKey, n: u8) -> (i64, GrantId) {
    let id = GrantId::at(TimeMs(1), [n; 10]);
    let row = GrantRow {
        grant: Grant {
            key: 0,
            id,
            device,
            uid: DeviceUid::generate([n; 10]),
            user: guest,
            access: GrantAccess::Control,
            relays: RelayMask::ALL,
            starts_at: None,
            expires_at: None,
            counted: true,
        },
        user: UserId::at(TimeMs(1), [n; 10]),
        email: String::new(),
        name: None,
        max_uses: Some(1),
        uses_left: Some(1),
        created_at: TimeMs(1),
    };
    (change!(store, |tx| { tx.insert_grant(&row).await.unwrap() }), id)
}

/// The last use is taken: the grant ends.
async fn use_up(store: &Store, key: i64) {
    change!(store, |tx| {
        assert_eq!(tx.spend_grant(key).await.unwrap(), Some(0));
        assert!(tx.end_grant(key, TimeMs(2), "used_up").await.unwrap());
    });
}

async fn give_back(store: &Store, key: i64) -> bool {
    change!(store, |tx| { tx.restore_use(key).await.unwrap() })
}

#[tokio::test]
async fn a_use_that_is_given_back_revives_nothing_that_was_ended_meanwhile() {
    let (store, _home) = store().await;
    let (device, guest) = (device(&store, 1).await, user(&store, 1).await);
    let (unsent, _) = grant(&store, device, guest, 1).await;
    use_up(&store, unsent).await;
    assert!(give_back(&store, unsent).await, "nothing was sent: the use is there again");
    assert_eq!(store.living_grants().await.unwrap().len(), 1);
    use_up(&store, unsent).await;
    // Released while the use was out.
    change!(store, |tx| { tx.end_grants_of(device, TimeMs(3), "released").await.unwrap() });
    assert!(!give_back(&store, unsent).await);
    // Revoked while the use was out; another one of the device is not meant.
    let ((revoked, id), (other, _)) = (grant(&store, device, guest, 2).await, grant(&store, device, guest, 3).await);
    use_up(&store, revoked).await;
    use_up(&store, other).await;
    assert_eq!(change!(store, |tx| { tx.close_used_up(device, Some(id)).await.unwrap() }), 1);
    assert_eq!((give_back(&store, revoked).await, give_back(&store, other).await), (false, true));
    assert_eq!(store.living_grants().await.unwrap().len(), 1);
}
