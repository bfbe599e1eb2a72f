//! Lists of devices beyond their search (console.rs): whose they are, in which order, and how they are connected.

use std::sync::OnceLock;

use hexa_tests::device::Identity;
use hexa_tests::server::User;
use hexa_tests::{Client, Options, Shared, TestServer, eventually};
use serde_json::{Value, json};

fn server() -> Shared {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    TestServer::shared(&SERVER)
}

/// A device of this user, called so.
async fn named(server: &TestServer, user: &User, name: Option<&str>) -> Identity {
    let identity = server.provision(1).await;
    user.client.post("/api/v1/devices/claim", &json!({ "code": identity.claim_code })).await.expect(200);
    if let Some(name) = name {
        let path = format!("/api/v1/devices/{}", identity.uid);
        user.client.patch(&path, &json!({ "name": name })).await.expect(200);
    }
    identity
}

/// One page: what it shows of each device by this pointer, and where the next one begins.
async fn page(client: &Client, query: &str, shown: &str) -> (Vec<String>, Option<String>) {
    let page = client.get(&format!("/api/v1/devices?{query}")).await.expect(200);
    let text = |device: &Value| device.pointer(shown).and_then(Value::as_str).unwrap_or("-").to_owned();
    let items = page["items"].as_array().unwrap().iter().map(text).collect();
    (items, page["next_cursor"].as_str().map(str::to_owned))
}

/// Reads all pages of a list, and gives the uids in their order.
async fn pages(client: &Client, query: &str, limit: usize, shown: &str) -> Vec<String> {
    let (mut found, mut from) = (Vec::new(), String::new());
    loop {
        let (items, next) = page(client, &format!("limit={limit}&{query}{from}"), shown).await;
        assert!(items.len() <= limit, "{query}: {items:?}");
        found.extend(items);
        match next {
            Some(next) => from = format!("&cursor={next}"),
            None => return found,
        }
    }
}

async fn uids(client: &Client, query: &str) -> Vec<String> {
    pages(client, query, 2, "/uid").await
}

fn of(all: &[Identity], indices: &[usize]) -> Vec<String> {
    indices.iter().map(|n| all[*n].uid.clone()).collect()
}

#[tokio::test]
async fn names_are_sorted_as_they_are_shown_on_pages_of_any_size() {
    let server = server();
    let user = server.user().await;
    let names = ["porch", "Zoo", "PORCH", "Ärker", "attic", "Porch", "ärker", "Attic 2", "100 % wool, /?&=+", "été"];
    let mut all = Vec::new();
    for name in names {
        all.push(named(&server, &user, Some(name)).await);
        all.push(named(&server, &user, None).await);
    }
    // Those without a name stand where their uid does.
    let mut expected: Vec<_> = all.iter().enumerate().collect();
    expected.sort_by_key(|(n, device)| match n % 2 {
        0 => (names[n / 2].to_ascii_lowercase(), *n),
        _ => (device.uid.to_ascii_lowercase(), *n),
    });
    let expected: Vec<_> = expected.into_iter().map(|(_, device)| device.uid.clone()).collect();
    for limit in [1, 2, 3, 7, 20, 500] {
        assert_eq!(pages(&user.client, "sort=name", limit, "/uid").await, expected, "{limit} a page");
    }
    // Equal ones as they came; letters beyond ASCII behind all others, as they are.
    let called = pages(&user.client, "sort=name", 3, "/name").await;
    let called: Vec<_> = called.iter().map(String::as_str).filter(|name| *name != "-").collect();
    assert_eq!(called[..3], ["100 % wool, /?&=+", "attic", "Attic 2"]);
    assert_eq!(called[3..], ["porch", "PORCH", "Porch", "Zoo", "Ärker", "ärker", "été"]);
    assert_eq!(pages(&user.client, "sort=name&search=PORCH", 1, "/name").await, ["porch", "PORCH", "Porch"]);
    // And as they came is what is said without it.
    let came: Vec<_> = all.iter().map(|device| device.uid.clone()).collect();
    assert_eq!(uids(&user.client, "sort=added").await, came);
    assert_eq!(uids(&user.client, "").await, came);
}

