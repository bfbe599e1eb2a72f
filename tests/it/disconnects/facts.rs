//! What the running server says of a case, and what its database says of it: the same facts, by the same names.

use std::collections::BTreeMap;

use hexa_tests::Db;
use hexa_tests::cut::Request;
use reqwest::header::CONNECTION;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::fixture::{Case, Credential, Fixture, Stands};

/// What is true of the server, by name.
pub(super) type Facts = BTreeMap<String, String>;

/// Tables at one moment.
pub(super) struct Tables(Vec<Vec<Value>>);

const USERS: usize = 0;
const SESSIONS: usize = 1;
const TOKENS: usize = 2;
const DEVICES: usize = 3;
const GRANTS: usize = 4;
const PREFERENCES: usize = 5;
const RELAYS: usize = 6;
const AUDIT: usize = 7;
const INVITATIONS: usize = 8;

/// What is read: each statement gives what the facts need of a table, living rows only.
const READ: [&str; 9] = [
    "select uid, email, name, role, active, epoch from users",
    "select f.uid as uid, u.uid as owner from refresh_families f join users u on u.id = f.user_id \
     where f.revoked_at is null",
    "select t.uid as uid, u.uid as owner from access_tokens t join users u on u.id = t.user_id \
     where t.revoked_at is null",
    "select d.uid as uid, u.uid as owner, d.name as name, d.token_hash as hash, d.previous_token_hash as previous, \
     d.previous_token_until as until from devices d left join users u on u.id = d.owner_id where d.active",
    "select g.uid as uid, d.uid as device, u.uid as guest from grants g join devices d on d.id = g.device_id \
     join users u on u.id = g.user_id where g.ended_at is null",
    "select u.uid as owner, p.name as name, p.document as document from user_preferences p \
     join users u on u.id = p.user_id",
    "select d.uid as uid, r.relay as relay, r.state as state, r.version as version from relay_states r \
     join devices d on d.id = r.device_id",
    "select a.action as action, a.follow_up as follow_up, a.details as details, \
     (select uid from users where id = a.actor_id) as actor, (select uid from devices where id = a.device_id) as device \
     from (select * from audit_tail union all select * from audit) as a",
    "select i.note as note, coalesce(i.ended_why, 'open') as state, u.email as used_by from invitations i \
     left join users u on u.id = i.user_id",
];

/// The four documents of an account.
const NAMES: [&str; 4] = ["dashboard_layout", "dashboard_settings", "device_view_state", "notification_settings"];

fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row[column].as_str().unwrap_or("-")
}

fn list(mut items: Vec<String>) -> String {
    items.sort();
    items.join(" ")
}

impl Tables {
    pub(super) fn read(db: &Db) -> Self {
        Self(db.snapshot(&READ))
    }

