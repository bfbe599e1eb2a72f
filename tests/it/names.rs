//! Names that people give: what is taken, what is refused and why, and that what is shown is found (field cases A7 and
//! A18).

use std::sync::OnceLock;

use hexa_tests::{Client, Shared, TestServer, User};
use reqwest::Method;
use serde_json::{Value, json};

fn server() -> Shared {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    TestServer::shared(&SERVER)
}

const FAMILY: &str = "👨\u{200d}👩\u{200d}👧\u{200d}👦";

/// Every place where a person gives a name: what is sent, and the member that an error names.
async fn give(server: &TestServer, admin: &Client, user: &User, uid: &str, place: &str, name: &str) -> (u16, Value) {
    let device = format!("/api/v1/devices/{uid}");
    let reply = match place {
        "device" => user.client.patch(&device, &json!({ "name": name })).await,
        "relay" => user.client.patch(&device, &json!({ "relays": [{ "index": 0, "name": name }] })).await,
        "account" => admin.patch(&format!("/api/v1/admin/users/{}", user.id), &json!({ "name": name })).await,
        "token" => user.client.post("/api/v1/auth/tokens", &json!({ "name": name, "scopes": ["preferences"] })).await,
        "registration" => {
            let email = format!("n-{}@example.org", uuid::Uuid::now_v7().simple());
            let body = json!({ "email": email, "password": hexa_tests::server::PASSWORD, "name": name });
            server.client().post("/api/v1/auth/register", &body).await
        }
        other => panic!("{other}"),
    };
    (reply.status, reply.json())
}

fn kept(place: &str, answer: &Value) -> Value {
    match place {
        "relay" => answer["relays"][0]["name"].clone(),
        "registration" => answer["user"]["name"].clone(),
        _ => answer["name"].clone(),
    }
}

