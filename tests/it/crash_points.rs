//! Killed at the worst places: the process dies at a named step of the relay path, under load, at its first, second, …
//! fifth and fortieth pass; after each restart everything that was answered is there and nothing is half there.

use std::time::Duration;

use hexa_tests::load::Fleet;
use hexa_tests::{Options, TestServer};

/// The passes at which the process dies: the first five, and one in the thick of it.
const HITS: [u32; 6] = [1, 2, 3, 4, 5, 40];
/// `abort` ends the process as a signal does: no unwinding, no destructor, nothing is written any more.
const ABORTED: i32 = 128 + libc::SIGABRT;

async fn dies_at(point: &str) {
    let mut server = TestServer::start(Options::new());
    let mut fleet = Fleet::new(&server, 2).await;
    for hit in HITS {
        // `3*off->return`: three passes go, the fourth does not.
        let armed = if hit == 1 { format!("{point}=return") } else { format!("{point}={}*off->return", hit - 1) };
        server.kill9();
        server.set_env("FAILPOINTS", Some(&armed));
        server.restart();
        let load = fleet.load(&server).await;
        let waited = std::time::Instant::now();
        while server.running() {
            let hint = "is the server built with `--features failpoints`, as `cargo xtask test` does?";
            assert!(waited.elapsed() < hexa_tests::PATIENCE, "{point} was not reached at pass {hit}: {hint}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(server.ended().await.0, ABORTED, "{point}, pass {hit}");
        load.cut_off().await;
        server.set_env("FAILPOINTS", None);
        server.restart();
        let tally = fleet.check(&server).await;
        eprintln!("{point}, pass {hit}: {tally:?}");
    }
    server.stop().await;
    fleet.judge(&server.evidence());
}

macro_rules! points {
    ($($test:ident: $point:literal,)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            dies_at($point).await;
        })*
    };
}

points! {
    after_the_frame_is_written: "cmd.after_ws_write",
    after_the_ack_is_read: "cmd.after_ack_read",
    in_the_transaction_after_the_state: "cmd.in_tx_after_state",
    in_the_transaction_after_the_audit_row: "cmd.in_tx_after_audit",
    after_the_commit: "cmd.after_commit",
    after_the_cache: "cmd.after_cache",
    after_the_answer: "cmd.after_http_reply",
    in_the_transaction_of_a_refresh: "refresh.in_tx",
    in_the_transaction_of_a_claim: "claim.in_tx",
    in_the_transaction_of_a_report: "report.in_tx",
}
