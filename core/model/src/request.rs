//! A command and its result as plain values: whoever holds the device may be another process than the one that was asked.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::audit::RelayStates;
use crate::{Action, Actor, CommandId, DeviceUid, Outcome, Source, TimeMs};

/// How many automatic steps may lie between a person and a command. More is a loop.
pub const MAX_CAUSE_DEPTH: u8 = 8;

/// Why there is a command: for the protection against loops, and for the answer to "why did this switch".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// What the command was made by, at the last step.
    pub made_by: MadeBy,
    /// Automatic steps between the origin and this command: 0 when somebody asked for it.
    pub depth: u8,
    /// Where the chain of causes began; the same for everything that follows from it.
    pub origin: Box<str>,
}

/// What a command was made by. Schedules, rules, scenes and bridges join with their parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MadeBy {
    /// A request or a message of a client; the origin is its request id.
    Request,
    /// The platform itself, with no cause outside of it.
    Platform,
}

impl Cause {
    /// Somebody asked for it, with this request.
    pub fn request(request_id: &str) -> Self {
        Self { made_by: MadeBy::Request, depth: 0, origin: request_id.into() }
    }
    /// The platform did it by itself; `origin` says where.
    pub fn platform(origin: &str) -> Self {
        Self { made_by: MadeBy::Platform, depth: 0, origin: origin.into() }
    }
    /// Of what this command gives rise to; none when that would be a loop.
    pub fn next(&self, made_by: MadeBy) -> Option<Self> {
        (self.depth < MAX_CAUSE_DEPTH).then(|| Self { made_by, depth: self.depth + 1, origin: self.origin.clone() })
    }
}

/// The key of a request that may be sent twice, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdempotencyKey {
    /// Whose keys these are: a keyed hash.
    pub scope: [u8; 32],
    /// The key itself, as the caller sent it.
    pub key: String,
    /// Of what is asked for: a keyed hash.
    pub fingerprint: [u8; 32],
    /// The id of the request that came with it first.
    pub request_id: String,
    /// When it came: the earliest that the time can have been.
    pub at: TimeMs,
    /// When the key may be used anew.
    pub expires_at: TimeMs,
    /// Whether its caller's keys are counted before it is taken.
    pub counted: bool,
}

/// What is asked of a device, with everything that whoever holds the device needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRequest {
    /// Chosen by the door, so that it can ask for the command whatever becomes of its connection.
    pub id: CommandId,
    /// Through which door it came.
    pub source: Source,
    /// In whose name it is asked; access and audit go by it.
    pub actor: Actor,
    /// Why it is asked: its origin, and the automatic steps since.
    pub cause: Cause,
    /// Uid of the device that is asked.
    pub device: DeviceUid,
    /// What the device shall do.
    pub action: Action,
    /// The key of the request, if it has one.
    pub key: Option<IdempotencyKey>,
    /// How long the caller waits.
    pub time_left: Duration,
}

/// What became of the key of a command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// It was not taken, or was given back: the command may be asked for again with it.
    #[default]
    Free,
    /// It stands for this command.
    Taken,
    /// Another request had the same key and came first.
    Lost,
    /// The database fell silent while it was taken.
    Unsure,
}

/// A command that succeeded. What it says is on the disk, with its audit row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandResult {
    /// Id of the command, as in its request and its audit row.
    pub command: CommandId,
    /// Either `executed` or `noop`: any other end is an error.
    pub outcome: Outcome,
    /// What it brought, by the kind of action.
    pub data: ResultData,
    /// From acceptance to the commit.
    pub latency: Duration,
    /// That of its audit row, when everything else of an answer made from that row would be the same.
    pub row_latency: Option<Duration>,
}

impl CommandResult {
    /// The relays concerned, with their versions; none for what is not about relays.
    pub fn relays(&self) -> &[crate::RelayState] {
        match &self.data {
            ResultData::Relays(states) => states,
            ResultData::None => &[],
        }
    }
}

/// What a command brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResultData {
    /// The states of the relays concerned.
    Relays(RelayStates),
    /// Nothing beyond its outcome.
    None,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RelayAction;

    #[test]
    fn a_request_is_the_same_after_it_was_sent_as_text() {
        let request = CommandRequest {
            id: CommandId::at(TimeMs(1_000), [7; 10]),
            source: Source::Api,
            actor: Actor::System,
            cause: Cause::request("r-1"),
            device: DeviceUid::parse("hx1").unwrap(),
            action: RelayAction::Set { index: 1, on: true, for_ms: Some(20) }.into(),
            key: Some(IdempotencyKey {
                scope: [1; 32],
                key: "k".into(),
                fingerprint: [2; 32],
                request_id: "r-1".into(),
                at: TimeMs(5),
                expires_at: TimeMs(6),
                counted: true,
            }),
            time_left: Duration::from_secs(5),
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<CommandRequest>(&text).unwrap(), request, "{text}");
    }

    #[test]
    fn a_chain_of_causes_ends() {
        let mut cause = Cause::request("r-1");
        for depth in 1..=MAX_CAUSE_DEPTH {
            cause = cause.next(MadeBy::Platform).unwrap();
            assert_eq!((cause.depth, &*cause.origin), (depth, "r-1"));
        }
        assert_eq!(cause.next(MadeBy::Platform), None);
    }
}
