//! Every answer that a test gets is held to docs/openapi.json: the status is documented for that operation, and the
//! body has the documented shape. Every frame of a socket is held to docs/asyncapi.yaml.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

use jsonschema::Validator;
use serde_json::{Value, json};

/// The committed document.
///
/// # Panics
/// When it is not there.
pub fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
        serde_json::from_str(&text).expect("docs/openapi.json is JSON")
    })
}

/// The operation of a request, if the document knows one.
fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let parts: Vec<_> = path.split('/').collect();
    let fits = |template: &str| {
        let wanted: Vec<_> = template.split('/').collect();
        let same = |(w, p): (&&str, &&str)| w == p || (w.starts_with('{') && !p.is_empty());
        wanted.len() == parts.len() && wanted.iter().zip(&parts).all(same)
    };
    let paths = document()["paths"].as_object()?;
    // One without parameters is meant before one with them.
    let template = paths.keys().filter(|t| fits(t)).min_by_key(|t| t.matches('{').count())?;
    paths[template].get(method.to_lowercase())
}

/// The document of the sockets.
///
/// # Panics
/// When it is not there.
pub fn sockets() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/asyncapi.yaml");
        let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{path}: {e}"));
        serde_norway::from_str(&text).expect("docs/asyncapi.yaml is YAML")
    })
}

/// The messages of an operation of the sockets, by their names in the document.
///
/// # Panics
/// When the document has no such operation, or a reference that leads nowhere.
pub fn messages(operation: &str) -> Vec<(String, &'static Value)> {
    let follow = |value: &'static Value| {
        let reference = value["$ref"].as_str().expect("a reference");
        let to = sockets().pointer(reference.trim_start_matches('#')).unwrap_or_else(|| panic!("{reference}"));
        (reference, to)
    };
    let all = sockets()["operations"][operation]["messages"].as_array().unwrap_or_else(|| panic!("{operation}"));
    let named = |message| {
        let (reference, to) = follow(message);
        (reference.rsplit('/').next().unwrap_or_default().to_owned(), follow(to).1)
    };
    all.iter().map(named).collect()
}

/// Holds a frame to the messages of an operation; gives the name of the message that it is.
///
/// # Errors
/// What the document does not say.
pub fn hold_frame(operation: &str, frame: &Value) -> Result<String, String> {
    let kind = frame["type"].as_str().unwrap_or_default();
    let (name, message) = messages(operation)
        .into_iter()
        .find(|(_, message)| message["name"] == kind)
        .ok_or_else(|| format!("{operation} has no message {kind:?}: {frame}"))?;
    check_in(&sockets()["components"]["schemas"], &message["payload"], frame)
        .map_err(|e| format!("{kind}: {e}: {frame}"))?;
    Ok(name)
}

/// Checks a JSON value against a schema of the document.
///
/// # Errors
/// What does not fit.
///
/// # Panics
/// When the schema itself is none.
pub fn check(schema: &Value, value: &Value) -> Result<(), String> {
    check_in(&document()["components"]["schemas"], schema, value)
}

/// The same beside these schemas.
///
/// # Errors
/// What does not fit.
///
/// # Panics
/// When the schema itself is none.
pub fn check_in(components: &Value, schema: &Value, value: &Value) -> Result<(), String> {
    static VALIDATORS: OnceLock<Mutex<HashMap<String, &'static Validator>>> = OnceLock::new();
    let key = schema.to_string();
    let validator = {
        let mut known = VALIDATORS.get_or_init(Mutex::default).lock().expect("no panic while it was held");
        *known.entry(key).or_insert_with(|| {
            let mut whole = schema.clone();
            whole["components"] = json!({ "schemas": components });
            let made = jsonschema::options().should_validate_formats(true).build(&whole);
            // As many as there are schemas, for the time of a test.
            Box::leak(Box::new(made.unwrap_or_else(|e| panic!("{schema}: {e}"))))
        })
    };
    let errors: Vec<_> = validator.iter_errors(value).map(|e| format!("{}: {e}", e.instance_path())).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}

/// Holds an answer to the document. Paths and methods that are in no operation are answered by the server itself.
///
/// # Errors
/// What the document does not say.
pub fn hold(method: &str, path: &str, status: u16, kind: Option<&str>, text: &str) -> Result<(), String> {
    let Some(operation) = operation(method, path) else { return Ok(()) };
    let Some(response) = operation["responses"].get(status.to_string()) else {
        return Err(format!("status {status} is not documented for {}", operation["operationId"]));
    };
    let shared = response["$ref"].as_str().and_then(|r| document().pointer(r.trim_start_matches('#')));
    let response = shared.unwrap_or(response);
    let Some(content) = response["content"].as_object() else {
        return if text.is_empty() { Ok(()) } else { Err(format!("a body where none is documented: {text}")) };
    };
    let kind = kind.and_then(|k| k.split(';').next()).unwrap_or_default();
    let Some(documented) = content.get(kind) else { return Err(format!("content type {kind:?} is not documented")) };
    if !matches!(kind, "application/json" | "application/problem+json") || operation["operationId"] == "getOpenapi" {
        return Ok(());
    }
    let value: Value = serde_json::from_str(text).map_err(|e| format!("no JSON: {e}"))?;
    check(&documented["schema"], &value).map_err(|e| format!("{} {status}: {e}", operation["operationId"]))
}
