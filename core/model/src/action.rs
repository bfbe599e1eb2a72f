//! What can be asked of a device: one closed set, whoever asks. Each action carries its own checks, the scope that a token
//! needs for it, and its name in the audit.

use serde::{Deserialize, Serialize};

use crate::{ErrorCode, Scope};

/// The longest `for_ms` of a relay: a day.
pub const MAX_FOR_MS: u32 = 86_400_000;
/// Bytes of the name of a custom command.
pub const MAX_CUSTOM_NAME: usize = 64;
/// Bytes of the arguments of a custom command.
pub const MAX_CUSTOM_ARGS: usize = 4096;

/// What is asked of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Switch one relay or all of them.
    Relay(RelayAction),
    /// Show which device it is: blink, beep.
    Identify,
    /// A command that only this family of devices knows; declared by its driver.
    Custom(Box<CustomCommand>),
}

/// A command of a driver's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CustomCommand {
    /// The name that its driver declares.
    pub name: String,
    /// A JSON object, as text.
    pub args: String,
}

/// What is asked of the relays. Always a set, never a toggle: a command that arrives twice must do no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelayAction {
    /// Switch one relay of the device.
    Set {
        /// Zero based, below the device's relay count.
        index: u16,
        /// The wanted state: true is on.
        on: bool,
        /// Back to the opposite after this many milliseconds, timed by the device; at most [`MAX_FOR_MS`].
        for_ms: Option<u32>,
    },
    /// All relays of the device, in one frame and one transaction.
    SetAll {
        /// The wanted state: true is on.
        on: bool,
    },
}

/// What a device is able to do, as far as actions ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceAbilities {
    /// How many relays it has; 0 = none.
    pub relay_count: u16,
}

/// Why an action may not be asked of a device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAction {
    /// The device cannot do anything of the kind.
    #[error("{0}")]
    Unsupported(&'static str),
    /// An argument is not allowed: its name, and what is.
    #[error("{message}")]
    Argument {
        /// The member of the request.
        field: &'static str,
        /// What is allowed, for people: the message of the API's error.
        message: String,
    },
}

impl InvalidAction {
    /// The code of the answer.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Unsupported(_) => ErrorCode::UnsupportedCommand,
            Self::Argument { .. } => ErrorCode::ValidationError,
        }
    }
}

fn argument(field: &'static str, message: String) -> InvalidAction {
    InvalidAction::Argument { field, message }
}

impl From<RelayAction> for Action {
    fn from(action: RelayAction) -> Self {
        Self::Relay(action)
    }
}

impl Action {
    /// The audit's name for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Relay(action) => action.name(),
            Self::Identify => "identify",
            Self::Custom(_) => "custom_command",
        }
    }

    /// What a personal access token must be allowed for it.
    pub fn scope(&self) -> Scope {
        match self {
            Self::Relay(_) => Scope::RelaysWrite,
            Self::Identify | Self::Custom(_) => Scope::DevicesWrite,
        }
    }

    /// What it asks of relays, if it does.
    pub fn relay(&self) -> Option<RelayAction> {
        match self {
            Self::Relay(action) => Some(*action),
            Self::Identify | Self::Custom(_) => None,
        }
    }

    /// Whether this device can be asked for it, and its arguments are allowed. Every command path asks here, whatever the
    /// door has looked at before.
    ///
    /// # Errors
    /// What the device cannot do, or which argument is wrong and what is allowed.
    pub fn validate(&self, device: DeviceAbilities) -> Result<(), InvalidAction> {
        match self {
            Self::Relay(action) => action.validate(device),
            Self::Identify => Ok(()),
            Self::Custom(command) => command.validate(),
        }
    }
}

