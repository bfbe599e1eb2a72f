//! What the sandbox costs: the same driver crate through the plugin host and compiled natively.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow};
use hexa_devices::ports::{Drivers, NoopObserver};
use hexa_host::{Compiler, HostConfig, PerCall, PluginHost};
use hexa_model::driver::{CommandEnvelope, DeviceIdent, DriverCall, DriverCommand, Frame};
use hexa_model::{DeviceClass, DeviceUid, RelayAction, SystemClock, TimeMs};
use hexa_plugin_relay_controller::driver::RelayController;
use hexa_sdk::{guest, types};

use crate::fixture::Options;
use crate::process::own_cpu_us;
use crate::report::{Check, Goal, Report, Spread};
use crate::sandbox::Fast;

const ID: &str = "0199f3a2-7c1e-7bbd-9d5c-2f1d3a4b5c6d";
const ACK: &str = "{\"type\":\"ack\",\"command_id\":\"0199f3a2-7c1e-7bbd-9d5c-2f1d3a4b5c6d\",\"status\":\"executed\"}";
const REPORT: &str = "{\"type\":\"state_report\",\"relays\":[{\"index\":0,\"state\":true},{\"index\":1,\"state\":false},\
     {\"index\":2,\"state\":true},{\"index\":3,\"state\":false}],\"seq\":7}";

/// CPU microseconds per call.
fn each(calls: u32, mut once: impl FnMut()) -> f64 {
    let begun = own_cpu_us();
    for _ in 0..calls {
        once();
    }
    (own_cpu_us() - begun) / f64::from(calls)
}

/// Measures it and gives the report.
pub(crate) fn run(options: &Options) -> Result<Report> {
    let mut report = Report::new("driver", options.quick);
    let dir = tempfile::tempdir()?;
    let host = load(&options.plugins, dir.path())?;
    let uid = DeviceUid::parse("hx1").context("uid")?;
    let ident = DeviceIdent {
        uid: uid.clone(),
        class: DeviceClass::RelayController,
        model: None,
        hardware: None,
        firmware: None,
        relay_count: 4,
        input_count: 2,
    };
    let accepted = host.validate_config(&ident, "{}").map_err(|e| anyhow!("{e:?}"))?.map_err(|e| anyhow!("{e:?}"))?;
    let prepared = accepted.prepared;
    let call = DriverCall {
        uid: &uid,
        class: DeviceClass::RelayController,
        relay_count: 4,
        input_count: 2,
        now: TimeMs(1_760_000_000_000),
        session: None,
        prepared: &prepared,
        volatile: &[],
        durable: &[],
    };
    let command = CommandEnvelope {
        id: ID.into(),
        command: DriverCommand::Relay(RelayAction::Set { index: 2, on: true, for_ms: None }),
        expires_at: TimeMs(1_760_000_005_000),
    };
    let (ack, state) = (Frame::Text(ACK.into()), Frame::Text(REPORT.into()));
    let native = Native::new(&prepared);
    // Both sides must understand what they are measured with.
    host.decode_message(&call, "ws", &state).map_err(|e| anyhow!("{e:?}"))?;
    native.check()?;
    let (rounds, calls) = if options.quick { (7, 30_000) } else { (11, 200_000) };
    let (mut encode, mut decode_ack, mut decode_report) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..=rounds {
        let pairs = [
            (each(calls, || drop(black_box(host.encode_command(&call, &command)))), each(calls, || native.encode())),
            (each(calls, || drop(black_box(host.decode_message(&call, "ws", &ack)))), each(calls, || native.ack())),
            (
                each(calls, || drop(black_box(host.decode_message(&call, "ws", &state)))),
                each(calls, || native.report()),
            ),
        ];
        if round > 0 {
            encode.push(pairs[0]);
            decode_ack.push(pairs[1]);
            decode_report.push(pairs[2]);
        }
    }
    report.floor(Spread::of(decode_report.iter().map(|p| p.1)));
    report.note(
        "native: the same crate compiled for this machine, called through the SDK's own functions; the host's \
                 side adds its copies, checks, limits and counters",
    );
    let against = "native";
    report.push(Check::ratio("decode a report of 4 relays", "us", against, &decode_report, Goal::AtMost(2.5)));
    let added = encode.iter().map(|(ours, native)| ours - native);
    let mut adds =
        Check::ratio("encode set_relay: added by the sandbox (us)", "us", against, &encode, Goal::AtMost(1.0));
    adds.value = Spread::of(added);
    report.push(adds);
    let share = Spread::of(encode.iter().zip(&decode_ack).map(|(e, a)| e.0 + a.0));
    let natively = Spread::of(encode.iter().zip(&decode_ack).map(|(e, a)| e.1 + a.1));
    let what = "share of a command: encode and decode its ack";
    report.push(Check::plain(what, "us", share, Goal::AtMost(3.0)).beside(against, natively));
    report.push(Check::ratio("decode an ack", "us", against, &decode_ack, Goal::None));
    Ok(report)
}

fn load(plugins: &Path, dir: &Path) -> Result<PluginHost> {
    let config = HostConfig {
        plugins_dir: plugins.to_owned(),
        cache_dir: dir.to_owned(),
        cache_key: [7; 32],
        compiler: Arc::new(Compiler::InProcess),
        clock: Arc::new(Fast(SystemClock::new())),
        watch: Arc::new(NoopObserver),
        per_call: PerCall::None,
    };
    PluginHost::load(&config).map_err(|e| anyhow!("{e}"))
}

/// The driver as plain functions.
struct Native {
    ctx: types::DeviceCtx,
    command: types::CommandEnvelope,
    ack: types::Frame,
    state: types::Frame,
}

impl Native {
    fn new(prepared: &[u8]) -> Self {
        let relay = types::RelayTarget { index: 2, on: true, for_ms: None };
        Self {
            ctx: types::DeviceCtx {
                now_ms: 1_760_000_000_000,
                session: None,
                prepared: prepared.to_vec(),
                volatile: Vec::new(),
                durable: Vec::new(),
            },
            command: types::CommandEnvelope {
                id: ID.into(),
                command: types::Command::SetRelay(relay),
                expires_at_ms: 1_760_000_005_000,
            },
            ack: types::Frame::Text(ACK.into()),
            state: types::Frame::Text(REPORT.into()),
        }
    }
    fn check(&self) -> Result<()> {
        let decoded = guest::decode::<RelayController>(&self.ctx, "ws", &self.state).map_err(|e| anyhow!("{e:?}"))?;
        anyhow::ensure!(decoded.events.len() == 1, "a report is one event");
        Ok(())
    }
    fn encode(&self) {
        drop(black_box(guest::encode::<RelayController>(black_box(&self.ctx), &self.command)));
    }
    fn ack(&self) {
        drop(black_box(guest::decode::<RelayController>(black_box(&self.ctx), "ws", &self.ack)));
    }
    fn report(&self) {
        drop(black_box(guest::decode::<RelayController>(black_box(&self.ctx), "ws", &self.state)));
    }
}
