//! `hexa audit`: the audit read beside a running server, or over the database of a stopped one. Nothing is written.
//!
//! Exit codes: 0 everything fits, 1 something does not, 3 it could not be told, 78 wrong configuration or database.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Context, Result};
use hexa_api::audit_text::{Encoder, Format};
use hexa_platform::audit::list::Export;
use hexa_store::{AuditCheck, AuditFilter, AuditHead, AuditReader, ChainCheck, OpenError, StoreConfig, Wrong};
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
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
        /// A head that an earlier run printed, to find out whether the newest rows were cut off since. Repeatable; without
        /// CHAIN it is of the chain of NODE_ID.
        #[arg(long, value_name = "[CHAIN:]SEQ:HASH", value_parser = parse_head)]
        head: Vec<Noted>,
    },
    /// Print every row, newest first.
    Export {
        #[command(flatten)]
        args: ConfigArgs,
        /// The form of each row.
        #[arg(long, value_enum)]
        format: ExportFormat,
    },
}

/// [`Format`] as an argument.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum ExportFormat {
    /// One JSON object on each line.
    Jsonl,
    /// CSV with a line of names, safe to open in a spreadsheet.
    Csv,
}

/// A head as it was noted: with the name of its chain, or without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Noted {
    chain: Option<String>,
    seq: i64,
    hash: [u8; 32],
}

fn parse_head(text: &str) -> Result<Noted, String> {
    let wrong = || "a head is [CHAIN:]SEQ:HASH as `hexa audit verify` prints it, with 64 hexadecimal digits".to_owned();
    let (place, digits) = text.rsplit_once(':').ok_or_else(wrong)?;
    let (chain, seq) = match place.split_once(':') {
        Some((chain, seq)) if !chain.is_empty() => (Some(chain.to_owned()), seq),
        Some(_) => return Err(wrong()),
        None => (None, place),
    };
    let seq = seq.parse().ok().filter(|seq| *seq > 0).ok_or_else(wrong)?;
    if digits.len() != 64 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut hash = [0; 32];
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
    }
    Ok(Noted { chain, seq, hash })
}

/// Runs `hexa audit verify` or `hexa audit export`.
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
        AuditCommand::Verify { json, head, .. } => rt.block_on(verify(&settings, json, head)),
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

async fn verify(settings: &Settings, json: bool, noted: Vec<Noted>) -> Result<ExitCode> {
    let head =
        |n: Noted| AuditHead { chain: n.chain.unwrap_or_else(|| settings.node.clone()), seq: n.seq, hash: n.hash };
    let noted: Vec<_> = noted.into_iter().map(head).collect();
    let check = open(settings).await?.verify(&noted).await.context("cannot read the audit to its end")?;
    if json {
        println!("{}", as_json(&check));
    } else {
        print(&check);
    }
    Ok(if check.wrong.is_none() { ExitCode::SUCCESS } else { ExitCode::from(TAMPERED) })
}

fn print(check: &AuditCheck) {
    println!("rows checked: {}", check.rows);
    if check.removed > 0 {
        println!("checkpoints checked: {}, rows removed under them: {}", check.checkpoints, check.removed);
    }
    for chain in &check.chains {
        let whole = if chain.wrong.is_none() { "head" } else { "whole up to" };
        let AuditHead { chain: name, seq, hash } = &chain.head;
        if *seq > 0 {
            println!("{whole}, chain {name}: {seq}:{}", hex(hash));
        }
    }
    for chain in &check.chains {
        if let Some(seq) = chain.uncompared {
            let name = &chain.head.chain;
            println!("the noted head {seq} of chain {name} was removed under a checkpoint: it was not compared");
        }
    }
    let mut whole = true;
    for chain in &check.chains {
        if let Some((_, message)) = problem(chain) {
            whole = false;
            println!("THE AUDIT WAS TAMPERED WITH: in chain {}, {message}", chain.head.chain);
        } else if check.chains.len() > 1 {
            println!("chain {} is whole: {} rows", chain.head.chain, chain.rows);
        }
    }
    if whole {
        println!("the audit is whole: no row was edited, removed or moved");
    }
}

fn as_json(check: &AuditCheck) -> Value {
    let head = |head: &AuditHead| json!({ "chain": head.chain, "seq": head.seq, "hash": hex(&head.hash) });
    let told = |chain: &ChainCheck| {
        problem(chain).map(|(kind, message)| {
            json!({ "chain": chain.head.chain, "seq": chain.first_bad, "kind": kind, "message": message,
                    "at_ms": chain.bad_at.map(|t| t.0) })
        })
    };
    let chains: Vec<_> = check
        .chains
        .iter()
        .map(|chain| {
            json!({ "chain": chain.head.chain, "whole": chain.wrong.is_none(), "rows": chain.rows,
                    "checkpoints": chain.checkpoints, "removed": chain.removed, "problem": told(chain),
                    "head": head(&chain.head), "uncompared": chain.uncompared })
        })
        .collect();
    json!({
        "whole": check.wrong.is_none(),
        "rows": check.rows,
        "checkpoints": check.checkpoints,
        "removed": check.removed,
        "problem": check.chains.iter().find_map(told),
        "heads": check.heads.iter().map(head).collect::<Vec<_>>(),
        "chains": chains,
    })
}

/// A word for programs and a sentence for people.
fn problem(check: &ChainCheck) -> Option<(&'static str, String)> {
    let seq = check.first_bad.unwrap_or_default();
    Some(match check.wrong? {
        Wrong::Edited => ("edited", format!("row {seq} was edited: its hash does not fit its contents")),
        Wrong::Missing { from, to } if from == to => ("missing", format!("row {from}, before row {seq}, is missing")),
        Wrong::Missing { from, to } => ("missing", format!("rows {from} to {to}, before row {seq}, are missing")),
        Wrong::Swapped { belongs_at } => {
            ("swapped", format!("row {seq} is in the wrong place: its hash was made for row {belongs_at}"))
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
            Err(error) => return Err(error).context("cannot write the rows"),
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
        assert_eq!((head.chain, head.seq, head.hash), (None, 17, hash));
        let head = parse_head(&format!("node-2:17:{}", hex(&hash))).unwrap();
        assert_eq!((head.chain.as_deref(), head.seq, head.hash), (Some("node-2"), 17, hash));
        for bad in [
            "",
            "17",
            "17:",
            "0:00",
            "x:00",
            &format!("1:{}", "g".repeat(64)),
            &format!(":1:{}", "0".repeat(64)),
            &format!("a:b:1:{}", "0".repeat(64)),
            &format!("1:{}é", "0".repeat(62)),
        ] {
            assert!(parse_head(bad).is_err(), "{bad}");
        }
    }
}
