//! A power cut: what the server's disk holds at a random moment under load, without what only the page cache has.

use std::time::Duration;

use hexa_tests::load::{Dice, Fleet};
use hexa_tests::machine::{self, Disk, in_private_mounts, long};
use hexa_tests::process::pause;
use hexa_tests::{Options, TestServer};

const IMAGES: usize = 30;
const DISK_MIB: u32 = 192;

/// Cuts the power so often; gives how many answered commands were found and how many were lost.
async fn cut_off(disk: Disk, durability: &str, images: usize, dice: &mut Dice) -> (usize, usize) {
    let data = disk.path().join("data");
    std::fs::create_dir(&data).unwrap();
    let server = TestServer::start(Options::new().data_dir(&data).env("HEXA_DURABILITY", durability));
    let fleet = Fleet::new(&server, 3).await;
    let load = fleet.load(&server).await;
    let (mut found, mut lost) = (0, 0);
    for _ in 0..images {
        let before = fleet.answered();
        // The moment is the point, and it is left to chance.
        tokio::time::sleep(Duration::from_millis(20 + dice.below(300))).await;
        hexa_tests::eventually("a command answered", || async { (fleet.answered() > before).then_some(()) }).await;
        // The process stands still while its disk is copied, so that the copy is of one moment.
        let standing = pause(server.pid());
        let answers = fleet.answers();
        let copy = disk.after_power_cut();
        drop(standing);
        let copied = copy.path().join("data");
        let mut survivor = TestServer::start(Options::new().data_dir(&copied));
        let evidence = survivor.evidence();
        evidence.assert_whole();
        let missing = evidence.lost(&answers).len();
        if missing == 0 {
            evidence.assert_answered(&answers);
        }
        (found, lost) = (answers.len() - missing, lost + missing);
        survivor.stop().await;
    }
    load.end().await;
    fleet.judge(&server.evidence());
    (found, lost)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_answered_is_lost_when_the_power_goes() {
    let name = "power_cut::nothing_answered_is_lost_when_the_power_goes";
    if !long(name) || !in_private_mounts(name) {
        return;
    }
    let mut dice = Dice::seeded("power cut");
    let Some(disk) = machine::disk(name, DISK_MIB) else { return };
    let (found, lost) = cut_off(disk, "full", IMAGES, &mut dice).await;
    eprintln!("power cut: {IMAGES} images, {found} commands answered before the last one, lost {lost}");
    assert_eq!(lost, 0, "HEXA_DURABILITY=full");
    // The same without waiting for the disk: if nothing were lost then, the images would prove nothing.
    let disk = Disk::new(DISK_MIB).expect("it went a moment ago");
    let (_, lost) = cut_off(disk, "normal", 3, &mut dice).await;
    eprintln!("power cut: with HEXA_DURABILITY=normal, as documented, 3 images lack {lost} commands");
    assert!(lost > 0, "these images cannot show a loss");
}