const PLACES: [&str; 5] = ["device", "relay", "account", "token", "registration"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_name_is_taken_in_one_form_and_refused_with_the_reason() {
    let server = server();
    let (admin, user) = (server.admin().await, server.user().await);
    let device = server.device(&user, 1).await;
    let longest = FAMILY.repeat(64);
    for place in PLACES {
        for (name, expected) in [
            ("Lamp ", "Lamp"),
            ("\u{3000}Ku\u{308}che\n", "Küche"),
            (FAMILY, FAMILY),
            (&longest, &longest),
            ("a/b#c+d", "a/b#c+d"),
            (
                "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
                "\u{645}\u{6cc}\u{200c}\u{62e}\u{648}\u{627}\u{647}\u{645}",
            ),
        ] {
            let (status, answer) = give(&server, &admin, &user, device.uid(), place, name).await;
            assert!(status < 300, "{place} {name:?}: {answer}");
            assert_eq!(kept(place, &answer), expected, "{place}");
        }
        for (name, says) in [
            ("\u{202e}gnp.exe", "direction of writing; leave out U+202E"),
            ("Lamp\u{200b}", "no invisible characters; leave out U+200B"),
            ("a\u{200d}b", "no invisible characters; leave out U+200D"),
            ("a\u{7}b", "no control characters; leave out U+0007"),
            ("a\nb", "no control characters; leave out U+000A"),
            ("a\0b", "no control characters; leave out U+0000"),
            (&"ä".repeat(65), "at most 64 characters; this one has 65"),
            (&format!("a{}", "\u{308}".repeat(1_500)), "at most 2048 bytes as UTF-8; this one has"),
        ] {
            let (status, answer) = give(&server, &admin, &user, device.uid(), place, name).await;
            let field = if place == "relay" { "relays" } else { "name" };
            assert_eq!((status, &answer["details"]["field"]), (400, &json!(field)), "{place} {name:?}: {answer}");
            assert!(answer["message"].as_str().unwrap().contains(says), "{place}: {answer}");
        }
    }
    // What was refused changed nothing.
    let shown = user.client.get(&format!("/api/v1/devices/{}", device.uid())).await.expect(200);
    assert!(shown["name"].as_str().unwrap().contains('\u{200c}'), "{shown}");
    let lone = format!(r#"{{"name":"{}"}}"#, "\\ud800");
    let request = user.client.request(Method::PATCH, &format!("/api/v1/devices/{}", device.uid()));
    let request = request.header("content-type", "application/json").body(lone);
    user.client.send(request).await.expect_error(400, "validation_error");
    let (status, answer) = give(&server, &admin, &user, device.uid(), "token", " \u{2003}").await;
    assert!(status == 400 && answer["message"].as_str().unwrap().contains("not empty"), "{answer}");
}

async fn found(client: &Client, query: &str, search: &str) -> Vec<String> {
    let encoded = search.bytes().map(|b| format!("%{b:02X}")).collect::<Vec<_>>().concat();
    let page = client.get(&format!("/api/v1/devices?sort=name&search={encoded}{query}")).await.expect(200);
    page["items"].as_array().unwrap().iter().map(|d| d["uid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shown_is_found_by_owners_guests_and_admins() {
    let server = server();
    let (admin, user) = (server.admin().await, server.user().await);
    let device = server.device(&user, 1).await;
    let uid = device.uid().to_owned();
    let names = json!({ "name": "Ölheizung \u{1f525}", "relays": [{ "index": 0, "name": "Straßenlaterne" }] });
    user.client.patch(&format!("/api/v1/devices/{uid}"), &names).await.expect(200);
    let guest = server.user().await;
    let grant = json!({ "email": guest.email, "access": "read" });
    user.client.post(&format!("/api/v1/devices/{uid}/grants"), &grant).await.expect(201);
    for search in [
        "Ölheizung",
        "ölheizung",
        "ÖLHEIZUNG",
        "O\u{308}lheizung",
        "lheiz",
        "Ölheizung \u{1f525}\u{fe0f}",
        " ölheizung ",
    ] {
        for (who, client, query) in
            [("owner", &user.client, ""), ("guest", &guest.client, ""), ("admin", &admin, "&all=true")]
        {
            assert_eq!(found(client, query, search).await, [uid.as_str()], "{who}: {search}");
        }
    }
    // Names of relays are found by the owner alone, as before.
    assert_eq!(found(&user.client, "", "STRASSENLATERNE").await, [uid.as_str()]);
    assert!(found(&guest.client, "", "STRASSENLATERNE").await.is_empty());
    for nothing in ["Olheizung", "\u{200b}", "%", "_", "\\"] {
        assert!(found(&user.client, "", nothing).await.is_empty(), "{nothing:?}");
    }
    let long = FAMILY.repeat(129);
    let path =
        format!("/api/v1/devices?search={}", long.bytes().map(|b| format!("%{b:02X}")).collect::<Vec<_>>().concat());
    user.client.get(&path).await.expect_error(400, "validation_error");
}

/// The places of a list by name are the same in every form of its letters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_by_name_lose_and_repeat_nothing_beyond_ascii() {
    let server = server();
    let user = server.user().await;
    let names = ["Öfen", "ofen", "ÖFEN", "ß", "SS", "Zebra", "İ", "ı", "Ωmega", "ωmega", "Гараж", "гараж", "\u{1f525}"];
    for name in names {
        let identity = server.provision(1).await;
        user.client.post("/api/v1/devices/claim", &json!({ "code": identity.claim_code })).await.expect(200);
        user.client.patch(&format!("/api/v1/devices/{}", identity.uid), &json!({ "name": name })).await.expect(200);
    }
    let all = async |limit: usize| {
        let (mut shown, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/v1/devices?sort=name&limit={limit}{cursor}");
            let page = user.client.get(&path).await.expect(200);
            let items = page["items"].as_array().unwrap();
            shown.extend(items.iter().map(|d| d["name"].as_str().unwrap().to_owned()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return shown,
            }
        }
    };
    // i with a dot above comes before o and behind nothing here; ß stands with ss, and those of one fold as they came.
    let sorted =
        ["İ", "ofen", "ß", "SS", "Zebra", "Öfen", "ÖFEN", "ı", "Ωmega", "ωmega", "Гараж", "гараж", "\u{1f525}"];
    for limit in [1, 2, 5, 50] {
        assert_eq!(all(limit).await, sorted, "{limit} a page");
    }
}
