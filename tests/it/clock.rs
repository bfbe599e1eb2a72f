//! The wall clock jumps back and forth: it ends no session of a device and revives no credential.

use hexa_tests::machine;
use hexa_tests::{Db, Identity, Options, TestServer, User, WsClient, eventually};
use reqwest::Method;
use serde_json::{Value, json};

/// Logs in; the access token carries the server's own idea of the time.
async fn log_in(server: &TestServer, user: &User) -> User {
    let body = json!({ "email": user.email, "password": hexa_tests::server::PASSWORD });
    let answer = server.client().post("/api/v1/auth/login", &body).await.expect(200);
    User::new(server.client(), &user.email, &answer)
}

fn claim(user: &User, name: &str) -> i64 {
    use base64::Engine;
    let payload = user.access_token.split('.').nth(1).expect("a JWT has three parts");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).expect("base64url");
    let claims: Value = serde_json::from_slice(&bytes).expect("JSON");
    claims[name].as_i64().unwrap_or_else(|| panic!("no {name}: {claims}"))
}

/// Seconds since 1970 by the clock of this process, which nobody moves.
fn true_time() -> i64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() as i64
}

async fn sign_out(server: &TestServer, user: &User) {
    server.client().post("/api/v1/auth/logout", &json!({ "refresh_token": user.refresh_token })).await.expect(204);
}

async fn refresh(server: &TestServer, user: &User) -> u16 {
    server.client().post("/api/v1/auth/refresh", &json!({ "refresh_token": user.refresh_token })).await.status
}

