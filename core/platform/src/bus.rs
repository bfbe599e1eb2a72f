//! Who hears of what happened. A subscriber takes an event at once and puts it into a bounded queue of its own, so
//! that a slow one lags alone.

use std::sync::Arc;

use arc_swap::ArcSwap;
use hexa_model::event::{AccessEnded, Event};

/// Somebody who wants to know: the client sockets, later bridges, automations, other nodes.
pub trait Subscriber: Send + Sync + 'static {
    /// Takes the event. Must not block, wait or call back into the relay room.
    fn on_event(&self, event: &Event);
    /// Somebody's access ended. The same rules.
    fn on_access_ended(&self, _: AccessEnded) {}
}

/// The bus. Publishing costs one atomic load and the subscribers' own work.
#[derive(Default)]
pub struct Bus {
    subscribers: ArcSwap<Vec<Arc<dyn Subscriber>>>,
}

impl Bus {
    /// From now on `subscriber` hears everything. Called while booting.
    pub fn subscribe(&self, subscriber: Arc<dyn Subscriber>) {
        self.subscribers.rcu(|old| {
            let mut all = Vec::clone(old);
            all.push(Arc::clone(&subscriber));
            all
        });
    }
    /// Tells everybody that access ended.
    pub fn access_ended(&self, ended: AccessEnded) {
        for subscriber in self.subscribers.load().iter() {
            subscriber.on_access_ended(ended);
        }
    }
    /// Hands an event to each subscriber, on the thread of the caller.
    pub fn publish(&self, event: &Event) {
        for subscriber in self.subscribers.load().iter() {
            subscriber.on_event(event);
        }
    }
}

impl std::fmt::Debug for Bus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bus").field("subscribers", &self.subscribers.load().len()).finish()
    }
}
