//! A server that stood still while another one took its place at the database writes nothing when it wakes up, says so,
//! and ends. Always on PostgreSQL: a file has its lock.

use std::process::Command;
use std::time::{Duration, Instant};

use hexa_tests::server::ScratchDir;
use hexa_tests::{Options, TestServer};

fn signal(server: &TestServer, name: &str) {
    let done = Command::new("kill").args([name, &server.pid().to_string()]).status().unwrap();
    assert!(done.success());
}

fn psql(url: &str, sql: &str) -> String {
    let done = Command::new("psql").args([url, "--no-psqlrc", "--tuples-only", "--no-align", "-c", sql]).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_place_was_taken_writes_nothing_and_ends() {
    let url = hexa_testpg::database();
    let (first, second) = (ScratchDir::new(), ScratchDir::new());
    for dir in [&first, &second] {
        hexa_tests::db::use_address(dir.path(), &url);
    }
    let mut a = TestServer::start(Options::new().data_dir(first.path()));
    let user = a.user().await;
    let device = a.device(&user, 2).await.automatic(2);
    let uid = device.uid().to_owned();
    user.set_relay(&uid, 0, true).await.expect(200);
    // As a machine that is suspended: its sessions end, and it does not know.
    signal(&a, "-STOP");
    let end = "select count(pg_terminate_backend(pid, 5000)) from pg_stat_activity \
               where datname = current_database() and application_name like 'hexa %'";
    assert_ne!(psql(&url, end), "0");
    let mut b = TestServer::start(Options::new().data_dir(second.path()));
    let other = b.user().await;
    let rows = "select count(*) from (select seq from audit union all select seq from audit_tail) as rows \
                where seq > (select max(seq) from audit_tail where action = 'set_relay')";
    let before = psql(&url, rows);
    signal(&a, "-CONT");
    // The first write may hear of its dead session alone; none is done, and from then on it is not ready.
    for _ in 0..2 {
        let reply = user.set_relay(&uid, 0, false).await;
        assert_eq!(reply.status, 503, "{}", reply.text);
    }
    let since = Instant::now();
    let mut said = 0;
    while a.running() {
        assert!(since.elapsed() < Duration::from_secs(15), "it does not end: {}", a.log().text());
        if let Ok(status) = ready(&a).await {
            assert_ne!(status, Some(200), "it says that it is ready");
            said += u32::from(status == Some(503));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    eprintln!("it said {said} times that it is not ready, and ended after {:?}", since.elapsed());
    let (code, _) = a.ended().await;
    assert_eq!(code, 1, "whoever supervises it is to see that this was no ordinary stop");
    assert!(a.log().text().contains("another process has begun to write as node"), "{}", a.log().text());
    assert_eq!(psql(&url, rows), before, "it has written beside the other one");
    assert_eq!(b.client().get("/ready").await.status, 200);
    let own = b.device(&other, 1).await.automatic(1);
    other.set_relay(own.uid(), 0, true).await.expect(200);
    b.stop().await;
    b.evidence().assert_whole();
}

/// What `/ready` says, as long as somebody listens.
async fn ready(server: &TestServer) -> Result<Option<u16>, tokio::task::JoinError> {
    let address = server.address;
    tokio::task::spawn_blocking(move || hexa_tests::raw::status_blocking(address, "/ready")).await
}
