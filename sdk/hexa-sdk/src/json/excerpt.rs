//! What the text of an error repeats of a message, and of serde's own errors.

use std::borrow::Cow;

/// What went wrong without line and column, which say little of a message that is known by its member's name.
pub(crate) fn without_position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).unwrap_or(&text).to_owned()
}

/// Characters of what a device sent that its error text repeats.
pub(crate) const SHOWN: usize = 40;

/// At most so many characters of a text.
pub(crate) fn shorten(text: &str, characters: usize) -> Cow<'_, str> {
    match text.char_indices().nth(characters) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}
