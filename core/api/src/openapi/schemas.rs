//! Schemas of bodies: their shape comes from the types that are read and written, what a type cannot say from the rules
//! here, by the names of members, which are the contract.

use std::collections::BTreeMap;

use hexa_model::device::{MAX_INPUTS, MAX_RELAYS};
use hexa_model::{DeviceClass, InvitationState, Role, Scope, Source, names};
use hexa_operations::config::RegistrationMode;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa::openapi::{RefOr, schema};

/// Adds a type to the components and gives what refers to it.
pub(crate) type Schema = fn(&mut Schemas) -> Value;

/// The components of the document.
#[derive(Debug, Default)]
pub(crate) struct Schemas {
    /// By the names of the types.
    pub(super) all: BTreeMap<String, Value>,
    /// Errors, by the codes that they may be.
    pub(super) responses: BTreeMap<String, Value>,
}

impl Schemas {
    fn add(&mut self, name: String, schema: &RefOr<schema::Schema>) {
        let made = || serde_json::to_value(schema).unwrap_or_default();
        self.all.entry(name).or_insert_with_key(|name| tidy(name, made()));
    }
}

/// Without null: a parameter is there or not.
pub(super) fn not_null(schema: &mut Value) {
    if let Some(kind) = schema.get("type").and_then(Value::as_array).and_then(|k| k.iter().find(|k| *k != "null")) {
        schema["type"] = kind.clone();
    }
    if let Some(names) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        names.retain(|name| !name.is_null());
    }
}

