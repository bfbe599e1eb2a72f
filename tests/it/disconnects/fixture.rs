//! The server of these tests, who lives there, and what is made for one request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use futures_util::future::join_all;
use hexa_tests::cut::{Answered, Request};
use hexa_tests::server::PASSWORD;
use hexa_tests::{AutoDevice, Body, Identity, Options, TestServer, eventually};
use serde_json::{Value, json};

/// How long COMMIT takes while requests are cut.
pub(super) const SLOW: Duration = Duration::from_millis(16);
/// The same for requests that hash a password, which takes now longer, now shorter.
pub(super) const SLOW_BEHIND_A_HASH: Duration = Duration::from_millis(70);
/// Accounts that many requests share: an account has a bounded number of tokens.
const CROWD: usize = 8;
/// What a personal access token may do.
const SCOPES: [&str; 4] = ["devices:read", "devices:write", "relays:write", "preferences"];

/// An account, signed in.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) id: String,
    pub(super) email: String,
    pub(super) token: String,
    pub(super) refresh: String,
}

impl Person {
    fn of(session: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no session: {session}")).to_owned();
        Self {
            id: text(&session["user"]["id"]),
            email: text(&session["user"]["email"]),
            token: text(&session["access_token"]),
            refresh: text(&session["refresh_token"]),
        }
    }
}

/// What a token stands for.
#[derive(Clone, Debug)]
pub(super) enum Stands {
    Session { user: String, session: String, epoch: i64 },
    Token { user: String, id: String },
}

/// A token whose fate is looked at.
#[derive(Clone, Debug)]
pub(super) struct Credential {
    pub(super) token: String,
    pub(super) stands: Stands,
}

impl Credential {
    /// Of a session: the access token itself says which.
    pub(super) fn session(token: &str) -> Self {
        let payload = token.split('.').nth(1).expect("a JWT");
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).expect("a JWT");
        let claims: Value = serde_json::from_slice(&bytes).expect("a JWT");
        let text = |name: &str| claims[name].as_str().expect("a claim").to_owned();
        let epoch = claims["epoch"].as_i64().expect("an epoch");
        Self { token: token.to_owned(), stands: Stands::Session { user: text("sub"), session: text("sid"), epoch } }
    }
    /// Public id of the account that sends the request.
    pub(super) fn user(&self) -> &str {
        match &self.stands {
            Stands::Session { user, .. } | Stands::Token { user, .. } => user,
        }
    }
}

/// One request with everything that it may change.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) request: Request,
    /// Accounts whose row, sessions and tokens are compared.
    pub(super) people: Vec<String>,
    /// E-mails that may or may not have an account.
    pub(super) emails: Vec<String>,
    pub(super) credentials: Vec<Credential>,
    pub(super) devices: Vec<Identity>,
    /// Notes of invitations whose state is compared.
    pub(super) invitations: Vec<String>,
    /// Whether the devices' tokens are tried, too.
    pub(super) connects: bool,
    /// Whose preferences are compared: a credential's place.
    pub(super) preferences: Option<usize>,
    /// Devices whose relays are compared.
    pub(super) relays: Vec<String>,
    /// Passwords of which the database knows which one is right.
    pub(super) passwords: Vec<(String, &'static str)>,
    /// What an admin reads that must be the same after a restart: a path and a member.
    pub(super) probes: Vec<(String, &'static str)>,
    /// What the audit row of this request names, and that of no other one.
    pub(super) ids: Vec<String>,
}

impl Case {
    /// Of a route with its ids put in.
    pub(super) fn new(route: &str) -> Self {
        Self {
            request: Request::new(route),
            people: Vec::new(),
            emails: Vec::new(),
            invitations: Vec::new(),
            credentials: Vec::new(),
            devices: Vec::new(),
            connects: false,
            preferences: None,
            relays: Vec::new(),
            passwords: Vec::new(),
            probes: Vec::new(),
            ids: Vec::new(),
        }
    }
    pub(super) fn by(mut self, token: &str) -> Self {
        self.request = self.request.bearer(token);
        self
    }
    pub(super) fn json(mut self, body: Value) -> Self {
        self.request = self.request.json(body);
        self
    }
    pub(super) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.request = self.request.header(name, value);
        self
    }
    pub(super) fn person(mut self, person: &Person) -> Self {
        if !self.people.contains(&person.id) {
            self.people.push(person.id.clone());
        }
        self.credentials.push(Credential::session(&person.token));
        self
    }
    pub(super) fn token(mut self, owner: &Person, (id, token): &(String, String)) -> Self {
        let stands = Stands::Token { user: owner.id.clone(), id: id.clone() };
        self.credentials.push(Credential { token: token.clone(), stands });
        self
    }
    pub(super) fn device(mut self, identity: &Identity) -> Self {
        self.devices.push(identity.clone());
        self.connects = true;
        self
    }
    pub(super) fn named(mut self, id: &str) -> Self {
        self.ids.push(id.to_owned());
        self
    }
}

/// A server, an admin, accounts and a device that does what it is told.
#[derive(Debug)]
pub(super) struct Fixture {
    pub(super) server: TestServer,
    pub(super) http: reqwest::Client,
    /// The admin's access token, who signs in anew after each restart.
    pub(super) admin: String,
    pub(super) crowd: Vec<Person>,
    /// With whom everything is shared.
    pub(super) guest: Person,
    /// For the commands that are cut.
    pub(super) bench: Identity,
    /// For the commands that show whether writes work.
    pub(super) proof: Identity,
    body: Body,
    devices: Vec<AutoDevice>,
    next: AtomicUsize,
    pub(super) provision_key: String,
    /// How long COMMIT takes now.
    pub(super) slow: Duration,
}

