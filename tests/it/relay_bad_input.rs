//! Relay commands that are refused before anything is sent (docs/PLATFORM.md#bad-input).

use std::sync::OnceLock;

use hexa_tests::{Shared, TestServer};
use serde_json::json;

fn server() -> Shared {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    TestServer::shared(&SERVER)
}

#[tokio::test]
async fn a_relay_index_is_a_plain_number_below_the_relay_count() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 2).await;
    for index in
        ["-1", "2147483648", "\"0\"", "%220%22", "0.5", "2", "01", "+1", "1e0", "abc", "%00", "99999999999999999999"]
    {
        let path = format!("/api/v1/devices/{}/relays/{index}", device.uid());
        user.client.post(&path, &json!({ "state": true })).await.expect_error(400, "validation_error");
    }
    device.assert_nothing_sent().await;
}

#[tokio::test]
async fn a_state_is_a_boolean_and_nothing_else_is_taken_for_one() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let uid = device.uid().to_owned();
    let one = format!("/api/v1/devices/{uid}/relays/0");
    let all = format!("/api/v1/devices/{uid}/relays");
    for body in [
        r"{}",
        r#"{"state":1}"#,
        r#"{"state":"true"}"#,
        r#"{"state":null}"#,
        r#"{"state":[true]}"#,
        r#"{"state":true,"colour":"red"}"#,
        r#"{"state":true,"state":false}"#,
        r#"{"state":true} trailing"#,
        r"[]",
        r"null",
        "",
    ] {
        user.client.post_text(&one, body).await.expect_error(400, "validation_error");
        user.client.post_text(&all, body).await.expect_error(400, "validation_error");
    }
    for for_ms in ["0", "-5", "1.5", "\"5\"", "86400001", "99999999999999999999"] {
        let body = format!(r#"{{"state":true,"for_ms":{for_ms}}}"#);
        user.client.post_text(&one, body).await.expect_error(400, "validation_error");
    }
    device.assert_nothing_sent().await;
}

#[tokio::test]
async fn json_that_is_nested_a_hundred_thousand_deep_is_refused() {
    let server = server();
    let user = server.user().await;
    let device = server.device(&user, 1).await;
    let path = format!("/api/v1/devices/{}/relays/0", device.uid());
    let deep = "[".repeat(100_000);
    user.client.post_text(&path, deep.clone()).await.expect_error(400, "validation_error");
    user.client.post_text(&path, format!("{deep}{}", "]".repeat(100_000))).await.expect_error(400, "validation_error");
    let inside =
        format!("{{\"state\":true,\"x\":{}{}}}", "{\"a\":".repeat(100_000), "1".to_owned() + &"}".repeat(100_000));
    user.client.post_text(&path, inside).await.expect_error(400, "validation_error");
    server.client().get("/health").await.expect(200);
}

#[tokio::test]
async fn a_foreign_device_is_not_there() {
    let server = server();
    let owner = server.user().await;
    let stranger = server.user().await;
    let mut device = server.device(&owner, 1).await;
    let uid = device.uid().to_owned();
    stranger.set_relay(&uid, 0, true).await.expect_error(404, "not_found");
    stranger.set_all(&uid, true).await.expect_error(404, "not_found");
    let client = &stranger.client;
    for path in [format!("/api/v1/devices/{uid}"), format!("/api/v1/devices/{uid}/state")] {
        client.get(&path).await.expect_error(404, "not_found");
    }
    client.patch(&format!("/api/v1/devices/{uid}"), &json!({ "name": "mine" })).await.expect_error(404, "not_found");
    for route in ["release", "token/rotate"] {
        client.post_empty(&format!("/api/v1/devices/{uid}/{route}")).await.expect_error(404, "not_found");
    }
    // What only an admin may do says so before it says anything of the device.
    client.delete(&format!("/api/v1/devices/{uid}")).await.expect_error(403, "forbidden");
    client.post_empty(&format!("/api/v1/devices/{uid}/claim-code")).await.expect_error(403, "forbidden");
    assert_eq!(client.get("/api/v1/devices").await.expect(200)["items"], json!([]));
    device.assert_nothing_sent().await;
    // Audited on the device, in the stranger's name.
    let audited = hexa_tests::eventually("the attempt in the audit", || async {
        let rows = server.db().device_audit(&uid);
        rows.into_iter().find(|r| r.action == "set_relay" && r.outcome == "rejected")
    })
    .await;
    assert!(audited.details.is_some_and(|d| d.contains("not_owner")));
    // A command of the owner is not the stranger's to look at.
    let device = device.automatic(1);
    let answer = owner.set_relay(&uid, 0, true).await.expect(200);
    let path = format!("/api/v1/commands/{}", answer["command_id"].as_str().unwrap());
    client.get(&path).await.expect_error(404, "not_found");
    owner.client.get(&path).await.expect(200);
    drop(device);
}

#[tokio::test]
async fn an_unknown_device_or_command_is_not_found_whatever_it_is_called() {
    let server = server();
    let user = server.user().await;
    for uid in ["hx-nobody", "%00", "a%2Fb", "..%2F..", "%F0%9F%92%A1", &"x".repeat(500)] {
        let path = format!("/api/v1/devices/{uid}/relays/0");
        let reply = user.client.post(&path, &json!({ "state": true })).await;
        reply.expect_error(404, "not_found");
    }
    for id in ["nothing", "00000000-0000-0000-0000-000000000000", "0195f3a0-0000-7000-8000-000000000000"] {
        user.client.get(&format!("/api/v1/commands/{id}")).await.expect_error(404, "not_found");
    }
}

#[tokio::test]
async fn a_command_without_a_valid_token_is_unauthorized() {
    let server = server();
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    let path = format!("/api/v1/devices/{}/relays/0", device.uid());
    let nobody = server.client();
    for client in [nobody.clone(), nobody.with_token("x"), nobody.with_token(&device.identity.token)] {
        let reply = client.post(&path, &json!({ "state": true })).await;
        reply.expect_error(401, "invalid_token");
        assert!(reply.header("www-authenticate").is_some_and(|h| h.starts_with("Bearer")));
    }
    device.assert_nothing_sent().await;
}

#[tokio::test]
async fn a_device_without_relays_cannot_be_switched() {
    let server = server();
    let user = server.user().await;
    let device = server.device(&user, 0).await;
    user.set_relay(device.uid(), 0, true).await.expect_error(422, "unsupported_command");
    user.set_all(device.uid(), true).await.expect_error(422, "unsupported_command");
}
