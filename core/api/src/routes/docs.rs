//! What the document says of each route beside what the table says. A route without an entry here fails a test.

use hexa_model::ErrorCode::{
    self, AlreadyClaimed, AlreadyProvisioned, Busy, DeviceBusy, DeviceNotReady, DeviceOffline, DeviceRejected,
    DeviceStateMismatch, DeviceTimeout, DriverFault, DriverUnavailable, EmailTaken, Forbidden, InvalidCredentials,
    InvalidInvitation, InvalidProvisionKey, LastAdmin, OriginNotAllowed, PreconditionFailed, RefreshTokenReused,
    RegistrationClosed, SetByConfiguration, ShuttingDown, UnsupportedCommand, ValidationError,
};

use super::audit::{AuditQuery, ExportQuery};
use super::auth::{LoginRequest, PasswordRequest, RefreshRequest, RegisterRequest};
use super::commands::CommandStatusResponse;
use super::devices::{
    ClaimRequest, ListDevicesQuery, PatchRequest, ResetAllowedResponse, RotatedResponse, StateResponse,
};
use super::fleet::FleetBody;
use super::grants::{CreateGrantRequest, GrantBody};
use super::history::{HistoryBody, HistoryQuery};
use super::invitations::{
    CreateInvitationRequest, InvitationBody, ListInvitationsQuery, NewInvitationBody, RegistrationBody,
};
use super::keys::{KeysBody, RotateKeysRequest};
use super::ops::{HealthBody, ReadyBody};
use super::plugins::{FaultBody, FaultsQuery, PluginBody};
use super::preferences::{ChangesRequest, DocumentBody, DocumentsBody};
use super::provision::{ProvisionRequest, ProvisionResponse};
use super::relays::{SetAllRelaysRequest, SetRelayRequest};
use super::sessions::{CreateTokenRequest, EndedResponse, NewTokenBody, SessionBody, TicketBody, TokenBody};
use super::users::{AccountBody, ListUsersQuery, PatchUserRequest};
use super::workers::WorkersBody;
use crate::audit_text::AuditBody;
use crate::openapi::schemas::{Schema, map, one, page};
use crate::wire::{ClaimCodeBody, CommandBody, DeviceBody, SignedInBody, UserBody};
use crate::ws::client::ConnectQuery;

/// What a success looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    /// A JSON body of this schema.
    Json(Schema),
    /// Text of these media types.
    Text(&'static [&'static str]),
    /// No body at all, as with status 204.
    Empty,
}

/// What the document says of a route.
#[derive(Clone, Debug)]
pub(crate) struct Doc {
    /// Method and path as in the table of routes, such as `GET /api/v1/devices`.
    pub(crate) route: &'static str,
    /// The `operationId`, unique in the document: generated clients name their methods by it.
    pub(crate) id: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) more: &'static str,
    pub(crate) query: Option<Schema>,
    pub(crate) body: Option<Schema>,
    pub(crate) answers: Vec<(u16, Answer)>,
    /// Beside those that follow from what the route asks of its caller.
    pub(crate) errors: &'static [ErrorCode],
}

fn doc(route: &'static str, id: &'static str, summary: &'static str) -> Doc {
    Doc { route, id, summary, more: "", query: None, body: None, answers: Vec::new(), errors: &[] }
}

impl Doc {
    fn more(self, more: &'static str) -> Self {
        Self { more, ..self }
    }
    fn query(self, query: Schema) -> Self {
        Self { query: Some(query), ..self }
    }
    fn body(self, body: Schema) -> Self {
        Self { body: Some(body), ..self }
    }
    fn answer(mut self, status: u16, answer: Answer) -> Self {
        self.answers.push((status, answer));
        self
    }
    fn json(self, status: u16, schema: Schema) -> Self {
        self.answer(status, Answer::Json(schema))
    }
    fn empty(self, status: u16) -> Self {
        self.answer(status, Answer::Empty)
    }
    fn errors(self, errors: &'static [ErrorCode]) -> Self {
        Self { errors, ..self }
    }
}

