//! What happened, for those who watch: a closed enum in the past tense.
//!
//! Nothing that must not be lost travels only here: state and audit are committed before an event is published.

use std::sync::Arc;

use crate::audit::RelayStates;
use crate::driver::InputEvent;
use crate::grant::Viewer;
use crate::{CommandId, DeviceKey, DeviceUid, SessionId, Source, TimeMs, TokenId, UserKey};

/// The device an event is about, and who may see it.
#[derive(Clone, Debug)]
pub struct EventDevice {
    /// Key of its row in the store.
    pub key: DeviceKey,
    /// Its public id, as clients name it.
    pub uid: DeviceUid,
    /// The owner at the time of the event; events of unclaimed devices reach nobody.
    pub owner: Option<UserKey>,
    /// With whom it is shared at the time of the event.
    pub viewers: Option<Arc<[Viewer]>>,
}

/// What became of one account's view of a device that is not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareChange {
    /// It sees the device from now on.
    Began,
    /// It sees more or less of it.
    Changed,
    /// It does not see it any more.
    Ended,
}

/// Access that ended: what it opened closes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessEnded {
    /// All of an account: deactivated, demoted, another password, or ended by an admin.
    Account(UserKey),
    /// One session of an account.
    Session(UserKey, SessionId),
    /// One personal access token.
    Token(UserKey, TokenId),
    /// Every session's access token, of every account: the keys that signed them are gone.
    Keys,
}

impl AccessEnded {
    /// The account concerned; none for all of them.
    pub fn user(self) -> Option<UserKey> {
        match self {
            Self::Account(user) | Self::Session(user, _) | Self::Token(user, _) => Some(user),
            Self::Keys => None,
        }
    }
}

/// Something that happened to a device, or to somebody's view of it.
#[derive(Clone, Debug)]
pub enum Event {
    /// Stored relay states changed, or a command confirmed them.
    RelayChanged {
        /// The device whose relays these are.
        device: EventDevice,
        /// The relays concerned, with their versions.
        relays: RelayStates,
        /// Where the change came from: its command's source, or the device itself.
        source: Source,
        /// The command that did it.
        command: Option<CommandId>,
        /// When it was committed.
        at: TimeMs,
    },
    /// A device connected (not after a takeover).
    DeviceOnline {
        /// The device that connected.
        device: EventDevice,
        /// When its session was registered.
        at: TimeMs,
    },
    /// A device is gone (not when a newer session replaced it).
    DeviceOffline {
        /// The device that is gone.
        device: EventDevice,
        /// When its session was taken out of the registry.
        at: TimeMs,
    },
    /// An input of a device fired.
    InputReceived {
        /// The device that the input belongs to.
        device: EventDevice,
        /// Which input, and what was done with it.
        input: Arc<InputEvent>,
        /// When the server received it.
        at: TimeMs,
    },
    /// Names or other shown facts changed.
    DeviceUpdated {
        /// The device whose shown facts changed.
        device: EventDevice,
    },
    /// A user claimed it: it enters that user's view.
    DeviceClaimed {
        /// Which; `owner` is the new one.
        device: EventDevice,
    },
    /// It left its owner's view: released or deleted.
    DeviceReleased {
        /// Which; `owner` is the former one.
        device: EventDevice,
    },
    /// What an account sees of a device that is shared with it changed. Only that account hears of it.
    ShareChanged {
        /// The device that is shared.
        device: EventDevice,
        /// The account whose view of it changed.
        user: UserKey,
        /// Whether its view began, changed or ended.
        change: ShareChange,
    },
}

impl Event {
    /// The device that the event is about.
    pub fn device(&self) -> &EventDevice {
        match self {
            Self::RelayChanged { device, .. }
            | Self::DeviceOnline { device, .. }
            | Self::DeviceOffline { device, .. }
            | Self::InputReceived { device, .. }
            | Self::DeviceUpdated { device }
            | Self::DeviceClaimed { device }
            | Self::DeviceReleased { device }
            | Self::ShareChanged { device, .. } => device,
        }
    }
}
