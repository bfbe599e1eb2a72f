//! What the console stands on: its page and files, sessions in cookies, the fleet in numbers, lists with filters,
//! histories, and an admin's live view of everybody's devices. The console itself is tested in a browser
//! (dashboard/e2e).

use std::sync::OnceLock;

use hexa_tests::server::PASSWORD;
use hexa_tests::{Client, Options, Shared, TestServer, WsClient, eventually};
use reqwest::Method;
use serde_json::{Value, json};

fn server() -> Shared {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    TestServer::shared(&SERVER)
}

/// As a page of this server asks.
async fn from_page(server: &TestServer, path: &str, cookie: Option<&str>, body: &Value) -> hexa_tests::client::Reply {
    let client = server.client();
    let request = client
        .request(Method::POST, path)
        .header("origin", format!("http://{}", server.address))
        .header("x-hexa-session", "cookie");
    let request = match cookie {
        Some(cookie) => request.header("cookie", cookie),
        None => request,
    };
    client.send(request.json(body)).await
}

/// `name=value` of what an answer sets.
fn cookie(reply: &hexa_tests::client::Reply) -> String {
    let set = reply.header("set-cookie").expect("a cookie");
    set.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn the_page_has_a_nonce_of_its_own_and_files_are_kept_for_long() {
    let server = server();
    let client = server.client();
    let nonce = |policy: &str| policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap().to_owned();
    let mut seen = Vec::new();
    for path in ["/dashboard", "/dashboard/", "/dashboard/devices/hx1", "/"] {
        let page = client.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        let policy = page.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self' 'nonce-"), "{policy}");
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert_eq!(page.header("cache-control"), Some("no-store"));
        assert!(page.text.contains(&format!("nonce=\"{}\"", nonce(policy))), "the page carries its nonce");
        assert!(!page.text.contains("__HEXA_NONCE__"));
        seen.push(nonce(policy));
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 4, "one each");
    for path in ["/dashboard/.env", "/dashboard/assets/gone.js", "/dashboard/assets"] {
        let reply = client.get(path).await;
        assert!(reply.status == 404 || path.ends_with("assets") && reply.status == 200, "{path}: {}", reply.status);
    }
    // Byte by byte: a client library would fold the dots before it sends them.
    for path in [
        "/dashboard/../secrets/jwt_keys",
        "/dashboard/assets/../../secrets/jwt_keys",
        "/dashboard/..%2fsecrets%2fjwt_keys",
        "/dashboard/%2e%2e/secrets/jwt_keys",
        "/dashboard//etc/passwd",
        "/dashboard/..%5c..%5csecrets%5cjwt_keys",
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = hexa_tests::raw::exchange(server.address, request.as_bytes()).await;
        // Nothing but the console's own page for an address of its own, or nothing at all.
        let page = answer.starts_with("HTTP/1.1 200") && answer.contains("nonce=");
        assert!(page || answer.starts_with("HTTP/1.1 404"), "{path}: {answer}");
        assert!(!answer.contains("\"keys\"") && !answer.contains("root:"), "{path}: {answer}");
    }
    let page = client.get("/dashboard").await.text;
    let Some(script) = page.split("src=\"").nth(1).and_then(|rest| rest.split('"').next()) else {
        // Built without the console: the page says how to have it.
        assert!(page.contains("cargo xtask dashboard"));
        return;
    };
    for (accepts, coding) in [("br, gzip", "br"), ("gzip", "gzip"), ("br;q=0, gzip", "gzip")] {
        let request = client.request(Method::GET, script).header("accept-encoding", accepts);
        let file = request.send().await.unwrap();
        assert_eq!(file.headers()["content-encoding"], coding);
        assert_eq!(file.headers()["cache-control"], "public, max-age=31536000, immutable");
        assert_eq!(file.headers()["x-content-type-options"], "nosniff");
        assert!(file.headers()["content-type"].to_str().unwrap().starts_with("text/javascript"));
    }
}

#[tokio::test]
async fn a_session_in_a_cookie_is_never_in_a_body_and_works_once_each() {
    let server = server();
    let user = server.user().await;
    let login = json!({ "email": user.email, "password": PASSWORD });
    let first = from_page(&server, "/api/v1/auth/login", None, &login).await;
    let body = first.expect(200);
    assert_eq!(body["refresh_token"], Value::Null);
    let set = first.header("set-cookie").unwrap();
    assert!(set.starts_with("hexa_rt_") && set.contains("=hxr_"), "{set}");
    for part in ["; Path=/", "; HttpOnly", "; SameSite=Strict", "; Max-Age=2592000"] {
        assert!(set.contains(part), "{set}: {part}");
    }
    let second = from_page(&server, "/api/v1/auth/refresh", Some(&cookie(&first)), &json!({})).await;
    let token = second.expect(200)["access_token"].as_str().unwrap().to_owned();
    assert_ne!(cookie(&second), cookie(&first), "rotated");
    server.client().with_token(&token).get("/api/v1/auth/me").await.expect(200);
    // A new password is a new session, in the cookie again.
    let request = server
        .client()
        .with_token(&token)
        .request(Method::POST, "/api/v1/auth/password")
        .header("origin", format!("http://{}", server.address))
        .header("x-hexa-session", "cookie");
    let change = json!({ "current_password": PASSWORD, "new_password": "another horse with a battery" });
    let changed = server.client().send(request.json(&change)).await;
    assert_eq!(changed.expect(200)["refresh_token"], Value::Null);
    let ended = from_page(&server, "/api/v1/auth/logout", Some(&cookie(&changed)), &json!({})).await;
    ended.expect(204);
    assert!(ended.header("set-cookie").unwrap().contains("=; Path=/; Max-Age=0"), "{ended:?}");
    assert_eq!(ended.header("clear-site-data"), None, "the storage holds what is of other servers, too");
    let dead = from_page(&server, "/api/v1/auth/refresh", Some(&cookie(&changed)), &json!({})).await;
    dead.expect_error(401, "invalid_token");
    assert_eq!(dead.header("set-cookie"), None, "the browser may hold a newer one by now");
    from_page(&server, "/api/v1/auth/refresh", None, &json!({})).await.expect_error(401, "invalid_token");
}

#[tokio::test]
async fn no_foreign_page_uses_the_cookie() {
    let server = server();
    let user = server.user().await;
    let login = json!({ "email": user.email, "password": PASSWORD });
    let held = cookie(&from_page(&server, "/api/v1/auth/login", None, &login).await);
    let client = server.client();
    let refresh = || client.request(Method::POST, "/api/v1/auth/refresh").header("cookie", &held).json(&json!({}));
    // Without the header, which only a page of this server may send, the cookie is not looked at.
    client.send(refresh()).await.expect_error(400, "validation_error");
    let asked = || refresh().header("x-hexa-session", "cookie");
    client.send(asked()).await.expect_error(403, "origin_not_allowed");
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        client.send(asked().header("origin", origin)).await.expect_error(403, "origin_not_allowed");
    }
    client.send(asked().header("origin", hexa_tests::server::PUBLIC_URL)).await.expect(200);
}

