//! Preferences: four documents per user that two tabs cannot overwrite for each other
//! (docs/PLATFORM.md#preferences).

use std::sync::OnceLock;

use hexa_tests::{Client, Options, Reply, Shared, TestServer};
use reqwest::Method;
use serde_json::{Value, json};

fn server() -> Shared {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    TestServer::shared(&SERVER)
}

const ALL: &str = "/api/v1/preferences";
const LAYOUT: &str = "/api/v1/preferences/dashboard_layout";

/// A request with a body and conditions.
async fn send(client: &Client, method: Method, path: &str, body: &Value, conditions: &[(&str, &str)]) -> Reply {
    let mut request = client.request(method, path).json(body);
    for (name, value) in conditions {
        request = request.header(*name, *value);
    }
    client.send(request).await
}

async fn put(client: &Client, path: &str, body: &Value, conditions: &[(&str, &str)]) -> Reply {
    send(client, Method::PUT, path, body, conditions).await
}

fn etag(reply: &Reply) -> String {
    let etag = reply.header("etag").unwrap_or_else(|| panic!("no ETag: {}", reply.text)).to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"') && etag.len() > 10, "a strong one: {etag}");
    etag
}

#[tokio::test]
async fn the_second_of_two_tabs_gets_412_and_nothing_is_overwritten() {
    let server = server();
    let user = server.user().await;
    let client = &user.client;
    let made = put(client, LAYOUT, &json!({ "cards": [1] }), &[("if-none-match", "*")]).await;
    assert_eq!(made.expect(201), json!({ "cards": [1] }));
    let first = etag(&made);
    // Both tabs have read this one.
    let read = client.get(LAYOUT).await;
    assert_eq!((read.expect(200), etag(&read)), (json!({ "cards": [1] }), first.clone()));
    let one = put(client, LAYOUT, &json!({ "cards": [1, 2] }), &[("if-match", &first)]).await;
    assert_eq!(one.expect(200), json!({ "cards": [1, 2] }));
    let second = etag(&one);
    assert_ne!(second, first);
    let refused = put(client, LAYOUT, &json!({ "cards": [] }), &[("if-match", &first)]).await;
    let error = refused.expect_error(412, "precondition_failed");
    assert_eq!(error["details"]["etag"], second, "it says what is there now");
    for (method, conditions) in [
        (Method::DELETE, ("if-match", first.as_str())),
        (Method::PUT, ("if-none-match", "*")),
        (Method::PUT, ("if-none-match", second.as_str())),
        // A weak tag is no proof that the bytes are the same.
        (Method::PUT, ("if-match", &format!("W/{second}"))),
    ] {
        let reply = send(client, method.clone(), LAYOUT, &json!({}), &[conditions]).await;
        reply.expect_error(412, "precondition_failed");
    }
    assert_eq!(client.get(LAYOUT).await.expect(200), json!({ "cards": [1, 2] }));
    // Without a condition the last one wins, as asked for; `*` and one of several tags are conditions that hold.
    put(client, LAYOUT, &json!({ "cards": [3] }), &[]).await.expect(200);
    put(client, LAYOUT, &json!({ "cards": [4] }), &[("if-match", "*")]).await.expect(200);
    let now = etag(&client.get(LAYOUT).await);
    let several = format!("\"other\", {now}");
    put(client, LAYOUT, &json!({ "cards": [5] }), &[("if-match", &several)]).await.expect(200);
    // What is not there matches nothing.
    let none = "/api/v1/preferences/device_view_state";
    put(client, none, &json!({}), &[("if-match", "*")]).await.expect_error(412, "precondition_failed");
    client.get(none).await.expect_error(404, "not_found");
}

#[tokio::test]
async fn many_writers_of_one_version_have_one_winner() {
    let server = server();
    let user = server.user().await;
    let before = etag(&put(&user.client, LAYOUT, &json!({ "n": -1 }), &[]).await);
    let conditions = [("if-match", before.as_str())];
    let bodies: Vec<_> = (0..16).map(|n| json!({ "n": n })).collect();
    let writers = bodies.iter().map(|body| put(&user.client, LAYOUT, body, &conditions));
    let replies = futures_util::future::join_all(writers).await;
    let winners: Vec<_> = (0..replies.len()).filter(|n| replies[*n].status == 200).collect();
    assert_eq!(winners.len(), 1, "{:?}", replies.iter().map(|r| r.status).collect::<Vec<_>>());
    assert!(replies.iter().all(|r| matches!(r.status, 200 | 412)));
    assert_eq!(user.client.get(LAYOUT).await.expect(200)["n"], winners[0]);
}

