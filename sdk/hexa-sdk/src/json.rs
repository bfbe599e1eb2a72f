//! JSON text frames, read with serde.
//!
//! [`parse`] gives a message as any type that derives `Deserialize`. serde leaves two things open that a protocol must
//! not, how deep values nest and which of two members with the same name counts, so these are refused before the type
//! is looked at.

mod document;
pub(crate) mod excerpt;
mod nodes;
#[cfg(test)]
mod tests;

use serde::Deserialize;

use crate::error::{Error, Result};

pub(crate) use document::{Document, Json};
pub use nodes::MAX_DEPTH;

use excerpt::{SHOWN, shorten, without_position};

/// Reads a message, whose outermost value must be an object, as a `T`.
///
/// # Errors
/// `malformed` for text that is not JSON, for values that nest deeper than [`MAX_DEPTH`], for a member that is there
/// twice, and for a member that does not fit `T`.
pub fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T> {
    Document::parse(text)?;
    serde_json::from_str(text).map_err(|_| explain::<T>(text))
}

/// Reads once more, for the path to what does not fit: keeping it costs time that a good message does not have to pay.
#[cold]
fn explain<'a, T: Deserialize<'a>>(text: &'a str) -> Error {
    let json = &mut serde_json::Deserializer::from_str(text);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(json) else {
        return Error::malformed("the message does not fit its type");
    };
    let path = error.path().to_string();
    // serde repeats what came, however long it is, and the error goes back to the device in a frame.
    let message = without_position(error.inner());
    let message = shorten(&message, 200);
    let place = match path.rsplit_once('.') {
        _ if path == "." => String::new(),
        _ if path.ends_with(']') => format!("{}: ", shorten(&path, SHOWN)),
        Some((place, member)) => format!("{}: `{}`: ", shorten(place, SHOWN), shorten(member, SHOWN)),
        None => format!("`{}`: ", shorten(&path, SHOWN)),
    };
    Error::malformed(format!("{place}{message}"))
}
