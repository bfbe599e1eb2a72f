//! What happens to plugins, kept and told: faults as rows, changes of state in the audit and the log.
//!
//! Plugins fail on the path of a command, and in bursts; so what they tell goes through a bounded queue that is never
//! waited for, and one task writes it in batches. What does not fit is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hexa_model::audit::AuditEntry;
use hexa_model::plugin::{PluginEvent, PluginInfo};
use hexa_model::{Actor, ErrorCode, Outcome, Source};
pub use hexa_store::FaultRow;
use serde_json::json;
use tokio::sync::mpsc;

use crate::Operations;
use hexa_devices::ports::PluginObserver;
use hexa_platform::change::{Decided, asked, internal};
use hexa_platform::detached::Detached;
use hexa_platform::error::{Error, Result};
use hexa_platform::idempotency::Key;
use hexa_platform::limit::Bucket;
use hexa_platform::principal::Principal;
use hexa_platform::worker::{self, RunsOn, WorkerSpec};

/// Events that wait to be written.
const QUEUE: usize = 256;
/// Between two batches: a transaction holds up commits, and a plugin that fails all the time has no claim on them.
const PAUSE: Duration = Duration::from_millis(200);
/// Audit rows of quarantined devices per second, and at once: the audit is for people.
const QUARANTINED_PER_S: f64 = 0.5;
const QUARANTINED_BURST: f64 = 30.0;

/// The plugin host's end.
#[derive(Debug)]
pub struct Watch {
    queue: mpsc::Sender<PluginEvent>,
    dropped: Arc<AtomicU64>,
}

/// The end of whoever stores them.
#[derive(Debug)]
pub struct PluginEventReceiver {
    queue: mpsc::Receiver<PluginEvent>,
    dropped: Arc<AtomicU64>,
}

/// The two ends; made before the plugins are loaded.
pub fn watch() -> (Watch, PluginEventReceiver) {
    let (tx, rx) = mpsc::channel(QUEUE);
    let dropped = Arc::new(AtomicU64::new(0));
    (Watch { queue: tx, dropped: Arc::clone(&dropped) }, PluginEventReceiver { queue: rx, dropped })
}

impl PluginObserver for Watch {
    fn tell(&self, event: PluginEvent) {
        say(&event);
        if self.queue.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// At once, for whoever reads the log.
fn say(event: &PluginEvent) {
    match event {
        // Each fault is in the caller's error; its row has the rest.
        PluginEvent::Fault(fault) => {
            tracing::debug!(plugin.id = %fault.plugin, function = fault.function, kind = fault.kind, "plugin fault");
        }
        PluginEvent::DevicePoisoned { plugin, device, seconds } => {
            tracing::warn!(plugin.id = %plugin, device.uid = %device, seconds, "device quarantined: its driver fails over it");
        }
        PluginEvent::State { plugin, version, state: "active", .. } => {
            tracing::info!(plugin.id = %plugin, plugin.version = %version, "plugin serves again");
        }
        PluginEvent::State { plugin, version, state, seconds } => {
            tracing::error!(plugin.id = %plugin, plugin.version = %version, state, seconds, "plugin stopped: too many faults");
        }
    }
}

const STORES_EVENTS: WorkerSpec =
    WorkerSpec { name: "plugin_events", purpose: "stores faults and changes of plugins", runs_on: RunsOn::EveryNode };

/// Starts the worker that writes what the host tells.
pub(crate) fn start(operations: &Arc<Operations>, events: PluginEventReceiver) {
    let shared = Arc::clone(operations);
    // One start after the other: the next one goes on where the last one broke off.
    let events = Arc::new(tokio::sync::Mutex::new(events));
    operations.workers.ongoing(STORES_EVENTS, move |_| {
        let (operations, events) = (Arc::clone(&shared), Arc::clone(&events));
        worker::run(async move {
            store_events(&operations, &mut *events.lock().await).await;
            Ok::<_, String>(())
        })
    });
}

/// Writes what is told until the services stop, and then what is left.
async fn store_events(services: &Operations, events: &mut PluginEventReceiver) {
    let mut quarantined = Bucket::new(QUARANTINED_PER_S, QUARANTINED_BURST, services.clock.monotonic());
    let mut batch = Vec::with_capacity(QUEUE);
    loop {
        let received = tokio::select! {
            n = events.queue.recv_many(&mut batch, QUEUE) => n,
            () = services.stop.cancelled() => {
                while let Ok(event) = events.queue.try_recv() {
                    batch.push(event);
                }
                write(services, &mut batch, &mut quarantined).await;
                return;
            }
        };
        if received == 0 {
            // The host is gone; there is nothing to write any more.
            services.stop.cancelled().await;
            return;
        }
        let dropped = events.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            services.metrics.plugin_events_dropped.inc_by(dropped);
        }
        write(services, &mut batch, &mut quarantined).await;
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            () = services.stop.cancelled() => {}
        }
    }
}

