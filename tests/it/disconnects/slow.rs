//! A COMMIT that takes its time, so that a caller can leave inside it; and what goes on beside.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hexa_tests::cut::Request;
use hexa_tests::{AutoDevice, TestServer};
use serde_json::json;
use tokio::task::JoinHandle;

use super::fixture::{Fixture, Person};

/// Makes COMMIT of every change slow, or quick again. SQLite: a failpoint in its commit hook, read at the start.
/// PostgreSQL: a deferred trigger, once in each transaction, whatever tables it writes; not for rows that the group
/// commit of commands and reports writes.
pub(super) fn commits(fixture: &mut Fixture, slow: Option<Duration>) {
    fixture.slow = slow.unwrap_or_default();
    let db = fixture.server.db();
    if db.is_sqlite() {
        let point = slow.map(|slow| format!("change.inside_commit=sleep({})", slow.as_millis()));
        fixture.server.set_env("FAILPOINTS", point.as_deref());
    } else {
        db.tamper("drop function if exists test_slow_commit() cascade");
        if let Some(slow) = slow {
            db.tamper(&triggers(slow));
        }
    }
}

fn triggers(slow: Duration) -> String {
    let seconds = slow.as_secs_f64();
    let mut sql = format!(
        "create or replace function test_slow_commit() returns trigger language plpgsql as $$ begin \
         if coalesce(current_setting('test.slept', true), '') <> txid_current()::text then \
         perform set_config('test.slept', txid_current()::text, true); perform pg_sleep({seconds}); end if; \
         return null; end $$;"
    );
    for (table, when) in [
        ("audit_tail", "when (new.command_id is null and new.source <> 'device' or new.action = 'device.provisioned')"),
        ("refresh_tokens", ""),
        ("refresh_families", ""),
        ("access_tokens", ""),
        ("user_preferences", ""),
        ("idempotency", ""),
        ("grants", ""),
    ] {
        let events = if table == "audit_tail" { "insert" } else { "insert or update or delete" };
        let _ = write!(
            sql,
            "create constraint trigger test_slow_commit after {events} on {table} deferrable initially deferred \
             for each row {when} execute function test_slow_commit();"
        );
    }
    sql
}

/// Commands to a device and changes of settings, all the while.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    /// What was refused, in words.
    wrong: Arc<Mutex<Vec<String>>>,
    tasks: Vec<JoinHandle<()>>,
    _device: AutoDevice,
}

/// Who makes the load: an account with a device.
pub(super) struct Loader {
    person: Person,
    identity: hexa_tests::Identity,
}

impl Loader {
    pub(super) async fn new(fixture: &Fixture) -> Self {
        let person = fixture.person().await;
        let identity = fixture.device(&person).await;
        Self { person, identity }
    }

    pub(super) async fn start(&self, fixture: &Fixture) -> Load {
        let device = connected(&fixture.server, &self.identity).await;
        let (stop, wrong) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let command = Request::new(&format!("POST /api/v1/devices/{}/relays/1", self.identity.uid));
        let setting = Request::new("PUT /api/v1/preferences/dashboard_layout");
        let jobs = [(command, Duration::from_millis(5)), (setting, Duration::from_millis(90))];
        let tasks = jobs.into_iter().map(|(request, pace)| {
            let request = request.bearer(&self.person.token);
            let (http, address) = (fixture.http.clone(), fixture.server.address);
            let (stop, wrong) = (Arc::clone(&stop), Arc::clone(&wrong));
            tokio::spawn(async move {
                for n in 0u64.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let body = json!({ "state": n.is_multiple_of(2) });
                    // Its server was killed.
                    let Some(answer) = request.clone().json(body).send(&http, address).await else { return };
                    if answer.status >= 300 {
                        wrong.lock().unwrap().push(format!("{}: {} {}", request.path, answer.status, answer.text));
                    }
                    // Not as fast as it can: the gate is for the others, too.
                    tokio::time::sleep(pace).await;
                }
            })
        });
        Load { tasks: tasks.collect(), stop, wrong, _device: device }
    }
}

async fn connected(server: &TestServer, identity: &hexa_tests::Identity) -> AutoDevice {
    server.connect(identity).await.automatic(2)
}

impl Load {
    /// Ends it; gives what went wrong.
    pub(super) async fn end(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            let _ = task.await;
        }
        std::mem::take(&mut *self.wrong.lock().unwrap())
    }
}
