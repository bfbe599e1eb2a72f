//! How a valid request of each route is made, and what it may change. A route that changes something and is not here
//! fails the test by its name: a recipe for it goes into [`recipes`].

use futures_util::future::{BoxFuture, FutureExt};
use hexa_tests::cut::Request;
use hexa_tests::server::PASSWORD;
use serde_json::json;

use super::fixture::{Case, Credential, Fixture, Person};

/// What a request leaves in the audit, if it leaves anything.
#[derive(Clone, Copy, Debug)]
pub(super) enum Trace {
    /// A row with this action that names one of the case's ids.
    Own(&'static str),
    /// A row with this action like those of the route's other requests: they are counted together.
    Shared(&'static str),
    None,
}

/// When a request of a route is inside a COMMIT of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Commits {
    Always,
    /// Without one, what it makes lives in memory only.
    WithKey,
    /// Never: a relay command's COMMIT, and that of its key, is a group's, and the rotation of keys and the reset of a
    /// plugin go on as a whole around theirs: no caller is in it.
    Beside,
}

/// How to ask a route for a change.
pub(super) struct Recipe {
    pub(super) route: &'static str,
    pub(super) commits: Commits,
    /// Whether it hashes a password before.
    pub(super) hashes: bool,
    pub(super) trace: Trace,
    pub(super) prepare: for<'a> fn(&'a Fixture) -> BoxFuture<'a, Case>,
}

