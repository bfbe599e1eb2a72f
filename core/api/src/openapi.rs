//! The contract as a document: OpenAPI 3.1, made from the route table, the types of the bodies and
//! [`crate::routes::docs`]. Committed as docs/openapi.json and compared in CI.

mod errors;
mod examples;
mod page;
pub(crate) mod schemas;

use std::collections::BTreeMap;
use std::sync::OnceLock;

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use crate::routes::docs::{Answer, Doc, docs};
use crate::routes::{Access, Route, routes};
use schemas::Schemas;

const DEVICE_UID: &str = "^[A-Za-z0-9_-]{1,64}$";

/// The OpenAPI document as pretty-printed JSON, made at the first call.
pub fn document() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let mut text = serde_json::to_string_pretty(value()).unwrap_or_default();
        text.push('\n');
        text
    })
}

pub(crate) fn value() -> &'static Value {
    static VALUE: OnceLock<Value> = OnceLock::new();
    VALUE.get_or_init(build)
}

fn build() -> Value {
    let docs: BTreeMap<&str, Doc> = docs().into_iter().map(|doc| (doc.route, doc)).collect();
    let mut schemas = Schemas::default();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in routes() {
        let Some(doc) = docs.get(format!("{} {}", route.method, route.path).as_str()) else { continue };
        let operation = operation(&route, doc, &mut schemas);
        paths.entry(route.path).or_default().insert(route.method.to_lowercase(), operation);
    }
    schemas.all.insert("Error".into(), errors::plain());
    schemas.all.insert("Problem".into(), errors::problem());
    examples::put(&mut schemas);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Hexa",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "IoT platform: devices, relays, sharing, audit. Times are RFC 3339 in UTC. Unknown members of \
                a body are refused. A device that is not yours is not there (404). See docs/API.md for the conventions, \
                and docs/asyncapi.yaml for the sockets.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "tags": TAGS.iter().map(|(name, what)| json!({ "name": name, "description": what })).collect::<Vec<_>>(),
        "paths": paths,
        "components": {
            "schemas": schemas.all,
            "responses": schemas.responses,
            "securitySchemes": {
                "bearer": {
                    "type": "http", "scheme": "bearer",
                    "description": "An access token (15 minutes), or a personal access token with scopes.",
                },
                "device": {
                    "type": "apiKey", "in": "header", "name": "Authorization",
                    "description": "`Device <uid>:<token>`, or `Bearer <token>` on the device socket.",
                },
                "provision": {
                    "type": "apiKey", "in": "header", "name": "x-provision-key",
                    "description": "The fleet's key.",
                },
            },
        },
    })
}

const TAGS: &[(&str, &str)] = &[
    ("Accounts", "Sign in, sessions, personal access tokens."),
    ("Devices", "Provisioning, claiming, names, sharing, relay commands."),
    ("Preferences", "Four documents of the caller, with entity tags."),
    ("Admin", "Audit, accounts, keys, plugins."),
    ("Sockets", "Upgrades; their messages are in docs/asyncapi.yaml."),
    ("Server", "Health, metrics, this document."),
];

fn tag(path: &str) -> &'static str {
    match path.trim_start_matches("/api/v1/").split('/').next().unwrap_or_default() {
        "auth" | "ws" if path.starts_with("/api") => "Accounts",
        "devices" | "commands" | "provision" => "Devices",
        "preferences" => "Preferences",
        "admin" => "Admin",
        _ if path.starts_with("/ws") => "Sockets",
        _ => "Server",
    }
}

fn changes(route: &Route) -> bool {
    route.method != "GET"
}

fn operation(route: &Route, doc: &Doc, schemas: &mut Schemas) -> Value {
    let mut text = vec![format!("For {}.", route.access.text())];
    if !doc.more.is_empty() {
        text.push(doc.more.to_owned());
    }
    let mut operation = json!({
        "operationId": doc.id,
        "summary": doc.summary,
        "description": text.join(" "),
        "tags": [tag(route.path)],
        "security": security(route),
        "responses": responses(route, doc, schemas),
    });
    let parameters = parameters(route, doc, schemas);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = doc.body {
        let schema = body(schemas);
        let content = json!({ "schema": schema, "example": examples::of(&schema) });
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": content } });
    }
    operation
}

fn security(route: &Route) -> Value {
    match (route.access, route.path) {
        (Access::Public, "/api/v1/provision/register") => {
            json!([{ "provision": [] }, { "provision": [], "device": [] }])
        }
        (Access::Public, _) => json!([]),
        (Access::Device, _) => json!([{ "device": [] }]),
        (Access::Operator, _) => json!([{}, { "bearer": [] }]),
        _ => json!([{ "bearer": [] }]),
    }
}