/// How a relay command ends that does not succeed.
const COMMAND: &[ErrorCode] = &[
    Forbidden,
    DeviceOffline,
    DeviceNotReady,
    DeviceBusy,
    DeviceRejected,
    DeviceStateMismatch,
    DeviceTimeout,
    DriverFault,
    DriverUnavailable,
    UnsupportedCommand,
    ShuttingDown,
];
const OWNERS: &[ErrorCode] = &[Forbidden];
const CONDITIONAL: &[ErrorCode] = &[PreconditionFailed];

/// What the document says of every route, by area.
pub(crate) fn docs() -> Vec<Doc> {
    [accounts(), devices(), preferences(), admin(), server()].concat()
}

fn accounts() -> Vec<Doc> {
    vec![
        doc("GET /api/v1/auth/registration", "getRegistration", "Who may make an account here")
            .more("`open`: everybody; `invite`: whoever has an invitation; `closed`: nobody.")
            .json(200, one::<RegistrationBody>),
        doc("POST /api/v1/auth/register", "register", "Make an account and sign in")
            .more(
                "The first admin is made with the server's one-time `bootstrap_secret`, in every mode. An `invitation` is \
                 spent in the same transaction.",
            )
            .body(one::<RegisterRequest>)
            .json(201, one::<SignedInBody>)
            .errors(&[
                EmailTaken,
                Busy,
                ErrorCode::InvalidToken,
                OriginNotAllowed,
                RegistrationClosed,
                InvalidInvitation,
            ]),
        doc("POST /api/v1/auth/login", "login", "Sign in")
            .body(one::<LoginRequest>)
            .json(200, one::<SignedInBody>)
            .errors(&[InvalidCredentials, ErrorCode::AccountDisabled, Busy, OriginNotAllowed]),
        doc("POST /api/v1/auth/refresh", "refresh", "A new access token for a refresh token")
            .more(
                "A refresh token is good once. One that comes again ends its session (RFC 9700). \
                 With `x-hexa-session: cookie` from a page of this server it is in an HttpOnly cookie instead.",
            )
            .body(one::<RefreshRequest>)
            .json(200, one::<SignedInBody>)
            .errors(&[ErrorCode::InvalidToken, RefreshTokenReused, ErrorCode::AccountDisabled, OriginNotAllowed]),
        doc("POST /api/v1/auth/logout", "logout", "End the session of a refresh token")
            .body(one::<RefreshRequest>)
            .empty(204)
            .errors(&[ErrorCode::InvalidToken, OriginNotAllowed]),
        doc("POST /api/v1/auth/password", "changePassword", "Change the password; other sessions end")
            .body(one::<PasswordRequest>)
            .json(200, one::<SignedInBody>)
            .errors(&[InvalidCredentials, Busy, OriginNotAllowed]),
        doc("GET /api/v1/auth/me", "getMe", "The caller's account").json(200, one::<UserBody>),
        doc("GET /api/v1/auth/sessions", "listSessions", "Open sessions").json(200, page::<SessionBody>),
        doc("DELETE /api/v1/auth/sessions", "endOtherSessions", "End all sessions but this one")
            .json(200, one::<EndedResponse>),
        doc("DELETE /api/v1/auth/sessions/{id}", "endSession", "End a session").empty(204),
        doc("GET /api/v1/auth/tokens", "listTokens", "Personal access tokens").json(200, page::<TokenBody>),
        doc("POST /api/v1/auth/tokens", "createToken", "Make a personal access token, shown once")
            .body(one::<CreateTokenRequest>)
            .json(201, one::<NewTokenBody>)
            .errors(OWNERS),
        doc("DELETE /api/v1/auth/tokens/current", "revokeOwnToken", "Revoke the token that this request is made with")
            .empty(204)
            .errors(&[ErrorCode::NotFound]),
        doc("DELETE /api/v1/auth/tokens/{id}", "revokeToken", "Revoke a personal access token").empty(204),
        doc("POST /api/v1/ws/ticket", "createTicket", "A ticket for the client socket: 30 seconds, one use")
            .json(201, one::<TicketBody>),
    ]
}