#[tokio::test]
async fn a_read_that_knows_the_tag_costs_no_body() {
    let server = server();
    let user = server.user().await;
    let client = &user.client;
    put(client, LAYOUT, &json!({ "a": 1 }), &[]).await.expect(201);
    for path in [LAYOUT, ALL] {
        let tag = etag(&client.get(path).await);
        for known in [tag.clone(), format!("W/{tag}"), "*".to_owned(), format!("\"x\", {tag}")] {
            let reply = client.send(client.request(Method::GET, path).header("if-none-match", &known)).await;
            assert_eq!((reply.status, reply.text.as_str(), etag(&reply)), (304, "", tag.clone()), "{path} {known}");
        }
        let reply = client.send(client.request(Method::GET, path).header("if-none-match", "\"other\"")).await;
        reply.expect(200);
        assert_eq!(reply.header("cache-control"), Some("private, no-cache"));
    }
    for bad in ["nonsense", "\"open", "", "W/x"] {
        put(client, LAYOUT, &json!({}), &[("if-match", bad)]).await.expect_error(400, "validation_error");
    }
    assert_eq!(
        client.get(LAYOUT).await.expect(200),
        json!({ "a": 1 }),
        "a condition nobody understands stores nothing"
    );
}

#[tokio::test]
async fn several_documents_change_at_once_or_not_at_all() {
    let server = server();
    let user = server.user().await;
    let client = &user.client;
    let empty = client.get(ALL).await;
    let none = json!({
        "dashboard_layout": null, "dashboard_settings": null, "device_view_state": null, "notification_settings": null
    });
    assert_eq!(empty.expect(200), none);
    let body = json!({ "dashboard_layout": { "a": { "b": 1, "c": 2 } }, "dashboard_settings": { "theme": "dark" } });
    let stored = put(client, ALL, &body, &[("if-match", &etag(&empty))]).await;
    assert_eq!(stored.expect(200)["dashboard_settings"], json!({ "theme": "dark" }));
    // Two that were empty before cannot both be the first.
    put(client, ALL, &body, &[("if-match", &etag(&empty))]).await.expect_error(412, "precondition_failed");
    let patch = json!({
        "dashboard_layout": { "a": { "b": null, "d": [1] } },
        "dashboard_settings": null,
        "notification_settings": { "mail": true }
    });
    let request = client.request(Method::PATCH, ALL).header("content-type", "application/merge-patch+json");
    let merged = client.send(request.header("if-match", etag(&stored)).body(patch.to_string())).await;
    let expected = json!({
        "dashboard_layout": { "a": { "c": 2, "d": [1] } }, "dashboard_settings": null, "device_view_state": null,
        "notification_settings": { "mail": true }
    });
    assert_eq!(merged.expect(200), expected);
    // One bad document, and the good one is not stored either.
    let long = "x".repeat(70_000);
    for method in [Method::PUT, Method::PATCH] {
        let body = json!({ "dashboard_layout": { "new": 1 }, "device_view_state": { "t": long } });
        send(client, method.clone(), ALL, &body, &[]).await.expect_error(413, "payload_too_large");
        for body in [json!({ "dashboard_layout": 5 }), json!({ "dashboard_layout": {}, "other": {} })] {
            send(client, method.clone(), ALL, &body, &[]).await.expect_error(400, "validation_error");
        }
    }
    let now = client.get(ALL).await;
    assert_eq!((now.expect(200), etag(&now)), (expected, etag(&merged)));
}

