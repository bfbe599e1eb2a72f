//! Why a driver could not do what it was asked. The contract's `codec-error`, with short ways to make one.

use crate::types::{CodecError, Frame, Malformed, OtherError};

/// What a driver call gives.
pub type Result<T> = std::result::Result<T, Error>;

/// The contract's `codec-error`: an answer, not a fault; the instance stays in use.
pub type Error = CodecError;

impl CodecError {
    /// The device cannot do this; callers see 422 `unsupported_command`.
    pub fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported(what.into())
    }

    /// The command's arguments are wrong; callers see 400.
    pub fn invalid_argument(what: impl Into<String>) -> Self {
        Self::InvalidArgument(what.into())
    }

    /// The frame is not understood: counted, dropped.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::Malformed(Malformed { message: message.into(), reply: None })
    }

    /// Not now: handshake unfinished, device busy; callers see 409.
    pub fn not_ready(what: impl Into<String>) -> Self {
        Self::NotReady(what.into())
    }

    /// Anything else, with a code of the driver's own.
    pub fn other(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Other(OtherError { code: code.into(), message: message.into() })
    }

    /// Adds a frame for the device to a `malformed`; other errors are returned as they are.
    #[must_use]
    pub fn with_reply(self, reply: impl FnOnce(&str) -> Frame) -> Self {
        match self {
            Self::Malformed(Malformed { message, reply: None }) => {
                let reply = Some(reply(&message));
                Self::Malformed(Malformed { message, reply })
            }
            other => other,
        }
    }

    /// Says where in a frame a `malformed` was found: `relays[2].` and then the message.
    #[must_use]
    pub fn within(self, place: &str) -> Self {
        match self {
            Self::Malformed(m) => {
                Self::Malformed(Malformed { message: format!("{place}{}", m.message), reply: m.reply })
            }
            other => other,
        }
    }
}