fn devices() -> Vec<Doc> {
    vec![
        doc("POST /api/v1/provision/register", "provisionDevice", "A device comes in and gets its token")
            .more("With the fleet's key in `x-provision-key`. A known serial number also needs the device's own token.")
            .body(one::<ProvisionRequest>)
            .json(201, one::<ProvisionResponse>)
            .errors(&[InvalidProvisionKey, AlreadyProvisioned, Busy]),
        doc("GET /api/v1/devices", "listDevices", "The caller's devices, and those shared with them")
            .more(
                "`all=true` shows everybody's to admins, with `owner` those of one account. `search` looks into uid, name, \
                 names of relays, serial number and model, with `all` also into e-mails and names of owners. `sort=name` \
                 is by what a device is called, its uid if it has no name; a cursor is good in its own order only. A \
                 page may have fewer items than asked for; `next_cursor` decides.",
            )
            .query(one::<ListDevicesQuery>)
            .json(200, page::<DeviceBody>)
            .errors(OWNERS),
        doc("POST /api/v1/devices/claim", "claimDevice", "Take a device that waits with this claim code")
            .body(one::<ClaimRequest>)
            .json(200, one::<DeviceBody>)
            .errors(&[ErrorCode::NotFound]),
        doc("POST /api/v1/devices/claim-code", "renewOwnClaimCode", "A device's own new claim code")
            .json(200, one::<ClaimCodeBody>)
            .errors(&[AlreadyClaimed]),
        doc("GET /api/v1/devices/{uid}", "getDevice", "One device").json(200, one::<DeviceBody>),
        doc("PATCH /api/v1/devices/{uid}", "renameDevice", "Name a device and its relays")
            .body(one::<PatchRequest>)
            .json(200, one::<DeviceBody>)
            .errors(OWNERS),
        doc("DELETE /api/v1/devices/{uid}", "deleteDevice", "Delete a device; the audit keeps its rows").empty(204),
        doc("GET /api/v1/devices/{uid}/state", "getDeviceState", "Whether it is online, and its relays")
            .json(200, one::<StateResponse>),
        doc("POST /api/v1/devices/{uid}/release", "releaseDevice", "Give a device up; the next owner needs the code")
            .json(200, one::<ClaimCodeBody>)
            .errors(OWNERS),
        doc("POST /api/v1/devices/{uid}/token/rotate", "rotateDeviceToken", "A new device token, shown once")
            .json(200, one::<RotatedResponse>)
            .errors(OWNERS),
        doc("POST /api/v1/devices/{uid}/reset", "allowReset", "Let a device in anew that has lost its token")
            .more(
                "After a factory reset: within the time in the answer the device may register once more with its serial \
                 and the provisioning key, without its old token. It stays with its owner.",
            )
            .json(200, one::<ResetAllowedResponse>)
            .errors(&[Forbidden, UnsupportedCommand]),
        doc("POST /api/v1/devices/{uid}/claim-code", "renewClaimCode", "A new claim code of an unclaimed device")
            .json(200, one::<ClaimCodeBody>)
            .errors(&[AlreadyClaimed]),
        doc("GET /api/v1/devices/{uid}/history", "listHistory", "What happened to a device, newest first")
            .more("From the moment it was claimed; a guest sees commands to the shared relays.")
            .query(one::<HistoryQuery>)
            .json(200, page::<HistoryBody>),
        doc("GET /api/v1/devices/{uid}/grants", "listGrants", "With whom a device is shared")
            .more("A guest sees their own grants.")
            .json(200, page::<GrantBody>),
        doc("POST /api/v1/devices/{uid}/grants", "createGrant", "Share a device, or relays of it")
            .body(one::<CreateGrantRequest>)
            .json(201, one::<GrantBody>)
            .errors(&[Forbidden, DeviceNotReady]),
        doc("DELETE /api/v1/devices/{uid}/grants/{id}", "revokeGrant", "End a grant; a guest may leave").empty(204),
        doc("POST /api/v1/devices/{uid}/relays", "setAllRelays", "Switch all relays of a device")
            .more("200 means that the device acknowledged, and that states and audit row are on the disk.")
            .body(one::<SetAllRelaysRequest>)
            .json(200, one::<CommandBody>)
            .errors(COMMAND),
        doc("POST /api/v1/devices/{uid}/relays/{index}", "setRelay", "Switch a relay")
            .more("200 means that the device acknowledged, and that state and audit row are on the disk.")
            .body(one::<SetRelayRequest>)
            .json(200, one::<CommandBody>)
            .errors(COMMAND),
        doc("GET /api/v1/commands/{command_id}", "getCommand", "What became of a command")
            .json(200, one::<CommandStatusResponse>),
    ]
}

