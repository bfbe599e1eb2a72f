use hexa_model::event::EventDevice;
use hexa_model::{RelayState, Source, TimeMs};
use hexa_platform::principal::Account;
use smallvec::smallvec;

use super::*;

fn client(user: i64) -> Arc<ClientSession> {
    let account = Account {
        key: UserKey(user),
        id: hexa_model::UserId::at(TimeMs(user), [0; 10]),
        email: "ann@example.com".into(),
        name: None,
        role: hexa_model::Role::User,
        active: true,
        epoch: 0,
        created_at: TimeMs(0),
    };
    let via = Credential::Session(hexa_model::SessionId::at(TimeMs(1), [0; 10]));
    ClientSession::new(Principal { account: Arc::new(account), via })
}

fn changed(owner: i64, version: u64) -> Event {
    let device = EventDevice {
        key: DeviceKey(7),
        uid: DeviceUid::parse("hx1").unwrap(),
        owner: Some(UserKey(owner)),
        viewers: None,
    };
    let state = RelayState { index: 0, on: true, version, updated_at: TimeMs(0) };
    Event::RelayChanged { device, relays: smallvec![state], source: Source::Api, command: None, at: TimeMs(0) }
}

fn hub() -> (Arc<Hub>, Arc<ClientSession>, Joined) {
    let hub = Arc::new(Hub::new(Arc::new(Metrics::new()), 2));
    let session = client(1);
    let joined = hub.join(&session);
    session.subscribe(None);
    (hub, session, joined)
}

#[test]
fn an_event_is_encoded_once_for_all_of_its_owners_clients_and_nobody_else() {
    let (hub, first, _joined) = hub();
    let (second, foreign) = (client(1), client(2));
    let _others = [&second, &foreign].map(|s| {
        s.subscribe(None);
        hub.join(s)
    });
    hub.on_event(&changed(1, 1));
    assert_eq!(hub.metrics.broadcast_encodes.get(), 1);
    let waiting = |session: &ClientSession| {
        let mut frames = Frames::new();
        session.take(&mut frames);
        frames.len()
    };
    assert_eq!([&*first, &second, &foreign].map(waiting), [1, 1, 0]);
}

#[test]
fn a_client_that_does_not_read_costs_a_bounded_queue_and_one_fresh_state() {
    let (hub, session, _joined) = hub();
    for version in 1..=1000 {
        hub.on_event(&changed(1, version));
    }
    let mut frames = Frames::new();
    let taken = session.take(&mut frames);
    assert_eq!((frames.len(), taken.stale.len()), (MAX_FRAMES, 1));
    assert_eq!(hub.metrics.conflated.get(), 1000 - MAX_FRAMES as u64);
}

#[test]
fn a_client_is_pinged_and_given_up_when_it_does_not_answer_twice() {
    let (_hub, session, _joined) = hub();
    let look = || {
        session.check_liveness();
        let taken = session.take(&mut Frames::new());
        (taken.ping, taken.closing)
    };
    assert_eq!(look(), (true, None));
    assert_eq!(look(), (true, None), "one without an answer");
    session.received();
    assert_eq!(look(), (true, None));
    assert_eq!(look(), (true, None));
    assert_eq!(look(), (false, Some(CloseReason::Dead)));
}

#[test]
fn an_account_has_so_many_places_and_others_have_their_own() {
    let (hub, _session, _joined) = hub();
    let first = hub.place(UserKey(1)).unwrap();
    let _second = hub.place(UserKey(1)).unwrap();
    assert_eq!(hub.place(UserKey(1)).unwrap_err().code, hexa_model::ErrorCode::RateLimited);
    let _other = hub.place(UserKey(2)).unwrap();
    drop(first);
    let _again = hub.place(UserKey(1)).unwrap();
    assert_eq!(hub.places.lock().len(), 2);
}

#[test]
fn nothing_is_encoded_for_nobody() {
    let (hub, _session, joined) = hub();
    drop(joined);
    hub.on_event(&changed(1, 1));
    assert_eq!(hub.metrics.broadcast_encodes.get(), 0);
    assert!(hub.by_owner.read().is_empty());
}
