//! Who a device is: one identity on two devices, and a device that has lost its own.

use hexa_tests::device::{FakeDevice, Identity};
use hexa_tests::{Options, TestServer, User, eventually};
use reqwest::Method;
use serde_json::{Value, json};

/// One of several devices with this identity: connects and says which boot it is.
async fn copy(
    server: &TestServer,
    identity: &Identity,
    boot_id: &str,
) -> Result<FakeDevice, hexa_tests::device::Refused> {
    let mut device = FakeDevice::connect(server.address, identity).await?;
    device.send(&json!({ "type": "hello", "boot_id": boot_id, "firmware_version": "1.0.0" })).await;
    assert_eq!(device.expect_text().await["type"], "hello_ack");
    Ok(device)
}

async fn owned(server: &TestServer, serial: Option<&str>) -> (User, Identity) {
    let (user, mut body) = (server.user().await, json!({ "device_class": "relay_controller", "relay_count": 1 }));
    if let Some(serial) = serial {
        body["serial"] = serial.into();
    }
    let identity = server.provision_with(&body).await;
    user.client.post("/api/v1/devices/claim", &json!({ "code": identity.claim_code })).await.expect(200);
    (user, identity)
}

#[tokio::test]
async fn of_two_devices_with_one_identity_one_stays_and_both_are_named() {
    let server = TestServer::start(Options::new());
    let (user, identity) = owned(&server, None).await;
    let path = format!("/api/v1/devices/{}", identity.uid);
    let boots = ["boot-a", "boot-b"];
    let mut present = copy(&server, &identity, boots[0]).await.unwrap();
    let mut turns = 0;
    let refused = loop {
        turns += 1;
        assert!(turns < 15, "they take turns for ever");
        match copy(&server, &identity, boots[turns % 2]).await {
            Ok(next) => {
                let (code, _) = std::mem::replace(&mut present, next).socket.expect_close().await;
                assert_eq!(code, 4001);
            }
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused.status, 429, "{refused:?}");
    assert_eq!(refused.headers["retry-after"], "300");
    assert!(refused.body["message"].as_str().unwrap().contains("one identity"), "{refused:?}");
    // The present one has its relays, the other one goes on being refused, without a row for each try.
    let stays = boots[(turns - 1) % 2];
    let _device = present.automatic(1);
    user.set_relay(&identity.uid, 0, true).await.expect(200);
    for _ in 0..20 {
        assert_eq!(copy(&server, &identity, boots[turns % 2]).await.unwrap_err().status, 429);
    }
    let seen = user.client.get(&path).await.expect(200);
    assert_eq!(seen["contested"]["stays"], json!({ "ip": "127.0.0.1", "boot_id": stays }));
    assert_eq!(seen["contested"]["refused"], json!({ "ip": "127.0.0.1", "boot_id": boots[turns % 2] }));
    let admin = server.admin().await;
    let rows = eventually("the row", async || {
        let rows = admin.get("/api/v1/admin/audit?action=security.device_contested").await.expect(200);
        let rows = rows["items"].as_array().unwrap().clone();
        (!rows.is_empty()).then_some(rows)
    })
    .await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(rows[0]["details"]["stays"]["boot_id"], stays, "{rows:?}");
    assert_eq!(rows[0]["details"]["refused"]["boot_id"], boots[turns % 2], "{rows:?}");
    // A new token ends it: one of them has it, the other one is a stranger.
    let rotated = user.client.post_empty(&format!("{path}/token/rotate")).await.expect(200);
    let token = rotated["device_token"].as_str().unwrap().to_owned();
    copy(&server, &Identity { token, ..identity.clone() }, "boot-b").await.unwrap();
    assert_eq!(user.client.get(&path).await.expect(200)["contested"], Value::Null);
    assert_eq!(copy(&server, &identity, "boot-a").await.unwrap_err().status, 401);
}

#[tokio::test]
async fn a_device_that_comes_back_again_and_again_is_no_clone() {
    let server = TestServer::start(Options::new());
    let (user, identity) = owned(&server, None).await;
    let mut held = Vec::new();
    for n in 0..14 {
        held.push(copy(&server, &identity, &format!("boot-{}", n / 3)).await.unwrap());
    }
    let seen = user.client.get(&format!("/api/v1/devices/{}", identity.uid)).await.expect(200);
    assert_eq!((&seen["contested"], &seen["online"]), (&Value::Null, &json!(true)));
}

async fn register(server: &TestServer, serial: &str) -> hexa_tests::client::Reply {
    let client = server.client();
    let request = client.request(Method::POST, "/api/v1/provision/register");
    let body = json!({ "device_class": "relay_controller", "relay_count": 1, "serial": serial });
    client.send(request.header("x-provision-key", server.provision_key()).json(&body)).await
}

#[tokio::test]
async fn after_a_factory_reset_the_owner_lets_the_device_in_once() {
    let mut server = TestServer::start(Options::new());
    let (user, identity) = owned(&server, Some("SN-1")).await;
    let path = format!("/api/v1/devices/{}", identity.uid);
    let before = server.connect(&identity).await;
    register(&server, "SN-1").await.expect_error(409, "already_provisioned");
    let allowed = user.client.post_empty(&format!("{path}/reset")).await.expect(200);
    assert!(allowed["allowed_until"].is_string(), "{allowed}");
    // It is no matter of memory.
    drop(before);
    server.stop().await;
    server.restart();
    let user = user.at(&server);
    let fresh = register(&server, "SN-1").await.expect(201);
    assert_eq!(fresh["device_uid"], json!(identity.uid), "the same device");
    assert_eq!(user.client.get(&path).await.expect(200)["access"], "owner", "and the same owner");
    register(&server, "SN-1").await.expect_error(409, "already_provisioned");
    let refused = FakeDevice::connect(server.address, &identity).await.unwrap_err();
    assert_eq!(refused.status, 401, "the lost token is dead");
    let device = server.connect(&Identity::from_json(&fresh)).await.automatic(1);
    user.set_relay(device.uid(), 0, true).await.expect(200);
    // The code that it was given claims nothing from its owner.
    let other = server.user().await;
    let code = json!({ "code": fresh["claim_code"] });
    other.client.post("/api/v1/devices/claim", &code).await.expect_error(404, "not_found");
    let admin = server.admin().await;
    let rows = admin.get("/api/v1/admin/audit?action=device.reset_allowed").await.expect(200);
    assert_eq!(rows["items"].as_array().map(Vec::len), Some(1));
    let rows = admin.get("/api/v1/admin/audit?action=device.reprovisioned").await.expect(200);
    assert_eq!(rows["items"][0]["details"]["after_reset"], true, "{rows}");
}

#[tokio::test]
async fn an_owners_word_about_a_reset_ends_with_its_use_and_the_ownership() {
    let server = TestServer::start(Options::new());
    let (user, identity) = owned(&server, Some("SN-2")).await;
    let path = format!("/api/v1/devices/{}", identity.uid);
    user.client.post_empty(&format!("{path}/reset")).await.expect(200);
    // Of many at once one is let in.
    let tries = (0..8).map(|_| register(&server, "SN-2"));
    let statuses: Vec<_> = futures_util::future::join_all(tries).await.into_iter().map(|r| r.status).collect();
    assert_eq!(statuses.iter().filter(|s| **s == 201).count(), 1, "{statuses:?}");
    user.client.post_empty(&format!("{path}/reset")).await.expect(200);
    user.client.post_empty(&format!("{path}/release")).await.expect(200);
    register(&server, "SN-2").await.expect_error(409, "already_provisioned");
    let (owner, bare) = owned(&server, None).await;
    let refused = owner.client.post_empty(&format!("/api/v1/devices/{}/reset", bare.uid)).await;
    refused.expect_error(422, "unsupported_command");
}
