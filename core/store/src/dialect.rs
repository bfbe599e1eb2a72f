//! The few statements in which the databases differ. Everything else is the common subset: `$1` placeholders,
//! `returning`, `on conflict`, integer keys, BIGINT epoch milliseconds.

/// A list of keys as one bind: SQLite reads JSON, PostgreSQL will take an array.
pub(crate) fn key_list(keys: impl Iterator<Item = i64>) -> String {
    let mut text = String::from("[");
    for (i, key) in keys.enumerate() {
        if i > 0 {
            text.push(',');
        }
        text.push_str(&key.to_string());
    }
    text.push(']');
    text
}

/// States of many devices, keys as [`key_list`] in `$1`.
pub(crate) const RELAY_STATES_OF: &str = "select device_id, relay, state, version, updated_at from relay_states \
     where device_id in (select value from json_each($1)) order by device_id, relay";

/// Names of many devices, likewise.
pub(crate) const RELAY_NAMES_OF: &str = "select device_id, relay, name from relay_names \
     where device_id in (select value from json_each($1)) order by device_id, relay";

/// Capabilities of many devices, likewise.
pub(crate) const CAPABILITIES_OF: &str = "select device_id, capability from device_capabilities \
     where device_id in (select value from json_each($1)) order by device_id, capability";