impl CustomCommand {
    fn validate(&self) -> Result<(), InvalidAction> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
        if !(1..=MAX_CUSTOM_NAME).contains(&self.name.len()) || !self.name.bytes().all(plain) {
            return Err(argument("name", format!("a command's name has 1 to {MAX_CUSTOM_NAME} of A-Z a-z 0-9 _ -")));
        }
        let object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&self.args).is_ok();
        if self.args.len() > MAX_CUSTOM_ARGS || !object {
            return Err(argument("args", format!("args is a JSON object of at most {MAX_CUSTOM_ARGS} bytes")));
        }
        Ok(())
    }
}

impl RelayAction {
    /// The audit's and the protocol's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Set { .. } => "set_relay",
            Self::SetAll { .. } => "set_all_relays",
        }
    }
    /// The wanted state: true is on.
    pub fn on(self) -> bool {
        match self {
            Self::Set { on, .. } | Self::SetAll { on } => on,
        }
    }
    /// The one relay, or `None` for all.
    pub fn index(self) -> Option<u16> {
        match self {
            Self::Set { index, .. } => Some(index),
            Self::SetAll { .. } => None,
        }
    }

    /// Whether its arguments are allowed, whichever device it is for.
    ///
    /// # Errors
    /// Which argument is wrong, and what is allowed.
    pub fn checked(self) -> Result<Self, InvalidAction> {
        match self {
            Self::Set { for_ms: Some(ms), .. } if ms == 0 || ms > MAX_FOR_MS => {
                Err(argument("for_ms", format!("for_ms is 1 to {MAX_FOR_MS} (a day)")))
            }
            fine => Ok(fine),
        }
    }

    fn validate(self, device: DeviceAbilities) -> Result<(), InvalidAction> {
        let Some(most) = device.relay_count.checked_sub(1) else {
            return Err(InvalidAction::Unsupported("this device has no relays"));
        };
        if let Some(index) = self.index()
            && index > most
        {
            return Err(argument("index", format!("this device's relays are 0 to {most}; {index} is not one")));
        }
        self.checked().map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: DeviceAbilities = DeviceAbilities { relay_count: 2 };

    fn set(index: u16, for_ms: Option<u32>) -> Action {
        RelayAction::Set { index, on: true, for_ms }.into()
    }
    fn custom(name: &str, args: &str) -> Action {
        Action::Custom(Box::new(CustomCommand { name: name.into(), args: args.into() }))
    }

    #[test]
    fn a_relay_that_is_not_there_and_a_duration_beyond_a_day_are_refused() {
        assert_eq!(set(1, Some(MAX_FOR_MS)).validate(TWO), Ok(()));
        assert_eq!(Action::from(RelayAction::SetAll { on: false }).validate(TWO), Ok(()));
        for (action, field) in
            [(set(2, None), "index"), (set(0, Some(0)), "for_ms"), (set(0, Some(86_400_001)), "for_ms")]
        {
            let refused = action.validate(TWO).unwrap_err();
            assert!(
                matches!(refused, InvalidAction::Argument { field: f, .. } if f == field),
                "{action:?}: {refused:?}"
            );
            assert_eq!(refused.code(), ErrorCode::ValidationError);
        }
        let none = set(0, None).validate(DeviceAbilities { relay_count: 0 }).unwrap_err();
        assert_eq!(none.code(), ErrorCode::UnsupportedCommand);
    }

    #[test]
    fn a_custom_command_has_a_plain_name_and_an_object_of_arguments() {
        assert_eq!(custom("self-test", "{}").validate(TWO), Ok(()));
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_CUSTOM_ARGS));
        for (name, args) in [("", "{}"), ("a b", "{}"), ("a", "[]"), ("a", "1"), ("a", ""), ("a", long.as_str())] {
            assert!(custom(name, args).validate(TWO).is_err(), "{name} {args}");
        }
    }

    #[test]
    fn actions_are_the_same_after_they_were_sent_as_text() {
        for action in [set(1, Some(5)), Action::Identify, custom("self-test", "{\"level\":2}")] {
            let text = serde_json::to_string(&action).unwrap();
            assert_eq!(serde_json::from_str::<Action>(&text).unwrap(), action, "{text}");
        }
    }
}