/// Adds this type and those that it contains; gives a reference to it.
pub(crate) fn one<T: ToSchema>(schemas: &mut Schemas) -> Value {
    let mut nested = Vec::new();
    T::schemas(&mut nested);
    for (name, schema) in &nested {
        schemas.add(name.clone(), schema);
    }
    let name = T::name().into_owned();
    schemas.add(name.clone(), &T::schema());
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

/// A page of them.
pub(crate) fn page<T: ToSchema>(schemas: &mut Schemas) -> Value {
    let items = one::<T>(schemas);
    json!({
        "type": "object",
        "required": ["items", "next_cursor"],
        "properties": {
            "items": { "type": "array", "items": items },
            "next_cursor": { "type": ["string", "null"], "description": "For the next page; null on the last one." },
        },
    })
}

/// An object of any members.
pub(crate) fn map<T: ToSchema>(schemas: &mut Schemas) -> Value {
    let reference = one::<T>(schemas);
    schemas.all.insert(T::name().into_owned(), json!({ "type": "object", "description": "Any JSON object." }));
    reference
}

/// Bodies that are read know their members; bodies that are written have them all.
fn tidy(name: &str, mut schema: Value) -> Value {
    let asked = name.ends_with("Request") || name.ends_with("Query") || name == "RelayName";
    finish(name, asked, &mut schema);
    schema
}

fn finish(name: &str, asked: bool, schema: &mut Value) {
    if let Some(parts) = schema.get_mut("allOf").and_then(Value::as_array_mut) {
        for part in parts {
            finish(name, asked, part);
        }
    }
    let Some(object) = schema.as_object_mut() else { return };
    object.remove("description");
    let Some(Value::Object(properties)) = object.get_mut("properties") else { return };
    let names: Vec<String> = properties.keys().cloned().collect();
    for (member, rule) in names.iter().filter_map(|member| Some((member, rule(name, member)?))) {
        let Some(mut property) = properties.get_mut(member) else { continue };
        if property.get("items").is_some() {
            property = &mut property["items"];
        }
        let Some(property) = property.as_object_mut() else { continue };
        let nullable = property.get("type").and_then(Value::as_array).is_some_and(|t| t.contains(&json!("null")));
        for (key, mut value) in rule {
            if key == "enum" && nullable {
                value.as_array_mut().into_iter().for_each(|v| v.push(Value::Null));
            }
            property.insert(key, value);
        }
    }
    if asked {
        object.insert("additionalProperties".into(), false.into());
    } else {
        object.insert("required".into(), names.into());
    }
}

fn rule(schema: &str, member: &str) -> Option<serde_json::Map<String, Value>> {
    let fits = |of: &str| match of.split_once('.') {
        Some((wanted, name)) => wanted == schema && name == member,
        None => of == member,
    };
    match RULES.iter().find(|(of, _)| fits(of)).map(|(_, rule)| rule()) {
        Some(Value::Object(rule)) => Some(rule),
        _ => None,
    }
}

fn time() -> Value {
    json!({ "format": "date-time" })
}
fn uuid() -> Value {
    json!({ "format": "uuid" })
}
fn password() -> Value {
    json!({ "minLength": 12, "maxLength": 128, "format": "password" })
}
fn given_password() -> Value {
    json!({ "maxLength": 1024, "format": "password" })
}
/// A schema counts code points, readers do not.
const NAME: &str = "At most 64 characters as a reader counts them (UAX 29) and 2048 bytes, none of them a control \
     character, invisible, or one that changes the direction of writing.";
fn name() -> Value {
    json!({ "maxLength": names::MAX_BYTES, "description": NAME })
}
fn limit() -> Value {
    json!({ "minimum": 1, "maximum": 500, "default": 50 })
}
fn invitation_states() -> Value {
    json!({ "enum": InvitationState::ALL.map(InvitationState::as_str) })
}
fn outcomes() -> Value {
    let names = ["pending", "executed", "noop", "rejected", "timeout", "offline", "mismatch", "error"];
    json!({ "enum": names })
}

type Rule = fn() -> Value;

/// `Schema.member` before `member`; the first one that fits.
const RULES: &[(&str, Rule)] = &[
    ("TokenBody.id", uuid),
    ("SessionBody.id", uuid),
    ("UserBody.id", uuid),
    ("AccountBody.id", uuid),
    ("GrantBody.id", uuid),
    ("GuestBody.id", uuid),
    ("PersonBody.id", uuid),
    ("InvitationBody.id", uuid),
    ("InvitationBody.state", invitation_states),
    ("ListInvitationsQuery.state", invitation_states),
    ("ListInvitationsQuery.limit", limit),
    ("RegistrationBody.mode", || json!({ "enum": RegistrationMode::ALL.map(RegistrationMode::as_str) })),
    ("CreateInvitationRequest.email", || json!({ "format": "email", "maxLength": 254 })),
    ("CreateInvitationRequest.note", name),
    ("ended_at", time),
    ("OwnerBody.id", uuid),
    ("ListDevicesQuery.owner", uuid),
    ("ListDevicesQuery.sort", || json!({ "enum": ["name", "added"], "default": "added" })),
    ("command_id", uuid),
    ("created_at", time),
    ("expires_at", time),
    ("starts_at", time),
    ("last_used_at", time),
    ("last_seen_at", time),
    ("claimed_at", time),
    ("updated_at", time),
    ("claim_expires_at", time),
    ("previous_valid_until", time),
    ("at", time),
    ("since", time),
    ("until", time),
    ("RegisterRequest.password", password),
    ("new_password", password),
    ("password", given_password),
    ("current_password", given_password),
    ("RegisterRequest.email", || json!({ "format": "email", "maxLength": 254 })),
    ("PatchRequest.name", name),
    ("RelayName.name", name),
    ("RegisterRequest.name", name),
    ("PatchUserRequest.name", name),
    ("search", || json!({ "maxLength": names::MAX_BYTES })),
    ("CreateTokenRequest.name", || json!({ "minLength": 1, "maxLength": names::MAX_BYTES, "description": NAME })),
    ("expires_in_days", || json!({ "minimum": 1, "maximum": 3650 })),
    ("role", || json!({ "enum": [Role::User.as_str(), Role::Admin.as_str()] })),
    ("scopes", || json!({ "enum": Scope::ALL.map(Scope::as_str) })),
    ("classes", classes),
    ("device_class", classes),
    ("DeviceBody.access", || json!({ "enum": ["owner", "admin", "control", "read"] })),
    ("access", || json!({ "enum": ["read", "control"] })),
    ("AuditQuery.source", || json!({})),
    ("ExportQuery.source", || json!({})),
    ("KeysBody.source", || json!({ "enum": ["server", "configuration"] })),
    ("source", || json!({ "enum": Source::ALL.map(Source::as_str) })),
    ("WorkerBody.state", || json!({ "enum": ["new", "idle", "running", "backing_off", "stopped"] })),
    ("WorkerBody.runs_on", || json!({ "enum": ["every_node", "one_node", "claims_work"] })),
    ("last_run_at", time),
    ("KeyBody.state", || json!({ "enum": ["active", "next", "retired"] })),
    ("CommandBody.status", || json!({ "enum": ["executed", "noop"] })),
    ("CommandStatusResponse.status", outcomes),
    ("FollowUpBody.status", || json!({ "enum": ["late_ack", "healed"] })),
    ("HealthBody.status", || json!({ "enum": ["ok", "degraded"] })),
    ("HealthBody.database", || json!({ "enum": ["ok", "unavailable"] })),
    ("token_type", || json!({ "enum": ["Bearer"] })),
    ("FaultsQuery.limit", || json!({ "minimum": 1, "maximum": 256, "default": 50 })),
    ("ListDevicesQuery.limit", limit),
    ("AuditQuery.limit", limit),
    ("ListUsersQuery.limit", limit),
    ("HistoryQuery.limit", limit),
    ("for_ms", || json!({ "minimum": 1, "maximum": 86_400_000 })),
    ("max_uses", || json!({ "minimum": 1, "maximum": 1_000_000 })),
    ("ProvisionRequest.relay_count", || json!({ "maximum": MAX_RELAYS })),
    ("ProvisionRequest.input_count", || json!({ "maximum": MAX_INPUTS })),
    ("index", || json!({ "minimum": 0, "maximum": MAX_RELAYS - 1 })),
];

fn classes() -> Value {
    json!({ "enum": DeviceClass::ALL.map(DeviceClass::as_str) })
}
