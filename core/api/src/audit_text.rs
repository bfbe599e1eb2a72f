//! Audit rows as text: JSON for pages, JSON lines and CSV for exports, the same over HTTP and on the command line.

use hexa_platform::audit::list::ListedRow;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::wire::{RelayBody, relays, rfc3339};

/// In which form rows are exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A JSON object a line.
    Jsonl,
    /// RFC 4180 with a line of names, safe to open in a spreadsheet.
    Csv,
}

impl Format {
    /// As it is asked for.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
        }
    }
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Jsonl => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8; header=present",
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ActorBody {
    kind: String,
    id: Option<String>,
    email: Option<String>,
}

impl ActorBody {
    pub(crate) fn new(kind: String, user: Option<(String, String)>) -> Self {
        let (id, email) = user.unzip();
        Self { kind, id, email }
    }
}

/// One row of the audit, in lists and in exports.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditBody {
    seq: i64,
    /// Which chain it is a row of: `seq` counts there.
    chain: String,
    at: String,
    actor: ActorBody,
    source: String,
    action: String,
    device_uid: Option<String>,
    device_name: Option<String>,
    command_id: Option<String>,
    follow_up: bool,
    outcome: String,
    relay: Option<i64>,
    state: Option<bool>,
    latency_ms: Option<i64>,
    changes: Vec<RelayBody>,
    details: Option<serde_json::Value>,
}

impl AuditBody {
    pub(crate) fn new(row: ListedRow) -> Self {
        Self {
            seq: row.place.seq,
            chain: row.place.chain,
            at: rfc3339(row.place.at),
            actor: ActorBody::new(row.actor_kind, row.actor),
            source: row.source,
            action: row.action,
            device_uid: row.device_uid,
            device_name: row.device_name,
            command_id: row.command.map(|c| c.to_string()),
            follow_up: row.follow_up,
            outcome: row.outcome,
            relay: row.relay,
            state: row.state,
            latency_ms: row.latency_ms,
            changes: relays(&row.changes),
            // Whatever was written is shown, be it an object or not.
            details: row.details.map(|text| serde_json::from_str(&text).unwrap_or(serde_json::Value::String(text))),
        }
    }
}

/// Names of the columns.
const COLUMNS: [&str; 18] = [
    "seq",
    "at",
    "actor_kind",
    "actor_id",
    "actor_email",
    "source",
    "action",
    "device_uid",
    "device_name",
    "command_id",
    "follow_up",
    "outcome",
    "relay",
    "state",
    "latency_ms",
    "changes",
    "details",
    "chain",
];

/// Turns the rows of an export into bytes, a part at a time.
#[derive(Debug)]
pub struct Encoder {
    format: Format,
    begun: bool,
}

impl Encoder {
    /// For an export in this format that has not begun.
    pub fn new(format: Format) -> Self {
        Self { format, begun: false }
    }

    /// The next part; the first one has the line of names, also when there is no row.
    ///
    /// # Errors
    /// When a row cannot be written, which memory alone could cause.
    pub fn encode(&mut self, rows: Vec<ListedRow>) -> std::io::Result<Vec<u8>> {
        let first = !std::mem::replace(&mut self.begun, true);
        match self.format {
            Format::Jsonl => {
                let mut bytes = Vec::new();
                for row in rows {
                    serde_json::to_writer(&mut bytes, &AuditBody::new(row))?;
                    bytes.push(b'\n');
                }
                Ok(bytes)
            }
            Format::Csv => {
                let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
                if first {
                    writer.write_record(COLUMNS)?;
                }
                for row in rows {
                    writer.write_record(cells(AuditBody::new(row)).map(safe))?;
                }
                writer.into_inner().map_err(|e| std::io::Error::other(e.to_string()))
            }
        }
    }
}

fn cells(row: AuditBody) -> [String; 18] {
    let json = |value: Option<String>| value.unwrap_or_default();
    [
        row.seq.to_string(),
        row.at,
        row.actor.kind,
        row.actor.id.unwrap_or_default(),
        row.actor.email.unwrap_or_default(),
        row.source,
        row.action,
        row.device_uid.unwrap_or_default(),
        row.device_name.unwrap_or_default(),
        row.command_id.unwrap_or_default(),
        row.follow_up.to_string(),
        row.outcome,
        row.relay.map_or_else(String::new, |n| n.to_string()),
        row.state.map_or_else(String::new, |s| s.to_string()),
        row.latency_ms.map_or_else(String::new, |n| n.to_string()),
        json(Some(row.changes).filter(|c| !c.is_empty()).and_then(|c| serde_json::to_string(&c).ok())),
        json(row.details.map(|d| d.to_string())),
        row.chain,
    ]
}

/// A spreadsheet takes a cell that begins so for a formula (OWASP, CSV injection): an apostrophe makes it text.
fn safe(cell: String) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) { format!("'{cell}") } else { cell }
}

#[cfg(test)]
mod tests {
    use super::safe;

    #[test]
    fn no_cell_is_a_formula() {
        for bad in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"] {
            assert_eq!(safe(bad.to_owned()), format!("'{bad}"));
        }
        for good in ["", "lamp", "1-1", "a=b", "'=1", "{\"a\":\"=1\"}", " =1"] {
            assert_eq!(safe(good.to_owned()), good);
        }
    }
}
