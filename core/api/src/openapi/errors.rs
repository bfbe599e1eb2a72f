//! Which errors an operation can answer: those that its entry names, and those that follow from what the route asks of
//! its caller and from what it reads.

use std::collections::BTreeMap;

use hexa_model::ErrorCode;
use serde_json::{Value, json};

use super::schemas::Schemas;

use crate::routes::docs::Doc;
use crate::routes::{Access, Route};

fn codes(route: &Route, doc: &Doc) -> Vec<ErrorCode> {
    use ErrorCode as E;
    let mut all = vec![E::HttpsRequired, E::RateLimited, E::HeadersTooLarge, E::InternalError];
    all.extend([E::StorageUnavailable, E::Busy, E::ValidationError]);
    if !route.path.starts_with("/ws/") {
        all.push(E::RequestTimeout);
    }
    if doc.body.is_some() {
        all.extend([E::PayloadTooLarge, E::UnsupportedMediaType]);
    }
    if route.method != "GET" {
        all.extend([E::IdempotencyConflict, E::IdempotencyInProgress, E::PayloadTooLarge]);
    }
    if route.path.contains('{') {
        all.push(E::NotFound);
    }
    match route.access {
        Access::Public => {}
        Access::Device => all.push(E::InvalidToken),
        Access::Account | Access::Operator => all.extend([E::InvalidToken, E::AccountDisabled]),
        Access::Scope(_) | Access::Session => all.extend([E::InvalidToken, E::AccountDisabled, E::InsufficientScope]),
        Access::Admin | Access::AdminAnd(_) => {
            all.extend([E::InvalidToken, E::AccountDisabled, E::InsufficientScope, E::Forbidden]);
        }
    }
    if route.access == Access::Operator {
        all.extend([E::Forbidden, E::InsufficientScope]);
    }
    all.extend(doc.errors);
    all
}

/// The name of a schema for these error codes, such as `DeviceOfflineOrDeviceNotReady`.
fn title(names: &[&str]) -> String {
    let camel = |name: &&str| {
        let upper = |word: &str| word[..1].to_uppercase() + &word[1..];
        name.split('_').map(upper).collect::<String>()
    };
    names.iter().map(camel).collect::<Vec<_>>().join("Or")
}

/// By status; each says which codes it may be.
pub(super) fn responses(route: &Route, doc: &Doc, schemas: &mut Schemas) -> BTreeMap<u16, Value> {
    let mut by_status: BTreeMap<u16, Vec<&'static str>> = BTreeMap::new();
    for code in codes(route, doc) {
        let names = by_status.entry(code.status()).or_default();
        if !names.contains(&code.name()) {
            names.push(code.name());
        }
    }
    let response = |(status, names): (u16, Vec<&'static str>)| {
        let meaning = |name: &&str| {
            let code = ErrorCode::ALL.iter().find(|c| c.name() == *name);
            format!("`{name}`: {}", code.map_or("", |c| c.meaning()))
        };
        let text = names.iter().map(meaning).collect::<Vec<_>>().join(" ");
        let example = json!({
            "code": names.first(),
            "message": "What was wrong, what is allowed, what to do.",
            "details": null,
            "request_id": "01a2073b926e7be6807f936f85565c9c",
        });
        let mut response = json!({
            "description": text,
            "content": {
                "application/json": { "schema": { "$ref": "#/components/schemas/Error" }, "example": example },
                "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } },
            },
        });
        if matches!(status, 409 | 429 | 503) {
            let seconds =
                json!({ "schema": { "type": "integer" }, "description": "Seconds after which to try again." });
            response["headers"] = json!({ "retry-after": seconds });
        }
        if status == 429 {
            response["headers"]["ratelimit"] = json!({ "schema": { "type": "string" } });
        }
        let title = title(&names);
        let reference = json!({ "$ref": format!("#/components/responses/{title}") });
        schemas.responses.insert(title, response);
        (status, reference)
    };
    by_status.into_iter().map(response).collect()
}

fn members() -> Value {
    json!({
        "code": { "type": "string", "enum": ErrorCode::ALL.iter().map(|c| c.name()).collect::<Vec<_>>() },
        "message": { "type": "string", "description": "For people." },
        "details": { "type": ["object", "null"], "description": "Facts for programs." },
        "request_id": { "type": "string", "description": "Finds the request in the server's log." },
    })
}

/// The shape of every error (docs/PLATFORM.md#error-shape).
pub(super) fn plain() -> Value {
    json!({
        "type": "object",
        "required": ["code", "message", "details", "request_id"],
        "properties": members(),
        "additionalProperties": false,
    })
}

/// The same around RFC 9457, for who asks for it.
pub(super) fn problem() -> Value {
    let mut properties = members();
    properties["type"] = json!({ "type": "string", "format": "uri" });
    properties["title"] = json!({ "type": "string" });
    properties["status"] = json!({ "type": "integer" });
    properties["detail"] = json!({ "type": "string" });
    properties["instance"] = json!({ "type": "string" });
    json!({
        "type": "object",
        "required": ["type", "title", "status", "detail", "instance", "code", "message", "details", "request_id"],
        "properties": properties,
        "additionalProperties": false,
    })
}