    fn all<'a>(&'a self, table: usize, column: &'a str, value: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0[table].iter().filter(move |row| text(row, column) == value)
    }

    /// Primary audit rows with this action that name one of these; all of them when none is named.
    pub(super) fn traces(&self, action: &str, ids: &[String]) -> usize {
        let named = |row: &&Value| {
            let words = ["details", "actor", "device"].map(|c| text(row, c));
            ids.is_empty() || ids.iter().any(|id| words.iter().any(|w| w.contains(id.as_str())))
        };
        self.all(AUDIT, "action", action).filter(|row| row["follow_up"] == false).filter(named).count()
    }

    fn role<'a>(&'a self, user: &'a str) -> &'a str {
        self.all(USERS, "uid", user).next().map_or("-", |row| text(row, "role"))
    }

    /// Whether a token must be good.
    pub(super) fn good(&self, credential: &Credential) -> bool {
        let Some(user) = self.all(USERS, "uid", credential.user()).next() else { return false };
        let lives = match &credential.stands {
            Stands::Session { session, epoch, .. } => {
                user["epoch"] == *epoch && self.all(SESSIONS, "uid", session).next().is_some()
            }
            Stands::Token { id, .. } => self.all(TOKENS, "uid", id).next().is_some(),
        };
        user["active"] == true && lives
    }

    /// What the database says of a case.
    pub(super) fn facts(&self, case: &Case) -> Facts {
        let mut facts = Facts::new();
        for user in &case.people {
            let row = self.all(USERS, "uid", user).next().cloned().unwrap_or_default();
            let standing = format!("{} active={} name={}", text(&row, "role"), row["active"], row["name"]);
            facts.insert(format!("account {user}"), standing);
            for (what, table) in [("sessions", SESSIONS), ("tokens", TOKENS)] {
                let own = self.all(table, "owner", user).map(|row| text(row, "uid").to_owned()).collect();
                facts.insert(format!("{what} of {user}"), list(own));
            }
        }
        for email in &case.emails {
            let found = self.all(USERS, "email", email).map(|row| text(row, "uid").to_owned()).collect();
            facts.insert(format!("account of {email}"), list(found));
        }
        for note in &case.invitations {
            let shown = |row: &Value| format!("{} {}", text(row, "state"), text(row, "used_by"));
            let found = self.all(INVITATIONS, "note", note).map(shown).collect();
            facts.insert(format!("invitation {note}"), list(found));
        }
        for (n, credential) in case.credentials.iter().enumerate() {
            let good = self.good(credential);
            facts.insert(format!("token {n}"), (if good { 200 } else { 401 }).to_string());
            for device in &case.devices {
                let row = self.all(DEVICES, "uid", &device.uid).next();
                let owns = row.is_some_and(|row| text(row, "owner") == credential.user());
                let guest = self.all(GRANTS, "device", &device.uid).any(|g| text(g, "guest") == credential.user());
                // A token of its own has no `admin:*` here, a session of an admin has.
                let admin = matches!(credential.stands, Stands::Session { .. });
                let admin = admin && row.is_some() && self.role(credential.user()) == "admin";
                let may = good && row.is_some() && (owns || guest || admin);
                facts.insert(format!("token {n} sees {}", device.uid), may.to_string());
                facts.insert(format!("token {n} switches {}", device.uid), may.to_string());
            }
        }
        for device in &case.devices {
            let row = self.all(DEVICES, "uid", &device.uid).next();
            let what = row.map_or("-".into(), |row| format!("{} name={}", text(row, "owner"), row["name"]));
            facts.insert(format!("device {}", device.uid), what);
            let grants = self.all(GRANTS, "device", &device.uid).map(|g| text(g, "uid").to_owned()).collect();
            facts.insert(format!("grants of {}", device.uid), list(grants));
            if case.connects {
                let hash = Sha256::digest(device.token.as_bytes())
                    .iter()
                    .fold("\\x".to_owned(), |t, b| t + &format!("{b:02x}"));
                let fits = |row: &Value| text(row, "hash") == hash || text(row, "previous") == hash;
                facts.insert(format!("device {} connects", device.uid), row.is_some_and(fits).to_string());
            }
        }
        if let Some(n) = case.preferences {
            let own: Vec<_> = self.all(PREFERENCES, "owner", case.credentials[n].user()).collect();
            for name in NAMES {
                let found = own.iter().find(|row| text(row, "name") == name);
                let document = found.map_or(Value::Null, |row| serde_json::from_str(text(row, "document")).unwrap());
                facts.insert(format!("preference {name}"), document.to_string());
            }
        }
        for uid in &case.relays {
            let shown = |row: &Value| format!("{}:{}:{}", row["relay"], row["state"], row["version"]);
            facts.insert(format!("relays of {uid}"), list(self.all(RELAYS, "uid", uid).map(shown).collect()));
        }
        facts
    }
}

