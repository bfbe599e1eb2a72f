//! `hexa workers`: what a server does beside requests, for admins.

use std::process::ExitCode;

use ::http::Method;
use serde_json::Value;

use super::remote::{Where, run, table};

fn line(worker: &Value) -> [String; 5] {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let number = |member: &str| worker[member].as_u64().unwrap_or(0).to_string();
    [
        text(&worker["name"]),
        text(&worker["state"]),
        text(&worker["last_run_at"]),
        number("failures"),
        text(&worker["last_error"]["message"]),
    ]
}

/// Lists the background workers of a server.
pub(super) fn list(at: &Where) -> ExitCode {
    run(at.json, async {
        let workers = at.server()?.call(Method::GET, "/api/v1/admin/workers", None).await?;
        at.show(&workers, |workers| {
            let head = ["NAME", "STATE", "LAST RUN", "FAILURES", "LAST ERROR"].map(str::to_owned);
            let lines = workers["items"].as_array().into_iter().flatten().map(line);
            table(&std::iter::once(head).chain(lines).collect::<Vec<_>>())
        });
        Ok(())
    })
}