#[tokio::test]
async fn what_is_deleted_and_renamed_between_pages_costs_no_other_its_place() {
    let server = server();
    let (user, admin) = (server.user().await, server.admin().await);
    let mut all = Vec::new();
    for name in ["lamp", "Lamp", "LAMP", "lamp", "shed", "tool"] {
        all.push(named(&server, &user, Some(name)).await);
    }
    let (first, next) = page(&user.client, "sort=name&limit=2", "/uid").await;
    assert_eq!(first, of(&all, &[0, 1]));
    // The one at the border, and the one behind it; the first of the page is called otherwise.
    for n in [1, 2] {
        admin.delete(&format!("/api/v1/devices/{}", all[n].uid)).await.expect(204);
    }
    let renamed = format!("/api/v1/devices/{}", all[0].uid);
    user.client.patch(&renamed, &json!({ "name": "a lamp" })).await.expect(200);
    let query = format!("sort=name&limit=2&cursor={}", next.unwrap());
    let (second, next) = page(&user.client, &query, "/uid").await;
    assert_eq!(second, of(&all, &[3, 4]));
    // The border itself is called otherwise.
    let renamed = format!("/api/v1/devices/{}", all[4].uid);
    user.client.patch(&renamed, &json!({ "name": "a shed" })).await.expect(200);
    let query = format!("sort=name&limit=2&cursor={}", next.unwrap());
    assert_eq!(page(&user.client, &query, "/uid").await, (of(&all, &[5]), None));
}

#[tokio::test]
async fn what_is_shared_is_sorted_among_ones_own_whenever_it_came() {
    let server = server();
    let (owner, guest) = (server.user().await, server.user().await);
    let mut all = Vec::new();
    for name in ["Zeta", "gamma", "hidden"] {
        all.push(named(&server, &owner, Some(name)).await);
    }
    for n in [0, 1] {
        let share = json!({ "email": guest.email, "access": "read" });
        owner.client.post(&format!("/api/v1/devices/{}/grants", all[n].uid), &share).await.expect(201);
    }
    for name in ["alpha", "delta", "Theta"] {
        all.push(named(&server, &guest, Some(name)).await);
    }
    for limit in 1..=5 {
        let shown = pages(&guest.client, "sort=name", limit, "/name").await;
        assert_eq!(shown, ["alpha", "delta", "gamma", "Theta", "Zeta"], "{limit} a page");
        assert_eq!(pages(&guest.client, "", limit, "/name").await, ["Zeta", "gamma", "alpha", "delta", "Theta"]);
    }
    assert_eq!(pages(&guest.client, "sort=name&online=false", 1, "/name").await.len(), 5);
    assert_eq!(pages(&guest.client, "sort=name&online=true", 1, "/name").await, Vec::<String>::new());
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_told_what_can() {
    let server = server();
    let (user, admin) = (server.user().await, server.admin().await);
    for _ in 0..2 {
        named(&server, &user, Some("lamp")).await;
    }
    let added = page(&user.client, "limit=1", "/uid").await.1.unwrap();
    let by_name = page(&user.client, "limit=1&sort=name", "/uid").await.1.unwrap();
    let another = "this cursor is of a list in another order; send the sort that its page was asked for with";
    let earlier = "cursor is the next_cursor of an earlier page";
    for (query, field, message) in [
        ("sort=size".to_owned(), "sort", "sort is name or added"),
        ("sort=Name".to_owned(), "sort", "sort is name or added"),
        ("sort=".to_owned(), "sort", "sort is name or added"),
        (format!("sort=name&cursor={added}"), "cursor", another),
        (format!("cursor={by_name}"), "cursor", another),
        (format!("sort=added&cursor={by_name}"), "cursor", another),
        ("sort=name&cursor=nonsense".to_owned(), "cursor", earlier),
        ("sort=name&cursor=n1.%20".to_owned(), "cursor", earlier),
        ("sort=name&cursor=".to_owned(), "cursor", earlier),
        ("sort=name&cursor=n1.AAA".to_owned(), "cursor", earlier),
        ("all=true&owner=nobody".to_owned(), "owner", "owner is the id of a user"),
        (format!("owner={}", user.id), "owner", "owner picks from everybody's devices; send all=true with it"),
    ] {
        let refused = admin.get(&format!("/api/v1/devices?{query}")).await.expect_error(400, "validation_error");
        assert_eq!(
            (&refused["message"], &refused["details"]),
            (&json!(message), &json!({ "field": field })),
            "{query}"
        );
    }
    for query in ["stale=maybe", "stale=", "stale=1"] {
        let refused = admin.get(&format!("/api/v1/devices?{query}")).await.expect_error(400, "validation_error");
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains("`true` or `false`") && !message.contains("maybe"), "{message}");
    }
    // A name that no device ever had is a place like any other.
    let (found, next) = page(&user.client, "sort=name&cursor=n1.YQ", "/name").await;
    assert_eq!((found, next), (vec!["lamp".to_owned(), "lamp".to_owned()], None));
}

