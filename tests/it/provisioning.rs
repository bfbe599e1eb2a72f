//! Devices come in, get an owner, and change hands.

use std::sync::OnceLock;

use hexa_tests::{FakeDevice, Options, Reply, Shared, TestServer, User};
use reqwest::Method;
use serde_json::{Value, json};

fn server() -> Shared {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    TestServer::shared(&SERVER)
}

async fn register(server: &TestServer, key: Option<&str>, proof: Option<&str>, body: &Value) -> Reply {
    let client = server.client();
    let mut request = client.request(Method::POST, "/api/v1/provision/register").json(body);
    if let Some(key) = key {
        request = request.header("x-provision-key", key);
    }
    if let Some(proof) = proof {
        request = request.header("authorization", proof);
    }
    client.send(request).await
}

#[tokio::test]
async fn a_device_gets_a_uid_a_token_and_a_code_and_shows_what_it_said_of_itself() {
    let server = server();
    let body = json!({ "device_class": "relay_controller", "model": "RC-4", "hardware": "rev-c",
        "firmware_version": "1.2.3", "serial": "SN-0001", "relay_count": 4, "input_count": 2,
        "capabilities": ["power_meter"] });
    let given = register(&server, Some(&server.provision_key()), None, &body).await.expect(201);
    let uid = given["device_uid"].as_str().unwrap();
    assert!(uid.len() >= 8 && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'), "{uid}");
    assert!(given["device_token"].as_str().unwrap().len() >= 43, "256 bits");
    hexa_tests::shapes::assert_time(&given["claim_expires_at"], "claim_expires_at");
    let ws = given["ws_url"].as_str().unwrap();
    assert_eq!(ws, format!("ws://hexa.example/ws/device?uid={uid}"));

    let user = server.user().await;
    let view = user.client.post("/api/v1/devices/claim", &json!({ "code": given["claim_code"] })).await.expect(200);
    for (name, value) in [
        ("uid", json!(uid)),
        ("device_class", json!("relay_controller")),
        ("model", json!("RC-4")),
        ("hardware", json!("rev-c")),
        ("firmware_version", json!("1.2.3")),
        ("serial", json!("SN-0001")),
        ("relay_count", json!(4)),
        ("input_count", json!(2)),
        ("capabilities", json!(["power_meter", "relay"])),
        ("online", json!(false)),
        ("last_seen_at", Value::Null),
        ("name", Value::Null),
    ] {
        assert_eq!(view[name], value, "{name}");
    }
    assert_eq!(view["relays"].as_array().unwrap().len(), 4);
    hexa_tests::shapes::assert_time(&view["claimed_at"], "claimed_at");
    // Only hashes are stored.
    let token = given["device_token"].as_str().unwrap();
    let stored: Vec<Value> = server.db().rows("select * from devices");
    assert!(!stored.is_empty() && stored.iter().all(|row| !row.to_string().contains(token)));
    if server.db().is_sqlite() {
        let db = std::fs::read(server.data_dir().join("hexa.db")).unwrap();
        let wal = std::fs::read(server.data_dir().join("hexa.db-wal")).unwrap_or_default();
        let token = token.as_bytes();
        assert!([db, wal].iter().all(|file| !file.windows(token.len()).any(|w| w == token)));
    }
}

#[tokio::test]
async fn a_claimed_devices_serial_cannot_be_taken_with_the_fleet_key() {
    let server = server();
    let key = server.provision_key();
    let user = server.user().await;
    let body = json!({ "device_class": "relay_controller", "serial": "SN-18", "relay_count": 1 });
    let device = server.provision_with(&body).await;
    user.client.post("/api/v1/devices/claim", &json!({ "code": device.claim_code })).await.expect(200);
    register(&server, Some(&key), None, &body).await.expect_error(409, "already_provisioned");
    let proof = device.authorization();
    register(&server, Some(&key), Some(&proof), &body).await.expect_error(409, "already_provisioned");
    server.connect(&device).await;
    let refusals = server.db().device_audit(&device.uid);
    assert_eq!(refusals.iter().filter(|r| r.action == "security.provision_refused").count(), 2, "{refusals:?}");
}

#[tokio::test]
async fn an_unclaimed_serial_is_given_again_only_for_the_old_token() {
    let server = server();
    let key = server.provision_key();
    let body = json!({ "device_class": "relay_controller", "serial": "SN-AGAIN", "relay_count": 1 });
    let first = server.provision_with(&body).await;
    register(&server, Some(&key), None, &body).await.expect_error(409, "already_provisioned");
    let wrong = format!("Device {}:hxd_wrong", first.uid);
    register(&server, Some(&key), Some(&wrong), &body).await.expect_error(409, "already_provisioned");
    let other = server.provision(1).await;
    register(&server, Some(&key), Some(&other.authorization()), &body).await.expect_error(409, "already_provisioned");

    let again = register(&server, Some(&key), Some(&first.authorization()), &body).await.expect(201);
    let second = hexa_tests::Identity::from_json(&again);
    assert_eq!(second.uid, first.uid);
    assert_ne!((&second.token, &second.claim_code), (&first.token, &first.claim_code));
    assert_eq!(FakeDevice::connect(server.address, &first).await.expect_err("the old token").status, 401);
    server.connect(&second).await;
    // The first code died with the first token.
    let user = server.user().await;
    user.client
        .post("/api/v1/devices/claim", &json!({ "code": first.claim_code }))
        .await
        .expect_error(404, "not_found");
    user.client.post("/api/v1/devices/claim", &json!({ "code": second.claim_code })).await.expect(200);
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_the_eleventh_in_a_minute_is_not_even_looked_at() {
    let server = TestServer::start(Options::new());
    let body = json!({ "device_class": "relay_controller" });
    register(&server, None, None, &body).await.expect_error(401, "invalid_provision_key");
    for n in 0..9 {
        let key = format!("wrong-key-number-{n}");
        register(&server, Some(&key), None, &body).await.expect_error(401, "invalid_provision_key");
    }
    for key in ["wrong-key-number-10", &server.provision_key()] {
        let reply = register(&server, Some(key), None, &body).await;
        reply.expect_error(429, "rate_limited");
        let after: u64 = reply.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&after));
    }
    assert_eq!(server.db().actions("security.wrong_provision_key").len(), 10);
}

