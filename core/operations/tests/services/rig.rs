//! A server without entry points: services over a real database (SQLite, or PostgreSQL with `HEXA_TEST_DB=postgres`),
//! and devices whose frames are values.

use std::sync::Arc;
use std::time::Duration;

use hexa_accounts::ClientInfo;
use hexa_accounts::account::Registration;
use hexa_devices::actor::DeviceActor;
use hexa_devices::handle::DeviceHandle;
use hexa_devices::ports::Drivers;
use hexa_devices::provision::Proven;
use hexa_devices::{claim, provision};
use hexa_model::CommandResult;
use hexa_model::driver::{
    Accepted, Ack, AckOutcome, AckPolicy, CommandEnvelope, Decoded, DeviceEvent, DeviceIdent, DriverCall,
    DriverCommand, DriverError, Encoded, EventMeta, FieldError, Frame, NewState, ReportedRelay, StateReport,
};
use hexa_model::event::Event;
use hexa_model::{
    Action, Actor, Cause, Clock, CommandId, DeviceClass, DeviceUid, RejectReason, RelayAction, Role, Source,
    SystemClock, UserId,
};
use hexa_operations::Operations;
use hexa_operations::config::{AccountsConfig, CommandConfig, Config, DeviceConfig, ProvisionConfig};
use hexa_platform::idempotency::Key;
use hexa_platform::limit::Rate;
use hexa_platform::principal::Principal;
use hexa_store::{Store, StoreConfig};
use parking_lot::Mutex;
use secrecy::ExposeSecret;

/// Frames are `verb arg…`: `set <id> <index> <on>`, `all <id> <on>`; back come `ack <id> <outcome> [i=on…]` and
/// `report [i=on…]`, and `remember <text>`, which is the driver's durable state from then on.
#[derive(Debug, Default)]
pub(crate) struct PlainDriver {
    pub(crate) by_report: bool,
    /// Another version has taken its place.
    pub(crate) swapped: Arc<std::sync::atomic::AtomicBool>,
}

fn relays<'a>(words: impl Iterator<Item = &'a str>) -> Vec<ReportedRelay> {
    words
        .filter_map(|w| w.split_once('='))
        .map(|(i, on)| ReportedRelay { index: i.parse().unwrap(), on: on == "1", source: None, timer_ends_in_ms: None })
        .collect()
}

impl Drivers for PlainDriver {
    fn open_session(&self, _: &DriverCall<'_>) -> Result<Decoded, DriverError> {
        Ok(Decoded::default())
    }
    fn encode_command(&self, _: &DriverCall<'_>, command: &CommandEnvelope) -> Result<Encoded, DriverError> {
        let id = &command.id;
        let text = match &command.command {
            DriverCommand::Relay(RelayAction::Set { for_ms: Some(13), .. }) => {
                return Err(DriverError::Unsupported("thirteen".into()));
            }
            DriverCommand::Relay(RelayAction::Set { index, on, .. }) => format!("set {id} {index} {}", u8::from(*on)),
            DriverCommand::Relay(RelayAction::SetAll { on }) => format!("all {id} {}", u8::from(*on)),
            DriverCommand::Identify => format!("identify {id}"),
            DriverCommand::Custom { name, args } if name == "self-test" => format!("{name} {id} {args}"),
            other => return Err(DriverError::Unsupported(format!("{other:?}"))),
        };
        let ack = if self.by_report { AckPolicy::StateReport } else { AckPolicy::CommandId };
        Ok(Encoded { frames: vec![Frame::Text(text)], ack, state: NewState::default() })
    }
    fn decode_message(&self, _: &DriverCall<'_>, _: &str, message: &Frame) -> Result<Decoded, DriverError> {
        let Frame::Text(text) = message else {
            return Err(DriverError::Malformed { message: "binary".into(), reply: None });
        };
        let mut words = text.split(' ');
        let event = match words.next() {
            Some("remember") => {
                let durable = words.next().map(|text| text.as_bytes().to_vec());
                let state = NewState { durable, ..NewState::default() };
                return Ok(Decoded { state, ..Decoded::default() });
            }
            Some("ack") => {
                let token = words.next().unwrap_or_default().to_owned();
                let outcome = match words.next() {
                    Some("noop") => AckOutcome::Noop,
                    Some("busy") => AckOutcome::Rejected { reason: RejectReason::Busy, detail: None },
                    _ => AckOutcome::Executed,
                };
                DeviceEvent::Ack(Ack { token, outcome, relays: relays(words) })
            }
            Some("report") => DeviceEvent::StateReport(StateReport {
                relays: relays(words),
                complete: true,
                firmware: None,
                meta: EventMeta::default(),
            }),
            _ => return Err(DriverError::Malformed { message: "unknown".into(), reply: None }),
        };
        Ok(Decoded { events: vec![event], ..Decoded::default() })
    }
    fn validate_config(&self, _: &DeviceIdent, _: &str) -> Result<Result<Accepted, Vec<FieldError>>, DriverError> {
        Ok(Ok(Accepted::default()))
    }
    fn version_for(&self, _: DeviceClass) -> Option<String> {
        let version = if self.swapped.load(std::sync::atomic::Ordering::SeqCst) { 2 } else { 1 };
        Some(format!("plain@{version}"))
    }
}