#[tokio::test]
async fn admins_are_told_whose_a_device_is_and_others_are_not() {
    let server = TestServer::start(Options::new());
    let admin = server.admin().await;
    let (owner, guest) = (server.user().await, server.user().await);
    let me = admin.get("/api/v1/auth/me").await.expect(200);
    admin.patch(&format!("/api/v1/admin/users/{}", owner.id), &json!({ "name": "Ann" })).await.expect(200);
    let theirs = named(&server, &owner, Some("lamp")).await.uid;
    let unclaimed = server.provision(1).await.uid;
    let code = server.provision(1).await.claim_code;
    let ann = json!({ "id": owner.id, "email": owner.email, "name": "Ann" });
    let admins = json!({ "id": me["id"], "email": "admin@example.org", "name": "A Tester" });
    let claimed = admin.post("/api/v1/devices/claim", &json!({ "code": code })).await.expect(200);
    assert_eq!(claimed["owner"], admins);
    let own = claimed["uid"].as_str().unwrap().to_owned();
    let owners = async |client: &Client, query: &str| {
        let list = client.get(&format!("/api/v1/devices?{query}")).await.expect(200);
        let items = list["items"].as_array().unwrap().clone();
        items.into_iter().map(|d| (d["uid"].as_str().unwrap().to_owned(), d["owner"].clone())).collect::<Vec<_>>()
    };
    let every = vec![(theirs.clone(), ann.clone()), (unclaimed, Value::Null), (own.clone(), admins.clone())];
    assert_eq!(owners(&admin, "all=true").await, every);
    assert_eq!(owners(&admin, "").await, [(own.clone(), admins.clone())]);
    let path = |uid: &str| format!("/api/v1/devices/{uid}");
    assert_eq!(admin.get(&path(&theirs)).await.expect(200)["owner"], ann);
    assert_eq!(admin.get(&path(&own)).await.expect(200)["owner"], admins);
    assert_eq!(admin.patch(&path(&theirs), &json!({ "name": "Lamp" })).await.expect(200)["owner"], ann);

    // What is shared with an admin is an admin's to see; a token without the scope is no admin's.
    let token = async |scopes: &[&str]| {
        let made = admin.post("/api/v1/auth/tokens", &json!({ "name": "x", "scopes": scopes })).await.expect(201);
        admin.with_token(made["token"].as_str().unwrap())
    };
    for email in ["admin@example.org", &guest.email] {
        let share = json!({ "email": email, "access": "control" });
        owner.client.post(&format!("{}/grants", path(&theirs)), &share).await.expect(201);
    }
    assert_eq!(owners(&admin, "").await, [(theirs.clone(), ann.clone()), (own.clone(), admins)]);
    let plain = token(&["devices:read"]).await;
    assert_eq!(owners(&plain, "").await, [(theirs.clone(), Value::Null), (own.clone(), Value::Null)]);
    assert_eq!(owners(&token(&["devices:read", "admin:*"]).await, "all=true").await[0], (theirs.clone(), ann));
    for client in [&owner.client, &guest.client] {
        assert_eq!(owners(client, "").await, [(theirs.clone(), Value::Null)]);
        assert_eq!(client.get(&path(&theirs)).await.expect(200)["owner"], Value::Null);
    }
    assert_eq!(owner.client.patch(&path(&theirs), &json!({ "name": "x" })).await.expect(200)["owner"], Value::Null);
}