/// What the running server says of a case, and what only it can say.
pub(super) async fn of_server(fixture: &Fixture, case: &Case) -> Facts {
    let mut facts = Facts::new();
    let admin = async |path: String| {
        let answer = fixture.ask(&path, &fixture.admin).await;
        answer.map_or((0, Value::Null), |a| (a.status, a.json()))
    };
    let ids = |page: &Value| {
        let items = page["items"].as_array().cloned().unwrap_or_default();
        list(items.iter().map(|i| text(i, "id").to_owned()).collect())
    };
    for user in &case.people {
        let (_, row) = admin(format!("/api/v1/admin/users/{user}")).await;
        let standing = format!("{} active={} name={}", text(&row, "role"), row["active"], row["name"]);
        facts.insert(format!("account {user}"), standing);
        for what in ["sessions", "tokens"] {
            let (_, page) = admin(format!("/api/v1/admin/users/{user}/{what}?limit=500")).await;
            facts.insert(format!("{what} of {user}"), ids(&page));
        }
    }
    for email in &case.emails {
        let (_, page) = admin(format!("/api/v1/admin/users?search={email}")).await;
        facts.insert(format!("account of {email}"), ids(&page));
    }
    if !case.invitations.is_empty() {
        let all = invitations(fixture).await;
        for note in &case.invitations {
            let shown = |row: &&Value| text(row, "note") == note;
            let found =
                all.iter().filter(shown).map(|i| format!("{} {}", text(i, "state"), text(&i["used_by"], "email")));
            facts.insert(format!("invitation {note}"), list(found.collect()));
        }
    }
    for (n, credential) in case.credentials.iter().enumerate() {
        let status = async |path: &str| fixture.ask(path, &credential.token).await.map_or(0, |a| a.status);
        facts.insert(format!("token {n}"), status("/api/v1/auth/me").await.to_string());
        for device in &case.devices {
            let uid = &device.uid;
            let sees = status(&format!("/api/v1/devices/{uid}")).await;
            facts.insert(format!("token {n} sees {uid}"), said(sees, 200));
            let press = Request::new(&format!("POST /api/v1/devices/{uid}/relays/0")).bearer(&credential.token);
            let press = press.json(json!({ "state": true })).send(&fixture.http, fixture.server.address).await;
            // Nobody is there to do it; one that has just left is still waited for.
            let press = press.map_or(0, |a| a.status);
            facts.insert(format!("token {n} switches {uid}"), said(if press == 504 { 409 } else { press }, 409));
        }
    }
    for device in &case.devices {
        let uid = &device.uid;
        let (status, row) = admin(format!("/api/v1/devices/{uid}")).await;
        let what =
            if status == 200 { format!("{} name={}", text(&row["owner"], "id"), row["name"]) } else { "-".into() };
        facts.insert(format!("device {uid}"), what);
        let (_, page) = admin(format!("/api/v1/devices/{uid}/grants")).await;
        facts.insert(format!("grants of {uid}"), ids(&page));
    }
    if let Some(n) = case.preferences {
        let answer = fixture.ask("/api/v1/preferences", &case.credentials[n].token).await;
        let all = answer.map_or(Value::Null, |a| a.json());
        for name in NAMES {
            facts.insert(format!("preference {name}"), all[name].to_string());
        }
    }
    for uid in &case.relays {
        let (_, state) = admin(format!("/api/v1/devices/{uid}/state")).await;
        let known = state["relays"].as_array().cloned().unwrap_or_default();
        let known = known.iter().filter(|r| r["version"] != 0);
        let shown = known.map(|r| format!("{}:{}:{}", r["index"], r["state"], r["version"])).collect();
        facts.insert(format!("relays of {uid}"), list(shown));
    }
    for (path, member) in &case.probes {
        let (_, body) = admin(path.clone()).await;
        facts.insert(format!("{path} {member}"), body.pointer(member).cloned().unwrap_or_default().to_string());
    }
    // Last: whoever is connected would get the commands of above.
    if case.connects {
        for device in &case.devices {
            facts.insert(format!("device {} connects", device.uid), said(connect(fixture, device).await, 101));
        }
    }
    facts
}

/// All that the server shows.
async fn invitations(fixture: &Fixture) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/admin/invitations?limit=500{cursor}");
        let page = fixture.ask(&path, &fixture.admin).await.map_or(Value::Null, |a| a.json());
        all.extend(page["items"].as_array().cloned().unwrap_or_default());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

/// `true` for the status that means yes, `false` for those that mean no; any other stands for itself.
fn said(status: u16, yes: u16) -> String {
    match status {
        _ if status == yes => "true".into(),
        401 | 403 | 404 => "false".into(),
        other => other.to_string(),
    }
}

/// The status of a device's upgrade.
async fn connect(fixture: &Fixture, device: &hexa_tests::Identity) -> u16 {
    let url = format!("http://{}/ws/device?uid={}", fixture.server.address, device.uid);
    let request = fixture.http.get(url).bearer_auth(&device.token).header(CONNECTION, "Upgrade");
    let request = request.header("upgrade", "websocket").header("sec-websocket-version", "13");
    let answer = request.header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==").send().await;
    answer.map_or(0, |a| a.status().as_u16())
}

/// Facts that both know and that differ, in words.
pub(super) fn differences(said: &Facts, truth: &Facts, whose: &str) -> Vec<String> {
    let differs = |(name, truth): (&String, &String)| {
        let said = said.get(name)?;
        (said != truth).then(|| format!("{name}: the server says {said:?}, {whose} {truth:?}"))
    };
    truth.iter().filter_map(differs).collect()
}
