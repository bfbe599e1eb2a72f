//! The JSON of the API: names here are the contract, so nothing inside is named after them.

use hexa_accounts::account::SignedIn;
use hexa_devices::contest::Contested;
use hexa_devices::provision::ClaimCode;
use hexa_devices::view::{DeviceView, PersonRow};
use hexa_model::{CommandResult, RelayState, TimeMs, names};
use hexa_platform::Error;
use hexa_platform::principal::Account;
use secrecy::ExposeSecret;
use serde::Serialize;
use utoipa::ToSchema;

/// Reads a time of a request.
pub(crate) fn time(field: &str, text: &str) -> Result<TimeMs, Error> {
    let parsed = text.parse::<jiff::Timestamp>();
    let what = "a time is RFC 3339 with its zone, such as 2026-01-31T12:00:00Z (a + is %2B in an address)";
    parsed.map(|t| TimeMs(t.as_millisecond())).map_err(|_| Error::validation(field, what))
}

/// A search has at most so many characters as a reader counts them.
const MAX_SEARCH: usize = 128;

/// Reads what is searched for; none when it is nothing.
pub(crate) fn search(text: Option<String>) -> Result<Option<String>, Error> {
    let Some(text) = text.as_deref().map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    if text.len() > names::MAX_BYTES || names::characters(text) > MAX_SEARCH {
        let most = format!("search has at most {MAX_SEARCH} characters and {} bytes", names::MAX_BYTES);
        return Err(Error::validation("search", most));
    }
    Ok(Some(text.to_owned()))
}