#[tokio::test]
async fn a_lost_answer_with_a_key_gives_the_same_cookie_again_to_its_holder_only() {
    let server = server();
    let user = server.user().await;
    let login = json!({ "email": user.email, "password": PASSWORD });
    let held = cookie(&from_page(&server, "/api/v1/auth/login", None, &login).await);
    let other = cookie(&from_page(&server, "/api/v1/auth/login", None, &login).await);
    let client = server.client();
    let refresh = |cookie: &str| {
        client
            .request(Method::POST, "/api/v1/auth/refresh")
            .header("origin", format!("http://{}", server.address))
            .header("x-hexa-session", "cookie")
            .header("idempotency-key", "the-same-for-all")
            .header("cookie", cookie)
            .json(&json!({}))
    };
    let first = client.send(refresh(&held)).await;
    first.expect(200);
    let again = client.send(refresh(&held)).await;
    again.expect(200);
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(cookie(&again), cookie(&first));
    assert_eq!(again.json()["refresh_token"], Value::Null);
    let others = client.send(refresh(&other)).await;
    others.expect(200);
    assert_eq!(others.header("idempotency-replayed"), None, "somebody else's key is another one");
    assert_ne!(cookie(&others), cookie(&first));
}

#[tokio::test]
async fn the_fleet_is_counted() {
    let server = TestServer::start(Options::new());
    let (admin, user) = (server.admin().await, server.user().await);
    user.client.get("/api/v1/admin/fleet").await.expect_error(403, "forbidden");
    let device = server.device(&user, 2).await.automatic(2);
    server.provision(1).await;
    user.set_relay(device.uid(), 0, true).await.expect(200);
    user.set_relay(device.uid(), 0, false).await.expect(200);
    let fleet = admin.get("/api/v1/admin/fleet").await.expect(200);
    let devices = &fleet["devices"];
    let count = |name: &str| devices[name].as_u64().unwrap();
    assert_eq!(["total", "claimed", "unclaimed", "online", "stale", "offline"].map(count), [2, 1, 1, 1, 0, 1]);
    assert_eq!((&fleet["users"]["total"], &fleet["users"]["admins"]), (&json!(2), &json!(1)));
    eventually("the commands are in a sample", async || {
        let fleet = admin.get("/api/v1/admin/fleet").await.expect(200);
        let samples = fleet["commands"]["samples"].as_array().unwrap().clone();
        let commands: u64 = samples.iter().map(|s| s["commands"].as_u64().unwrap()).sum();
        (commands == 2 && samples.iter().any(|s| s["p95_ms"].as_f64().is_some_and(|ms| ms > 0.0))).then_some(())
    })
    .await;
}

