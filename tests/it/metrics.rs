//! `/metrics`: complete, well-formed, bounded, and not for everybody.

use std::process::Command;
use std::time::Duration;

use hexa_tests::process::finish;
use hexa_tests::{Options, TestServer};
use reqwest::Method;

/// Every family that the documentation promises.
const FAMILIES: &[&str] = &[
    "hexa_commands_total",
    "hexa_command_seconds_bucket",
    "hexa_command_seconds_count",
    "hexa_device_sessions",
    "hexa_client_sessions",
    "hexa_unexpected_acks_total",
    "hexa_duplicate_acks_total",
    "hexa_late_acks_total",
    "hexa_malformed_frames_total",
    "hexa_session_takeovers_total",
    "hexa_state_reports_total",
    "hexa_writer_batches_total",
    "hexa_writer_batch_rows_bucket",
    "hexa_writer_transactions_total",
    "hexa_broadcast_encodes_total",
    "hexa_broadcast_frames_total",
    "hexa_api_errors_total",
    "hexa_worker_failures_total",
    "hexa_worker_last_run_timestamp_seconds",
    "hexa_plugin_calls_total",
    "hexa_plugin_faults_total",
];

/// A server on which a little of everything has happened.
async fn lived_in() -> TestServer {
    let server = TestServer::start(Options::new().env("METRICS_TOKEN", "a-token-for-the-scraper"));
    let user = server.user().await;
    let mut device = server.device(&user, 1).await;
    device.report(&[(0, false)]).await;
    device.settled().await;
    let device = device.automatic(1);
    let _dashboard = hexa_tests::WsClient::subscribed(&server, &user).await;
    for n in 0..5 {
        user.set_relay(device.uid(), 0, n % 2 == 0).await.expect(200);
    }
    user.set_relay("hx-none", 0, true).await.expect_error(404, "not_found");
    server
}

#[tokio::test]
async fn every_promised_family_is_there_and_counts() {
    let server = lived_in().await;
    let metrics = server.metrics().await;
    for family in FAMILIES {
        // A fault that never happened has no series, but its help is there.
        let help = metrics
            .text
            .contains(&format!("# TYPE {} ", family.trim_end_matches("_bucket").trim_end_matches("_count")));
        assert!(metrics.has(family) || (*family == "hexa_plugin_faults_total" && help), "{family} is missing");
    }
    assert_eq!(metrics.count("hexa_commands_total", &[("source", "api"), ("outcome", "success")]), 5);
    assert_eq!(metrics.count("hexa_commands_total", &[("source", "api"), ("outcome", "error")]), 1);
    assert_eq!(metrics.count("hexa_command_seconds_count", &[("outcome", "success")]), 5);
    assert_eq!(metrics.count("hexa_plugin_faults_total", &[]), 0);
    let calls = metrics.count("hexa_plugin_calls_total", &[("plugin", "hexa.relay-controller")]);
    assert!(calls >= 10, "an encode and a decode for each command: {calls}");
}

#[tokio::test]
async fn audit_rows_and_counters_tell_the_same() {
    let server = lived_in().await;
    let metrics = server.metrics().await;
    let executed = server.db().actions("set_relay").iter().filter(|r| r.outcome == "executed").count();
    let counted = metrics.count("hexa_commands_total", &[("outcome", "success")]);
    assert_eq!(counted, executed as u64);
}

#[tokio::test]
async fn no_series_names_a_device_or_a_user() {
    let server = lived_in().await;
    let before = server.metrics().await.names().count();
    for _ in 0..10 {
        let user = server.user().await;
        let device = server.device(&user, 1).await.automatic(1);
        user.set_relay(device.uid(), 0, true).await.expect(200);
        let metrics = server.metrics().await;
        assert!(!metrics.text.contains(device.uid()) && !metrics.text.contains(&user.email));
    }
    let after = server.metrics().await.names().count();
    assert!(after <= before + 2, "{before} series, {after} after ten more users and devices");
}

#[tokio::test]
async fn the_format_passes_promtool() {
    let server = lived_in().await;
    let text = server.metrics().await.text;
    // What promtool would find first, for machines without it.
    for line in text.lines().filter(|l| l.starts_with("# TYPE ")) {
        let (name, kind) = line["# TYPE ".len()..].split_once(' ').unwrap();
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
        assert!(kind != "counter" || name.ends_with("_total"), "the counter {name} does not end in _total");
    }
    let found =
        std::env::var_os("PATH").is_some_and(|p| std::env::split_paths(&p).any(|d| d.join("promtool").is_file()));
    if !found {
        return;
    }
    let file = server.data_dir().join("metrics.txt");
    std::fs::write(&file, &text).unwrap();
    let mut check = Command::new("sh");
    check.args(["-c", "promtool check metrics < \"$0\""]).arg(&file);
    let checked = finish(check, Duration::from_secs(60)).await;
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""), "{}", checked.stdout);
}

#[tokio::test]
async fn only_a_loopback_peer_without_a_proxy_needs_no_token() {
    let server = lived_in().await;
    let client = server.client();
    let ask = |header: &str| client.request(Method::GET, "/metrics").header(header, "127.0.0.1");
    for header in ["x-forwarded-for", "forwarded", "x-real-ip", "x-forwarded-proto"] {
        client.send(ask(header)).await.expect_error(401, "invalid_token");
        let wrong = client.send(ask(header).bearer_auth("another token")).await;
        wrong.expect_error(401, "invalid_token");
        let scraper = client.send(ask(header).bearer_auth("a-token-for-the-scraper")).await;
        assert_eq!(scraper.status, 200, "{header}");
    }
    let user = server.user().await;
    let as_user = client.send(ask("x-forwarded-for").bearer_auth(&user.access_token)).await;
    as_user.expect_error(403, "forbidden");
    let admin = server.admin().await;
    let request = admin.request(Method::GET, "/metrics").header("x-forwarded-for", "10.0.0.1");
    assert_eq!(admin.send(request).await.status, 200);
}