/// RFC 3339 in UTC with milliseconds.
pub(crate) fn rfc3339(time: TimeMs) -> String {
    jiff::Timestamp::from_millisecond(time.0).map_or_else(|_| String::new(), |t| format!("{t:.3}"))
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserBody {
    id: String,
    email: String,
    name: Option<String>,
    role: &'static str,
    created_at: String,
}

impl UserBody {
    pub(crate) fn new(account: &Account) -> Self {
        Self {
            id: account.id.to_string(),
            email: account.email.clone(),
            name: account.name.clone(),
            role: account.role.as_str(),
            created_at: rfc3339(account.created_at),
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct SignedInBody {
    user: UserBody,
    access_token: String,
    /// Null where it went into a cookie.
    refresh_token: Option<String>,
    token_type: &'static str,
    expires_in: i64,
}

impl SignedInBody {
    pub(crate) fn new(signed_in: &SignedIn) -> Self {
        Self {
            user: UserBody::new(&signed_in.account),
            access_token: signed_in.access_token.expose_secret().to_owned(),
            refresh_token: Some(signed_in.refresh_token.expose_secret().to_owned()),
            token_type: "Bearer",
            expires_in: signed_in.expires_in_s,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub(crate) struct ClaimCodeBody {
    pub claim_code: String,
    pub claim_expires_at: String,
}

impl ClaimCodeBody {
    pub(crate) fn new(claim: &ClaimCode) -> Self {
        Self { claim_code: claim.code.expose_secret().to_owned(), claim_expires_at: rfc3339(claim.expires_at) }
    }
}

/// `{index, state, version}`, as in every answer and frame.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
pub(crate) struct RelayBody {
    index: u16,
    state: bool,
    version: u64,
}

impl From<&RelayState> for RelayBody {
    fn from(state: &RelayState) -> Self {
        Self { index: state.index, state: state.on, version: state.version }
    }
}

pub(crate) fn relays(states: &[RelayState]) -> Vec<RelayBody> {
    states.iter().map(Into::into).collect()
}

#[derive(Debug, Serialize, ToSchema)]
struct DeviceRelayBody {
    index: u16,
    name: Option<String>,
    state: Option<bool>,
    version: u64,
    updated_at: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
struct LastActionBody {
    source: &'static str,
    command_id: Option<String>,
    relays: Vec<RelayBody>,
    at: String,
}

#[derive(Debug, Serialize, ToSchema)]
struct LastInputBody {
    input: u16,
    event: String,
    at: String,
}

/// Whose a device is.
#[derive(Debug, Serialize, ToSchema)]
struct OwnerBody {
    id: String,
    email: String,
    name: Option<String>,
}

impl OwnerBody {
    fn new(person: PersonRow) -> Self {
        Self { id: person.id.to_string(), email: person.email, name: person.name }
    }
}

/// One identity on two devices.
#[derive(Debug, Serialize, ToSchema)]
struct ContestedBody {
    since: String,
    stays: PartyBody,
    refused: PartyBody,
}

#[derive(Debug, Serialize, ToSchema)]
struct PartyBody {
    ip: Option<String>,
    boot_id: Option<String>,
}

impl ContestedBody {
    fn new(contested: Contested) -> Self {
        let [stays, refused] = contested
            .parties
            .map(|party| PartyBody { ip: party.ip.map(|ip| ip.to_string()), boot_id: party.boot_id.map(Into::into) });
        Self { since: rfc3339(contested.since), stays, refused }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeviceBody {
    uid: String,
    access: &'static str,
    /// For admins alone: guests must not learn names and e-mails of others. Null also where nobody owns it.
    owner: Option<OwnerBody>,
    name: Option<String>,
    device_class: &'static str,
    model: Option<String>,
    hardware: Option<String>,
    firmware_version: Option<String>,
    serial: Option<String>,
    relay_count: u16,
    input_count: u16,
    capabilities: Vec<String>,
    online: bool,
    /// Online, and silent for longer than its heartbeat allows.
    stale: bool,
    last_seen_at: Option<String>,
    ip: Option<String>,
    created_at: String,
    claimed_at: Option<String>,
    relays: Vec<DeviceRelayBody>,
    last_action: Option<LastActionBody>,
    last_input_event: Option<LastInputBody>,
    /// Two devices have this one's identity: one of them stays connected, the other is refused. Null for guests.
    contested: Option<ContestedBody>,
}

impl DeviceBody {
    pub(crate) fn of(view: &DeviceView) -> Self {
        Self::new(view.clone())
    }

    pub(crate) fn new(view: DeviceView) -> Self {
        let (row, live, sight) = (view.row, view.live, view.sight);
        let guest = sight.is_guest();
        let relays = (0..row.relay_count)
            .filter(|index| sight.relays.has(*index))
            .map(|index| {
                let state = view.relays.iter().find(|s| s.index == index);
                DeviceRelayBody {
                    index,
                    name: view.names.iter().find(|(i, _)| *i == index).map(|(_, n)| n.clone()),
                    state: state.map(|s| s.on),
                    version: state.map_or(0, |s| s.version),
                    updated_at: state.map(|s| rfc3339(s.updated_at)),
                }
            })
            .collect();
        let online = live.as_ref().is_some_and(|live| live.online);
        let (mut last_seen, mut firmware, mut ip) = (row.last_seen_at, row.firmware, row.last_ip);
        let (mut last_action, mut last_input) = (None, None);
        if let Some(live) = live {
            (last_seen, firmware, ip) = (live.last_seen.or(last_seen), live.firmware.or(firmware), live.ip.or(ip));
            (last_action, last_input) = (live.last_action, live.last_input);
        }
        Self {
            uid: row.uid.to_string(),
            access: sight.standing.as_str(),
            owner: view.owner.map(OwnerBody::new),
            name: row.name,
            device_class: row.class.as_str(),
            model: row.model,
            hardware: row.hardware,
            firmware_version: firmware,
            // Where it is and what it is numbered is not shown to a grantee.
            serial: row.serial.filter(|_| !guest),
            relay_count: row.relay_count,
            input_count: row.input_count,
            capabilities: row.capabilities,
            online,
            stale: view.stale,
            last_seen_at: last_seen.map(rfc3339),
            ip: ip.filter(|_| !guest),
            created_at: rfc3339(row.created_at),
            claimed_at: row.claimed_at.map(rfc3339),
            relays,
            last_action: last_action.and_then(|mut a| {
                a.relays.retain(|r| sight.relays.has(r.index));
                let shown = LastActionBody {
                    source: a.source.as_str(),
                    command_id: a.command.map(|c| c.to_string()),
                    relays: self::relays(&a.relays),
                    at: rfc3339(a.at),
                };
                (!a.relays.is_empty()).then_some(shown)
            }),
            last_input_event: last_input.filter(|_| sight.relays.is_all()).map(|(i, at)| LastInputBody {
                input: i.input,
                event: i.kind.clone(),
                at: rfc3339(at),
            }),
            contested: view.contested.filter(|_| !guest).map(ContestedBody::new),
        }
    }
}

/// A page of a keyset list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PageBody<T> {
    pub items: Vec<T>,
    pub next_cursor: Option<String>,
}

/// The answer to a relay command.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CommandBody {
    pub command_id: String,
    pub status: &'static str,
    pub relays: Vec<RelayBody>,
    pub latency_ms: f64,
}

impl CommandBody {
    pub(crate) fn new(result: &CommandResult) -> Self {
        Self {
            command_id: result.command.to_string(),
            status: result.outcome.as_str(),
            relays: relays(result.relays()),
            latency_ms: (result.latency.as_secs_f64() * 1e6).round() / 1e3,
        }
    }
}