#[tokio::test]
async fn documents_are_objects_within_limits() {
    let server = server();
    let user = server.user().await;
    let client = &user.client;
    for body in [json!([1]), json!("text"), json!(5), json!(null), json!(true)] {
        put(client, LAYOUT, &body, &[]).await.expect_error(400, "validation_error");
    }
    let filled = |bytes: usize| json!({ "t": "x".repeat(bytes - r#"{"t":""}"#.len()) });
    put(client, LAYOUT, &filled(65_536), &[]).await.expect(201);
    put(client, LAYOUT, &filled(65_537), &[]).await.expect_error(413, "payload_too_large");
    // White space does not count, what is stored does.
    let spaced = format!("{{ {} \"a\": 1 }}", " ".repeat(100_000));
    let request = client.request(Method::PUT, LAYOUT).header("content-type", "application/json");
    client.send(request.body(spaced)).await.expect(200);
    let deep = |n: usize| format!("{}1{}", "{\"d\":".repeat(n), "}".repeat(n));
    for (depth, status) in [(32, 200), (33, 400), (127, 400), (5_000, 400)] {
        let request = client.request(Method::PUT, LAYOUT).header("content-type", "application/json");
        let reply = client.send(request.body(deep(depth))).await;
        assert_eq!(reply.status, status, "{depth} deep: {}", reply.text);
    }
    for name in ["other", "Dashboard_Layout", "dashboard_layout%20", "..%2fusers", "%00"] {
        let path = format!("{ALL}/{name}");
        client.get(&path).await.expect_error(404, "not_found");
        put(client, &path, &json!({}), &[]).await.expect_error(404, "not_found");
        client.delete(&path).await.expect_error(404, "not_found");
    }
    // Whatever text JSON can hold comes back.
    let odd =
        json!({ "nul\u{0}": "\u{0}", "emoji": "🙂", "rtl": "\u{202e}x", "": {}, "n": -1.5e300, "script": "</script>" });
    put(client, LAYOUT, &odd, &[]).await.expect(200);
    assert_eq!(client.get(LAYOUT).await.expect(200), odd);
    client.delete(LAYOUT).await.expect(204);
    client.delete(LAYOUT).await.expect_error(404, "not_found");
    client.get(LAYOUT).await.expect_error(404, "not_found");
}

#[tokio::test]
async fn nobody_sees_or_changes_what_another_user_keeps() {
    let server = server();
    let (ann, bob) = (server.user().await, server.user().await);
    let tag = etag(&put(&ann.client, LAYOUT, &json!({ "secret": "of ann" }), &[]).await);
    for path in [ALL, LAYOUT] {
        for method in [Method::GET, Method::PUT] {
            let reply = server.client().send(server.client().request(method, path)).await;
            reply.expect_error(401, "invalid_token");
        }
    }
    bob.client.get(LAYOUT).await.expect_error(404, "not_found");
    assert_eq!(bob.client.get(ALL).await.expect(200)["dashboard_layout"], Value::Null);
    put(&bob.client, LAYOUT, &json!({}), &[("if-match", &tag)]).await.expect_error(412, "precondition_failed");
    put(&bob.client, LAYOUT, &json!({ "of": "bob" }), &[]).await.expect(201);
    bob.client.delete(LAYOUT).await.expect(204);
    // An admin's preferences are the admin's own too.
    let admin = server.admin().await;
    admin.get(LAYOUT).await.expect_error(404, "not_found");
    let read = ann.client.get(LAYOUT).await;
    assert_eq!((read.expect(200), etag(&read)), (json!({ "secret": "of ann" }), tag));
}

#[tokio::test]
async fn what_was_answered_survives_kill_9() {
    let mut server = TestServer::start(Options::new());
    let user = server.user().await;
    let mut last = Value::Null;
    let mut tag = String::new();
    for n in 0..20 {
        last = json!({ "n": n, "text": "x".repeat(1_000) });
        tag = etag(&put(&user.client, LAYOUT, &last, &[]).await);
    }
    server.kill9();
    server.restart();
    let client = server.client().with_token(&user.access_token);
    let read = client.get(LAYOUT).await;
    assert_eq!((read.expect(200), etag(&read)), (last, tag.clone()), "also the tag is the same after a restart");
    put(&client, LAYOUT, &json!({ "n": "next" }), &[("if-match", &tag)]).await.expect(200);
    server.db().assert_sound();
}