async fn write(services: &Operations, batch: &mut Vec<PluginEvent>, quarantined: &mut Bucket) {
    if batch.is_empty() {
        return;
    }
    let rows: Vec<_> = batch
        .drain(..)
        .map(|event| {
            let row = audit_row(services, &event, quarantined);
            let fault = if let PluginEvent::Fault(fault) = event { Some(fault) } else { None };
            (fault, row)
        })
        .collect();
    let events = rows.len();
    let written = internal(&services.store, move |tx| {
        Box::pin(async move {
            for (fault, row) in &rows {
                if let Some(fault) = fault {
                    tx.plugin_fault(fault).await?;
                }
                if let Some(row) = row {
                    tx.audit(row).await?;
                }
            }
            Ok(Decided::done(()))
        })
    });
    if let Err(error) = written.await {
        services.metrics.plugin_events_dropped.inc_by(events as u64);
        tracing::error!(%error, events, "what happened to plugins was not stored");
    }
}

fn audit_row(services: &Operations, event: &PluginEvent, quarantined: &mut Bucket) -> Option<AuditEntry> {
    let now = services.clock.now();
    let row = |action| AuditEntry::event(now, Actor::System, Source::System, action);
    match event {
        PluginEvent::Fault(_) => None,
        PluginEvent::DevicePoisoned { plugin, device, seconds } => {
            let live = services.registry.peek(device);
            let details = json!({ "plugin": plugin, "device_uid": device.as_str(), "seconds": seconds });
            quarantined.take(services.clock.monotonic()).then(|| {
                let row = row("plugin.device_poisoned").outcome(Outcome::Rejected).details(&details);
                match live {
                    Some(live) => row.device(live.key),
                    None => row,
                }
            })
        }
        PluginEvent::State { plugin, version, state, seconds } => {
            let action = match *state {
                "quarantined" => "plugin.quarantined",
                "faulted" => "plugin.faulted",
                _ => "plugin.recovered",
            };
            Some(row(action).details(&json!({ "plugin": plugin, "version": version, "seconds": seconds })))
        }
    }
}

/// Every plugin; for admins.
///
/// # Errors
/// `forbidden` for anybody else.
pub fn list(services: &Operations, by: &Principal) -> Result<Vec<PluginInfo>> {
    by.require_admin()?;
    Ok(services.drivers.plugins())
}

/// One plugin; for admins.
///
/// # Errors
/// `not_found` when there is none of this id, `forbidden` for anybody else.
pub fn get(services: &Operations, by: &Principal, id: &str) -> Result<PluginInfo> {
    list(services, by)?.into_iter().find(|p| p.id == id).ok_or_else(no_plugin)
}

/// One page of a plugin's faults, newest first, and where the next one begins; for admins.
///
/// # Errors
/// `not_found` when there is none of this id, `forbidden` for anybody else.
pub async fn faults(
    services: &Operations,
    by: &Principal,
    id: &str,
    before: Option<i64>,
    limit: u32,
) -> Result<(Vec<FaultRow>, Option<i64>)> {
    get(services, by, id)?;
    let mut rows = services.store.plugin_faults(id, before, limit + 1).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = if more { rows.last().map(|r| r.id) } else { None };
    Ok((rows, next))
}

/// Puts a stopped plugin back to work and forgets which devices were quarantined; for admins, audited.
///
/// # Errors
/// `not_found` when no loaded plugin has this id, `forbidden` for anybody else.
pub async fn reset(services: &Arc<Operations>, by: &Principal, key: Key<PluginInfo>, id: &str) -> Result<PluginInfo> {
    let before = get(services, by, id)?;
    if matches!(before.state, "failed" | "compiling") {
        let reason = before.reason.unwrap_or_default();
        let what = format!("{id} could not be loaded ({reason}); replace it and restart the server");
        return Err(Error::new(ErrorCode::DriverUnavailable, what));
    }
    let (house, by) = (Arc::clone(services), by.clone());
    // What is written down is done, also when the caller is gone in between.
    Detached::new(&services.tasks, async move { put_back(&house, &by, key, before).await }).await
}

async fn put_back(
    services: &Operations,
    by: &Principal,
    key: Key<PluginInfo>,
    before: PluginInfo,
) -> Result<PluginInfo> {
    let (now, id, actor) = (services.clock.now(), before.id.clone(), by.actor());
    // Written first: a plugin that is at work again without a trace of who put it there is worse than one more row.
    let made = asked(&services.store, by, key, move |tx| {
        Box::pin(async move {
            let details = json!({ "plugin": before.id, "version": before.version, "was": before.state });
            tx.audit(&AuditEntry::event(now, actor, Source::Api, "plugin.reset").details(&details)).await?;
            Ok(Decided::done(PluginInfo { state: "active", reason: None, poisoned_devices: 0, ..before }))
        })
    });
    let after = made.await?;
    services.drivers.reset_plugin(&id);
    Ok(after)
}

fn no_plugin() -> Error {
    Error::new(ErrorCode::NotFound, "there is no plugin with this id")
}
