//! One way for every command, whatever it asks for and through whichever entry point it comes: [`path`] has the nine
//! steps.
//!
//! What an answer amounts to is decided by the pure machine (`hexa-machine`), what callers are told is worded in
//! [`answer`], and what became of a command is looked up in [`lookup`].

pub mod acknowledge;
pub mod answer;
pub mod lookup;
pub mod path;
pub mod pending;
