//! PostgreSQL is restarted and falls silent under load: callers are told so, nothing is half done, and everything comes
//! back by itself. Always on PostgreSQL, whichever database the run is about.

use std::time::{Duration, Instant};

use hexa_testpg::Cluster;
use hexa_testpg::proxy::{Cut, Proxy};
use hexa_tests::server::ScratchDir;
use hexa_tests::{Options, Reply, TestServer, User, eventually};
use reqwest::Method;
use serde_json::json;

/// From the moment the database answers again until commands do.
const RECOVERED_WITHIN: Duration = Duration::from_secs(5);

struct Fixture {
    cluster: Cluster,
    server: TestServer,
    _dir: ScratchDir,
}

fn fixture() -> Fixture {
    let cluster = Cluster::start().unwrap();
    let dir = ScratchDir::new();
    hexa_tests::db::use_address(dir.path(), &format!("{}/postgres", cluster.url()));
    let server = TestServer::start(Options::new().data_dir(dir.path()));
    Fixture { cluster, server, _dir: dir }
}

/// Commands until one succeeds; each of the others is a 503 that says what is known.
async fn until_it_works(server: &TestServer, user: &hexa_tests::User, uid: &str) -> (Duration, u32) {
    let (since, mut refused) = (Instant::now(), 0);
    loop {
        let reply = user.set_relay(uid, 0, true).await;
        match reply.status {
            200 => return (since.elapsed(), refused),
            503 => {
                let code = reply.expect_error(503, "storage_unavailable");
                assert!(code["request_id"].is_string(), "{code}");
                refused += 1;
            }
            other => panic!("{other}: {}", reply.text),
        }
        assert!(since.elapsed() < Duration::from_secs(60), "it did not come back: {}", server.log().text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_database_is_named_and_survived() {
    let mut fixture = fixture();
    let user = fixture.server.user().await;
    let device = fixture.server.device(&user, 2).await.automatic(2);
    let uid = device.uid().to_owned();
    user.set_relay(&uid, 0, true).await.expect(200);
    for round in 0..3 {
        fixture.cluster.crash().unwrap();
        user.set_relay(&uid, 0, round % 2 == 0).await.expect_error(503, "storage_unavailable");
        eventually("not ready", || async { (fixture.server.client().get("/ready").await.status == 503).then_some(()) })
            .await;
        fixture.cluster.launch().unwrap();
        let (took, refused) = until_it_works(&fixture.server, &user, &uid).await;
        eprintln!("restart {round}: commands again after {took:?}, {refused} refused meanwhile");
        assert!(took <= RECOVERED_WITHIN, "{took:?}");
    }
    fixture.server.stop().await;
    fixture.server.evidence().assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_falls_silent_is_given_up_and_found_again() {
    let mut fixture = fixture();
    let user = fixture.server.user().await;
    let device = fixture.server.device(&user, 2).await.automatic(2);
    let uid = device.uid().to_owned();
    user.set_relay(&uid, 0, true).await.expect(200);
    fixture.cluster.freeze(true).unwrap();
    // The device is there, so the command is sent; what became of it on the disk is what cannot be told.
    user.set_relay(&uid, 0, false).await.expect_error(503, "storage_unavailable");
    fixture.cluster.freeze(false).unwrap();
    let (took, refused) = until_it_works(&fixture.server, &user, &uid).await;
    eprintln!("cut off: commands again after {took:?}, {refused} refused meanwhile");
    assert!(took <= RECOVERED_WITHIN, "{took:?}");
    fixture.server.stop().await;
    fixture.server.evidence().assert_whole();
}

async fn keyed(user: &User, uid: &str, key: &str) -> Reply {
    let asked = user.client.request(Method::POST, &format!("/api/v1/devices/{uid}/relays/0"));
    user.client.send(asked.header("idempotency-key", key).json(&json!({ "state": true }))).await
}

/// The frame goes out when the key is known to be stored. Where that is not known it does not, and whoever asks again
/// hears just that, or sends it for the first time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_whose_key_may_be_stored_is_not_sent_and_never_twice() {
    for (cut, stored) in [(Cut::After, true), (Cut::Before, false)] {
        let cluster = Cluster::start().unwrap();
        let (proxy, url) = Proxy::before(&format!("{}/postgres", cluster.url())).await;
        let dir = ScratchDir::new();
        hexa_tests::db::use_address(dir.path(), &url);
        let mut server = TestServer::start(Options::new().data_dir(dir.path()));
        let user = server.user().await;
        let device = server.device(&user, 1).await.automatic(1);
        let uid = device.uid().to_owned();
        user.set_relay(&uid, 0, false).await.expect(200);
        let seen = device.seen().len();
        // Another write of the server may have been the one whose commit was cut: then it is known of this one.
        let mut unknown = None;
        for attempt in 0..5 {
            let key = format!("lamp-{attempt}");
            proxy.cut_and_close(cut);
            let reply = keyed(&user, &uid, &key).await;
            let error = reply.expect_error(503, "storage_unavailable");
            proxy.open();
            eventually("the server to be ready", || async {
                (server.client().get("/ready").await.status == 200).then_some(())
            })
            .await;
            if error["message"].as_str().unwrap().contains("fell silent while it stored this") {
                unknown = Some(key);
                break;
            }
        }
        let key = unknown.expect("a commit of a key was cut");
        assert_eq!(device.seen().len(), seen, "{cut:?}: nothing was sent");
        let replies = [keyed(&user, &uid, &key).await, keyed(&user, &uid, &key).await];
        let statuses = replies.each_ref().map(|r| (r.status, r.header("idempotency-replayed").is_some()));
        let expected = if stored { [(503, true); 2] } else { [(200, false), (200, true)] };
        assert_eq!(statuses, expected, "{cut:?}: {} {}", replies[0].text, replies[1].text);
        assert_eq!(device.seen().len() - seen, usize::from(!stored), "{cut:?}");
        server.stop().await;
        let evidence = server.evidence();
        evidence.assert_whole();
    }
}

/// Nothing is sent while nothing can be stored; whether an earlier request has used the key is not made up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_cannot_be_looked_up_says_so_and_is_heard_again_later() {
    let mut fixture = fixture();
    let server = &fixture.server;
    let user = server.user().await;
    let device = server.device(&user, 1).await.automatic(1);
    let uid = device.uid().to_owned();
    let first = keyed(&user, &uid, "used").await.expect(200);
    let seen = device.seen().len();
    fixture.cluster.crash().unwrap();
    eventually("not ready", || async { (server.client().get("/ready").await.status == 503).then_some(()) }).await;
    for key in ["used", "unused"] {
        let refused = keyed(&user, &uid, key).await;
        assert_eq!(refused.header("idempotency-replayed"), None, "{key}");
        let error = refused.expect_error(503, "storage_unavailable");
        let said = error["message"].as_str().unwrap();
        let wanted = "nothing was sent now, and whether an earlier request has used this key cannot be read";
        assert!(said.starts_with(wanted), "{key}: {said}");
    }
    assert_eq!(device.seen().len(), seen);
    fixture.cluster.launch().unwrap();
    eventually("ready", || async { (server.client().get("/ready").await.status == 200).then_some(()) }).await;
    let again = keyed(&user, &uid, "used").await;
    assert!(again.header("idempotency-replayed").is_some(), "{}", again.text);
    assert_eq!(again.expect(200), first);
    assert_eq!(device.seen().len(), seen);
    let unused = keyed(&user, &uid, "unused").await;
    assert!(unused.header("idempotency-replayed").is_none(), "{}", unused.text);
    unused.expect(200);
    fixture.server.stop().await;
    fixture.server.evidence().assert_whole();
}
