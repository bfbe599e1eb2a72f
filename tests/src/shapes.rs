//! What every answer of one kind looks like.

use serde_json::Value;

/// The error body: exactly four members, a code in snake case, a sentence, details or null, the request's id.
///
/// # Panics
/// When `body` is anything else; `at` says whose answer it was.
pub fn assert_error(body: &Value, code: &str, at: &str) {
    let object = body.as_object().unwrap_or_else(|| panic!("{at}: an error body is an object, not {body}"));
    let mut members: Vec<_> = object.keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["code", "details", "message", "request_id"], "{at}: {body}");
    assert_eq!(body["code"], code, "{at}: {body}");
    let message = body["message"].as_str().unwrap_or_default();
    assert!(message.len() > 5, "{at}: a message for people, not {body}");
    for inner in ["sqlx", "rusqlite", "panicked", ".rs:", "SELECT ", "select "] {
        assert!(!message.contains(inner), "{at}: the message shows the inside: {body}");
    }
    assert!(body["details"].is_null() || body["details"].is_object(), "{at}: details are an object or null: {body}");
    assert!(body["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{at}: {body}");
}

/// RFC 3339 in UTC.
///
/// # Panics
/// When `value` is anything else.
pub fn assert_time(value: &Value, at: &str) {
    let text = value.as_str().unwrap_or_else(|| panic!("{at}: a time is a text, not {value}"));
    let shape = text.len() >= 20 && text.ends_with('Z') && text.as_bytes()[4] == b'-' && text.as_bytes()[10] == b'T';
    assert!(shape, "{at}: a time in UTC, not {text}");
}
