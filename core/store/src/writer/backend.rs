//! What the writer's thread needs of a database.

use std::time::Duration;

use super::batch::{Cost, Outcome};
use super::{DevicePresence, HotWrite};
use crate::chain::ChainLock;
use crate::error::StoreError;

/// A connection for the hot writes of one thread; all calls block.
pub(crate) trait Backend: Send {
    /// From now on a database that does not answer is waited for so long.
    fn patience(&mut self, _: Duration) {}

    /// Once, before the first write.
    fn start(&mut self) {}

    /// Once, after the last one.
    fn stop(&mut self) {}

    /// Commits all writes in one transaction and advances the head. When one of them conflicts, the batch is run
    /// again with a savepoint each, so that it fails alone.
    ///
    /// # Errors
    /// `Unavailable` for all of them: nothing was stored, or the message says that it is not known.
    fn commit(
        &mut self,
        gate: &mut ChainLock,
        writes: &[&HotWrite],
        cost: &mut Cost,
    ) -> Result<Vec<Outcome>, StoreError>;

    /// Writes what sessions noted, in one transaction.
    fn save_notes(&mut self, gate: &mut ChainLock, notes: &[&DevicePresence]) -> Result<(), StoreError>;

    /// After a batch whose writers have their answers, or (`idle`) when there is nothing to write: what keeps the next
    /// batches quick. `gate` keeps other writers away while it is locked.
    fn tidy(&mut self, _gate: &tokio::sync::Mutex<ChainLock>, _idle: bool) {}

    /// Moves up to one chunk of the tail's oldest rows to the indexed table; gives how many.
    fn move_tail(&mut self, gate: &mut ChainLock) -> Result<u64, StoreError>;
}