#[tokio::test]
async fn admins_find_devices_by_whose_they_are() {
    let server = TestServer::start(Options::new());
    let admin = server.admin().await;
    let (ann, bob) = (server.user().await, server.user().await);
    for (user, name) in [(&ann, "Ann Zaunkönig"), (&bob, "Bob_1")] {
        admin.patch(&format!("/api/v1/admin/users/{}", user.id), &json!({ "name": name })).await.expect(200);
    }
    let mut all = Vec::new();
    for (user, name) in [(&bob, "Porch"), (&ann, "shed"), (&ann, "Attic"), (&ann, "bobsled")] {
        all.push(named(&server, user, Some(name)).await);
    }
    all.push(server.provision(1).await);
    let other = server.user().await;
    let by = |user: &User| format!("all=true&owner={}", user.id);
    for (query, expected) in [
        ("all=true".to_owned(), of(&all, &[0, 1, 2, 3, 4])),
        (by(&ann), of(&all, &[1, 2, 3])),
        (by(&bob), of(&all, &[0])),
        (by(&other), of(&all, &[])),
        ("all=true&owner=01890a5d-ac96-774b-bcce-b302099a8057".to_owned(), of(&all, &[])),
        (format!("{}&sort=name", by(&ann)), of(&all, &[2, 3, 1])),
        (format!("{}&claimed=false", by(&ann)), of(&all, &[])),
        (format!("{}&online=false&sort=name", by(&ann)), of(&all, &[2, 3, 1])),
        (format!("{}&search=sled", by(&ann)), of(&all, &[3])),
        // By e-mail, by name, and by what the device is called.
        (format!("all=true&search={}", bob.email.to_uppercase()), of(&all, &[0])),
        ("all=true&search=zaunk%C3%B6".to_owned(), of(&all, &[1, 2, 3])),
        ("all=true&search=bob".to_owned(), of(&all, &[0, 3])),
        ("all=true&search=bob_".to_owned(), of(&all, &[0])),
        (format!("{}&search=ann%20z", by(&ann)), of(&all, &[1, 2, 3])),
        (format!("{}&search=ann%20z", by(&bob)), of(&all, &[])),
        ("all=true&search=nobody@example.org".to_owned(), of(&all, &[])),
    ] {
        assert_eq!(uids(&admin, &query).await, expected, "{query}");
    }
    // Nobody else, and nobody by themselves.
    for query in ["search=zaunk%C3%B6", &format!("search={}", ann.email), "search=ann%20z"] {
        assert_eq!(uids(&ann.client, query).await, of(&all, &[]), "{query}");
    }
    assert_eq!(uids(&admin, &format!("search={}", ann.email)).await, of(&all, &[]));
    for query in [by(&ann), format!("owner={}", ann.id), "owner=01890a5d-ac96-774b-bcce-b302099a8057".to_owned()] {
        ann.client.get(&format!("/api/v1/devices?{query}")).await.expect_error(403, "forbidden");
    }
}

#[tokio::test]
async fn connected_and_silent_devices_are_listed_by_name() {
    let server = TestServer::start(Options::new().env("HEXA_HEARTBEAT_SECONDS", "3"));
    let (admin, user) = (server.admin().await, server.user().await);
    let mut all = Vec::new();
    for name in ["silent b", "Silent A", "awake d", "Awake C", "gone f", "Gone E"] {
        all.push(named(&server, &user, Some(name)).await);
    }
    let mut awake = Vec::new();
    for n in [2, 3] {
        awake.push(server.connect(&all[n]).await.automatic(1));
    }
    // They read nothing, so they answer no ping either.
    let (_b, _a) = (server.connect(&all[0]).await, server.connect(&all[1]).await);
    let names = async |client: &Client, query: &str| pages(client, &format!("sort=name&{query}"), 1, "/name").await;
    assert_eq!(names(&user.client, "online=true").await, ["Awake C", "awake d", "Silent A", "silent b"]);
    assert_eq!(names(&user.client, "online=false").await, ["Gone E", "gone f"]);
    eventually("both are silent for too long", async || {
        let stale = names(&user.client, "stale=true").await;
        if stale != ["Silent A", "silent b"] {
            return None;
        }
        let lists = [
            names(&user.client, "stale=false").await,
            names(&user.client, "stale=false&online=true").await,
            names(&user.client, "stale=true&online=true").await,
            names(&user.client, "stale=true&online=false").await,
            names(&admin, "all=true&stale=true").await,
            names(&user.client, "stale=true&search=silent%20b").await,
        ];
        // The server gives them up soon: only what was true all the while counts.
        (names(&user.client, "stale=true").await == stale).then_some(lists)
    })
    .await
    .into_iter()
    .zip([
        vec!["Awake C", "awake d", "Gone E", "gone f"],
        vec!["Awake C", "awake d"],
        vec!["Silent A", "silent b"],
        vec![],
        vec!["Silent A", "silent b"],
        vec!["silent b"],
    ])
    .for_each(|(found, expected)| assert_eq!(found, expected));
    eventually("they are given up", async || {
        (names(&user.client, "online=true").await == ["Awake C", "awake d"]).then_some(())
    })
    .await;
    assert_eq!(names(&user.client, "stale=true").await, Vec::<String>::new());
}
