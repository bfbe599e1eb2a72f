//! What a driver declares (`describe`, schema `hexa.descriptor/1`), as far as the host checks its output against it.
//! Members that only other parts read are not read here, and unknown ones are ignored: a guest may be newer.

use hexa_model::DeviceClass;
use serde::Deserialize;

const SCHEMA: &str = "hexa.descriptor/1";
/// Longest descriptor, in bytes.
const MAX_BYTES: usize = 64 << 10;

#[derive(Debug, Default)]
pub(crate) struct Descriptor {
    /// Keys of the declared readings, sorted for the search.
    readings: Vec<String>,
    customs: Vec<String>,
}

#[derive(Deserialize)]
struct Raw {
    schema: String,
    classes: Vec<String>,
    #[serde(default)]
    readings: Vec<RawReading>,
    #[serde(default)]
    custom: serde_json::Map<String, serde_json::Value>,
}

#[derive(Deserialize)]
struct RawReading {
    key: String,
}

impl Descriptor {
    /// Reads the document; `classes` are the manifest's, and all of them must be in it.
    pub(crate) fn parse(json: &str, classes: &[DeviceClass]) -> Result<Self, String> {
        if json.len() > MAX_BYTES {
            return Err(format!("the descriptor may be {MAX_BYTES} bytes long at most, not {}", json.len()));
        }
        let raw: Raw = serde_json::from_str(json).map_err(|e| format!("the descriptor cannot be read: {e}"))?;
        if raw.schema != SCHEMA {
            return Err(format!("the descriptor has the schema {:?}; only {SCHEMA:?} is known", raw.schema));
        }
        for class in classes {
            if !raw.classes.iter().any(|c| c == class.as_str()) {
                return Err(format!("plugin.toml names the class {}, the descriptor does not", class.as_str()));
            }
        }
        let mut readings: Vec<_> = raw.readings.into_iter().map(|r| r.key).collect();
        readings.sort_unstable();
        Ok(Self { readings, customs: raw.custom.into_iter().map(|(name, _)| name).collect() })
    }

    pub(crate) fn declares_reading(&self, key: &str) -> bool {
        self.readings.binary_search_by(|r| r.as_str().cmp(key)).is_ok()
    }

    pub(crate) fn declares_custom(&self, name: &str) -> bool {
        self.customs.iter().any(|c| c == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_descriptor_must_name_schema_and_classes() {
        let good = r#"{"schema":"hexa.descriptor/1","classes":["ir_hub"],"readings":[{"key":"t"},{"key":"h"}],
                       "custom":{"blink":{}},"new_in_later_versions":1}"#;
        let descriptor = Descriptor::parse(good, &[DeviceClass::IrHub]).unwrap();
        assert!(
            descriptor.declares_reading("h") && descriptor.declares_reading("t") && !descriptor.declares_reading("x")
        );
        assert!(descriptor.declares_custom("blink") && !descriptor.declares_custom("dance"));
        let error = |json: &str, class| Descriptor::parse(json, &[class]).expect_err("refused");
        assert!(error(good, DeviceClass::Hybrid).contains("hybrid"));
        assert!(error(&good.replace("r/1", "r/2"), DeviceClass::IrHub).contains("hexa.descriptor/2"));
        assert!(error("{}", DeviceClass::IrHub).contains("schema"));
    }
}
