//! Old audit rows go under checkpoints, and checkpoints with the rows that name them.

use std::sync::Arc;
use std::time::Duration;

use hexa_model::{Clock, ManualClock, TimeMs};
use hexa_platform::audit::retention::{prune, purge_checkpoints};

use crate::rig::{House, PlainDriver, sign_up};

const YEAR: Duration = Duration::from_secs(365 * 86_400);

#[tokio::test]
async fn checkpoints_that_no_row_names_go_in_the_end_and_the_audit_stays_whole() {
    let clock = Arc::new(ManualClock::at(TimeMs(1_800_000_000_000)));
    let house = House::at(Arc::clone(&clock) as Arc<dyn Clock>, PlainDriver::default()).await;
    let services = &house.services;
    let mut removed = 0;
    for year in 0..4u64 {
        sign_up(services, &format!("u{year}@example.com")).await;
        clock.advance(YEAR + Duration::from_secs(60));
        let gone = prune(services, YEAR).await.unwrap();
        assert!(gone > 0, "the rows of year {year}, and what names the checkpoint of the year before");
        removed += gone;
        // The row of the year before, which named the checkpoint of that year, has gone just now.
        assert_eq!(purge_checkpoints(services).await.unwrap(), u64::from(year > 0));
        assert_eq!(purge_checkpoints(services).await.unwrap(), 0);
        let check = services.store.verify_audit().await.unwrap();
        assert_eq!((check.checkpoints, check.removed, check.wrong), (1, removed, None));
    }
}
