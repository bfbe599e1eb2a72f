//! PostgreSQL is restarted and falls silent under load: callers are told so, nothing is half done, and everything comes
//! back by itself. Always on PostgreSQL, whichever database the run is about.

use std::time::{Duration, Instant};

use hexa_testpg::Cluster;
use hexa_tests::server::ScratchDir;
use hexa_tests::{Options, TestServer, eventually};

/// From the moment the database answers again until commands do.
const RECOVERED_WITHIN: Duration = Duration::from_secs(5);

struct House {
    cluster: Cluster,
    server: TestServer,
    _dir: ScratchDir,
}

fn house() -> House {
    let cluster = Cluster::start().unwrap();
    let dir = ScratchDir::new();
    hexa_tests::db::use_address(dir.path(), &format!("{}/postgres", cluster.url()));
    let server = TestServer::start(Options::new().data_dir(dir.path()));
    House { cluster, server, _dir: dir }
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
    let mut house = house();
    let user = house.server.user().await;
    let device = house.server.device(&user, 2).await.automatic(2);
    let uid = device.uid().to_owned();
    user.set_relay(&uid, 0, true).await.expect(200);
    for round in 0..3 {
        house.cluster.crash().unwrap();
        user.set_relay(&uid, 0, round % 2 == 0).await.expect_error(503, "storage_unavailable");
        eventually("not ready", || async { (house.server.client().get("/ready").await.status == 503).then_some(()) })
            .await;
        house.cluster.launch().unwrap();
        let (took, refused) = until_it_works(&house.server, &user, &uid).await;
        eprintln!("restart {round}: commands again after {took:?}, {refused} refused meanwhile");
        assert!(took <= RECOVERED_WITHIN, "{took:?}");
    }
    house.server.stop().await;
    house.server.evidence().assert_whole();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_falls_silent_is_given_up_and_found_again() {
    let mut house = house();
    let user = house.server.user().await;
    let device = house.server.device(&user, 2).await.automatic(2);
    let uid = device.uid().to_owned();
    user.set_relay(&uid, 0, true).await.expect(200);
    house.cluster.freeze(true).unwrap();
    // The device is there, so the command is sent; what became of it on the disk is what cannot be told.
    user.set_relay(&uid, 0, false).await.expect_error(503, "storage_unavailable");
    house.cluster.freeze(false).unwrap();
    let (took, refused) = until_it_works(&house.server, &user, &uid).await;
    eprintln!("cut off: commands again after {took:?}, {refused} refused meanwhile");
    assert!(took <= RECOVERED_WITHIN, "{took:?}");
    house.server.stop().await;
    house.server.evidence().assert_whole();
}