/// Collects what the bus says.
#[derive(Debug, Default)]
pub(crate) struct Ear(pub(crate) Mutex<Vec<Event>>);

impl hexa_platform::bus::Subscriber for Ear {
    fn on_event(&self, event: &Event) {
        self.0.lock().push(event.clone());
    }
}

pub(crate) struct House {
    pub(crate) services: Arc<Operations>,
    pub(crate) ear: Arc<Ear>,
    pub(crate) user: Principal,
    _dir: tempfile::TempDir,
}

pub(crate) const TIMEOUT: Duration = Duration::from_millis(400);

impl House {
    pub(crate) async fn new() -> Self {
        Self::with(PlainDriver::default()).await
    }

    pub(crate) async fn with(driver: PlainDriver) -> Self {
        Self::at(Arc::new(SystemClock::new()), driver).await
    }

    pub(crate) async fn at(clock: Arc<dyn Clock>, driver: PlainDriver) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = StoreConfig::new(dir.path().to_owned());
        config.database_url = hexa_testpg::chosen().then(|| hexa_testpg::database().into());
        let store = Store::open(config).await.unwrap();
        let services = Operations::new(settings(), clock, store, Arc::new(driver));
        services.keep_in_step();
        let ear = Arc::new(Ear::default());
        services.bus.subscribe(Arc::clone(&ear) as _);
        hexa_platform::audit::waiting::start(&services);
        let user = sign_up(&services, "ann@example.com").await;
        Self { services, ear, user, _dir: dir }
    }

    /// The memory of another process on the same database: it hears of no change by itself.
    pub(crate) async fn other_process(&self) -> Arc<Operations> {
        let store = self.services.store.clone();
        let driver = Arc::clone(&self.services.drivers);
        let other = Operations::new(settings(), Arc::clone(&self.services.clock), store, driver);
        other.grants.load(&other.store, other.clock.now()).await.unwrap();
        other
    }

    /// A claimed device with `relays` relays, connected.
    pub(crate) async fn device(&self, relays: u16) -> Device {
        let (live, _) = self.claimed(relays).await;
        self.connect(&live).await
    }

    pub(crate) async fn claimed(&self, relays: u16) -> (Arc<DeviceHandle>, String) {
        let caller = provision::Caller { ip: None, key: Some("a provisioning key".into()), proof: None };
        let class = Some(DeviceClass::RelayController);
        let new = provision::Registration { class, relay_count: relays, ..provision::Registration::default() };
        let made = provision::register(&self.services, caller, Key::none(), new).await.unwrap();
        let claimed =
            claim::claim(&self.services, &self.user, Key::none(), made.claim.code.expose_secret()).await.unwrap();
        let live = self.services.registry.find(&claimed.row.uid).await.unwrap().unwrap();
        (live, made.token.expose_secret().to_owned())
    }

    pub(crate) async fn connect(&self, live: &Arc<DeviceHandle>) -> Device {
        let mut out = Vec::new();
        let actor = DeviceActor::open(Arc::clone(&self.services), Proven::now(live), None, &mut out).await.unwrap();
        Device { actor, live: Arc::clone(live) }
    }

    /// Starts a command in the background.
    pub(crate) fn command(
        &self,
        uid: &DeviceUid,
        action: impl Into<Action>,
    ) -> tokio::task::JoinHandle<hexa_platform::Result<CommandResult>> {
        let commands = self.services.commands();
        let by = (Source::Api, self.user.actor());
        let request = commands.request(by, Cause::request("test"), uid.clone(), action);
        tokio::spawn(async move { commands.execute(request, None).await })
    }

    pub(crate) fn set(
        &self,
        device: &Device,
        index: u16,
        on: bool,
    ) -> tokio::task::JoinHandle<hexa_platform::Result<CommandResult>> {
        self.command(&device.live.uid, RelayAction::Set { index, on, for_ms: None })
    }

    /// What the bus said of relay 0 to here: state and version.
    pub(crate) fn heard(&self) -> Vec<(bool, u64)> {
        let states = |e: &Event| match e {
            Event::RelayChanged { relays, .. } => relays.iter().map(|r| (r.on, r.version)).collect(),
            _ => Vec::new(),
        };
        self.ear.0.lock().iter().flat_map(states).collect()
    }

    /// Everything that must hold at rest: the cache is what the store has, the chain is whole, nothing is open.
    pub(crate) async fn check(&self, live: &DeviceHandle) {
        let stored = self.services.store.relay_states(live.key).await.unwrap();
        assert_eq!(live.relays(), stored, "I4: the cache is the store");
        for state in &stored {
            assert_eq!(live.held.states.lock().projected(state.index), Some(state.on));
        }
        let check = self.services.store.verify_audit().await.unwrap();
        assert_eq!(check.first_bad, None, "the chain holds");
        assert!(live.held.commands.lock().is_empty(), "nothing is open");
    }

    /// Audit rows of a device, oldest first: action, outcome, follow-up.
    pub(crate) async fn rows(&self, live: &DeviceHandle) -> Vec<(String, String, bool)> {
        let mut rows = self.services.store.audit_rows_for_device(live.key, None, 1000).await.unwrap();
        rows.reverse();
        let of_relays = |r: &&hexa_store::AuditRow| !r.action.starts_with("device.");
        rows.iter().filter(of_relays).map(|r| (r.action.clone(), r.outcome.clone(), r.follow_up)).collect()
    }
}

