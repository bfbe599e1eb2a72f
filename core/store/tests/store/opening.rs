use hexa_store::{OpenError, Store};

use crate::rig::{Home, device, store, write};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_is_there_after_reopening() {
    let (store, home) = store().await;
    let device = device(&store, 1).await;
    store.writer().commit(write(device, 1, true)).await.unwrap();
    store.close().await;
    assert!(!home.path().join("hexa.unclean").exists(), "a clean stop is marked");
    drop(store);
    let store = home.open().await.unwrap();
    assert!(store.relay_states(device).await.unwrap()[0].on);
    store.writer().commit(write(device, 2, false)).await.unwrap();
    let check = store.verify_audit().await.unwrap();
    assert_eq!((check.rows, check.first_bad), (2, None), "the chain goes on");
    store.close().await;
    assert!(store.writer().commit(write(device, 3, true)).await.is_err(), "a closed store takes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_is_refused_by_name() {
    let (_store, home) = store().await;
    let refused = home.open().await.unwrap_err();
    let OpenError::Locked { holder, .. } = refused else { panic!("{refused}") };
    assert_eq!(holder, format!("pid {}", std::process::id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema_is_refused_and_kept() {
    let (store, home) = store().await;
    store.close().await;
    drop(store);
    let mut raw = home.raw().await;
    let sql = raw.either(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
         values (9999, 'from the future', 1, x'00', 0)",
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
         values (9999, 'from the future', true, '\\x00', 0)",
    );
    raw.run(sql).await.unwrap();
    let refused = home.open().await.unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 9999, .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_addresses_are_refused_without_repeating_their_password() {
    for (url, says) in [
        ("mysql://u:canary@h/db", "mysql://"),
        ("postgres://u:canary@127.0.0.1:notaport/db", "cannot be read"),
        ("canary", "not supported"),
    ] {
        let refused = Home::at(url.into()).open().await.unwrap_err().to_string();
        assert!(refused.contains(says) && refused.contains("postgres://user:password@host"), "{url}: {refused}");
        assert!(!refused.contains("canary@"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_nodes_name_is_refused() {
    let home = Home::new();
    let store = home.open().await.unwrap();
    let device = device(&store, 1).await;
    store.writer().commit(write(device, 1, true)).await.unwrap();
    store.close().await;
    let mut config = home.config();
    config.node = "other".into();
    let refused = Store::open(config).await.unwrap_err();
    assert!(
        matches!(&refused, OpenError::OtherNode { node, other } if node == "other" && other == "main"),
        "{refused}"
    );
    assert!(refused.to_string().contains("set NODE_ID=main"), "{refused}");
    let store = home.open().await.unwrap();
    store.writer().commit(write(device, 2, true)).await.unwrap();
    if let Some(url) = home.config().database_url {
        // Nor beside it while it runs.
        let beside = Home::at(secrecy::ExposeSecret::expose_secret(&url).to_owned());
        let mut config = beside.config();
        config.node = "other".into();
        assert!(matches!(Store::open(config).await, Err(OpenError::OtherNode { .. })));
    }
    store.writer().commit(write(device, 3, true)).await.unwrap();
    assert_eq!(store.verify_audit().await.unwrap().first_bad, None);
    store.close().await;
}
