//! Every route of the server with what it asks of its caller: the router is made of this table, and so are the
//! documentation and the authorization matrix of the tests.

use axum::Router;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use hexa_model::Scope;

use super::{
    audit, auth, commands, devices, fleet, grants, history, invitations, keys, ops, plugins, preferences, provision,
    relays, sessions, users, workers,
};
use crate::state::ApiState;
use crate::{compress, dashboard, openapi, ws};

/// What a route asks of its caller, before it looks at any object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing, or credentials in the body.
    Public,
    /// A device's own credentials.
    Device,
    /// An account, by any token.
    Account,
    /// An account, and a token with this scope.
    Scope(Scope),
    /// An account's session: no personal access token reaches it.
    Session,
    /// An admin, and a token with the scope `admin:*`.
    Admin,
    /// An admin, and a token with this scope as well as `admin:*`.
    AdminAnd(Scope),
    /// A loopback peer, the metrics token, or an admin.
    Operator,
}

impl Access {
    /// In words, as the documentation shows it.
    pub fn text(self) -> String {
        match self {
            Self::Public => "anybody".into(),
            Self::Device => "the device".into(),
            Self::Account => "an account".into(),
            Self::Scope(scope) => format!("an account, `{}`", scope.as_str()),
            Self::Session => "a session".into(),
            Self::Admin => "an admin, `admin:*`".into(),
            Self::AdminAnd(scope) => format!("an admin, `admin:*` and `{}`", scope.as_str()),
            Self::Operator => "this machine, the metrics token, or an admin".into(),
        }
    }
}

/// One method of one path, with its handler.
pub struct Route {
    /// The HTTP method, in capitals: `GET`.
    pub method: &'static str,
    /// As axum writes it: `/api/v1/devices/{uid}`.
    pub path: &'static str,
    /// What it asks of its caller.
    pub access: Access,
    handler: MethodRouter<ApiState>,
}

impl std::fmt::Debug for Route {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} ({:?})", self.method, self.path, self.access)
    }
}

