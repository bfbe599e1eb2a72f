//! The account room: who you are, how you prove it, and what is kept for you.
//!
//! Called by the rooms above and by the entry points; calls `platform`, `store`, `crypto`, `model`.
//! Invariants: a password is hashed behind a bounded queue; what ends an access is in its own transaction, and in memory
//! before the answer.
//! Start at [`Accounts`], then [`authenticate`].

pub mod account;
mod accounts;
pub mod authenticate;
pub mod config;
pub mod invitations;
pub mod keys;
mod memory;
pub mod pats;
pub mod preferences;
pub mod refresh;
pub mod sessions;
mod throttle;
pub mod tickets;
mod tokens;
pub mod users;

mod ended;
mod hashing;

pub use accounts::{Accounts, ClientInfo};
pub use hexa_platform::principal;
pub use hexa_store::{InvitationRow, PersonRow, SessionRow, TokenRow, UserFilter, UserRow};
