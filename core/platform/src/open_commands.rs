//! Commands that have been accepted and have no end in the audit yet, by their ids.

use std::collections::HashMap;

use hexa_model::{Action, CommandId, DeviceKey, DeviceUid};
use parking_lot::Mutex;

/// Locks, so that commands of many devices rarely meet at one.
const SHARDS: usize = 16;

type Shard = Mutex<HashMap<CommandId, OpenCommandView>>;

/// The commands of this process that run. As many as there are tasks for them.
#[derive(Debug, Default)]
pub struct OpenCommands {
    shards: [Shard; SHARDS],
}

/// An open command, as far as others need to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenCommandView {
    /// The device's key in the store.
    pub key: DeviceKey,
    /// The device's public id, as it is shown in the API.
    pub device: DeviceUid,
    /// What is asked of it.
    pub action: Action,
}

impl OpenCommands {
    fn shard(&self, id: CommandId) -> &Shard {
        // The end of an id is random.
        &self.shards[usize::from(id.0.as_bytes()[15]) % SHARDS]
    }

    /// Can be found until the guard goes.
    pub fn enter(&self, id: CommandId, command: OpenCommandView) -> Entered<'_> {
        self.shard(id).lock().insert(id, command);
        Entered { open: self, id }
    }

    /// Where and what, if it has not ended. Whoever holds its device may be another process, so this is waited for.
    #[expect(clippy::unused_async, reason = "with more than one node the others are asked")]
    pub async fn get(&self, id: CommandId) -> Option<OpenCommandView> {
        self.shard(id).lock().get(&id).cloned()
    }
}

/// A command that can be found.
#[derive(Debug)]
pub struct Entered<'a> {
    open: &'a OpenCommands,
    id: CommandId,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.open.shard(self.id).lock().remove(&self.id);
    }
}