fn preferences() -> Vec<Doc> {
    vec![
        doc("GET /api/v1/preferences", "listPreferences", "All documents of the caller")
            .json(200, one::<DocumentsBody>)
            .empty(304),
        doc("PUT /api/v1/preferences", "putPreferences", "Replace all documents")
            .body(one::<ChangesRequest>)
            .json(200, one::<DocumentsBody>)
            .errors(CONDITIONAL),
        doc("PATCH /api/v1/preferences", "patchPreferences", "Replace those that are named; null removes one")
            .body(one::<ChangesRequest>)
            .json(200, one::<DocumentsBody>)
            .errors(CONDITIONAL),
        doc("GET /api/v1/preferences/{name}", "getPreference", "One document")
            .json(200, map::<DocumentBody>)
            .empty(304),
        doc("PUT /api/v1/preferences/{name}", "putPreference", "Replace a document, of at most 64 KiB")
            .body(map::<DocumentBody>)
            .json(200, map::<DocumentBody>)
            .json(201, map::<DocumentBody>)
            .errors(CONDITIONAL),
        doc("DELETE /api/v1/preferences/{name}", "deletePreference", "Remove a document")
            .empty(204)
            .errors(CONDITIONAL),
    ]
}

fn admin() -> Vec<Doc> {
    vec![
        doc("GET /api/v1/admin/fleet", "getFleet", "The fleet in numbers, with the last minutes of commands")
            .json(200, one::<FleetBody>),
        doc("GET /api/v1/admin/audit", "listAudit", "The audit, newest first")
            .query(one::<AuditQuery>)
            .json(200, page::<AuditBody>),
        doc("GET /api/v1/admin/audit/export", "exportAudit", "The audit as JSON lines or CSV")
            .query(one::<ExportQuery>)
            .answer(200, Answer::Text(&["application/x-ndjson", "text/csv"])),
        doc("GET /api/v1/admin/users", "listUsers", "Accounts")
            .query(one::<ListUsersQuery>)
            .json(200, page::<AccountBody>),
        doc("GET /api/v1/admin/users/{id}", "getUser", "One account").json(200, one::<AccountBody>),
        doc("PATCH /api/v1/admin/users/{id}", "patchUser", "Change role or name, activate or deactivate")
            .body(one::<PatchUserRequest>)
            .json(200, one::<AccountBody>)
            .errors(&[LastAdmin]),
        doc("GET /api/v1/admin/users/{id}/sessions", "listUserSessions", "Open sessions of an account")
            .more("`current` is true for the caller's own session only.")
            .json(200, page::<SessionBody>),
        doc("DELETE /api/v1/admin/users/{id}/sessions", "endUserSessions", "End all sessions of an account")
            .json(200, one::<EndedResponse>),
        doc("DELETE /api/v1/admin/users/{id}/sessions/{session_id}", "endUserSession", "End a session of an account")
            .empty(204),
        doc("GET /api/v1/admin/users/{id}/tokens", "listUserTokens", "Personal access tokens of an account")
            .json(200, page::<TokenBody>),
        doc("DELETE /api/v1/admin/users/{id}/tokens/{token_id}", "revokeUserToken", "Revoke a token of an account")
            .empty(204),
        doc("GET /api/v1/admin/invitations", "listInvitations", "Invitations, the newest first, without their tokens")
            .more("Those that ended are kept for 30 days.")
            .query(one::<ListInvitationsQuery>)
            .json(200, page::<InvitationBody>),
        doc(
            "POST /api/v1/admin/invitations",
            "createInvitation",
            "Invite somebody: a link that is good once, for 7 days",
        )
        .more("Token and link are shown once. It is good for as long as whoever made it is an active admin.")
        .body(one::<CreateInvitationRequest>)
        .json(201, one::<NewInvitationBody>)
        .errors(&[EmailTaken]),
        doc("DELETE /api/v1/admin/invitations/{id}", "revokeInvitation", "Take an open invitation back").empty(204),
        doc("GET /api/v1/admin/keys", "listKeys", "Keys that access tokens are signed with, without themselves")
            .json(200, one::<KeysBody>),
        doc("POST /api/v1/admin/keys/rotate", "rotateKeys", "The next key signs from now on")
            .more("With `at_once` every access token is refused from then on; clients refresh.")
            .body(one::<RotateKeysRequest>)
            .json(200, one::<KeysBody>)
            .errors(&[SetByConfiguration]),
        doc("GET /api/v1/admin/plugins", "listPlugins", "Plugins and their health").json(200, page::<PluginBody>),
        doc("GET /api/v1/admin/plugins/{id}", "getPlugin", "One plugin").json(200, one::<PluginBody>),
        doc("GET /api/v1/admin/plugins/{id}/faults", "listFaults", "Faults of a plugin, newest first")
            .query(one::<FaultsQuery>)
            .json(200, page::<FaultBody>),
        doc("POST /api/v1/admin/plugins/{id}/reset", "resetPlugin", "Let a plugin that was given up try again")
            .json(200, one::<PluginBody>)
            .errors(&[Busy]),
    ]
}

