//! Commands that have been accepted and have no end in the audit yet, by their ids.

use std::collections::HashMap;
use std::sync::Arc;

use hexa_model::{CommandId, RelayAction};
use parking_lot::Mutex;

use crate::device::live::DeviceHandle;

/// Locks, so that commands of many devices rarely meet at one.
const SHARDS: usize = 16;

type Shard = Mutex<HashMap<CommandId, (Arc<DeviceHandle>, RelayAction)>>;

/// The commands of this process that run. As many as there are tasks for them.
#[derive(Debug, Default)]
pub struct Open {
    shards: [Shard; SHARDS],
}

impl Open {
    fn shard(&self, id: CommandId) -> &Shard {
        // The end of an id is random.
        &self.shards[usize::from(id.0.as_bytes()[15]) % SHARDS]
    }

    /// Can be found until the guard goes.
    pub(crate) fn enter(&self, id: CommandId, live: &Arc<DeviceHandle>, action: RelayAction) -> Entered<'_> {
        self.shard(id).lock().insert(id, (Arc::clone(live), action));
        Entered { open: self, id }
    }

    /// Where and what, if it has not ended.
    pub fn get(&self, id: CommandId) -> Option<(Arc<DeviceHandle>, RelayAction)> {
        self.shard(id).lock().get(&id).cloned()
    }
}

/// A command that can be found.
#[derive(Debug)]
pub(crate) struct Entered<'a> {
    open: &'a Open,
    id: CommandId,
}

impl Entered<'_> {
    /// The command.
    pub(crate) fn id(&self) -> CommandId {
        self.id
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.open.shard(self.id).lock().remove(&self.id);
    }
}
