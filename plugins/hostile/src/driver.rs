//! `{"type":"misbehave","how":"..."}` says what to do wrong; relay 60 and above do it in a command.

use std::hint::black_box;
use std::io::Write as _;

use hexa_sdk::prelude::*;
use hexa_sdk::presets::hexa_json;
use hexa_sdk::types;

/// Relays from here on misbehave when they are switched.
pub const FIRST_BAD_RELAY: u32 = 60;

/// What goes wrong when relay 60, 61 and so on is switched.
const BY_RELAY: [&str; 4] = ["panic", "loop", "allocate", "output"];

/// The driver of class `hybrid` that misbehaves on request.
#[derive(Debug)]
pub struct Hostile;

impl Driver for Hostile {
    type Config = ();
    type State = ();

    fn descriptor() -> Descriptor {
        Descriptor::new("hybrid")
            .capability("relay")
            .relays(64)
            .inputs(64, &hexa_json::INPUT_EVENTS)
            .command("set-relay")
            .command("set-all-relays")
            .command("request-state")
    }

    fn decode(cx: &mut Context<'_, Self>, channel: Channel<'_>, message: Message<'_>) -> Result<()> {
        if let Message::Text(text) = message
            && text.contains(r#""type":"misbehave""#)
            && let Some((_, how)) = text.split_once(r#""how":""#)
        {
            return misbehave(cx, how.split('"').next().unwrap_or_default());
        }
        hexa_json::decode(cx, channel, message)
    }

    fn encode(cx: &mut Context<'_, Self>, command: &CommandEnvelope) -> Result<Encoded> {
        if let Command::SetRelay(target) = &command.command
            && let Some(n) = target.index.checked_sub(FIRST_BAD_RELAY)
        {
            misbehave(cx, BY_RELAY.get(n as usize).copied().unwrap_or_default())?;
        }
        hexa_json::encode(cx, command)
    }

    fn validate_config(ident: &DeviceIdent, config: &str) -> std::result::Result<Accepted, Vec<(String, String)>> {
        if config.contains(r#""misbehave":"loop""#) {
            loop {
                black_box(());
            }
        }
        Accepted::new(ident, &())
    }
}

/// Misbehaves as asked. What returns at all returns an answer of the driver.
fn misbehave(cx: &mut Context<'_, Hostile>, how: &str) -> Result<()> {
    match how {
        "loop" => loop {
            black_box(());
        },
        // Few epoch checks: each round is one long bulk instruction.
        "bulk" => {
            let mut block = vec![0u8; 8 << 20];
            loop {
                black_box(&mut block).fill(black_box(7));
            }
        }
        // For some milliseconds, within every limit of a call.
        "work" => (0..black_box(1_500_000u64)).for_each(|n| {
            black_box(n);
        }),
        "allocate" => {
            let mut hoard = Vec::new();
            loop {
                hoard.push(vec![1u8; 1 << 20]);
                black_box(&hoard);
            }
        }
        "recurse" => {
            black_box(deep(black_box(0)));
        }
        "panic" => panic!("as asked for"),
        "exit" => std::process::exit(3),
        "print" => {
            let mut out = std::io::stdout();
            for n in 0..10_000 {
                // A failed write is for the host to decide on, not for this test driver.
                let _ = writeln!(out, "line {n}");
            }
        }
        "log" => (0..10_000).for_each(|n| hexa_sdk::log::warn(&format!("line {n}"))),
        "output" => return Err(Error::malformed("x".repeat(10 << 20))),
        "frames" => (0..100).for_each(|_| cx.reply(Frame::Text("x".into()))),
        "frame" => cx.reply(Frame::Text("x".repeat(200 << 10))),
        "events" => (0..10_000).for_each(|_| cx.ignored("noise")),
        "relay" => cx.event(ack("a command", 4_000_000_000)),
        "reading" => {
            let value = Value::Number(1.0);
            cx.readings(vec![Reading { key: "undeclared".into(), value, at_ms: None }]);
        }
        "foreign-ack" => cx.event(ack("00000000-0000-7000-8000-000000000000", 0)),
        "state" => cx.set_durable(vec![7; 100 << 10]),
        other => return Err(Error::malformed(format!("unknown misbehaviour {other:?}"))),
    }
    Ok(())
}

fn ack(token: &str, relay: u32) -> DeviceEvent {
    let relays = vec![types::RelayState { index: relay, on: true }];
    DeviceEvent::Ack(Ack { token: token.to_owned(), outcome: AckOutcome::Executed, relays })
}

/// Uses up the call stack.
fn deep(n: u64) -> u64 {
    if n == u64::MAX { n } else { deep(black_box(n + 1)) + black_box(1) }
}