fn recipe(route: &'static str, trace: Trace, prepare: for<'a> fn(&'a Fixture) -> BoxFuture<'a, Case>) -> Recipe {
    Recipe { route, commits: Commits::Always, hashes: false, trace, prepare }
}

/// What a password becomes.
const OTHER: &str = "another horse with a battery";

/// Of every route that changes something.
#[expect(clippy::too_many_lines, reason = "it is a table")]
pub(super) fn recipes() -> Vec<Recipe> {
    use Trace::{None, Own, Shared};
    let keyed_only = |r: Recipe| Recipe { commits: Commits::WithKey, ..r };
    let hashing = |r: Recipe| Recipe { hashes: true, ..r };
    let beside = |r: Recipe| Recipe { commits: Commits::Beside, ..r };
    vec![
        hashing(recipe("POST /api/v1/auth/register", Shared("account.registered"), |h| {
            async {
                let email = Fixture::fresh_email();
                let mut body = json!({ "email": email, "password": PASSWORD });
                let mut invitations = Vec::new();
                if h.number().is_multiple_of(2) {
                    let [note, _, token] = h.invitation().await;
                    body["invitation"] = token.into();
                    invitations.push(note);
                }
                Case { emails: vec![email], invitations, ..Case::new("POST /api/v1/auth/register").json(body) }
            }
            .boxed()
        })),
        hashing(recipe("POST /api/v1/auth/login", Own("account.signed_in"), |h| {
            async {
                let person = h.person().await;
                let body = json!({ "email": person.email, "password": PASSWORD });
                Case::new("POST /api/v1/auth/login").json(body).person(&person).named(&person.id)
            }
            .boxed()
        })),
        recipe("POST /api/v1/auth/refresh", None, |h| {
            async {
                let person = h.person().await;
                Case::new("POST /api/v1/auth/refresh").json(json!({ "refresh_token": person.refresh })).person(&person)
            }
            .boxed()
        }),
        recipe("POST /api/v1/auth/logout", None, |h| {
            async {
                let person = h.person().await;
                Case::new("POST /api/v1/auth/logout").json(json!({ "refresh_token": person.refresh })).person(&person)
            }
            .boxed()
        }),
        hashing(recipe("POST /api/v1/auth/password", Own("account.password_changed"), |h| {
            async {
                let person = h.person().await;
                let body = json!({ "current_password": PASSWORD, "new_password": OTHER });
                let case = Case::new("POST /api/v1/auth/password").by(&person.token).json(body).person(&person);
                let passwords = vec![(person.email.clone(), PASSWORD), (person.email.clone(), OTHER)];
                Case { passwords, ..case.named(&person.id) }
            }
            .boxed()
        })),
        recipe("DELETE /api/v1/auth/sessions", Own("account.sessions_ended"), |h| {
            async {
                let (person, other) = twice(h).await;
                let case = Case::new("DELETE /api/v1/auth/sessions").by(&person.token);
                case.person(&person).person(&other).named(&person.id)
            }
            .boxed()
        }),
        recipe("DELETE /api/v1/auth/sessions/{id}", Own("account.session_ended"), |h| {
            async {
                let (person, other) = twice(h).await;
                let id = session_of(&other);
                let case = Case::new(&format!("DELETE /api/v1/auth/sessions/{id}")).by(&person.token);
                case.person(&person).person(&other).named(&id)
            }
            .boxed()
        }),
        recipe("POST /api/v1/auth/tokens", Shared("account.token_created"), |h| {
            async {
                let person = h.person().await;
                let body = json!({ "name": "walk", "scopes": ["devices:read"] });
                Case::new("POST /api/v1/auth/tokens").by(&person.token).json(body).person(&person)
            }
            .boxed()
        }),
        recipe("DELETE /api/v1/auth/tokens/current", Own("account.token_revoked"), |h| {
            async {
                let person = h.somebody();
                let token = h.token(person).await;
                let case = Case::new("DELETE /api/v1/auth/tokens/current").by(&token.1);
                case.person(person).token(person, &token).named(&token.0)
            }
            .boxed()
        }),
        recipe("DELETE /api/v1/auth/tokens/{id}", Own("account.token_revoked"), |h| {
            async {
                let person = h.somebody();
                let token = h.token(person).await;
                let case = Case::new(&format!("DELETE /api/v1/auth/tokens/{}", token.0)).by(&person.token);
                case.person(person).token(person, &token).named(&token.0)
            }
            .boxed()
        }),
        keyed_only(recipe("POST /api/v1/ws/ticket", None, |h| {
            async {
                let person = h.somebody();
                Case::new("POST /api/v1/ws/ticket").by(&person.token).person(person)
            }
            .boxed()
        })),
        recipe("POST /api/v1/provision/register", Shared("device.provisioned"), |h| {
            async {
                let body = json!({ "device_class": "relay_controller", "relay_count": 1, "input_count": 0 });
                Case::new("POST /api/v1/provision/register").header("x-provision-key", &h.provision_key).json(body)
            }
            .boxed()
        }),
        recipe("POST /api/v1/devices/claim", Own("device.claimed"), |h| {
            async {
                let (person, identity) = (h.somebody(), h.stock().await);
                let case = Case::new("POST /api/v1/devices/claim").json(json!({ "code": identity.claim_code }));
                case.by(&person.token).person(person).person(&h.guest).device(&identity).named(&identity.uid)
            }
            .boxed()
        }),
        recipe("POST /api/v1/devices/claim-code", Own("device.claim_code_renewed"), |h| {
            async {
                let identity = h.stock().await;
                let case =
                    Case::new("POST /api/v1/devices/claim-code").header("authorization", identity.authorization());
                case.device(&identity).named(&identity.uid)
            }
            .boxed()
        }),
        recipe("PATCH /api/v1/devices/{uid}", Own("device.renamed"), |h| {
            shared(h, "PATCH /api/v1/devices/{uid}", |h, case| {
                case.json(json!({ "name": format!("lamp {}", h.number()) }))
            })
        }),
        recipe("DELETE /api/v1/devices/{uid}", Own("device.deleted"), |h| {
            async {
                let owner = h.somebody();
                let identity = h.device(owner).await;
                h.share(owner, &identity.uid).await;
                let case = Case::new(&format!("DELETE /api/v1/devices/{}", identity.uid)).by(&h.admin);
                case.person(owner).person(&h.guest).device(&identity).named(&identity.uid)
            }
            .boxed()
        }),
        recipe("POST /api/v1/devices/{uid}/release", Own("device.released"), |h| {
            shared(h, "POST /api/v1/devices/{uid}/release", |_, case| case)
        }),
        recipe("POST /api/v1/devices/{uid}/reset", Own("device.reset_allowed"), |h| {
            shared(h, "POST /api/v1/devices/{uid}/reset", |_, case| case)
        }),
        recipe("POST /api/v1/devices/{uid}/token/rotate", Own("device.token_rotated"), |h| {
            shared(h, "POST /api/v1/devices/{uid}/token/rotate", |_, case| case)
        }),
        recipe("POST /api/v1/devices/{uid}/claim-code", Own("device.claim_code_renewed"), |h| {
            async {
                let identity = h.stock().await;
                let case = Case::new(&format!("POST /api/v1/devices/{}/claim-code", identity.uid)).by(&h.admin);
                case.device(&identity).named(&identity.uid)
            }
            .boxed()
        }),
        recipe("POST /api/v1/devices/{uid}/grants", Own("device.shared"), |h| {
            async {
                let owner = h.somebody();
                let identity = h.device(owner).await;
                let case = Case::new(&format!("POST /api/v1/devices/{}/grants", identity.uid)).by(&owner.token);
                let case = case.json(json!({ "email": h.guest.email, "access": "control" }));
                case.person(owner).person(&h.guest).device(&identity).named(&identity.uid)
            }
            .boxed()
        }),
        recipe("DELETE /api/v1/devices/{uid}/grants/{id}", Own("device.grant_revoked"), |h| {
            async {
                let owner = h.somebody();
                let identity = h.device(owner).await;
                let grant = h.share(owner, &identity.uid).await;
                let route = format!("DELETE /api/v1/devices/{}/grants/{grant}", identity.uid);
                let case = Case::new(&route).by(&owner.token);
                case.person(owner).person(&h.guest).device(&identity).named(&grant)
            }
            .boxed()
        }),
        beside(recipe("POST /api/v1/devices/{uid}/relays", Shared("set_all_relays"), |h| switch(h, ""))),
        beside(recipe("POST /api/v1/devices/{uid}/relays/{index}", Shared("set_relay"), |h| switch(h, "/0"))),
        recipe("PUT /api/v1/preferences", None, |h| {
            settings(h, "PUT /api/v1/preferences", |n| json!({ "dashboard_layout": { "n": n } }))
        }),
        recipe("PATCH /api/v1/preferences", None, |h| {
            settings(h, "PATCH /api/v1/preferences", |n| json!({ "dashboard_settings": { "n": n } }))
        }),
        recipe("PUT /api/v1/preferences/{name}", None, |h| {
            settings(h, "PUT /api/v1/preferences/device_view_state", |n| json!({ "n": n }))
        }),
        recipe("DELETE /api/v1/preferences/{name}", None, |h| {
            async {
                let person = h.person().await;
                let put = Request::new("PUT /api/v1/preferences/notification_settings").bearer(&person.token);
                h.must(put.json(json!({ "a": 1 }))).await;
                let case = Case::new("DELETE /api/v1/preferences/notification_settings").by(&person.token);
                Case { preferences: Some(0), ..case.person(&person) }
            }
            .boxed()
        }),
        recipe("PATCH /api/v1/admin/users/{id}", Own("user.changed"), |h| {
            async {
                let person = h.person().await;
                let (token, identity) = (h.token(&person).await, h.device(&person).await);
                let change = match h.number() % 3 {
                    0 => json!({ "role": "admin" }),
                    1 => json!({ "active": false, "name": "Somebody" }),
                    _ => json!({ "active": false }),
                };
                let case = Case::new(&format!("PATCH /api/v1/admin/users/{}", person.id)).by(&h.admin).json(change);
                case.person(&person).token(&person, &token).device(&identity).named(&person.id)
            }
            .boxed()
        }),
        recipe("DELETE /api/v1/admin/users/{id}/sessions", Own("user.sessions_ended"), |h| {
            async {
                let (person, other) = twice(h).await;
                let case = Case::new(&format!("DELETE /api/v1/admin/users/{}/sessions", person.id)).by(&h.admin);
                case.person(&person).person(&other).named(&person.id)
            }
            .boxed()
        }),
        recipe("DELETE /api/v1/admin/users/{id}/sessions/{session_id}", Own("user.session_ended"), |h| {
            async {
                let person = h.person().await;
                let id = session_of(&person);
                let case = Case::new(&format!("DELETE /api/v1/admin/users/{}/sessions/{id}", person.id)).by(&h.admin);
                case.person(&person).named(&id)
            }
            .boxed()
        }),
        recipe("DELETE /api/v1/admin/users/{id}/tokens/{token_id}", Own("user.token_revoked"), |h| {
            async {
                let person = h.somebody();
                let token = h.token(person).await;
                let route = format!("DELETE /api/v1/admin/users/{}/tokens/{}", person.id, token.0);
                Case::new(&route).by(&h.admin).person(person).token(person, &token).named(&token.0)
            }
            .boxed()
        }),
        recipe("POST /api/v1/admin/invitations", Own("invitation.created"), |h| {
            async {
                let note = format!("walk {}", uuid::Uuid::now_v7().simple());
                let case = Case::new("POST /api/v1/admin/invitations").by(&h.admin).json(json!({ "note": note }));
                Case { invitations: vec![note.clone()], ..case.named(&note) }
            }
            .boxed()
        }),
        recipe("DELETE /api/v1/admin/invitations/{id}", Own("invitation.revoked"), |h| {
            async {
                let [note, id, _] = h.invitation().await;
                let case = Case::new(&format!("DELETE /api/v1/admin/invitations/{id}")).by(&h.admin).named(&id);
                Case { invitations: vec![note], ..case }
            }
            .boxed()
        }),
        beside(recipe("POST /api/v1/admin/keys/rotate", Shared("keys.rotated"), |h| {
            async {
                let case = Case::new("POST /api/v1/admin/keys/rotate").by(&h.admin).json(json!({}));
                Case { probes: vec![("/api/v1/admin/keys".into(), "/keys")], ..case.person(h.somebody()) }
            }
            .boxed()
        })),
        beside(recipe("POST /api/v1/admin/plugins/{id}/reset", Shared("plugin.reset"), |h| {
            async {
                let plugin = "/api/v1/admin/plugins/hexa.relay-controller";
                let case = Case::new(&format!("POST {plugin}/reset")).by(&h.admin);
                Case { probes: vec![(plugin.into(), "/state")], ..case }
            }
            .boxed()
        })),
    ]
}

/// An account with two sessions.
async fn twice(h: &Fixture) -> (Person, Person) {
    let person = h.person().await;
    let other = h.sign_in(&person.email).await;
    (person, other)
}

fn session_of(person: &Person) -> String {
    match Credential::session(&person.token).stands {
        super::fixture::Stands::Session { session, .. } => session,
        super::fixture::Stands::Token { .. } => unreachable!("it is a session's"),
    }
}

/// A request of the owner of a device that is shared.
fn shared<'a>(h: &'a Fixture, route: &'static str, with: fn(&Fixture, Case) -> Case) -> BoxFuture<'a, Case> {
    async move {
        let owner = h.somebody();
        let identity = h.device(owner).await;
        h.share(owner, &identity.uid).await;
        let case = Case::new(&route.replace("{uid}", &identity.uid)).by(&owner.token);
        with(h, case.person(owner).person(&h.guest).device(&identity).named(&identity.uid))
    }
    .boxed()
}

/// A command to the device that does what it is told.
fn switch<'a>(h: &'a Fixture, relay: &'static str) -> BoxFuture<'a, Case> {
    async move {
        let uid = &h.bench.uid;
        let case = Case::new(&format!("POST /api/v1/devices/{uid}/relays{relay}")).by(&h.crowd[0].token);
        let case = case.json(json!({ "state": h.number().is_multiple_of(2) })).named(uid);
        Case { relays: vec![uid.clone()], ..case.person(&h.crowd[0]) }
    }
    .boxed()
}

fn settings<'a>(h: &'a Fixture, route: &'static str, body: fn(usize) -> serde_json::Value) -> BoxFuture<'a, Case> {
    async move {
        let person = h.somebody();
        let case = Case::new(route).by(&person.token).json(body(h.number())).person(person);
        Case { preferences: Some(0), ..case }
    }
    .boxed()
}
