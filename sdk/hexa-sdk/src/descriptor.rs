//! The driver's self-description, schema `hexa.descriptor/1`: what the host checks outputs against.

use serde::Serialize;
use serde_json::Value;

/// What a driver serves and what its devices can do.
#[derive(Clone, Debug, Serialize)]
pub struct Descriptor {
    schema: &'static str,
    classes: Vec<&'static str>,
    capabilities: Vec<&'static str>,
    relays: Relays,
    inputs: Inputs,
    readings: Vec<ReadingSpec>,
    commands: Vec<String>,
    custom: serde_json::Map<String, Value>,
    channels: Vec<&'static str>,
    config_schema: Value,
}

#[derive(Clone, Debug, Serialize)]
struct Relays {
    max: u32,
}

#[derive(Clone, Debug, Serialize)]
struct Inputs {
    max: u32,
    kinds: Vec<&'static str>,
}

/// One declared sensor value.
#[derive(Clone, Debug, Serialize)]
pub struct ReadingSpec {
    /// Its key in `sensor_report`.
    pub key: &'static str,
    /// `number`, `integer`, `boolean` or `text`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// As the console shows it behind the number, for example `°C`; none for a reading without a unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<&'static str>,
    /// Home Assistant's device class, which other bridges map from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device_class: Option<&'static str>,
}

impl ReadingSpec {
    /// A number with a unit.
    pub const fn number(key: &'static str, unit: &'static str, device_class: &'static str) -> Self {
        Self { key, kind: "number", unit: Some(unit), device_class: Some(device_class) }
    }

    /// A reading that is true or false.
    pub const fn boolean(key: &'static str, device_class: &'static str) -> Self {
        Self { key, kind: "boolean", unit: None, device_class: Some(device_class) }
    }
}

impl Descriptor {
    /// A driver of one device class that understands the WebSocket only and no command yet.
    pub fn new(class: &'static str) -> Self {
        Self {
            schema: "hexa.descriptor/1",
            classes: vec![class],
            capabilities: Vec::new(),
            relays: Relays { max: 0 },
            inputs: Inputs { max: 0, kinds: Vec::new() },
            readings: Vec::new(),
            commands: Vec::new(),
            custom: serde_json::Map::new(),
            channels: vec!["ws"],
            config_schema: serde_json::json!({"type": "object"}),
        }
    }

    /// A capability that devices of the class have.
    #[must_use]
    pub fn capability(mut self, name: &'static str) -> Self {
        self.capabilities.push(name);
        self
    }

    /// At most this many relays, 64 is the platform's limit.
    #[must_use]
    pub fn relays(mut self, max: u32) -> Self {
        self.relays.max = max;
        self
    }

    /// At most this many inputs, with the kinds of event that they make.
    #[must_use]
    pub fn inputs(mut self, max: u32, kinds: &[&'static str]) -> Self {
        self.inputs = Inputs { max, kinds: kinds.to_vec() };
        self
    }

    /// Declares a sensor value; a report of one that is not declared is refused.
    #[must_use]
    pub fn reading(mut self, reading: ReadingSpec) -> Self {
        self.readings.push(reading);
        self
    }

    /// A standard command that the driver encodes, by its contract name, for example `set-relay`.
    #[must_use]
    pub fn command(mut self, name: &str) -> Self {
        self.commands.push(name.to_owned());
        self
    }

    /// A command of the driver's own, with the JSON schema of its arguments.
    #[must_use]
    pub fn custom(mut self, name: &str, args_schema: Value) -> Self {
        self.commands.push(format!("custom:{name}"));
        let spec = serde_json::Map::from_iter([("args_schema".to_owned(), args_schema)]);
        self.custom.insert(name.to_owned(), Value::Object(spec));
        self
    }

    /// An ingest route such as `http:sensor-report` beside the WebSocket.
    #[must_use]
    pub fn channel(mut self, name: &'static str) -> Self {
        self.channels.push(name);
        self
    }

    /// The JSON schema of the device's configuration.
    #[must_use]
    pub fn config_schema(mut self, schema: Value) -> Self {
        self.config_schema = schema;
        self
    }

    /// Keys of the declared readings.
    pub fn reading_keys(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.readings.iter().map(|r| r.key)
    }

    /// The declared reading with this key.
    pub fn find_reading(&self, key: &str) -> Option<&ReadingSpec> {
        self.readings.iter().find(|r| r.key == key)
    }

    /// The document that `describe` returns.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings, numbers and maps with string keys always serialise")
    }
}
