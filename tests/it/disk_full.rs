//! A full disk: commands say so, reads go on, and with the space everything comes back.

use std::time::{Duration, Instant};

use hexa_tests::load::Fleet;
use hexa_tests::machine::{SmallDisk, in_private_mounts, long};
use hexa_tests::{Options, TestServer, eventually};

const CYCLES: usize = 10;
const BACK_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_named_reads_go_on_and_space_heals() {
    let name = "disk_full::a_full_disk_is_named_reads_go_on_and_space_heals";
    if !long(name) || !in_private_mounts(name) {
        return;
    }
    let disk = SmallDisk::new(64);
    let data = disk.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let mut server = TestServer::start(Options::new().data_dir(&data));
    let mut fleet = Fleet::new(&server, 2).await;
    let load = fleet.load(&server).await;
    let user = fleet.user(&server);
    let uid = fleet.uids().remove(0);
    let path = format!("/api/v1/devices/{uid}/state");
    let refused = || fleet.refused().get("storage_unavailable").copied().unwrap_or_default();
    let mut slowest = Duration::ZERO;
    for cycle in 1..=CYCLES {
        let full = disk.fill();
        let before = refused();
        eventually("a command refused for want of space", || async { (refused() > before).then_some(()) }).await;
        for _ in 0..20 {
            user.client.get(&path).await.expect(200);
            user.client.get("/api/v1/devices").await.expect(200);
        }
        drop(full);
        let (freed, before) = (Instant::now(), fleet.progress());
        let all_again = || fleet.progress().iter().zip(before).all(|(now, before)| *now > before + 1);
        eventually("commands, renewals and claims succeed again", || async { all_again().then_some(()) }).await;
        let took = freed.elapsed();
        slowest = slowest.max(took);
        assert!(took <= BACK_WITHIN, "cycle {cycle}: everything came back only after {took:?}");
    }
    load.end().await;
    fleet.judge(&server.evidence());
    let refusals = refused();
    let codes: Vec<_> = fleet.refused().into_keys().collect();
    assert_eq!(codes, ["storage_unavailable"], "what callers were told");
    server.kill9();
    server.restart();
    let tally = fleet.check(&server).await;
    eprintln!("disk full: {CYCLES} cycles, {refusals} refused, {tally:?}, slowest return {slowest:?}");
    server.stop().await;
}
