//! What an owner shares with another account: a device or some of its relays, to see or to switch, for a while or for
//! a number of uses.

use crate::{DeviceKey, DeviceUid, GrantId, TimeMs, UserKey};

/// What a grant is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GrantAccess {
    /// To see states and events.
    Read,
    /// To switch as well.
    Control,
}

impl GrantAccess {
    /// As in the API and the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Control => "control",
        }
    }
    /// Reads what [`Self::as_str`] gives; none for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Read, Self::Control].into_iter().find(|a| a.as_str() == text)
    }
}

/// Some of the relays of a device, a bit each (a device has 64 at the most).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayMask(pub u64);

impl RelayMask {
    /// Every relay, and the device as a whole: its inputs, and commands to all of its relays at once.
    pub const ALL: Self = Self(u64::MAX);

    /// These relays; an index of 64 or more is none.
    pub fn of(indexes: impl IntoIterator<Item = u16>) -> Self {
        Self(indexes.into_iter().filter(|i| *i < 64).fold(0, |mask, i| mask | 1 << i))
    }
    /// Whether it is among them.
    pub fn has(self, index: u16) -> bool {
        index < 64 && self.0 & (1 << index) != 0
    }
    /// Whether it stands for the whole device.
    pub fn is_all(self) -> bool {
        self == Self::ALL
    }
    /// The relays that are in either of the two.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// Their indexes; none for the whole device.
    pub fn indexes(self) -> Option<Vec<u16>> {
        (!self.is_all()).then(|| (0..64).filter(|i| self.has(*i)).collect())
    }
}

/// A grant that was neither revoked nor is over, as the house keeps it in memory.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Integer key of its row, which never leaves the process.
    pub key: i64,
    /// Its public id, as the API names it.
    pub id: GrantId,
    /// Key of the device that is shared.
    pub device: DeviceKey,
    /// The same, as the outside calls it.
    pub uid: DeviceUid,
    /// The account that it is shared with.
    pub user: UserKey,
    /// Whether the account may only see, or switch as well.
    pub access: GrantAccess,
    /// The relays that are shared; [`RelayMask::ALL`] for the whole device.
    pub relays: RelayMask,
    /// Not before; none = at once.
    pub starts_at: Option<TimeMs>,
    /// Not from then on; none = until it is revoked.
    pub expires_at: Option<TimeMs>,
    /// Whether each command takes one of a number of uses.
    pub counted: bool,
}

impl Grant {
    /// Whether it is good at this time.
    pub fn holds(&self, now: TimeMs) -> bool {
        self.starts_at.is_none_or(|at| at <= now) && !self.is_over(now)
    }
    /// Whether its time has passed.
    pub fn is_over(&self, now: TimeMs) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// Somebody other than the owner who hears of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Viewer {
    /// The account that hears of it.
    pub user: UserKey,
    /// The relays that it may see, by all of its grants together.
    pub relays: RelayMask,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_what_it_was_made_of() {
        let mask = RelayMask::of([0, 3, 63, 64, 900]);
        assert_eq!(mask.indexes(), Some(vec![0, 3, 63]));
        assert!(!mask.has(64) && !mask.is_all());
        assert_eq!(mask.or(RelayMask::of([1])).indexes(), Some(vec![0, 1, 3, 63]));
        assert_eq!(RelayMask::ALL.indexes(), None);
    }
}
