//! The few statements in which the databases differ. Everything else is the common subset: `$1` placeholders,
//! `returning`, `on conflict`, integer keys, BIGINT epoch milliseconds, booleans tested by their name alone.

/// A statement in both forms.
#[derive(Clone, Copy)]
pub(crate) struct Both {
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

/// Devices of these public ids.
pub(crate) const DEVICES_BY_UID: Both = Both {
    sqlite: "select * from devices where uid in (select value from json_each($1))",
    postgres: "select * from devices where uid = any($1)",
};

/// Devices of these keys, in order.
pub(crate) const DEVICES_BY_KEY: Both = Both {
    sqlite: "select * from devices where id in (select value from json_each($1)) order by id",
    postgres: "select * from devices where id = any($1) order by id",
};

/// Sessions of these ids that go on after `$2`, with the end of their last token.
pub(crate) const LIVING_SESSIONS: Both = Both {
    sqlite: "select f.uid, f.expires_at, max(t.expires_at) as ends_at from refresh_families f \
             join refresh_tokens t on t.family_id = f.id where f.uid in (select value from json_each($1)) \
             and f.revoked_at is null and f.expires_at > $2 and t.spent_at is null and t.expires_at > $2 \
             group by f.id, f.uid, f.expires_at",
    postgres: "select f.uid, f.expires_at, max(t.expires_at) as ends_at from refresh_families f \
               join refresh_tokens t on t.family_id = f.id where f.uid = any($1) \
               and f.revoked_at is null and f.expires_at > $2 and t.spent_at is null and t.expires_at > $2 \
               group by f.id, f.uid, f.expires_at",
};

/// Access tokens of these ids that were not revoked.
pub(crate) const LIVING_TOKENS: Both = Both {
    sqlite: "select uid, expires_at from access_tokens where uid in (select value from json_each($1)) \
             and revoked_at is null",
    postgres: "select uid, expires_at from access_tokens where uid = any($1) and revoked_at is null",
};

/// States of many devices, their keys in `$1`: SQLite reads JSON, PostgreSQL an array.
pub(crate) const RELAY_STATES_OF: Both = Both {
    sqlite: "select device_id, relay, state, version, updated_at from relay_states \
             where device_id in (select value from json_each($1)) order by device_id, relay",
    postgres: "select device_id, relay, state, version, updated_at from relay_states \
               where device_id = any($1) order by device_id, relay",
};

/// Names of many devices, likewise.
pub(crate) const RELAY_NAMES_OF: Both = Both {
    sqlite: "select device_id, relay, name from relay_names \
             where device_id in (select value from json_each($1)) order by device_id, relay",
    postgres: "select device_id, relay, name from relay_names where device_id = any($1) order by device_id, relay",
};

/// Capabilities of many devices, likewise.
pub(crate) const CAPABILITIES_OF: Both = Both {
    sqlite: "select device_id, capability from device_capabilities \
             where device_id in (select value from json_each($1)) order by device_id, capability",
    postgres: "select device_id, capability from device_capabilities where device_id = any($1) \
               order by device_id, capability",
};

/// E-mails and names of these accounts, likewise.
pub(crate) const PEOPLE: Both = Both {
    sqlite: "select id, uid, email, name from users where id in (select value from json_each($1))",
    postgres: "select id, uid, email, name from users where id = any($1)",
};

/// A text as lists are sorted by it: ASCII letters in any case, everything else by its bytes. That is what SQLite does
/// by itself; PostgreSQL would otherwise sort, and lower, as the database's locale says.
pub(crate) fn sorted(sqlite: bool, text: &str) -> String {
    if sqlite { format!("lower({text})") } else { format!("lower({text} collate \"C\")") }
}
