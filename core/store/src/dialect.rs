//! The few statements in which the databases differ. Everything else is the common subset: `$1` placeholders,
//! `returning`, `on conflict`, integer keys, BIGINT epoch milliseconds, booleans tested by their name alone.

/// A statement in both forms.
#[derive(Clone, Copy)]
pub(crate) struct DialectSql {
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

/// A new device. No key is ever given twice, also not the one of the newest device after it was deleted: what is late of
/// a deleted device must not land at another. PostgreSQL's sequence sees to that; SQLite would start from the highest
/// key that is left, so the highest one that ever was is kept (migration 14).
pub(crate) const INSERT_DEVICE: DialectSql = DialectSql {
    sqlite: "insert into devices (id, uid, device_class, model, hardware, firmware_version, serial, relay_count, \
             input_count, token_hash, claim_hash, claim_expires_at, created_at, updated_at, name_folded, claim_key, claim_made_at) \
             values ((select max(cast(value as integer), (select coalesce(max(id), 0) from devices)) + 1 \
             from settings where name = 'devices.highest_key'), \
             $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $13, $14, $15) returning id",
    postgres: "insert into devices (uid, device_class, model, hardware, firmware_version, serial, relay_count, \
               input_count, token_hash, claim_hash, claim_expires_at, created_at, updated_at, name_folded, claim_key, claim_made_at) \
               values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $13, $14, $15) returning id",
};

/// Devices of these public ids.
pub(crate) const DEVICES_BY_UID: DialectSql = DialectSql {
    sqlite: "select * from devices where uid in (select value from json_each($1))",
    postgres: "select * from devices where uid = any($1)",
};

/// Devices of these keys, in order.
pub(crate) const DEVICES_BY_KEY: DialectSql = DialectSql {
    sqlite: "select * from devices where id in (select value from json_each($1)) order by id",
    postgres: "select * from devices where id = any($1) order by id",
};

/// Sessions of these ids that go on after `$2`, with the end of their last token.
pub(crate) const LIVING_SESSIONS: DialectSql = DialectSql {
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
pub(crate) const LIVING_TOKENS: DialectSql = DialectSql {
    sqlite: "select uid, expires_at from access_tokens where uid in (select value from json_each($1)) \
             and revoked_at is null",
    postgres: "select uid, expires_at from access_tokens where uid = any($1) and revoked_at is null",
};

/// States of many devices, their keys in `$1`: SQLite reads JSON, PostgreSQL an array.
pub(crate) const RELAY_STATES_OF: DialectSql = DialectSql {
    sqlite: "select device_id, relay, state, version, updated_at from relay_states \
             where device_id in (select value from json_each($1)) order by device_id, relay",
    postgres: "select device_id, relay, state, version, updated_at from relay_states \
               where device_id = any($1) order by device_id, relay",
};

/// Names of many devices, likewise.
pub(crate) const RELAY_NAMES_OF: DialectSql = DialectSql {
    sqlite: "select device_id, relay, name from relay_names \
             where device_id in (select value from json_each($1)) order by device_id, relay",
    postgres: "select device_id, relay, name from relay_names where device_id = any($1) order by device_id, relay",
};

/// Capabilities of many devices, likewise.
pub(crate) const CAPABILITIES_OF: DialectSql = DialectSql {
    sqlite: "select device_id, capability from device_capabilities \
             where device_id in (select value from json_each($1)) order by device_id, capability",
    postgres: "select device_id, capability from device_capabilities where device_id = any($1) \
               order by device_id, capability",
};

/// E-mails and names of these accounts, likewise.
pub(crate) const PEOPLE: DialectSql = DialectSql {
    sqlite: "select id, uid, email, name from users where id in (select value from json_each($1))",
    postgres: "select id, uid, email, name from users where id = any($1)",
};

/// Folded names of devices: pairs of key and text in `$1`, as JSON.
pub(crate) const FOLD_DEVICES: DialectSql = DialectSql {
    sqlite: "update devices set name_folded = f.value ->> 1 from json_each($1) as f where devices.id = f.value ->> 0",
    postgres: "update devices set name_folded = f.value ->> 1 from json_array_elements($1::text::json) as f(value) \
               where id = (f.value ->> 0)::bigint",
};

/// Folded names of relays: device, relay and text, likewise.
pub(crate) const FOLD_RELAYS: DialectSql = DialectSql {
    sqlite: "update relay_names set name_folded = f.value ->> 2 from json_each($1) as f \
             where device_id = f.value ->> 0 and relay = f.value ->> 1",
    postgres: "update relay_names set name_folded = f.value ->> 2 from json_array_elements($1::text::json) as f(value) \
               where device_id = (f.value ->> 0)::bigint and relay = (f.value ->> 1)::bigint",
};

/// Folded e-mails and names of accounts: key and both, likewise.
pub(crate) const FOLD_USERS: DialectSql = DialectSql {
    sqlite: "update users set email_folded = f.value ->> 1, name_folded = f.value ->> 2 from json_each($1) as f \
             where users.id = f.value ->> 0",
    postgres: "update users set email_folded = f.value ->> 1, name_folded = f.value ->> 2 \
               from json_array_elements($1::text::json) as f(value) where id = (f.value ->> 0)::bigint",
};

/// An ASCII text in lower case, which is its fold. PostgreSQL would otherwise lower as the database's locale says: in a
/// Turkish one `I` is not the capital of `i`.
pub(crate) fn lowered(sqlite: bool, text: &str) -> String {
    if sqlite { format!("lower({text})") } else { format!("lower({text} collate \"C\")") }
}