pub(crate) async fn sign_up(services: &Operations, email: &str) -> Principal {
    let token = sign_in(services, email).await;
    services.accounts.authenticate(&token, None).await.unwrap()
}

/// A new account's access token.
pub(crate) async fn sign_in(services: &Operations, email: &str) -> String {
    let new = Registration {
        email: email.into(),
        password: "a long password".into(),
        name: None,
        bootstrap_secret: None,
        invitation: None,
    };
    let signed_in = services.accounts.register(Key::none(), new, ClientInfo::default()).await.unwrap();
    signed_in.access_token.expose_secret().to_owned()
}

/// A connected device in the hand of a test.
pub(crate) struct Device {
    pub(crate) actor: DeviceActor,
    pub(crate) live: Arc<DeviceHandle>,
}

impl Device {
    /// Waits for the next command and gives its words.
    pub(crate) async fn expect(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        while out.is_empty() {
            let session = Arc::clone(self.actor.session());
            tokio::time::timeout(Duration::from_secs(5), session.wake.notified()).await.expect("a command comes");
            self.actor.encode_queued(&mut out);
        }
        let Frame::Text(text) = &out[0] else { panic!("text") };
        assert_eq!(out.len(), 1);
        text.split(' ').map(str::to_owned).collect()
    }
    pub(crate) async fn say(&mut self, text: &str) {
        let mut out = Vec::new();
        self.actor.message(Frame::Text(text.into()), &mut out).await.unwrap();
    }
    /// Waits for a command and acknowledges it.
    pub(crate) async fn obey(&mut self) -> CommandId {
        let words = self.expect().await;
        self.say(&format!("ack {}", words[1])).await;
        CommandId::parse(&words[1]).unwrap()
    }
}

pub(crate) fn stranger() -> Actor {
    Actor::User { key: hexa_model::UserKey(999), id: UserId(uuid::Uuid::nil()), role: Role::User }
}

/// The settings of every process in these tests.
pub(crate) fn settings() -> Config {
    let many = Rate::new(10_000, Duration::from_secs(1));
    Config {
        key_encryption_key: "a key of these tests, and of nothing else".into(),
        devices: hexa_devices::config::Config {
            command: CommandConfig { timeout: TIMEOUT },
            device: DeviceConfig { heartbeat: Duration::from_secs(20), flap_per_minute: 15 },
            provision: ProvisionConfig {
                keys: vec!["a provisioning key".into()],
                rate: many,
                failures: Rate::new(10, Duration::from_secs(60)),
                claim_failures: Rate::new(5, Duration::from_secs(600)),
                total_claim_failures: Rate::new(12, Duration::from_secs(600)),
                max_unclaimed: 100,
                claim_lifetime: Duration::from_secs(900),
                rotation_grace: Duration::from_secs(600),
            },
        },
        accounts: AccountsConfig::new(
            hexa_accounts::keys::KeySource::Given(vec!["0123456789abcdef0123456789abcdef".into()]),
            "http://test".into(),
        ),
    }
}
