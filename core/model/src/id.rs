//! Identifiers as newtypes, so that a user's id cannot be passed where a command's belongs.
//!
//! `…Id` and `…Uid` are what the outside sees; `…Key` are the store's integer surrogate keys, which never leave
//! the process (ADR 2: integer keys make the hot tables four times cheaper to write).

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A UUIDv7 (RFC 9562) of this millisecond with fresh randomness: its indexes grow at the end.
            pub fn at(now: crate::TimeMs, random: [u8; 10]) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(now.0.max(0) as u64, &random).into_uuid())
            }
            /// Reads the textual form; `None` for anything that is not a UUID.
            pub fn parse(text: &str) -> Option<Self> {
                Uuid::try_parse(text).ok().map(Self)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

uuid_id!(
    /// One relay command, from the request to its audit row.
    CommandId
);
uuid_id!(
    /// An account, as the API names it.
    UserId
);
uuid_id!(
    /// One connection of a device or of a client.
    SessionId
);

uuid_id!(
    /// A personal access token.
    TokenId
);
uuid_id!(
    /// A device, or relays of it, that are shared with somebody.
    GrantId
);
uuid_id!(
    /// An invitation to make an account.
    InvitationId
);

macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub i64);
    };
}
key!(
    /// Integer surrogate key of a device row.
    DeviceKey
);
key!(
    /// Integer surrogate key of a user row.
    UserKey
);

/// A device's public id: 1 to 64 of `[A-Za-z0-9_-]`, so that it can stand in a URL and in an MQTT topic.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct DeviceUid(Arc<str>);

impl DeviceUid {
    /// Characters, and bytes, of the longest one.
    pub const MAX_LEN: usize = 64;

    /// Checks the grammar; `None` when the text does not fit it.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=Self::MAX_LEN).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        fits.then(|| Self(text.into()))
    }
    /// A new uid: `hx` and 16 lower-case Crockford base32 digits (80 random bits).
    pub fn generate(random: [u8; 10]) -> Self {
        const DIGITS: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let mut text = String::with_capacity(18);
        text.push_str("hx");
        for chunk in random.chunks(5) {
            let bits = chunk.iter().fold(0u64, |acc, b| (acc << 8) | u64::from(*b));
            for i in (0..8).rev() {
                text.push(char::from(DIGITS[(bits >> (5 * i)) as usize & 31]));
            }
        }
        Self(text.into())
    }
    /// The uid as text, such as for a URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
impl<'de> Deserialize<'de> for DeviceUid {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("a device uid has 1 to 64 of A-Z a-z 0-9 _ -"))
    }
}
impl fmt::Display for DeviceUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
impl fmt::Debug for DeviceUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_never_holds_what_a_topic_or_path_would_split() {
        for bad in ["", "a b", "a/b", "a+b", "a#", "a\n", "ü", &"x".repeat(65)] {
            assert!(DeviceUid::parse(bad).is_none(), "{bad:?}");
        }
        assert_eq!(DeviceUid::parse("hx-0_Z").map(|u| u.to_string()).as_deref(), Some("hx-0_Z"));
    }

    #[test]
    fn generated_uids_fit_their_own_grammar() {
        let uid = DeviceUid::generate([255, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(uid.as_str().len(), 18);
        assert!(DeviceUid::parse(uid.as_str()).is_some());
    }

    #[test]
    fn command_ids_sort_by_time() {
        let early = CommandId::at(crate::TimeMs(1_000), [255; 10]);
        let late = CommandId::at(crate::TimeMs(1_001), [0; 10]);
        assert!(early < late);
        assert_eq!(CommandId::parse(&early.to_string()), Some(early));
    }
}
