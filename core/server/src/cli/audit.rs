//! `hexa audit`: the audit read beside a running server, or over the database of a stopped one. Nothing is written.
//!
//! Exit codes: 0 everything fits, 1 something does not, 3 it could not be told, 78 wrong configuration or database.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use hexa_api::audit_text::{Encoder, Format};
use hexa_service::audit::list::Export;
use hexa_store::{AuditCheck, AuditFilter, AuditHead, AuditReader, OpenError, StoreConfig, Wrong};
use serde_json::{Value, json};

use super::{ConfigArgs, EX_CONFIG, runtime};
use crate::config::Settings;
use crate::telemetry;

const TAMPERED: u8 = 1;
const NOT_TOLD: u8 = 3;

/// What to do with the audit.
#[derive(Debug, clap::Subcommand)]
pub(super) enum AuditCommand {
    /// Recompute the hash chain: exit code 0 when no row was edited, removed or moved, 1 when one was.
    Verify {
        #[command(flatten)]
        args: ConfigArgs,
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// A head that an earlier run printed: shows also that no newest rows were cut off since.
        #[arg(long, value_name = "SEQ:HASH", value_parser = parse_head)]
        head: Option<AuditHead>,
    },
    /// Print every row, newest first.
    Export {
        #[command(flatten)]
        args: ConfigArgs,
        /// In which form.
        #[arg(long, value_enum)]
        format: ExportFormat,
    },
}

/// [`Format`] as an argument.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum ExportFormat {
    /// A JSON object a line.
    Jsonl,
    /// With a line of names, safe to open in a spreadsheet.
    Csv,
}

fn parse_head(text: &str) -> Result<AuditHead, String> {
    let wrong = || "a head is SEQ:HASH as `hexa audit verify` prints it, with 64 hexadecimal digits".to_owned();
    let (seq, digits) = text.split_once(':').ok_or_else(wrong)?;
    let seq = seq.parse().ok().filter(|seq| *seq > 0).ok_or_else(wrong)?;
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut hash = [0; 32];
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
    }
    Ok(AuditHead { chain: "main".into(), seq, hash })
}

/// Runs it.
pub(super) fn run(command: AuditCommand) -> ExitCode {
    telemetry::start("warn");
    let (AuditCommand::Verify { args, .. } | AuditCommand::Export { args, .. }) = &command;
    let settings = match args.clone().read() {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("hexa: {error}");
            return ExitCode::from(EX_CONFIG);
        }
    };
    let done = runtime().and_then(|rt| match command {
        AuditCommand::Verify { json, head, .. } => rt.block_on(verify(&settings, json, head.as_ref())),
        AuditCommand::Export { format, .. } => rt.block_on(export(&settings, format)),
    });
    done.unwrap_or_else(|error| {
        eprintln!("hexa: {error:#}");
        ExitCode::from(if error.is::<OpenError>() { EX_CONFIG } else { NOT_TOLD })
    })
}

async fn open(settings: &Settings) -> Result<AuditReader, OpenError> {
    let mut config = StoreConfig::new(settings.data_dir.clone());
    config.database_url.clone_from(&settings.database_url);
    config.node.clone_from(&settings.node);
    AuditReader::open(&config).await
}

async fn verify(settings: &Settings, json: bool, head: Option<&AuditHead>) -> Result<ExitCode> {
    let reader = open(settings).await?;
    let check = reader.verify(head).await.context("the audit could not be read to its end")?;
    if json {
        println!("{}", as_json(&check));
    } else {
        print(&check);
    }
    Ok(if check.wrong.is_none() { ExitCode::SUCCESS } else { ExitCode::from(TAMPERED) })
}

fn print(check: &AuditCheck) {
    println!("rows checked: {}", check.rows);
    if check.checkpoints > 0 {
        println!("checkpoints checked: {}, rows removed under them: {}", check.checkpoints, check.removed);
    }
    let whole = if check.wrong.is_none() { "head" } else { "whole up to" };
    for head in check.heads.iter().filter(|head| head.seq > 0) {
        println!("{whole}, chain {}: {}:{}", head.chain, head.seq, hex(&head.hash));
    }
    match problem(check) {
        None => println!("the audit is whole: no row was edited, removed or moved"),
        Some((_, message)) => println!("THE AUDIT WAS TAMPERED WITH: {message}"),
    }
}

fn as_json(check: &AuditCheck) -> Value {
    let heads: Vec<_> = check
        .heads
        .iter()
        .map(|head| json!({ "chain": head.chain, "seq": head.seq, "hash": hex(&head.hash) }))
        .collect();
    let problem = problem(check).map(|(kind, message)| {
        json!({ "seq": check.first_bad, "kind": kind, "message": message, "at_ms": check.bad_at.map(|t| t.0) })
    });
    json!({
        "whole": check.wrong.is_none(),
        "rows": check.rows,
        "checkpoints": check.checkpoints,
        "removed": check.removed,
        "problem": problem,
        "heads": heads,
    })
}

/// A word for programs and a sentence for people.
fn problem(check: &AuditCheck) -> Option<(&'static str, String)> {
    let seq = check.first_bad.unwrap_or_default();
    Some(match check.wrong? {
        Wrong::Edited => ("edited", format!("row {seq} was edited: its hash was made of other contents")),
        Wrong::Missing { from, to } if from == to => ("missing", format!("row {from}, before row {seq}, is missing")),
        Wrong::Missing { from, to } => ("missing", format!("rows {from} to {to}, before row {seq}, are missing")),
        Wrong::Swapped { belongs_at } => {
            ("swapped", format!("row {seq} stands in a wrong place: its hash was made for {belongs_at}"))
        }
        Wrong::Foreign => {
            ("foreign", format!("row {seq} does not go on from the row before it: one of the two was put there later"))
        }
        Wrong::Checkpoint => ("checkpoint", format!("the checkpoint at row {seq} was edited, removed or replaced")),
        Wrong::Head => {
            ("head", format!("row {seq} is not the one that was noted: the newest rows were cut off or written anew"))
        }
    })
}

fn hex(hash: &[u8; 32]) -> String {
    hexa_crypto::hex(hash)
}

async fn export(settings: &Settings, format: ExportFormat) -> Result<ExitCode> {
    let reader = open(settings).await?;
    let mut encoder = Encoder::new(match format {
        ExportFormat::Jsonl => Format::Jsonl,
        ExportFormat::Csv => Format::Csv,
    });
    let mut export = Export::new(reader, AuditFilter::default());
    let mut rows = export.next().await?.unwrap_or_default();
    loop {
        let written = std::io::stdout().lock().write_all(&encoder.encode(rows)?);
        match written {
            Ok(()) => {}
            // Whoever reads has seen enough.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
            Err(error) => return Err(error).context("the rows could not be written"),
        }
        match export.next().await? {
            Some(next) => rows = next,
            None => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_printed() {
        let hash: [u8; 32] = std::array::from_fn(|n| n as u8);
        let head = parse_head(&format!("17:{}", hex(&hash))).unwrap();
        assert_eq!((head.seq, head.hash), (17, hash));
        for bad in
            ["", "17", "17:", "0:00", "x:00", &format!("1:{}", "g".repeat(64)), &format!("1:{}é", "0".repeat(62))]
        {
            assert!(parse_head(bad).is_err(), "{bad}");
        }
    }
}
