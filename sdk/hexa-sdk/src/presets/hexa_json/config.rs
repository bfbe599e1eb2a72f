//! Configuration: what a device made of each of its settings.

use super::fields::one_of;
use crate::error::Result;
use crate::json::Json;
use crate::types::ConfigResult;

const CONFIG_RESULTS: [&str; 5] = ["ok", "unknown_key", "bad_type", "out_of_range", "failed"];

pub(super) fn config_result(m: Json<'_>) -> Result<ConfigResult> {
    let version = m.need("config_version")?.whole("config_version")?;
    let answers = m.need("results")?;
    if !answers.is_object() {
        return Err(answers.wrong("results", "an object of key and result"));
    }
    let mut results = Vec::new();
    for answer in answers.children() {
        let key = answer.key();
        let result = one_of(answer, key, &CONFIG_RESULTS).map_err(|e| e.within("results: "))?;
        results.push((key.to_owned(), result));
    }
    Ok(ConfigResult { version, results })
}
