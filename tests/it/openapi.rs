//! The contract: what is served is what is committed, its examples fit its schemas, and the page is readable. That real
//! answers fit is checked with every answer of every test (tests/src/contract.rs).

use hexa_tests::contract::{check, document, hold};
use hexa_tests::{Options, TestServer};
use serde_json::{Value, json};

#[tokio::test]
async fn the_served_document_is_the_committed_one_and_a_browser_may_keep_it() {
    let server = TestServer::start(Options::new());
    let client = server.client();
    let served = client.get("/api/openapi.json").await;
    assert_eq!(&served.expect(200), document());
    let etag = served.header("etag").unwrap().to_owned();
    let again = client.request(reqwest::Method::GET, "/api/openapi.json").header("if-none-match", etag);
    assert_eq!(client.send(again).await.status, 304);
    let page = client.get("/api/docs").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    assert!(page.text.contains("POST</span> <code>/api/v1/devices/{uid}/relays/{index}</code>"));
}

#[test]
fn every_example_fits_its_schema() {
    let mut seen = 0;
    let paths = document()["paths"].as_object().unwrap();
    let operations = paths.values().flat_map(|methods| methods.as_object().unwrap().values());
    for operation in operations {
        let body = operation.pointer("/requestBody/content/application~1json");
        let answers = operation["responses"].as_object().unwrap().values();
        for content in body.into_iter().chain(answers.filter_map(|a| a.pointer("/content/application~1json"))) {
            if content["example"].is_null() {
                continue;
            }
            check(&content["schema"], &content["example"])
                .unwrap_or_else(|e| panic!("{}: {e}: {}", operation["operationId"], content["example"]));
            seen += 1;
        }
    }
    assert!(seen > 60, "{seen}");
}

#[test]
fn an_answer_that_is_not_documented_is_found() {
    let json = Some("application/json");
    let ready = json!({ "status": "ready" }).to_string();
    hold("GET", "/ready", 200, json, &ready).unwrap();
    for (status, kind, body) in [
        (418, json, ready.as_str()),
        (200, Some("text/html"), ready.as_str()),
        (200, json, "{}"),
        (503, json, "{\"code\":\"busy\"}"),
        (200, json, "nonsense"),
    ] {
        assert!(hold("GET", "/ready", status, kind, body).is_err(), "{status} {kind:?} {body}");
    }
    let state = |relays: Value| json!({ "uid": "hx1", "online": true, "relays": relays }).to_string();
    let path = "/api/v1/devices/hx1/state";
    hold("GET", path, 200, json, &state(json!([{ "index": 0, "state": true, "version": 1 }]))).unwrap();
    assert!(hold("GET", path, 200, json, &state(json!([{ "index": "0", "state": true, "version": 1 }]))).is_err());
    assert!(hold("DELETE", "/api/v1/auth/sessions/x", 204, None, "a body").is_err());
}