fn server() -> Vec<Doc> {
    vec![
        doc("GET /api/v1/admin/workers", "listWorkers", "Background workers and their health")
            .more("Each with its last run and its last error. A worker that breaks off is started again.")
            .json(200, one::<WorkersBody>),
        doc("GET /ws/device", "connectDevice", "The device socket (docs/asyncapi.yaml)").empty(101).errors(&[
            DeviceBusy,
            DriverUnavailable,
            ShuttingDown,
            ValidationError,
            ErrorCode::UnsupportedMediaType,
        ]),
        doc("GET /ws/client", "connectClient", "The client socket (docs/asyncapi.yaml)")
            .query(one::<ConnectQuery>)
            .empty(101)
            .errors(&[OriginNotAllowed, ShuttingDown]),
        doc("GET /health", "getHealth", "Whether the server and its database answer")
            .json(200, one::<HealthBody>)
            .json(503, one::<HealthBody>),
        doc("GET /ready", "getReady", "Whether work may be sent here")
            .json(200, one::<ReadyBody>)
            .errors(&[ShuttingDown]),
        doc("GET /metrics", "getMetrics", "Counters for Prometheus").answer(200, Answer::Text(&["text/plain"])),
        doc("GET /dashboard", "getDashboard", "The console").answer(200, Answer::Text(&["text/html"])),
        doc("GET /api/openapi.json", "getOpenapi", "This document")
            .answer(200, Answer::Text(&["application/json"]))
            .empty(304),
        doc("GET /api/docs", "getDocs", "This document for people")
            .answer(200, Answer::Text(&["text/html"]))
            .empty(304),
    ]
}