fn parameters(route: &Route, doc: &Doc, schemas: &mut Schemas) -> Vec<Value> {
    let mut all = Vec::new();
    let names = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    for name in names {
        let (schema, example) = match name {
            "uid" => (json!({ "type": "string", "pattern": DEVICE_UID }), json!("hxr0a8y2xrj62q1rka")),
            "index" => (json!({ "type": "integer", "minimum": 0, "maximum": 63 }), json!(0)),
            "name" => (
                json!({ "type": "string", "enum": hexa_accounts::preferences::Name::ALL.map(hexa_accounts::preferences::Name::as_str) }),
                json!("dashboard_layout"),
            ),
            "id" if route.path.contains("/plugins/") => (json!({ "type": "string" }), json!("hexa.relay-controller")),
            _ => (json!({ "type": "string", "format": "uuid" }), json!(examples::ID)),
        };
        all.push(json!({ "name": name, "in": "path", "required": true, "schema": schema, "example": example }));
    }
    if let Some(query) = doc.query {
        let reference = query(schemas);
        let name = reference["$ref"].as_str().and_then(|r| r.rsplit('/').next()).unwrap_or_default().to_owned();
        // A query is parameters, not a body.
        let schema = schemas.all.remove(&name).unwrap_or_default();
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
            let mut schema = schema.clone();
            schemas::not_null(&mut schema);
            let needed = required.iter().any(|r| r == name);
            all.push(json!({ "name": name, "in": "query", "required": needed, "schema": schema }));
        }
    }
    let mut header = |name: &str, schema: Value, what: &str| {
        all.push(json!({ "name": name, "in": "header", "required": false, "schema": schema, "description": what }));
    };
    if changes(route) {
        let what = "The request is done once however often it comes with this key; later ones hear the first answer.";
        header("idempotency-key", json!({ "type": "string", "pattern": "^[!-~]{1,255}$" }), what);
    }
    if route.path.starts_with("/api/v1/preferences") {
        let tag = json!({ "type": "string", "pattern": "^(\\*|(W/)?\"[!#-~]*\")$" });
        if route.method == "GET" {
            header("If-None-Match", tag, "304 when the document still has this entity tag.");
        } else {
            header("If-Match", tag, "412 when the document has another entity tag.");
        }
    }
    all
}

fn responses(route: &Route, doc: &Doc, schemas: &mut Schemas) -> Value {
    let mut all = Map::new();
    for (status, answer) in &doc.answers {
        let code = StatusCode::from_u16(*status).unwrap_or_default();
        let mut response = json!({ "description": code.canonical_reason().unwrap_or_default() });
        match answer {
            Answer::Json(schema) => {
                let schema = schema(schemas);
                let content = json!({ "schema": schema, "example": examples::of(&schema) });
                response["content"] = json!({ "application/json": content });
            }
            Answer::Text(kinds) => {
                let text = |kind: &&str| ((*kind).to_owned(), json!({ "schema": { "type": ["string", "object"] } }));
                response["content"] = Value::Object(kinds.iter().map(text).collect());
            }
            Answer::Empty => {}
        }
        response["headers"] = json!({ "x-request-id": { "schema": { "type": "string" } } });
        if changes(route) {
            let what = "`true` when this is the answer to an earlier request with this key.";
            response["headers"]["idempotency-replayed"] =
                json!({ "schema": { "type": "string" }, "description": what });
        }
        if route.path.starts_with("/api/v1/preferences") && *status != 204 {
            response["headers"]["etag"] = json!({ "schema": { "type": "string" } });
        }
        all.insert(status.to_string(), response);
    }
    for (status, response) in errors::responses(route, doc, schemas) {
        // /health has a body of its own at 503.
        all.entry(status.to_string()).or_insert(response);
    }
    Value::Object(all)
}

pub(crate) async fn get_openapi(headers: HeaderMap) -> Response {
    serve(&headers, "application/json", document().as_bytes(), None)
}

pub(crate) async fn get_docs(headers: HeaderMap) -> Response {
    let (page, policy) = page::page();
    serve(&headers, "text/html; charset=utf-8", page.as_bytes(), Some(policy))
}

/// The same bytes for as long as the server runs.
fn serve(asked: &HeaderMap, kind: &'static str, bytes: &'static [u8], policy: Option<&str>) -> Response {
    use sha2::{Digest, Sha256};
    let etag = format!("\"{}\"", hexa_platform::hex(&Sha256::digest(bytes)[..16]));
    let mut response = if asked.get(header::IF_NONE_MATCH).is_some_and(|given| given.as_bytes() == etag.as_bytes()) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], bytes).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(header::ETAG, etag);
    }
    if let Some(policy) = policy.and_then(|p| HeaderValue::from_str(p).ok()) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    response
}

#[cfg(test)]
mod tests;
