//! The audit as admins see it: pages by keyset, newest first, each filter with an index of its own.
//!
//! A page is put together from at most `limit` rows of each part (tail and table, and each action of a prefix), so that
//! no page reads more than another.

use hexa_model::audit::RelayStates;
use hexa_model::{CommandId, DeviceKey, TimeMs, UserKey};

use super::{AuditReader, changes, command_id};
use crate::db::{Arg, Query, Row, query};
use crate::error::StoreError;

/// Which rows are listed: those that fit everything that is set.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// Only what this account did.
    pub actor: Option<UserKey>,
    /// Only rows about this device.
    pub device: Option<DeviceKey>,
    /// Only these actions, by their names.
    pub action: Option<ActionFilter>,
    /// Only this outcome, by its stored name, such as `executed`.
    pub outcome: Option<String>,
    /// Only what came from here, by the stored name, such as `api`.
    pub source: Option<String>,
    /// Only rows of this time or later.
    pub since: Option<TimeMs>,
    /// Only rows from before this time.
    pub until: Option<TimeMs>,
}

/// Which actions a filter lets pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionFilter {
    /// The action of this name alone.
    Exact(String),
    /// All that begin so.
    Prefix(String),
}

/// A row's place in the list: rows of one time are in the order of their chains.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AuditPlace {
    /// Time of the row: when what it tells of had ended.
    pub at: TimeMs,
    /// Name of the chain: the `NODE_ID` of the server that wrote the row.
    pub chain: String,
    /// Number of the row in its chain, from 1 without gaps.
    pub seq: i64,
}

/// One row of the list.
#[derive(Clone, Debug)]
pub struct ListedRow {
    /// Where the row stands; the next page begins behind its last row's.
    pub place: AuditPlace,
    /// Who did it: `user`, `device` or `system`.
    pub actor_kind: String,
    /// The user's public id and e-mail, as they are now.
    pub actor: Option<(String, String)>,
    /// Where it came from: a name of `Source`, such as `api`.
    pub source: String,
    /// What was done, such as `set_relay` or `device.claimed`.
    pub action: String,
    /// The device's uid, as long as it is there.
    pub device_uid: Option<String>,
    /// The device's name, as it is now.
    pub device_name: Option<String>,
    /// Id of the command that it is about; none when it is about none.
    pub command: Option<CommandId>,
    /// Whether it follows up a command.
    pub follow_up: bool,
    /// How it ended: a name of `Outcome`, such as `executed`.
    pub outcome: String,
    /// The relay asked for.
    pub relay: Option<i64>,
    /// The state asked for.
    pub state: Option<bool>,
    /// Time from acceptance to the end.
    pub latency_ms: Option<i64>,
    /// The states that it stored.
    pub changes: RelayStates,
    /// Further facts as a JSON object; none when there are none.
    pub details: Option<String>,
}

/// Their rows have no index of their own (`migrations/*/0007_audit_checkpoints.sql`).
const COMMONEST_OUTCOME: &str = "executed";
const COMMONEST_SOURCE: &str = "api";

/// Every action of the table, one look into the index for each.
const ACTIONS: &str = "with recursive found(action) as (\
     select min(action) from audit union all \
     select (select min(a.action) from audit a where a.action > found.action) from found where found.action is not null) \
     select action from found where action is not null union select action from audit_tail";

/// A statement that is being put together.
struct Conditions {
    sqlite: bool,
    terms: Vec<String>,
    args: Vec<Arg>,
    /// Whether an index of its own serves a term already.
    served: bool,
}

impl Conditions {
    fn bind(&mut self, arg: impl Into<Arg>) -> usize {
        self.args.push(arg.into());
        self.args.len()
    }

    /// The first one is looked up by its index, the others are tested. PostgreSQL knows how many rows each has and
    /// chooses itself; SQLite does not, and is kept from an index by a plus sign.
    fn equal(&mut self, column: &str, arg: impl Into<Arg>, indexed: bool) {
        let n = self.bind(arg);
        let plus = if self.sqlite && (self.served || !indexed) { "+" } else { "" };
        self.terms.push(format!("{plus}{column} = ${n}"));
        self.served |= indexed;
    }

    /// The same for a partial index, which has all rows but those of the commonest value.
    fn equal_but(&mut self, column: &str, value: &str, commonest: &str) {
        self.equal(column, value, value != commonest);
        if value != commonest {
            self.terms.push(format!("{column} <> '{commonest}'"));
        }
    }

    fn time(&mut self, term: &str, at: TimeMs) {
        let n = self.bind(at);
        self.terms.push(format!("{term} ${n}"));
    }
}