#[tokio::test]
async fn right_keys_have_a_rate_too() {
    let server = TestServer::start(Options::new().env("LIMIT_PROVISION_RPS", "1"));
    let key = server.provision_key();
    let body = json!({ "device_class": "relay_controller" });
    let mut refused = None;
    for _ in 0..30 {
        let reply = register(&server, Some(&key), None, &body).await;
        if reply.status != 201 {
            refused = Some(reply);
            break;
        }
    }
    let refused = refused.expect("ten at once, then one a second");
    refused.expect_error(429, "rate_limited");
    assert!(refused.header("retry-after").is_some());
}

#[tokio::test]
async fn what_a_device_says_of_itself_is_checked() {
    let server = server();
    let key = server.provision_key();
    let good = json!({ "device_class": "relay_controller" });
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let long = "x".repeat(65);
    let mut bad = vec![json!({}), json!({ "device_class": "toaster" }), json!([]), with("colour", json!("red"))];
    for serial in ["", "a+b", "a#b", "a/b", "a\nb", "a b", "ä", &long] {
        bad.push(with("serial", json!(serial)));
    }
    for (name, value) in [
        ("relay_count", json!(65)),
        ("relay_count", json!(-1)),
        ("relay_count", json!("4")),
        ("relay_count", json!(1e9)),
        ("input_count", json!(65)),
        ("input_count", json!(0.5)),
        ("model", json!("")),
        ("model", json!("a\u{7}b")),
        ("firmware_version", json!(long)),
        ("capabilities", json!(["UPPER"])),
        ("capabilities", json!(vec!["a"; 17])),
        ("capabilities", json!("relay")),
        ("label", json!("yes")),
    ] {
        bad.push(with(name, value));
    }
    for body in bad {
        let reply = register(&server, Some(&key), None, &body).await;
        assert_eq!(reply.status, 400, "{body}: {}", reply.text);
        reply.expect_error(400, "validation_error");
    }
    register(&server, Some(&key), None, &good).await.expect(201);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_users_that_claim_one_code_at_once_one_gets_the_device() {
    let server = server();
    let device = server.provision(1).await;
    // Ten accounts, five claims each: password hashing is slow on purpose.
    let mut users = Vec::new();
    for _ in 0..10 {
        users.push(server.user().await);
    }
    let mut tasks = Vec::new();
    for n in 0..50 {
        let (client, code) = (users[n % 10].client.clone(), device.claim_code.clone());
        tasks.push(tokio::spawn(async move { client.post("/api/v1/devices/claim", &json!({ "code": code })).await }));
    }
    let mut won = 0;
    for task in tasks {
        let reply = task.await.unwrap();
        match reply.status {
            200 => won += 1,
            // A sixth wrong code of one account is over its limit.
            429 => drop(reply.expect_error(429, "rate_limited")),
            404 => drop(reply.expect_error(404, "not_found")),
            _ => drop(reply.expect_error(409, "already_claimed")),
        }
    }
    assert_eq!(won, 1);
    let mut owners = 0;
    for user in &users {
        owners += user.client.get("/api/v1/devices").await.expect(200)["items"].as_array().unwrap().len();
    }
    assert_eq!(owners, 1);
    let claimed = server.db().device_audit(&device.uid).iter().filter(|r| r.action == "device.claimed").count();
    assert_eq!(claimed, 1);
}

#[tokio::test]
async fn a_claim_code_is_typed_by_people() {
    let server = server();
    let user = server.user().await;
    let device = server.provision(1).await;
    let typed = format!(" {} ", device.claim_code.to_lowercase().replace('-', " "));
    let view = user.client.post("/api/v1/devices/claim", &json!({ "code": typed })).await.expect(200);
    assert_eq!(view["uid"], device.uid);
    // Once.
    user.client
        .post("/api/v1/devices/claim", &json!({ "code": device.claim_code }))
        .await
        .expect_error(404, "not_found");
}

#[tokio::test]
async fn guessing_claim_codes_ends_after_five() {
    let server = server();
    let (guesser, owner) = (server.user().await, server.user().await);
    let device = server.provision(1).await;
    for code in ["AAAAA-AAAAA", "BBBBB-BBBBB", "", "!", &"x".repeat(10_000)] {
        guesser.client.post("/api/v1/devices/claim", &json!({ "code": code })).await.expect_error(404, "not_found");
    }
    // Even the right one is not looked at any more, and stays good for somebody else.
    let reply = guesser.client.post("/api/v1/devices/claim", &json!({ "code": device.claim_code })).await;
    reply.expect_error(429, "rate_limited");
    assert!(reply.header("retry-after").is_some());
    owner.client.post("/api/v1/devices/claim", &json!({ "code": device.claim_code })).await.expect(200);
}

#[tokio::test]
async fn wrong_codes_of_all_accounts_end_together_and_a_right_one_is_good_after_a_restart() {
    let mut server = TestServer::start(Options::new().env("LIMIT_CLAIM_FAILURES_TOTAL", "6"));
    let device = server.provision(1).await;
    let claim = |user: &User, code: &str| {
        let (client, body) = (user.client.clone(), json!({ "code": code }));
        async move { client.post("/api/v1/devices/claim", &body).await }
    };
    for n in 0..3 {
        let guesser = server.user().await;
        for guess in 0..2 {
            claim(&guesser, &format!("ZZZZZ-ZZZ{n}{guess}")).await.expect_error(404, "not_found");
        }
    }
    let owner = server.user().await;
    for _ in 0..3 {
        let refused = claim(&owner, &device.claim_code).await;
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((500..=600).contains(&wait), "{wait}");
        let error = refused.expect_error(429, "rate_limited");
        assert!(error["message"].as_str().unwrap().contains("on this server"), "{error}");
    }
    let told = "select count(*) from (select action from audit_tail union all select action from audit) as r \
        where action = 'security.claim_codes_limited'";
    assert_eq!(server.db().value::<i64>(told), 1);
    server.stop().await;
    assert_eq!(server.log().text().matches("so many wrong claim codes").count(), 1);
    // What is counted is in memory.
    server.restart();
    claim(&owner.at(&server), &device.claim_code).await.expect(200);
}

#[tokio::test]
async fn without_the_file_of_their_key_open_codes_are_void_and_the_log_says_so() {
    let mut server = TestServer::start(Options::new());
    let (user, admin) = (server.user().await, server.admin().await);
    let device = server.provision(1).await;
    server.stop().await;
    let file = server.data_dir().join("secrets/key_encryption_key");
    let former = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    server.restart();
    server.log().wait_for("open claim codes were made under another KEY_ENCRYPTION_KEY and are void").await;
    let (user, admin) = (user.at(&server), server.client().with_token(admin.token()));
    let claim =
        async |user: &User, code: Value| user.client.post("/api/v1/devices/claim", &json!({ "code": code })).await;
    claim(&user, json!(device.claim_code)).await.expect_error(404, "not_found");
    // A new one is good, under the new key.
    let other = server.provision(1).await;
    let path = format!("/api/v1/devices/{}/claim-code", other.uid);
    let renewed = admin.post_empty(&path).await.expect(200);
    claim(&user, renewed["claim_code"].clone()).await.expect(200);
    // With the former file the former code is, too.
    server.stop().await;
    std::fs::write(&file, former).unwrap();
    server.restart();
    claim(&user.at(&server), json!(device.claim_code)).await.expect(200);
}

#[tokio::test]
async fn a_code_is_issued_again_by_the_device_or_an_admin_and_the_former_one_dies() {
    let server = server();
    let admin = server.admin().await;
    let user = server.user().await;
    let device = server.provision(1).await;
    let claim = |code: Value| {
        let client = user.client.clone();
        async move { client.post("/api/v1/devices/claim", &json!({ "code": code })).await }
    };
    let client = server.client();
    let own = || client.request(Method::POST, "/api/v1/devices/claim-code");
    client.send(own()).await.expect_error(401, "invalid_token");
    client.send(own().header("authorization", "Device nobody:nothing")).await.expect_error(401, "invalid_token");
    let by_device = client.send(own().header("authorization", device.authorization())).await.expect(200);
    hexa_tests::shapes::assert_time(&by_device["claim_expires_at"], "claim_expires_at");
    claim(json!(device.claim_code)).await.expect_error(404, "not_found");
    let by_admin = admin.post_empty(&format!("/api/v1/devices/{}/claim-code", device.uid)).await.expect(200);
    claim(by_device["claim_code"].clone()).await.expect_error(404, "not_found");
    claim(by_admin["claim_code"].clone()).await.expect(200);
    // An owned device has no code to give.
    client.send(own().header("authorization", device.authorization())).await.expect_error(409, "already_claimed");
}

#[tokio::test]
async fn a_code_expires_unless_it_is_printed_on_a_label() {
    let server = server();
    let user = server.user().await;
    let plain = server.provision(1).await;
    let labelled = json!({ "device_class": "relay_controller", "relay_count": 1, "label": true });
    let answer = register(&server, Some(&server.provision_key()), None, &labelled).await.expect(201);
    let year: i32 = answer["claim_expires_at"].as_str().unwrap()[..4].parse().unwrap();
    let this_year: i64 = server.db().value(if server.db().is_sqlite() {
        "select cast(strftime('%Y', 'now') as integer)"
    } else {
        "select extract(year from now())::bigint"
    });
    assert!(i64::from(year) >= this_year + 9, "a label lives ten years: {answer}");
    // Time cannot be turned from outside, so the expiry is moved instead, with the server stopped.
    drop(user);
    let mut own = TestServer::start(Options::new());
    let user = own.user().await;
    let device = own.provision(1).await;
    own.stop().await;
    own.db().tamper(&format!("update devices set claim_expires_at = 1 where uid = '{}'", device.uid));
    own.restart();
    let client = own.client().with_token(&user.access_token);
    client.post("/api/v1/devices/claim", &json!({ "code": device.claim_code })).await.expect_error(404, "not_found");
    drop(plain);
}

#[tokio::test]
async fn names_belong_to_the_owner_and_are_checked() {
    let server = server();
    let user = server.user().await;
    let device = server.device(&user, 2).await;
    let path = format!("/api/v1/devices/{}", device.uid());
    let markup = "</script><img onerror=alert(1)>";
    let body = json!({ "name": markup, "relays": [{ "index": 1, "name": "Lampe im Flur" }] });
    let view = user.client.patch(&path, &body).await.expect(200);
    assert_eq!((&view["name"], &view["relays"][1]["name"]), (&json!(markup), &json!("Lampe im Flur")));
    assert_eq!(view["relays"][0]["name"], Value::Null);
    for bad in [
        json!({ "name": "x".repeat(65) }),
        json!({ "name": "a\u{0}b" }),
        json!({ "name": 5 }),
        json!({ "relays": [{ "index": 2, "name": "none" }] }),
        json!({ "relays": [{ "index": -1, "name": "none" }] }),
        json!({ "role": "admin" }),
        json!({ "owner": "me" }),
        json!({ "relays": [{ "index": 0 }] }),
    ] {
        user.client.patch(&path, &bad).await.expect_error(400, "validation_error");
    }
    let view = user.client.patch(&path, &json!({ "name": "" })).await.expect(200);
    assert_eq!((&view["name"], &view["relays"][1]["name"]), (&Value::Null, &json!("Lampe im Flur")), "one is removed");
}

#[tokio::test]
async fn a_list_is_paged_without_gaps_and_without_repeats() {
    let server = server();
    let user = server.user().await;
    let mut own = Vec::new();
    for _ in 0..7 {
        let device = server.provision(1).await;
        user.client.post("/api/v1/devices/claim", &json!({ "code": device.claim_code })).await.expect(200);
        own.push(device.uid);
    }
    let mut found = Vec::new();
    let mut path = "/api/v1/devices?limit=3".to_owned();
    loop {
        let page = user.client.get(&path).await.expect(200);
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 3);
        found.extend(items.iter().map(|d| d["uid"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/api/v1/devices?limit=3&cursor={cursor}"),
            None => break,
        }
    }
    found.sort();
    own.sort();
    assert_eq!(found, own);
    for bad in ["limit=0", "limit=501", "limit=-1", "limit=x", "cursor=nonsense", "cursor=", "offset=3"] {
        user.client.get(&format!("/api/v1/devices?{bad}")).await.expect_error(400, "validation_error");
    }
    user.client.get("/api/v1/devices?all=true").await.expect_error(403, "forbidden");
    let all = server.admin().await.get("/api/v1/devices?all=true&limit=500").await.expect(200);
    assert!(all["items"].as_array().unwrap().len() >= 7);
}
