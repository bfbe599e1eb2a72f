//! One example for each body; a test holds them to their schemas, and real answers to the same.

use std::sync::OnceLock;

use serde_json::{Value, json};

use super::schemas::Schemas;

/// For everything that is a UUID.
pub(super) const ID: &str = "01a2073b-926e-7be6-807f-936f85565c9c";
/// The example of what refers to a schema, or is a page of it.
pub(super) fn of(schema: &Value) -> Value {
    if let Some(items) = schema.pointer("/properties/items/items") {
        return json!({ "items": [of(items)], "next_cursor": null });
    }
    let name = schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()).unwrap_or_default();
    example(name)
}

/// Puts each example beside its schema.
pub(super) fn put(schemas: &mut Schemas) {
    for (name, schema) in &mut schemas.all {
        let example = example(name);
        if let (Value::Object(schema), false) = (schema, example.is_null()) {
            schema.insert("examples".into(), json!([example]));
        }
    }
}

fn example(name: &str) -> Value {
    static ALL: OnceLock<Value> = OnceLock::new();
    let all = ALL.get_or_init(|| serde_json::from_str(include_str!("examples.json")).unwrap_or_default());
    all[name].clone()
}