async fn me(user: &User) -> u16 {
    user.client.get("/api/v1/auth/me").await.status
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hours_back_and_forth_stop_no_device_and_revive_no_token() {
    let Some(clock) = machine::clock("clock::two_hours_back_and_forth_stop_no_device_and_revive_no_token") else {
        return;
    };
    let mut server = TestServer::start(clock.options(Options::new().env("HEXA_HEARTBEAT_SECONDS", "2")));
    // A new server would believe whatever its clock is set to in its first minutes.
    server.stop().await;
    server.restart();
    let user = server.user().await;
    let device = server.device(&user, 2).await.automatic(2);
    let uid = device.uid().to_owned();
    let (mut dashboard, _) = WsClient::subscribed(&server, &user).await;
    let mut before = user.set_relay(&uid, 0, true).await.expect(200)["relays"][0]["version"].as_u64().unwrap();
    let now = log_in(&server, &user).await;
    assert!((claim(&now, "iat") - true_time()).abs() < 60, "the clock is true at first");

    // One that was used, and then ended: nothing that the clock does makes it good again.
    let ended = log_in(&server, &user).await;
    assert_eq!(me(&ended).await, 200);
    sign_out(&server, &ended).await;

    let mut of_before = vec![("+0", now)];
    // The time by which credentials begin and end does not go back with the clock, and soon after a start it goes ahead with
    // it: until then the network may not have told it the time.
    for (jump, seconds, ahead) in [("-2h", -7200, 0), ("+0", 0, 0), ("+2h", 7200, 7200), ("+0", 0, 7200)] {
        clock.set(jump);
        let fresh = log_in(&server, &user).await;
        assert!((claim(&fresh, "iat") - true_time() - ahead).abs() < 60, "{jump}");
        let row = server.evidence().audit.iter().map(|row| row.at).next_back().unwrap();
        assert!((row / 1000 - true_time() - seconds).abs() < 60, "{jump}: the server's clock has moved");
        assert_eq!(me(&fresh).await, 200, "{jump}: whoever logs in now is served");
        // Whenever a session ends, what is over is forgotten.
        sign_out(&server, &log_in(&server, &user).await).await;
        assert_eq!(me(&ended).await, 401, "{jump}: a session that ended");
        // What was over is over.
        for (of, token) in &of_before {
            let here = true_time() + ahead;
            let valid = claim(token, "iat") <= here + 60 && claim(token, "exp") > here;
            let expected = if valid { 200 } else { 401 };
            assert_eq!(me(token).await, expected, "a token of {of} at {jump}");
        }
        of_before.push((jump, fresh.clone()));
        // Commands go on, in both directions, and the open sockets hear of them.
        for state in [false, true] {
            let answer = fresh.set_relay(&uid, 0, state).await.expect(200);
            let version = answer["relays"][0]["version"].as_u64().unwrap();
            assert_eq!(version, before + 1, "{jump}");
            before = version;
            loop {
                let frame = dashboard.expect("device_state").await;
                if frame["relays"][0]["version"] == version {
                    break;
                }
            }
        }
        // Longer than a session may be silent: the device is alive by the monotonic clock, whatever the wall says.
        let start = std::time::Instant::now();
        while start.elapsed() < std::time::Duration::from_millis(4700) {
            let shown = fresh.client.get(&format!("/api/v1/devices/{uid}")).await.expect(200);
            assert_eq!(shown["online"], true, "{jump}: {shown}");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    }
    let good: Vec<_> = futures_util::future::join_all(of_before.iter().map(|(_, token)| me(token))).await;
    assert_eq!(good, [401, 401, 401, 200, 200], "what was over while the clock was ahead stays over");
    assert!(device.seen().len() == 9, "nothing was sent again: {}", device.seen().len());
    server.stop().await;
    let evidence = server.evidence();
    evidence.assert_whole();
    assert_eq!(evidence.relay(&uid, 0), Some((true, before as i64)));
    assert!(evidence.audit.windows(2).any(|w| w[1].at < w[0].at), "the audit was written through the jump");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_end_when_they_are_idle_or_old() {
    let Some(clock) = machine::clock("clock::sessions_end_when_they_are_idle_or_old") else { return };
    let server = TestServer::start(clock.options(Options::new()));
    let user = server.user().await;
    let refresh = async |token: &str| {
        let reply = server.client().post("/api/v1/auth/refresh", &json!({ "refresh_token": token })).await;
        (reply.status == 200).then(|| reply.json()["refresh_token"].as_str().unwrap().to_owned())
    };
    let (idle, busy) = (log_in(&server, &user).await, log_in(&server, &user).await);
    clock.set("+10d");
    let mut token = refresh(&busy.refresh_token).await.expect("used within 14 days");
    clock.set("+15d");
    assert_eq!(refresh(&idle.refresh_token).await, None, "not used for 14 days");
    clock.set("+20d");
    token = refresh(&token).await.expect("used within 14 days");
    clock.set("+29d");
    token = refresh(&token).await.expect("not yet 30 days old");
    clock.set("+31d");
    assert_eq!(refresh(&token).await, None, "30 days old, used or not");
}

/// A machine without a battery for its clock starts with any date, until the network has told it the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_decades_ahead_removes_no_audit_row() {
    let Some(clock) = machine::clock("clock::a_start_decades_ahead_removes_no_audit_row") else {
        return;
    };
    let options = Options::new().env("AUDIT_RETENTION_DAYS", "30").env("RUST_LOG", "info");
    let mut server = TestServer::start(clock.options(options));
    let user = server.user().await;
    let before = Db::open(server.data_dir()).actions("account.registered");
    assert_eq!(before.len(), 1);
    // Ahead for a moment, in the first minutes of a new server, and killed soon after that.
    clock.set("+20000d");
    log_in(&server, &user).await;
    clock.set("+0");
    log_in(&server, &user).await;
    server.kill9();
    clock.set("+20000d");
    server.restart();
    let said = || async { server.log().contains("nothing is removed by it for now").then_some(()) };
    eventually("the clock not to be believed", said).await;
    assert_eq!(Db::open(server.data_dir()).actions("account.registered").len(), 1);
}

/// A key of an hour ago is an hour old, however the clock of a running server is set.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_keyed_command_is_not_sent_again_when_the_clock_is_set_a_day_ahead() {
    let test = "clock::a_keyed_command_is_not_sent_again_when_the_clock_is_set_a_day_ahead";
    let Some(clock) = machine::clock(test) else {
        return;
    };
    let server = TestServer::start(clock.options(Options::new()));
    let user = server.user().await;
    let device = server.device(&user, 1).await.automatic(1);
    let path = format!("/api/v1/devices/{}/relays/0", device.uid());
    let mut first = None;
    for jump in ["-25h", "+0", "+25h", "+50h"] {
        clock.set(jump);
        let user = log_in(&server, &user).await;
        let request = user.client.request(Method::POST, &path).header("idempotency-key", "lamp-1");
        let reply = user.client.send(request.json(&json!({ "state": true }))).await;
        assert_eq!(reply.header("idempotency-replayed").is_some(), first.is_some(), "{jump}: {}", reply.text);
        let answer = reply.expect(200);
        assert_eq!(*first.get_or_insert(answer.clone()), answer, "{jump}");
    }
    assert_eq!(Db::open(server.data_dir()).actions("set_relay").len(), 1);
}

/// A new server whose clock was behind when it was asked, and right after that, and which was killed before it noted a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_a_new_server_whose_clock_was_behind_is_not_free_after_a_kill() {
    let test = "clock::a_key_of_a_new_server_whose_clock_was_behind_is_not_free_after_a_kill";
    let Some(clock) = machine::clock(test) else { return };
    let mut server = TestServer::start(clock.options(Options::new()));
    clock.set("-5d");
    let user = server.user().await;
    let device = server.device(&user, 1).await.automatic(1);
    let path = format!("/api/v1/devices/{}/relays/0", device.uid());
    let mut first = None;
    for jump in ["-5d", "+0", "kill", "kill"] {
        if jump == "kill" {
            server.kill9();
            server.restart();
        } else {
            clock.set(jump);
        }
        let user = log_in(&server, &user).await;
        let request = user.client.request(Method::POST, &path).header("idempotency-key", "pulse-1");
        let reply = user.client.send(request.json(&json!({ "state": true, "for_ms": 500 }))).await;
        assert_eq!(reply.header("idempotency-replayed").is_some(), first.is_some(), "{jump}: {}", reply.text);
        let answer = reply.expect(200);
        assert_eq!(*first.get_or_insert(answer.clone()), answer, "{jump}");
    }
    assert_eq!(server.db().actions("set_relay").len(), 1);
}

