//! What a server does beside requests, as admins see it.

use std::collections::BTreeSet;
use std::time::Duration;

use hexa_tests::wait::eventually;
use hexa_tests::{Options, TestServer};
use serde_json::Value;

async fn workers(server: &TestServer) -> Vec<Value> {
    let admin = server.admin().await;
    admin.get("/api/v1/admin/workers").await.expect(200)["items"].as_array().unwrap().clone()
}

#[tokio::test]
async fn every_worker_of_a_running_server_is_at_work_and_has_not_failed() {
    let server = TestServer::start(Options::new());
    let expected = BTreeSet::from([
        "audit_waiting",
        "client_access",
        "client_liveness",
        "clock_notes",
        "clock_set_right",
        "device_liveness",
        "fleet_samples",
        "grant_times",
        "housekeeping",
        "invitation_expiry",
        "plugin_events",
        "plugin_instances",
    ]);
    let all = eventually("a run of each worker", async || {
        let all = workers(&server).await;
        all.iter().all(|w| !w["last_run_at"].is_null()).then_some(all)
    })
    .await;
    let names: BTreeSet<_> = all.iter().map(|w| w["name"].as_str().unwrap()).collect();
    assert_eq!(names, expected);
    for worker in &all {
        assert!(["idle", "running"].contains(&worker["state"].as_str().unwrap()), "{worker}");
        assert_eq!((&worker["failures"], &worker["last_error"]), (&0.into(), &Value::Null), "{worker}");
        assert!(!worker["purpose"].as_str().unwrap().is_empty());
    }
    let metrics = server.metrics().await;
    assert!(metrics.has("hexa_worker_last_run_timestamp_seconds"));
}

#[tokio::test]
async fn a_worker_with_a_period_runs_again() {
    let server = TestServer::start(Options::new());
    let period = |all: &[Value], name: &str| {
        let worker = all.iter().find(|w| w["name"] == name).unwrap();
        (worker["runs"].as_u64().unwrap(), worker["period_ms"].as_u64())
    };
    let (runs, every) = period(&workers(&server).await, "grant_times");
    assert!(every.is_some_and(|ms| Duration::from_millis(ms) < Duration::from_secs(60)));
    eventually("another run", async || (period(&workers(&server).await, "grant_times").0 > runs).then_some(())).await;
}
