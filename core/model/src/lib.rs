//! The words of the house: ids, devices, commands, driver values, events, error codes, clock.
//!
//! Called by every other crate; calls nobody.
//! Invariants: no I/O, no async, no SQL, no HTTP, and no wall clock except through [`Clock`].
//! Start at [`request`] for what a command is and at [`driver`] for what a plugin says.

pub mod action;
pub mod audit;
pub mod change;
pub mod clock;
pub mod command;
pub mod crash;
pub mod device;
pub mod driver;
pub mod error;
pub mod event;
pub mod grant;
pub mod id;
pub mod invitation;
pub mod names;
pub mod plugin;
pub mod request;
pub mod scope;
pub mod user;

pub use action::{Action, CustomCommand, DeviceAbilities, InvalidAction, RelayAction};
pub use change::{Change, DeviceChange};
pub use clock::{Clock, ManualClock, SystemClock, TimeMs};
pub use command::{Actor, Outcome, RejectReason, Source};
pub use device::{DeviceClass, RelayState};
pub use error::ErrorCode;
pub use grant::{Grant, GrantAccess, RelayMask, Viewer};
pub use id::{CommandId, DeviceKey, DeviceUid, GrantId, InvitationId, SessionId, TokenId, UserId, UserKey};
pub use invitation::InvitationState;
pub use request::{Cause, CommandRequest, CommandResult, IdempotencyKey, KeyState, MadeBy, ResultData};
pub use scope::{Scope, Scopes};
pub use user::Role;