/// What is over a quarter of an hour later: an access token, the former token of a device, a claim code.
struct Ending {
    user: User,
    session: User,
    waiting: Identity,
    device: Identity,
}

impl Ending {
    async fn begin(server: &TestServer) -> Self {
        let user = server.user().await;
        let (session, waiting) = (log_in(server, &user).await, server.provision(1).await);
        let device = server.provision(1).await;
        user.client.post("/api/v1/devices/claim", &json!({ "code": device.claim_code })).await.expect(200);
        user.client.post(&format!("/api/v1/devices/{}/token/rotate", device.uid), &json!({})).await.expect(200);
        let begun = Self { user, session, waiting, device };
        assert_eq!(begun.former(server).await, 409, "a former token is good for ten minutes; the device has an owner");
        assert_eq!(me(&begun.session).await, 200);
        begun
    }

    async fn former(&self, server: &TestServer) -> u16 {
        let client = server.client();
        let asked = client.request(Method::POST, "/api/v1/devices/claim-code");
        client.send(asked.header("authorization", self.device.authorization())).await.status
    }

    async fn over(&self, server: &TestServer, when: &str) {
        assert_eq!(me(&self.session.at(server)).await, 401, "{when}: an access token");
        assert_eq!(self.former(server).await, 401, "{when}: the former token of a device");
        let living = log_in(server, &self.user).await;
        assert_eq!(me(&living).await, 200, "{when}: whoever signs in now is served");
        let code = json!({ "code": self.waiting.claim_code });
        living.client.post("/api/v1/devices/claim", &code).await.expect_error(404, "not_found");
        let fresh = server.provision(1).await;
        living.client.post("/api/v1/devices/claim", &json!({ "code": fresh.claim_code })).await.expect(200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_a_clock_set_back_nor_a_start_behind_revives_a_token_or_a_code() {
    let test = "clock::neither_a_clock_set_back_nor_a_start_behind_revives_a_token_or_a_code";
    let Some(clock) = machine::clock(test) else { return };
    let mut server = TestServer::start(clock.options(Options::new()));
    let ending = Ending::begin(&server).await;
    clock.set("+20m");
    ending.over(&server, "twenty minutes later").await;
    server.stop().await;
    server.restart();
    ending.over(&server, "after twenty minutes").await;
    clock.set("+0");
    ending.over(&server, "set back").await;
    server.stop().await;
    server.restart();
    ending.over(&server, "started anew").await;
    server.stop().await;
    clock.set("-400d");
    server.restart();
    ending.over(&server, "a battery is empty").await;
}

/// Nobody but whoever runs the server can tell a machine that was off for days from a clock that was wrong at a start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_over_at_a_start_days_later_stays_over_until_somebody_vouches_for_the_clock() {
    let test = "clock::what_was_over_at_a_start_days_later_stays_over_until_somebody_vouches_for_the_clock";
    let Some(clock) = machine::clock(test) else { return };
    let mut server = TestServer::start(clock.options(Options::new().env("RUST_LOG", "info")));
    let ending = Ending::begin(&server).await;
    server.stop().await;
    clock.set("+3d");
    server.restart();
    ending.over(&server, "after three days").await;
    clock.set("+0");
    ending.over(&server, "set back").await;
    server.kill9();
    server.restart();
    ending.over(&server, "started anew").await;
    let said = || async { server.log().contains("the clock is behind what it showed before").then_some(()) };
    eventually("the log to say so", said).await;
    server.stop().await;
    server.set_env("HEXA_BELIEVE_CLOCK", Some("2001-01-01"));
    server.restart();
    ending.over(&server, "another day").await;
    server.stop().await;
    assert!(server.db().actions("clock.believed").is_empty());
    // Around midnight one of the two is today.
    let day = |ahead| jiff::Timestamp::from_second(true_time() + ahead).unwrap().strftime("%Y-%m-%d").to_string();
    for today in [day(0), day(60)] {
        server.set_env("HEXA_BELIEVE_CLOCK", Some(&today));
        server.restart();
        server.stop().await;
    }
    server.restart();
    assert!(!server.db().actions("clock.believed").is_empty());
    assert_eq!(ending.former(&server).await, 409);
    assert_eq!(me(&ending.session.at(&server)).await, 200);
}

/// Whoever signs in or provisions while the clock is ahead is served; what they get is not good for as much longer. It takes
/// some minutes in which the clock stays as it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_made_while_the_clock_is_ahead_ends_in_its_time_when_that_is_set_back() {
    let test = "clock::what_is_made_while_the_clock_is_ahead_ends_in_its_time_when_that_is_set_back";
    if !machine::long(test) {
        return;
    }
    let Some(clock) = machine::clock(test) else { return };
    let mut server = TestServer::start(clock.options(Options::new().env("RUST_LOG", "info")));
    clock.set("+400d");
    let ending = Ending::begin(&server).await;
    clock.set("+0");
    let said = || server.log().contains("ends as if it was made when the clock was set back");
    let begin = std::time::Instant::now();
    while !said() {
        assert!(begin.elapsed() < std::time::Duration::from_secs(400), "nothing was put right");
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
    assert!(begin.elapsed() > std::time::Duration::from_secs(280), "it may be back for a moment");
    assert_eq!(ending.former(&server).await, 409, "still good");
    server.kill9();
    clock.set("+20m");
    server.restart();
    ending.over(&server, "twenty minutes later").await;
    assert_eq!(refresh(&server, &ending.session).await, 200, "a session is good for longer");
    server.stop().await;
    clock.set("+15d");
    server.restart();
    assert_eq!(refresh(&server, &ending.user).await, 401, "fifteen days later");
}