impl AuditReader {
    /// One page, newest first, behind `before`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn list(
        &self,
        filter: &AuditFilter,
        before: Option<&AuditPlace>,
        limit: u32,
    ) -> Result<Vec<ListedRow>, StoreError> {
        let actions = match &filter.action {
            None => None,
            Some(ActionFilter::Exact(action)) => Some(vec![action.clone()]),
            Some(ActionFilter::Prefix(prefix)) => Some(self.actions(prefix).await?),
        };
        if actions.as_ref().is_some_and(Vec::is_empty) {
            return Ok(Vec::new());
        }
        let page = page(self.is_sqlite(), filter, actions.as_deref(), before, limit);
        page.fetch_all(self.on()).await?.iter().map(listed).collect()
    }

    /// How SQLite would read a page, step by step: for tests of the indexes.
    ///
    /// # Errors
    /// When the database does not answer, or is another one.
    pub async fn plan(
        &self,
        filter: &AuditFilter,
        before: Option<&AuditPlace>,
        limit: u32,
    ) -> Result<Vec<String>, StoreError> {
        let actions = match &filter.action {
            Some(ActionFilter::Exact(action) | ActionFilter::Prefix(action)) => Some(vec![action.clone()]),
            None => None,
        };
        let page = page(self.is_sqlite(), filter, actions.as_deref(), before, limit);
        let rows = page.explained(true).fetch_all(self.on()).await?;
        rows.iter().map(|row| row.get("detail")).collect()
    }

    async fn actions(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        let rows = query(ACTIONS).fetch_all(self.on()).await?;
        let all: Result<Vec<String>, _> = rows.iter().map(|row| row.get("action")).collect();
        Ok(all?.into_iter().filter(|action| action.starts_with(prefix)).collect())
    }
}

fn page(
    sqlite: bool,
    filter: &AuditFilter,
    actions: Option<&[String]>,
    before: Option<&AuditPlace>,
    limit: u32,
) -> Query {
    let mut all = Conditions { sqlite, terms: Vec::new(), args: Vec::new(), served: false };
    if let Some(device) = filter.device {
        all.equal("device_id", device.0, true);
    }
    if let Some(actor) = filter.actor {
        all.equal("actor_id", actor.0, true);
    }
    let action_plus = if sqlite && all.served { "+" } else { "" };
    all.served |= actions.is_some();
    if let Some(outcome) = &filter.outcome {
        all.equal_but("outcome", outcome, COMMONEST_OUTCOME);
    }
    if let Some(source) = &filter.source {
        all.equal_but("source", source, COMMONEST_SOURCE);
    }
    if let Some(since) = filter.since {
        all.time("at >=", since);
    }
    // One end alone, whichever comes first: SQLite begins at the first of two and would read down to the other.
    match (before, filter.until) {
        (Some(before), until) if until.is_none_or(|until| before.at < until) => {
            let (at, chain, seq) = (all.bind(before.at), all.bind(before.chain.as_str()), all.bind(before.seq));
            all.terms.push(format!("(at, chain, seq) < (${at}, ${chain}, ${seq})"));
        }
        (_, Some(until)) => all.time("at <", until),
        (_, None) => {}
    }
    let limit = all.bind(limit);
    let each: Vec<Option<String>> = match actions {
        None => vec![None],
        Some(actions) => actions.iter().map(|a| Some(format!("{action_plus}action = ${}", all.bind(a)))).collect(),
    };
    let mut parts = Vec::new();
    for action in &each {
        let terms: Vec<_> = all.terms.iter().chain(action).map(String::as_str).collect();
        let condition = if terms.is_empty() { String::new() } else { format!("where {}", terms.join(" and ")) };
        for table in ["audit_tail", "audit"] {
            let order = format!("order by at desc, chain desc, seq desc limit ${limit}");
            parts.push(format!("select * from (select * from {table} {condition} {order}) as part{}", parts.len()));
        }
    }
    // Keys of deleted rows may be given again: what came before a device or a user was made is not theirs.
    let sql = format!(
        "select p.*, d.uid as device_uid, d.name as device_name, u.uid as user_uid, u.email as user_email \
         from (select * from ({}) as parts order by at desc, chain desc, seq desc limit ${limit}) as p \
         left join devices d on d.id = p.device_id and d.created_at <= p.at \
         left join users u on u.id = p.actor_id and u.created_at <= p.at order by p.at desc, p.chain desc, p.seq desc",
        parts.join(" union all ")
    );
    all.args.into_iter().fold(query(sqlx::AssertSqlSafe(sql)), Query::bind)
}

fn listed(row: &Row) -> Result<ListedRow, StoreError> {
    let user: (Option<String>, Option<String>) = (row.get("user_uid")?, row.get("user_email")?);
    Ok(ListedRow {
        place: AuditPlace { at: TimeMs(row.get("at")?), chain: row.get("chain")?, seq: row.get("seq")? },
        actor_kind: row.get("actor_kind")?,
        actor: user.0.zip(user.1),
        source: row.get("source")?,
        action: row.get("action")?,
        device_uid: row.get("device_uid")?,
        device_name: row.get("device_name")?,
        command: command_id(row)?.map(|b| CommandId(uuid::Uuid::from_bytes(b))),
        follow_up: row.get("follow_up")?,
        outcome: row.get("outcome")?,
        relay: row.get("relay")?,
        state: row.get("state")?,
        latency_ms: row.get("latency_ms")?,
        changes: changes(row)?,
        details: row.get("details")?,
    })
}