/// All of them, in the order of the documentation.
pub fn routes() -> Vec<Route> {
    use Access::{Account, Admin, AdminAnd, Device, Operator, Public, Session};
    let read = Access::Scope(Scope::DevicesRead);
    let write = Access::Scope(Scope::DevicesWrite);
    let switch = Access::Scope(Scope::RelaysWrite);
    let settings = Access::Scope(Scope::Preferences);
    let to = |method, path, access, handler| Route { method, path, access, handler };
    vec![
        to("GET", "/api/v1/auth/registration", Public, get(invitations::get_registration)),
        to("POST", "/api/v1/auth/register", Public, post(auth::register)),
        to("POST", "/api/v1/auth/login", Public, post(auth::login)),
        to("POST", "/api/v1/auth/refresh", Public, post(auth::refresh)),
        to("POST", "/api/v1/auth/logout", Public, post(auth::logout)),
        to("POST", "/api/v1/auth/password", Session, post(auth::change_password)),
        to("GET", "/api/v1/auth/me", Account, get(auth::get_me)),
        to("GET", "/api/v1/auth/sessions", Session, get(sessions::list_sessions)),
        to("DELETE", "/api/v1/auth/sessions", Session, delete(sessions::end_other_sessions)),
        to("DELETE", "/api/v1/auth/sessions/{id}", Session, delete(sessions::end_session)),
        to("GET", "/api/v1/auth/tokens", Session, get(sessions::list_tokens)),
        to("POST", "/api/v1/auth/tokens", Session, post(sessions::create_token)),
        to("DELETE", "/api/v1/auth/tokens/current", Account, delete(sessions::revoke_own_token)),
        to("DELETE", "/api/v1/auth/tokens/{id}", Session, delete(sessions::revoke_token)),
        to("POST", "/api/v1/ws/ticket", read, post(sessions::issue_ticket)),
        to("POST", "/api/v1/provision/register", Public, post(provision::register_device)),
        to("GET", "/api/v1/devices", read, get(devices::list_devices)),
        to("POST", "/api/v1/devices/claim", write, post(devices::claim_device)),
        to("POST", "/api/v1/devices/claim-code", Device, post(devices::renew_own_claim_code)),
        to("GET", "/api/v1/devices/{uid}", read, get(devices::get_device)),
        to("PATCH", "/api/v1/devices/{uid}", write, patch(devices::patch_device)),
        to("DELETE", "/api/v1/devices/{uid}", AdminAnd(Scope::DevicesWrite), delete(devices::delete_device)),
        to("GET", "/api/v1/devices/{uid}/state", read, get(devices::get_state)),
        to("POST", "/api/v1/devices/{uid}/release", write, post(devices::release_device)),
        to("POST", "/api/v1/devices/{uid}/token/rotate", write, post(devices::rotate_token)),
        to("POST", "/api/v1/devices/{uid}/reset", write, post(devices::allow_reset)),
        to("POST", "/api/v1/devices/{uid}/claim-code", AdminAnd(Scope::DevicesWrite), post(devices::renew_claim_code)),
        to("GET", "/api/v1/devices/{uid}/history", read, get(history::list_history)),
        to("GET", "/api/v1/devices/{uid}/grants", read, get(grants::list_grants)),
        to("POST", "/api/v1/devices/{uid}/grants", write, post(grants::create_grant)),
        to("DELETE", "/api/v1/devices/{uid}/grants/{id}", write, delete(grants::revoke_grant)),
        to("POST", "/api/v1/devices/{uid}/relays", switch, post(relays::set_all_relays)),
        to("POST", "/api/v1/devices/{uid}/relays/{index}", switch, post(relays::set_relay)),
        to("GET", "/api/v1/commands/{command_id}", read, get(commands::get_command)),
        to("GET", "/api/v1/preferences", settings, get(preferences::list_preferences)),
        to("PUT", "/api/v1/preferences", settings, put(preferences::put_preferences)),
        to("PATCH", "/api/v1/preferences", settings, patch(preferences::patch_preferences)),
        to("GET", "/api/v1/preferences/{name}", settings, get(preferences::get_preference)),
        to("PUT", "/api/v1/preferences/{name}", settings, put(preferences::put_preference)),
        to("DELETE", "/api/v1/preferences/{name}", settings, delete(preferences::delete_preference)),
        to("GET", "/api/v1/admin/fleet", Admin, get(fleet::get_fleet)),
        to("GET", "/api/v1/admin/audit", Admin, get(audit::list_audit)),
        to("GET", "/api/v1/admin/audit/export", Admin, get(audit::export_audit)),
        to("GET", "/api/v1/admin/users", Admin, get(users::list_users)),
        to("GET", "/api/v1/admin/users/{id}", Admin, get(users::get_user)),
        to("PATCH", "/api/v1/admin/users/{id}", Admin, patch(users::patch_user)),
        to("GET", "/api/v1/admin/users/{id}/sessions", Admin, get(users::list_user_sessions)),
        to("DELETE", "/api/v1/admin/users/{id}/sessions", Admin, delete(users::end_user_sessions)),
        to("DELETE", "/api/v1/admin/users/{id}/sessions/{session_id}", Admin, delete(users::end_user_session)),
        to("GET", "/api/v1/admin/users/{id}/tokens", Admin, get(users::list_user_tokens)),
        to("DELETE", "/api/v1/admin/users/{id}/tokens/{token_id}", Admin, delete(users::revoke_user_token)),
        to("GET", "/api/v1/admin/invitations", Admin, get(invitations::list_invitations)),
        to("POST", "/api/v1/admin/invitations", Admin, post(invitations::create_invitation)),
        to("DELETE", "/api/v1/admin/invitations/{id}", Admin, delete(invitations::revoke_invitation)),
        to("GET", "/api/v1/admin/keys", Admin, get(keys::list_keys)),
        to("POST", "/api/v1/admin/keys/rotate", Admin, post(keys::rotate_keys)),
        to("GET", "/api/v1/admin/plugins", Admin, get(plugins::list_plugins)),
        to("GET", "/api/v1/admin/plugins/{id}", Admin, get(plugins::get_plugin)),
        to("GET", "/api/v1/admin/plugins/{id}/faults", Admin, get(plugins::list_faults)),
        to("POST", "/api/v1/admin/plugins/{id}/reset", Admin, post(plugins::reset_plugin)),
        to("GET", "/api/v1/admin/workers", Admin, get(workers::list_workers)),
        to("GET", "/ws/device", Device, get(ws::device::connect)),
        to("GET", "/ws/client", read, get(ws::client::connect)),
        to("GET", "/health", Public, get(ops::get_health)),
        to("GET", "/ready", Public, get(ops::get_ready)),
        to("GET", "/metrics", Operator, get(ops::get_metrics)),
        to("GET", "/dashboard", Public, get(dashboard::get_page)),
        to("GET", "/api/openapi.json", Public, get(openapi::get_openapi)),
        to("GET", "/api/docs", Public, get(openapi::get_docs)),
    ]
}

/// A router of all of them.
pub(super) fn router() -> Router<ApiState> {
    // Files of the console are no part of the contract.
    let files = Router::new().route("/dashboard/{*path}", get(dashboard::get_file));
    let files = files.route("/dashboard/", get(dashboard::get_page)).route("/", get(dashboard::get_root));
    routes()
        .into_iter()
        .fold(files, |router, route| router.route(route.path, compress::route(route.method, route.path, route.handler)))
}