async fn uids(client: &Client, query: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = client.get(&format!("/api/v1/devices?limit=2{query}{cursor}")).await.expect(200);
        found.extend(page["items"].as_array().unwrap().iter().map(|d| d["uid"].as_str().unwrap().to_owned()));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

#[tokio::test]
async fn devices_are_searched_and_filtered_page_by_page() {
    let server = TestServer::start(Options::new());
    let (admin, owner, guest) = (server.admin().await, server.user().await, server.user().await);
    let mut all = Vec::new();
    for (n, name) in ["Porch", "100% Kitchen", "Attic_1", "Attic 21", "Shed"].into_iter().enumerate() {
        let identity = server.provision(2).await;
        owner.client.post("/api/v1/devices/claim", &json!({ "code": identity.claim_code })).await.expect(200);
        let names = json!({ "name": name, "relays": [{ "index": 0, "name": format!("Relay of {n}") }] });
        owner.client.patch(&format!("/api/v1/devices/{}", identity.uid), &names).await.expect(200);
        all.push(identity);
    }
    let unclaimed = server.provision(1).await.uid;
    let _online = server.connect(&all[1]).await;
    let _other = server.connect(&all[4]).await;
    let of = |indices: &[usize]| indices.iter().map(|n| all[*n].uid.clone()).collect::<Vec<_>>();
    for (query, expected) in [
        ("", of(&[0, 1, 2, 3, 4])),
        ("&search=porch", of(&[0])),
        ("&search=ATTIC", of(&[2, 3])),
        // What a pattern means something in is text here.
        ("&search=attic_", of(&[2])),
        ("&search=100%25", of(&[1])),
        ("&search=relay%20of%203", of(&[3])),
        ("&search=nothing", of(&[])),
        ("&online=true", of(&[1, 4])),
        ("&online=false", of(&[0, 2, 3])),
        ("&online=true&search=shed", of(&[4])),
        ("&device_class=hybrid", of(&[])),
        ("&device_class=relay_controller&claimed=true&search=attic", of(&[2, 3])),
        ("&claimed=false", of(&[])),
    ] {
        assert_eq!(uids(&owner.client, query).await, expected, "{query}");
    }
    assert_eq!(uids(&owner.client, &format!("&search={}", all[2].uid)).await, of(&[2]));
    assert_eq!(uids(&admin, "&all=true&claimed=false").await, [unclaimed]);
    assert_eq!(uids(&admin, "&all=true").await.len(), 6);
    assert_eq!(uids(&admin, "").await, Vec::<String>::new(), "an admin has none of their own");

    // A guest finds what is shared, and not by what they are not shown.
    let share = json!({ "email": guest.email, "access": "read", "relays": [1] });
    owner.client.post(&format!("/api/v1/devices/{}/grants", all[3].uid), &share).await.expect(201);
    assert_eq!(uids(&guest.client, "&search=attic").await, of(&[3]));
    assert_eq!(uids(&guest.client, "&search=relay%20of").await, of(&[]));
    for bad in
        ["search=%00", "device_class=toaster", "online=maybe", "limit=501", &format!("search={}", "x".repeat(129))]
    {
        owner.client.get(&format!("/api/v1/devices?{bad}")).await.expect_error(400, "validation_error");
    }
    owner.client.get("/api/v1/devices?all=true").await.expect_error(403, "forbidden");
}

#[tokio::test]
async fn a_history_begins_with_its_owner_and_shows_a_guest_the_shared_relays() {
    let server = server();
    let (former, owner, guest) = (server.user().await, server.user().await, server.user().await);
    let identity = server.provision(2).await;
    let uid = identity.uid.clone();
    former.client.post("/api/v1/devices/claim", &json!({ "code": identity.claim_code })).await.expect(200);
    let before = server.connect(&identity).await.automatic(2);
    former.set_relay(&uid, 0, true).await.expect(200);
    let released = former.client.post_empty(&format!("/api/v1/devices/{uid}/release")).await.expect(200);
    owner.client.post("/api/v1/devices/claim", &json!({ "code": released["claim_code"] })).await.expect(200);
    // A release ends the session of the device as well.
    drop(before);
    let _device = server.connect(&identity).await.automatic(2);
    let share = json!({ "email": guest.email, "access": "control", "relays": [1] });
    owner.client.post(&format!("/api/v1/devices/{uid}/grants"), &share).await.expect(201);
    owner.set_relay(&uid, 0, false).await.expect(200);
    owner.set_relay(&uid, 1, true).await.expect(200);
    guest.set_relay(&uid, 1, false).await.expect(200);

    let path = format!("/api/v1/devices/{uid}/history");
    let rows = async |client: &Client| {
        let list = client.get(&path).await.expect(200);
        let items = list["items"].as_array().unwrap().clone();
        items.iter().map(|r| format!("{} {}", r["action"].as_str().unwrap(), r["relay"])).collect::<Vec<_>>()
    };
    let theirs = rows(&owner.client).await;
    assert_eq!(&theirs[..3], ["set_relay 1", "set_relay 1", "set_relay 0"]);
    assert!(theirs.contains(&"device.claimed null".to_owned()));
    assert_eq!(
        theirs.iter().filter(|r| *r == "set_relay 0").count(),
        1,
        "the former owner's is not theirs: {theirs:?}"
    );
    assert_eq!(rows(&guest.client).await, ["set_relay 1", "set_relay 1"]);
    let list = guest.client.get(&path).await.expect(200);
    let emails: Vec<_> = list["items"].as_array().unwrap().iter().map(|r| r["actor"]["email"].clone()).collect();
    assert_eq!(emails, [json!(guest.email), Value::Null], "one's own name only");
    let all = rows(&server.admin().await).await;
    assert_eq!(all.iter().filter(|r| *r == "set_relay 0").count(), 2);
    former.client.get(&path).await.expect_error(404, "not_found");

    let first = owner.client.get(&format!("{path}?limit=1")).await.expect(200);
    let next = first["next_cursor"].as_str().unwrap();
    let second = owner.client.get(&format!("{path}?limit=1&cursor={next}")).await.expect(200);
    assert_ne!(first["items"], second["items"]);
    owner.client.get(&format!("{path}?cursor=nonsense")).await.expect_error(400, "validation_error");
}

#[tokio::test]
async fn an_admin_hears_of_the_devices_that_they_name_and_a_user_does_not() {
    let server = server();
    let (owner, other) = (server.user().await, server.user().await);
    let admin = server.admin().await;
    let mut device = server.device(&owner, 2).await;
    device.report(&[(0, false), (1, false)]).await;
    device.settled().await;
    let uid = device.uid().to_owned();
    let named = json!({ "type": "subscribe", "devices": [uid] });
    let mut console = WsClient::open(&server, admin.token()).await.unwrap();
    console.send(&named).await;
    let snapshot = console.expect("snapshot").await;
    assert_eq!(snapshot["devices"][0]["access"], json!("admin"));
    device.report(&[(1, true)]).await;
    let heard = console.expect("device_state").await;
    assert_eq!((&heard["device_uid"], &heard["relays"][0]["index"]), (&json!(uid), &json!(1)));
    // What they did not name is not told: all of their account is nothing here.
    console.send(&json!({ "type": "subscribe" })).await;
    assert_eq!(console.expect("snapshot").await["devices"], json!([]));
    device.report(&[(1, false)]).await;
    device.settled().await;
    console.send(&json!({ "type": "ping" })).await;
    assert_eq!(console.next().await["type"], json!("pong"));
    // A release is heard as well.
    console.send(&named).await;
    console.expect("snapshot").await;
    owner.client.post_empty(&format!("/api/v1/devices/{uid}/release")).await.expect(200);
    console.expect("device_removed").await;
    let mut stranger = WsClient::open(&server, other.client.token()).await.unwrap();
    stranger.send(&named).await;
    assert_eq!(stranger.expect("error").await["code"], json!("not_found"));
}

#[tokio::test]
async fn a_device_that_is_connected_and_silent_is_stale() {
    let server = TestServer::start(Options::new().env("HEXA_HEARTBEAT_SECONDS", "2"));
    let (admin, user) = (server.admin().await, server.user().await);
    // It reads nothing, so it answers no ping either.
    let device = server.device(&user, 1).await;
    let path = format!("/api/v1/devices/{}", device.uid());
    eventually("it is stale", async || {
        let seen = user.client.get(&path).await.expect(200);
        let fleet = admin.get("/api/v1/admin/fleet").await.expect(200);
        (seen["stale"] == true && seen["online"] == true && fleet["devices"]["stale"] == 1).then_some(())
    })
    .await;
    eventually("it is given up", async || {
        let seen = user.client.get(&path).await.expect(200);
        (seen["stale"] == false && seen["online"] == false).then_some(())
    })
    .await;
}

#[tokio::test]
async fn long_answers_are_compressed_for_who_asks_and_secrets_never() {
    use std::io::Read as _;

    let server = server();
    let (admin, user) = (server.admin().await, server.user().await);
    let device = server.device(&user, 64).await;
    let asked = |client: &Client, path: &str| {
        let request = client.request(Method::GET, path).header("accept-encoding", "gzip");
        async move { request.send().await.unwrap() }
    };
    let list = format!("/api/v1/devices?search={}", device.uid());
    let packed = asked(&user.client, &list).await;
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    assert_eq!(packed.headers()["vary"], "accept-encoding");
    let packed = packed.bytes().await.unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(&packed[..]).read_to_string(&mut text).unwrap();
    let rows: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(rows["items"][0]["relays"].as_array().unwrap().len(), 64);
    assert!(packed.len() * 4 < text.len(), "{} of {}", packed.len(), text.len());
    // Who does not ask gets it plain.
    assert_eq!(user.client.get(&list).await.header("content-encoding"), None);
    assert_eq!(asked(&admin, "/metrics").await.headers()["content-encoding"], "gzip");
    // A strong ETag names the very bytes; sessions hold secrets; errors and short answers have nothing to win.
    let kept = json!({ "order": (0..400).map(|n| format!("card {n}")).collect::<Vec<_>>() });
    user.client
        .send(user.client.request(Method::PUT, "/api/v1/preferences/dashboard_layout").json(&kept))
        .await
        .expect(201);
    let tagged = asked(&user.client, "/api/v1/preferences").await;
    assert!(tagged.content_length().unwrap() > 4096 && tagged.headers().contains_key("etag"));
    for plain in [
        tagged,
        asked(&user.client, "/api/v1/auth/sessions").await,
        asked(&user.client, &format!("/api/v1/devices?search={}", "x".repeat(2000))).await,
        asked(&user.client, "/api/v1/devices?search=nothing-is-called-so").await,
    ] {
        assert!(!plain.headers().contains_key("content-encoding"), "{}", plain.url());
    }
}
