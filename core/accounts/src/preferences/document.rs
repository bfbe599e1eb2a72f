//! One document: its name, its limits, and how a change is merged into it.

use hexa_model::ErrorCode;
use serde_json::{Map, Value, json};

use hexa_platform::error::{Error, Result};

/// The longest document, in bytes of JSON text without white space.
pub const MAX_BYTES: usize = 64 * 1024;
/// The deepest document; the document itself is the first level.
pub const MAX_DEPTH: usize = 32;

/// The documents that there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// Which cards are where.
    DashboardLayout,
    /// How the console is set, such as which cards are collapsed.
    DashboardSettings,
    /// What was last looked at.
    DeviceViewState,
    /// Which notices are wanted.
    NotificationSettings,
}

impl Name {
    /// In the order of the list.
    pub const ALL: [Self; 4] =
        [Self::DashboardLayout, Self::DashboardSettings, Self::DeviceViewState, Self::NotificationSettings];

    /// As it is written in paths and stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DashboardLayout => "dashboard_layout",
            Self::DashboardSettings => "dashboard_settings",
            Self::DeviceViewState => "device_view_state",
            Self::NotificationSettings => "notification_settings",
        }
    }
    /// The document of this name, as [`Name::as_str`] writes it; none for any other.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|n| n.as_str() == text)
    }
}

/// The text to be stored.
///
/// # Errors
/// `payload_too_large`, or `validation_error` for one that is nested too deep.
pub(super) fn checked(name: Name, document: Map<String, Value>) -> Result<String> {
    let document = Value::Object(document);
    if depth(&document) > MAX_DEPTH {
        let what = format!("{} is nested at most {MAX_DEPTH} deep", name.as_str());
        return Err(Error::validation(name.as_str(), what));
    }
    let text = document.to_string();
    if text.len() > MAX_BYTES {
        let what = format!("{} has {} bytes; at most {MAX_BYTES} are allowed", name.as_str(), text.len());
        let details = json!({ "field": name.as_str(), "limit_bytes": MAX_BYTES });
        return Err(Error::new(ErrorCode::PayloadTooLarge, what).details(details));
    }
    Ok(text)
}

/// The reader of JSON goes no deeper than 128, so this may call itself.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// RFC 7396: members of the patch replace those of the document, null removes one, objects are merged member by member.
pub(super) fn merged(mut document: Map<String, Value>, patch: Map<String, Value>) -> Map<String, Value> {
    for (name, change) in patch {
        match change {
            Value::Null => drop(document.remove(&name)),
            Value::Object(change) => {
                let before = match document.remove(&name) {
                    Some(Value::Object(before)) => before,
                    _ => Map::new(),
                };
                document.insert(name, Value::Object(merged(before, change)));
            }
            other => drop(document.insert(name, other)),
        }
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(map) => map,
            other => panic!("{other}"),
        }
    }

    /// The cases of RFC 7396, appendix A, in which both sides are objects.
    #[test]
    fn merging_does_what_the_rfc_shows() {
        for (document, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            assert_eq!(merged(object(document.clone()), object(patch.clone())), object(result), "{document} + {patch}");
        }
    }

    #[test]
    fn limits_are_met_exactly() {
        let long = |n: usize| object(json!({ "t": "x".repeat(n - r#"{"t":""}"#.len()) }));
        assert_eq!(checked(Name::DashboardLayout, long(MAX_BYTES)).unwrap().len(), MAX_BYTES);
        let refused = checked(Name::DashboardLayout, long(MAX_BYTES + 1)).unwrap_err();
        assert_eq!(refused.code, ErrorCode::PayloadTooLarge);
        // Objects and arrays in turn, `depth` of them, the outermost an object.
        let deep = |depth: usize| {
            let inner = (1..depth).fold(json!(1), |v, n| if n % 2 == 0 { json!([v]) } else { json!({ "d": v }) });
            object(json!({ "d": inner }))
        };
        for (depth, fits) in [(MAX_DEPTH, true), (MAX_DEPTH + 1, false)] {
            assert_eq!(checked(Name::DashboardLayout, deep(depth)).is_ok(), fits, "{depth}");
        }
    }
}
