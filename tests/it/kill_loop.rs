//! Killed again and again at random moments under load: nothing that was answered is lost.

use std::time::{Duration, Instant};

use hexa_tests::load::{Dice, Fleet};
use hexa_tests::{Options, TestServer};

/// A server that was killed is ready again within this time; a debug build on a busy machine gets more.
const READY_WITHIN: Duration = if cfg!(debug_assertions) { Duration::from_secs(10) } else { Duration::from_secs(2) };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_answered_is_lost_however_often_the_server_is_killed() {
    let rounds = if hexa_tests::machine::is_long() { 100 } else { 15 };
    let mut dice = Dice::seeded("kill loop");
    let mut server = TestServer::start(Options::new());
    let mut fleet = Fleet::new(&server, 4).await;
    let mut slowest = Duration::ZERO;
    let (mut answered, mut under_load) = (0, Duration::ZERO);
    for round in 1..=rounds {
        let (load, started) = (fleet.load(&server).await, Instant::now());
        // The moment is the point, and it is left to chance; the load answers some commands in any case.
        let before = load.answered();
        tokio::time::sleep(Duration::from_millis(20 + dice.below(700))).await;
        hexa_tests::eventually("a command answered", || async { (load.answered() > before).then_some(()) }).await;
        server.kill9();
        under_load += started.elapsed();
        load.cut_off().await;
        answered += fleet.answered() - before;
        let begin = Instant::now();
        server.restart();
        let ready = begin.elapsed();
        slowest = slowest.max(ready);
        assert!(ready <= READY_WITHIN, "round {round}: ready only after {ready:?}");
        fleet.check(&server).await;
    }
    server.stop().await;
    let tally = fleet.judge(&server.evidence());
    // `judge` and `check` fail on the first command that is lost, doubled or sent again.
    eprintln!(
        "kill loop: {rounds} rounds, {} commands answered ({:.0}/s under load), {} frames seen, {} renewals, {} claims; \
         lost 0, duplicates 0, re-sends 0, slowest ready {slowest:?}",
        tally.answered,
        answered as f64 / under_load.as_secs_f64(),
        tally.frames,
        tally.renewals,
        tally.claims,
    );
    assert!(answered >= rounds, "{answered} commands in {rounds} rounds");
    assert_eq!(fleet.refused(), std::collections::BTreeMap::new(), "no caller was refused anything");
}