impl Fixture {
    pub(super) async fn open() -> Self {
        let server = TestServer::start(Options::new().env("LIMIT_FLAP", "100000").env("LIMIT_INVITATIONS", "100000"));
        let http = reqwest::Client::builder().no_proxy().timeout(hexa_tests::PATIENCE).build().unwrap();
        let admin = server.admin().await.token().to_owned();
        let provision_key = server.provision_key();
        let nobody = Person { id: String::new(), email: String::new(), token: String::new(), refresh: String::new() };
        let none = Identity { uid: String::new(), token: String::new(), claim_code: String::new() };
        let mut fixture = Self {
            server,
            http,
            admin,
            crowd: Vec::new(),
            guest: nobody,
            bench: none.clone(),
            proof: none,
            body: Body::new(2),
            devices: Vec::new(),
            next: AtomicUsize::new(0),
            provision_key,
            slow: Duration::ZERO,
        };
        fixture.crowd = join_all((0..CROWD).map(|_| fixture.person())).await;
        fixture.guest = fixture.person().await;
        fixture.bench = fixture.device(&fixture.crowd[0]).await;
        fixture.proof = fixture.device(&fixture.crowd[0]).await;
        fixture.connect().await;
        fixture
    }

    /// The devices for commands come back.
    pub(super) async fn connect(&mut self) {
        let (bench, proof) = (self.server.connect(&self.bench).await, self.server.connect(&self.proof).await);
        self.devices = vec![bench.automatic_as(&self.body), proof.automatic(2)];
    }
    /// The commands that it saw.
    pub(super) fn seen(&self) -> Vec<String> {
        self.body.seen()
    }

    /// After a start: tokens of the admin and of the crowd may have ended.
    pub(super) async fn settle_in(&mut self) {
        self.admin = self.sign_in("admin@example.org").await.token;
        self.connect().await;
    }
    /// Killed and started again.
    pub(super) async fn kill_and_restart(&mut self) {
        self.server.kill9();
        self.restart().await;
    }
    pub(super) async fn restart(&mut self) {
        self.devices.clear();
        self.server.restart();
        self.settle_in().await;
    }

    /// A request that must be answered with success.
    pub(super) async fn must(&self, request: Request) -> Value {
        let (method, path) = (request.method.clone(), request.path.clone());
        eventually(&format!("{method} {path}"), || async {
            let answer = request.send(&self.http, self.server.address).await?;
            // Password hashing is queued and bounded; when it is full the server says so.
            if answer.status == 503 {
                return None;
            }
            assert!(answer.status < 300, "{method} {path}: {} {}", answer.status, answer.text);
            Some(answer.json())
        })
        .await
    }
    pub(super) async fn ask(&self, path: &str, token: &str) -> Option<Answered> {
        Request::new(&format!("GET {path}")).bearer(token).send(&self.http, self.server.address).await
    }

    /// A number that no other case has.
    pub(super) fn number(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
    /// One of the accounts that many share.
    pub(super) fn somebody(&self) -> &Person {
        &self.crowd[self.number() % self.crowd.len()]
    }
    pub(super) fn fresh_email() -> String {
        format!("walk-{}@example.org", uuid::Uuid::now_v7().simple())
    }
    pub(super) async fn person(&self) -> Person {
        let body = json!({ "email": Self::fresh_email(), "password": PASSWORD });
        Person::of(&self.must(Request::new("POST /api/v1/auth/register").json(body)).await)
    }
    pub(super) async fn sign_in(&self, email: &str) -> Person {
        let body = json!({ "email": email, "password": PASSWORD });
        Person::of(&self.must(Request::new("POST /api/v1/auth/login").json(body)).await)
    }
    /// A device without an owner.
    pub(super) async fn stock(&self) -> Identity {
        let serial = format!("SN-{}", self.number());
        let body = json!({ "device_class": "relay_controller", "relay_count": 2, "input_count": 0, "serial": serial });
        let request = Request::new("POST /api/v1/provision/register").header("x-provision-key", &self.provision_key);
        Identity::from_json(&self.must(request.json(body)).await)
    }
    pub(super) async fn device(&self, owner: &Person) -> Identity {
        let identity = self.stock().await;
        let code = json!({ "code": identity.claim_code });
        self.must(Request::new("POST /api/v1/devices/claim").bearer(&owner.token).json(code)).await;
        identity
    }
    /// Shares it with the guest; gives the grant's id.
    pub(super) async fn share(&self, owner: &Person, uid: &str) -> String {
        let body = json!({ "email": self.guest.email, "access": "control" });
        let request = Request::new(&format!("POST /api/v1/devices/{uid}/grants")).bearer(&owner.token).json(body);
        self.must(request).await["id"].as_str().unwrap().to_owned()
    }
    /// An invitation with a note that no other one has: the note, its id, its token.
    pub(super) async fn invitation(&self) -> [String; 3] {
        let note = format!("walk {}", self.number());
        let request = Request::new("POST /api/v1/admin/invitations").bearer(&self.admin);
        let made = self.must(request.json(json!({ "note": note }))).await;
        let text = |member: &str| made[member].as_str().unwrap().to_owned();
        [note, text("id"), text("token")]
    }
    /// A personal access token: its id, and itself.
    pub(super) async fn token(&self, owner: &Person) -> (String, String) {
        let body = json!({ "name": "walk", "scopes": SCOPES });
        let made = self.must(Request::new("POST /api/v1/auth/tokens").bearer(&owner.token).json(body)).await;
        (made["id"].as_str().unwrap().to_owned(), made["token"].as_str().unwrap().to_owned())
    }
}
