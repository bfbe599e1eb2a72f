//! Who may make an account (`REGISTRATION`), and invitations of admins.

use hexa_tests::server::{PASSWORD, User};
use hexa_tests::{Client, Options, Reply, TestServer, eventually};
use reqwest::Method;
use serde_json::{Value, json};

const REGISTER: &str = "/api/v1/auth/register";
const INVITATIONS: &str = "/api/v1/admin/invitations";

fn in_mode(mode: &str) -> Options {
    Options::new().env("REGISTRATION", mode)
}

async fn register(client: &Client, email: &str, invitation: Option<&str>) -> Reply {
    let mut body = json!({ "email": email, "password": PASSWORD });
    if let Some(token) = invitation {
        body["invitation"] = token.into();
    }
    client.post(REGISTER, &body).await
}

/// The same until its turn comes: the queue before the hasher is bounded.
async fn registered(client: &Client, email: &str, invitation: &str) -> Value {
    eventually("an account", || async {
        let reply = register(client, email, Some(invitation)).await;
        (reply.status != 503).then(|| reply.expect(201))
    })
    .await
}

async fn invite(admin: &Client, body: &Value) -> Value {
    admin.post(INVITATIONS, body).await.expect(201)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The invitation as the list shows it.
async fn shown(admin: &Client, id: &Value) -> Value {
    let list = admin.get(&format!("{INVITATIONS}?limit=500")).await.expect(200);
    list["items"].as_array().unwrap().iter().find(|i| i["id"] == *id).cloned().unwrap_or_default()
}

/// One more admin of this server.
async fn another_admin(server: &TestServer, admin: &Client, invitation: &str) -> User {
    let email = format!("admin-{}@example.org", uuid::Uuid::now_v7().simple());
    let id = text(&registered(&server.client(), &email, invitation).await["user"]["id"]);
    admin.patch(&format!("/api/v1/admin/users/{id}"), &json!({ "role": "admin" })).await.expect(200);
    let login = json!({ "email": email, "password": PASSWORD });
    User::new(server.client(), &email, &server.client().post("/api/v1/auth/login", &login).await.expect(200))
}

/// How many rows there are of everything that a registration could leave.
fn rows(server: &TestServer) -> Vec<Value> {
    let tables = ["users", "refresh_families", "refresh_tokens", "idempotency", "audit_tail", "audit"];
    let counts = tables.map(|table| format!("select count(*) as n from {table}"));
    let ended = "select count(*) as n from invitations where ended_at is not null".to_owned();
    let all: Vec<_> = counts.into_iter().chain([ended]).collect();
    let all: Vec<_> = all.iter().map(String::as_str).collect();
    server.db().snapshot(&all).into_iter().flatten().collect()
}

#[tokio::test]
async fn who_may_make_an_account_is_what_the_configuration_says() {
    for mode in ["open", "invite", "closed"] {
        let server = TestServer::start(in_mode(mode));
        let client = server.client();
        let said = client.get("/api/v1/auth/registration").await.expect(200);
        assert_eq!(said, json!({ "mode": mode, "awaits_bootstrap": true }));
        // The first admin comes in by its secret, whatever the mode.
        let admin = server.admin().await;
        let said = client.get("/api/v1/auth/registration").await.expect(200);
        assert_eq!(said, json!({ "mode": mode, "awaits_bootstrap": false }));
        let invitation = invite(&admin, &json!({})).await;
        let token = text(&invitation["token"]);
        let alone = register(&client, "alone@example.org", None).await;
        let invited = register(&client, "invited@example.org", Some(&token)).await;
        match mode {
            "closed" => {
                alone.expect_error(403, "registration_closed");
                invited.expect_error(403, "registration_closed");
                // Not even what a registration needs is looked at.
                client
                    .post(REGISTER, &json!({ "email": "x", "password": "y" }))
                    .await
                    .expect_error(403, "registration_closed");
                assert_eq!(shown(&admin, &invitation["id"]).await["state"], "open");
            }
            "invite" => {
                alone.expect_error(403, "invalid_invitation");
                assert_eq!(invited.expect(201)["user"]["role"], "user");
            }
            _ => {
                alone.expect(201);
                invited.expect(201);
                assert_eq!(shown(&admin, &invitation["id"]).await["state"], "used");
            }
        }
        // A wrong secret opens nothing, and neither do two at once.
        let wrong = json!({ "email": "boot@example.org", "password": PASSWORD, "bootstrap_secret": "hxb_wrong" });
        client.post(REGISTER, &wrong).await.expect_error(401, "invalid_token");
        let both =
            json!({ "email": "boot@example.org", "password": PASSWORD, "bootstrap_secret": "a", "invitation": "b" });
        client.post(REGISTER, &both).await.expect_error(400, "validation_error");
    }
}

#[tokio::test]
async fn whoever_is_refused_hears_the_same_and_leaves_nothing() {
    let server = TestServer::start(in_mode("invite"));
    let (admin, client) = (server.admin().await, server.client());
    let (used, revoked) = (invite(&admin, &json!({})).await, invite(&admin, &json!({})).await);
    let bound = invite(&admin, &json!({ "email": "ann@example.org" })).await;
    registered(&client, "bob@example.org", &text(&used["token"])).await;
    admin.delete(&format!("{INVITATIONS}/{}", text(&revoked["id"]))).await.expect(204);
    let before = rows(&server);
    let mut told = Vec::new();
    for invitation in [
        Value::Null,
        json!("hxi_made-up"),
        json!(""),
        json!("x".repeat(100_000)),
        used["token"].clone(),
        revoked["token"].clone(),
        bound["token"].clone(),
    ] {
        // Somebody's, nobody's; a password that is taken, and one that everybody tries, which the hasher's queue is for.
        for (email, password) in [
            ("bob@example.org", PASSWORD),
            ("nobody@example.org", PASSWORD),
            ("nobody@example.org", "passwordpassword"),
        ] {
            let mut body = json!({ "email": email, "password": password });
            if !invitation.is_null() {
                body["invitation"] = invitation.clone();
            }
            let request = client.request(Method::POST, REGISTER).header("idempotency-key", format!("k{}", told.len()));
            let error = client.send(request.json(&body)).await.expect_error(403, "invalid_invitation");
            told.push((error["message"].clone(), error["details"].clone()));
        }
    }
    assert!(told.iter().all(|t| *t == told[0]), "{told:?}");
    assert!(told[0].0.as_str().unwrap().contains("Ask an admin"), "{told:?}");
    assert_eq!(rows(&server), before);
    // What was wrong with the rest of the request costs no invitation.
    let token = text(&bound["token"]);
    let weak = json!({ "email": "ann@example.org", "password": "passwordpassword", "invitation": token });
    client.post(REGISTER, &weak).await.expect_error(400, "validation_error");
    assert_eq!(rows(&server), before);
    registered(&client, "ann@example.org", &token).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_fifty_who_use_one_invitation_at_once_one_gets_an_account() {
    for mode in ["invite", "open"] {
        let server = TestServer::start(in_mode(mode));
        let admin = server.admin().await;
        let made = invite(&admin, &json!({})).await;
        let (mut accounts, mut refused) = (0, 0);
        let tasks = (0..50).map(|n| {
            let (client, token) = (server.client(), text(&made["token"]));
            tokio::spawn(async move { register(&client, &format!("guest{n}@example.org"), Some(&token)).await })
        });
        for task in tasks.collect::<Vec<_>>() {
            let reply = task.await.unwrap();
            match reply.status {
                201 => accounts += 1,
                503 => drop(reply.expect_error(503, "busy")),
                _ => {
                    reply.expect_error(403, "invalid_invitation");
                    refused += 1;
                }
            }
        }
        assert_eq!((accounts, server.db().value::<i64>("select count(*) from users")), (1, 2));
        // Those that were in the queue when it was spent.
        assert!(refused > 0);
        assert_eq!(server.db().actions("invitation.used").len(), 1);
        assert_eq!(shown(&admin, &made["id"]).await["state"], "used");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invitations_of_who_is_no_admin_any_more_are_good_for_nothing() {
    let server = TestServer::start(in_mode("invite"));
    let (admin, client) = (server.admin().await, server.client());
    for change in [json!({ "role": "user" }), json!({ "active": false })] {
        let other = another_admin(&server, &admin, &text(&invite(&admin, &json!({})).await["token"])).await;
        let mut open = Vec::new();
        for _ in 0..12 {
            open.push(invite(&other.client, &json!({})).await);
        }
        let before: i64 = server.db().value("select count(*) from users");
        let tasks = open.iter().map(|made| {
            let (client, token, id) = (server.client(), text(&made["token"]), text(&made["id"]));
            tokio::spawn(async move { register(&client, &format!("{id}@example.org"), Some(&token)).await })
        });
        let tasks: Vec<_> = tasks.collect();
        let begun = || async { (server.db().value::<i64>("select count(*) from users") > before).then_some(()) };
        eventually("a first one was fast enough", begun).await;
        // The others wait for the hasher, and have been let in.
        let user = format!("/api/v1/admin/users/{}", other.id);
        admin.patch(&user, &change).await.expect(200);
        let then: i64 = server.db().value("select count(*) from users");
        let mut refused = 0;
        for task in tasks {
            let reply = task.await.unwrap();
            if reply.status == 403 {
                reply.expect_error(403, "invalid_invitation");
                refused += 1;
            }
        }
        assert_eq!(server.db().value::<i64>("select count(*) from users"), then, "{change}");
        assert!(refused > 0, "{change}");
        // They stay over when their maker comes back.
        admin.patch(&user, &json!({ "role": "admin", "active": true })).await.expect(200);
        for made in &open {
            let state = shown(&admin, &made["id"]).await["state"].clone();
            assert!(state == "used" || state == "revoked", "{state}");
            register(&client, "late@example.org", made["token"].as_str()).await.expect_error(403, "invalid_invitation");
        }
    }
    let rows = server.db().actions("invitation.revoked");
    assert_eq!(rows.len(), 2, "one for each of them");
}

#[tokio::test]
async fn an_invitation_for_an_e_mail_is_for_that_one_as_accounts_keep_it() {
    let server = TestServer::start(in_mode("invite"));
    let (admin, client) = (server.admin().await, server.client());
    let made = invite(&admin, &json!({ "email": " A\u{308}nne@Example.ORG ", "note": "  the neighbour " })).await;
    assert_eq!((&made["email"], &made["note"]), (&json!("\u{e4}nne@example.org"), &json!("the neighbour")));
    let token = text(&made["token"]);
    register(&client, "anne@example.org", Some(&token)).await.expect_error(403, "invalid_invitation");
    let signed_in = registered(&client, "\u{c4}NNE@example.org", &token).await;
    let row = shown(&admin, &made["id"]).await;
    assert_eq!((&row["state"], &row["used_by"]["id"]), (&json!("used"), &signed_in["user"]["id"]));
    assert_eq!(row["made_by"]["email"], "admin@example.org");
    // Who has an account needs none.
    admin.post(INVITATIONS, &json!({ "email": "\u{e4}nne@EXAMPLE.org" })).await.expect_error(409, "email_taken");
    for wrong in [
        json!({ "email": "no-at-sign" }),
        json!({ "note": "x".repeat(65) }),
        json!({ "note": "a\u{202e}b" }),
        json!({ "days": 9 }),
    ] {
        admin.post(INVITATIONS, &wrong).await.expect_error(400, "validation_error");
    }
}

#[tokio::test]
async fn wrong_invitations_are_counted_for_each_address() {
    let options = in_mode("invite").env("TRUST_PROXY", "true").env("LIMIT_INVITATION_FAILURES", "5");
    let server = TestServer::start(options);
    let (admin, client) = (server.admin().await, server.client());
    let token = text(&invite(&admin, &json!({})).await["token"]);
    let from = async |address: &str, invitation: &str| {
        let body = json!({ "email": "guest@example.org", "password": PASSWORD, "invitation": invitation });
        client.send(client.request(Method::POST, REGISTER).header("x-forwarded-for", address).json(&body)).await
    };
    for n in 0..5 {
        from(&format!("2001:db8:1:2::{n}"), "hxi_made-up").await.expect_error(403, "invalid_invitation");
    }
    // Not even a good one: what is right must not be told from what is wrong.
    from("2001:db8:1:2::ffff", &token).await.expect_error(429, "rate_limited");
    from("2001:db8:1:3::1", "hxi_made-up").await.expect_error(403, "invalid_invitation");
    from("2001:db8:1:3::1", &token).await.expect(201);
}

#[tokio::test]
async fn so_many_invitations_are_open_and_the_list_has_pages() {
    let server = TestServer::start(in_mode("invite").env("LIMIT_INVITATIONS", "5"));
    let (admin, client) = (server.admin().await, server.client());
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(invite(&admin, &json!({ "note": format!("n{n}") })).await);
    }
    let refused = admin.post(INVITATIONS, &json!({})).await.expect_error(400, "validation_error");
    assert!(refused["message"].as_str().unwrap().contains("revoke one"), "{refused}");
    registered(&client, "guest@example.org", &text(&made[1]["token"])).await;
    let revoke = format!("{INVITATIONS}/{}", text(&made[2]["id"]));
    admin.delete(&revoke).await.expect(204);
    admin.delete(&revoke).await.expect_error(404, "not_found");
    admin.delete(&format!("{INVITATIONS}/{}", text(&made[1]["id"]))).await.expect_error(404, "not_found");
    admin.delete(&format!("{INVITATIONS}/x")).await.expect_error(404, "not_found");
    made.push(invite(&admin, &json!({ "note": "n5" })).await);
    made.push(invite(&admin, &json!({ "note": "n6" })).await);
    admin.post(INVITATIONS, &json!({})).await.expect_error(400, "validation_error");
    let notes = async |query: &str| {
        let (mut notes, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = admin.get(&format!("{INVITATIONS}?limit=2{query}{cursor}")).await.expect(200);
            assert!(page["items"].as_array().unwrap().len() <= 2);
            notes.extend(page["items"].as_array().unwrap().iter().map(|i| text(&i["note"])));
            assert!(!page.to_string().contains("hxi_"), "the list shows no token");
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return notes.join(" "),
            }
        }
    };
    assert_eq!(notes("").await, "n6 n5 n4 n3 n2 n1 n0");
    assert_eq!(notes("&state=open").await, "n6 n5 n4 n3 n0");
    assert_eq!((notes("&state=used").await, notes("&state=revoked").await), ("n1".into(), "n2".into()));
    assert_eq!(notes("&state=expired").await, "");
    for wrong in ["limit=0", "limit=501", "cursor=u1", "state=new", "x=1"] {
        admin.get(&format!("{INVITATIONS}?{wrong}")).await.expect_error(400, "validation_error");
    }
    let told: Vec<_> =
        ["created", "used", "revoked"].map(|w| server.db().actions(&format!("invitation.{w}")).len()).into();
    assert_eq!(told, [7, 1, 1]);
}

#[tokio::test]
async fn a_link_is_for_the_address_that_others_use_and_comes_again_to_its_key_only() {
    let server = TestServer::start(Options::new().env("PUBLIC_URL", "https://h.example/hexa"));
    let admin = server.admin().await;
    let keyed =
        |body: Value| admin.request(Method::POST, INVITATIONS).header("idempotency-key", "invite-1").json(&body);
    let made = admin.send(keyed(json!({ "note": "one" }))).await.expect(201);
    let token = text(&made["token"]);
    assert!(token.starts_with("hxi_") && token.len() == 47, "{token}");
    assert_eq!(made["link"], format!("https://h.example/hexa/dashboard#invitation={token}"));
    let again = admin.send(keyed(json!({ "note": "one" }))).await;
    assert_eq!((again.header("idempotency-replayed"), again.expect(201)), (Some("true"), made));
    admin.send(keyed(json!({ "note": "two" }))).await.expect_error(409, "idempotency_conflict");
    let list = admin.get(INVITATIONS).await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    // Where nobody said what the address is, it is the one that was asked.
    let plain = TestServer::start(Options::new().env("PUBLIC_URL", ""));
    let made = invite(&plain.admin().await, &json!({})).await;
    let link = format!("http://{}/dashboard#invitation={}", plain.address, text(&made["token"]));
    assert_eq!(made["link"], link);
}
