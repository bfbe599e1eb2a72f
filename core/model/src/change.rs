//! What a committed change means for the memory of every process that serves its database.
//!
//! A change names what it touched and the version that this has now; it carries no value and no secret. Whoever hears of
//! it reads the rest from the database, so it does no harm when it is applied late, twice, or in another order. It
//! serialises, so that a process can hear of it from another one (docs/adr/0027).

use serde::{Deserialize, Serialize};

use crate::{DeviceKey, DeviceUid, SessionId, TokenId, UserId, UserKey};

/// One committed change. The set is closed: what is not in here changes nothing that a process keeps in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// An account's name, role, activation or password.
    Account {
        /// Which, as the store names it.
        user: UserKey,
        /// Which, as the outside names it.
        id: UserId,
        /// Access tokens of an older epoch are dead.
        epoch: i64,
        /// Whether everything that the account has open ends.
        ends_access: bool,
    },
    /// Sessions of an account that were ended.
    Sessions {
        /// The account whose sessions ended.
        user: UserKey,
        /// Those that ended; none of them begins again.
        ended: Vec<SessionId>,
    },
    /// A personal access token that was revoked.
    Token {
        /// The account that the token belongs to.
        user: UserKey,
        /// The token; it is never good again.
        id: TokenId,
    },
    /// Who may do what with a device, or what it is called.
    Device {
        /// Which, as the store names it.
        device: DeviceKey,
        /// Which, as the outside names it.
        uid: DeviceUid,
        /// Its access version after this change.
        version: i64,
        /// What happened, and so whether somebody's access ends.
        what: DeviceChange,
    },
    /// The keys that access tokens are signed with.
    SigningKeys {
        /// Whether tokens of the former keys are dead.
        ends_access: bool,
    },
    /// Times that were written while the clock was ahead, the ends of personal access tokens among them, were put right.
    TimesSetRight,
    /// A change of a later version, from another process.
    #[serde(other)]
    Unknown,
}

/// What happened to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceChange {
    /// It was provisioned for the first time.
    Added,
    /// An account claimed it.
    Claimed,
    /// Its owner gave it up.
    Released,
    /// It, or some of its relays, are shared with one more account, or longer.
    Shared,
    /// A grant was revoked, or its time is over.
    Unshared,
    /// Its token was replaced: what the former one opened closes.
    TokenRotated,
    /// It has another name, or its relays have.
    Renamed,
    /// It was deleted, with its grants.
    Deleted,
    /// Something of a later version, from another process: whatever is known of its access is read again.
    #[serde(other)]
    Unknown,
}

impl DeviceChange {
    /// Whether somebody loses access by it.
    pub fn ends_access(self) -> bool {
        match self {
            Self::Released | Self::Unshared | Self::TokenRotated | Self::Deleted | Self::Unknown => true,
            Self::Added | Self::Claimed | Self::Shared | Self::Renamed => false,
        }
    }
    /// Whether the device's own connection ends: it must prove its token again.
    pub fn ends_session(self) -> bool {
        matches!(self, Self::Released | Self::TokenRotated | Self::Deleted | Self::Unknown)
    }
}

impl Change {
    /// Whether somebody loses access by it: its answer must not be given before every process knows.
    pub fn ends_access(&self) -> bool {
        match self {
            Self::Account { ends_access, .. } | Self::SigningKeys { ends_access } => *ends_access,
            Self::Sessions { .. } | Self::Token { .. } | Self::TimesSetRight | Self::Unknown => true,
            Self::Device { what, .. } => what.ends_access(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_survives_the_way_to_another_process() {
        let uid = DeviceUid::parse("hx1").unwrap();
        let changes = [
            Change::Account { user: UserKey(1), id: UserId(uuid::Uuid::nil()), epoch: 3, ends_access: true },
            Change::Sessions { user: UserKey(1), ended: vec![SessionId(uuid::Uuid::nil())] },
            Change::Token { user: UserKey(1), id: TokenId(uuid::Uuid::nil()) },
            Change::Device { device: DeviceKey(4), uid, version: 7, what: DeviceChange::Released },
            Change::SigningKeys { ends_access: true },
        ];
        for change in changes {
            let text = serde_json::to_string(&change).unwrap();
            assert_eq!(serde_json::from_str::<Change>(&text).unwrap(), change, "{text}");
            assert!(change.ends_access());
        }
    }

    #[test]
    fn one_of_a_later_version_ends_access_rather_than_keeping_it() {
        let unknown: Change = serde_json::from_str(r#"{"kind":"schedule","schedule":7}"#).unwrap();
        assert_eq!(unknown, Change::Unknown);
        assert!(unknown.ends_access());
        let later = r#"{"kind":"device","device":1,"uid":"hx1","version":2,"what":"rehomed"}"#;
        let Change::Device { what, .. } = serde_json::from_str(later).unwrap() else { panic!("a device's change") };
        assert!(what.ends_access() && what.ends_session());
    }
}
