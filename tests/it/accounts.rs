//! Register, log in, refresh, log out, and tokens that are none.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use hexa_tests::server::PASSWORD;
use hexa_tests::{Client, Options, Shared, TestServer, eventually};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

fn server() -> Shared {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    TestServer::shared(&SERVER)
}

async fn refresh(client: &Client, token: &Value) -> hexa_tests::Reply {
    client.post("/api/v1/auth/refresh", &json!({ "refresh_token": token })).await
}

#[tokio::test]
async fn an_account_registers_signs_in_and_knows_itself() {
    let server = server();
    let client = server.client();
    let email = "Ann.Example@Example.ORG";
    let body = json!({ "email": email, "password": PASSWORD, "name": "Ann" });
    let reply = client.post("/api/v1/auth/register", &body).await;
    let signed = reply.expect(201);
    assert_eq!((&signed["token_type"], &signed["expires_in"]), (&json!("Bearer"), &json!(900)));
    assert_eq!(
        (&signed["user"]["email"], &signed["user"]["role"]),
        (&json!("ann.example@example.org"), &json!("user"))
    );
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let me = client.with_token(signed["access_token"].as_str().unwrap()).get("/api/v1/auth/me").await.expect(200);
    assert_eq!(me, signed["user"]);
    hexa_tests::shapes::assert_time(&me["created_at"], "created_at");
    client.post("/api/v1/auth/register", &body).await.expect_error(409, "email_taken");
    let login = json!({ "email": " ANN.example@example.org ", "password": PASSWORD });
    let again = client.post("/api/v1/auth/login", &login).await.expect(200);
    assert_eq!(again["user"], signed["user"]);
    assert_ne!(again["refresh_token"], signed["refresh_token"]);
    // Nothing of it is stored in the clear.
    let stored: String = server.db().value("select password_hash from users where email = 'ann.example@example.org'");
    assert!(stored.starts_with("$argon2id$"), "{stored}");
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_address_get_the_same_answer() {
    let server = server();
    let client = server.client();
    let user = server.user().await;
    let mut bodies = Vec::new();
    for email in [user.email.as_str(), "nobody@example.org"] {
        let login = json!({ "email": email, "password": "not the right password" });
        let mut body = client.post("/api/v1/auth/login", &login).await.expect_error(401, "invalid_credentials");
        body["request_id"] = "".into();
        bodies.push(body);
    }
    assert_eq!(bodies[0], bodies[1]);
}

#[tokio::test]
async fn what_is_registered_is_checked_before_anything_is_hashed() {
    let server = server();
    let client = server.client();
    let good = json!({ "email": "someone@example.org", "password": PASSWORD });
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    for body in [
        json!({}),
        json!({ "email": "a@b.cd" }),
        json!({ "password": PASSWORD }),
        with("email", json!("no-at-sign")),
        with("email", json!("a@b")),
        with("email", json!("")),
        with("email", json!("a b@c.de")),
        with("email", json!("x".repeat(300) + "@example.org")),
        with("email", json!(5)),
        with("password", json!("eleven char")),
        with("password", json!("x".repeat(129))),
        with("password", json!("x".repeat(900_000))),
        with("password", Value::Null),
        with("name", json!("x".repeat(65))),
        with("name", json!("a\u{1}b")),
        with("role", json!("admin")),
        with("active", json!(true)),
    ] {
        client.post("/api/v1/auth/register", &body).await.expect_error(400, "validation_error");
    }
    let login = json!({ "email": "someone@example.org", "password": "x".repeat(900_000) });
    client.post("/api/v1/auth/login", &login).await.expect_error(400, "validation_error");
}

#[tokio::test]
async fn the_bootstrap_secret_makes_one_admin_and_is_gone() {
    let mut server = TestServer::start(Options::new());
    let file = server.data_dir().join("secrets/bootstrap_secret");
    let secret = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    let register = |client: Client, email: &str, secret: &str| {
        let body = json!({ "email": email, "password": PASSWORD, "bootstrap_secret": secret });
        async move { client.post("/api/v1/auth/register", &body).await }
    };
    register(server.client(), "first@example.org", "hxb_wrong").await.expect_error(401, "invalid_token");
    let admin = register(server.client(), "first@example.org", &secret).await.expect(201);
    assert_eq!(admin["user"]["role"], "admin");
    register(server.client(), "second@example.org", &secret).await.expect_error(401, "invalid_token");
    // The refused ones did not become ordinary accounts on the way.
    assert_eq!(server.db().value::<i64>("select count(*) from users"), 1);
    server.stop().await;
    server.restart();
    assert!(!file.exists(), "a used secret is removed");
    register(server.client(), "third@example.org", &secret).await.expect_error(401, "invalid_token");
}

#[tokio::test]
async fn of_many_that_use_the_bootstrap_secret_at_once_one_is_admin() {
    let server = TestServer::start(Options::new());
    let secret = std::fs::read_to_string(server.data_dir().join("secrets/bootstrap_secret")).unwrap();
    let tasks: Vec<_> = (0..6)
        .map(|n| {
            let (client, secret) = (server.client(), secret.trim().to_owned());
            let body =
                json!({ "email": format!("a{n}@example.org"), "password": PASSWORD, "bootstrap_secret": secret });
            tokio::spawn(async move { client.post("/api/v1/auth/register", &body).await })
        })
        .collect();
    let mut admins = 0;
    for task in tasks {
        let reply = task.await.unwrap();
        match reply.status {
            201 => admins += 1,
            503 => drop(reply.expect_error(503, "busy")),
            _ => drop(reply.expect_error(401, "invalid_token")),
        }
    }
    assert_eq!((admins, server.db().value::<i64>("select count(*) from users")), (1, 1));
}

#[tokio::test]
async fn a_refresh_token_is_spent_by_its_use() {
    let server = server();
    let user = server.user().await;
    let client = server.client();
    let first = json!(user.refresh_token);
    let second = refresh(&client, &first).await.expect(200);
    assert_ne!(second["refresh_token"], first);
    client.with_token(second["access_token"].as_str().unwrap()).get("/api/v1/auth/me").await.expect(200);
    let third = refresh(&client, &second["refresh_token"]).await.expect(200);
    // The second was used, so the first cannot be a lost answer: somebody else has it.
    refresh(&client, &first).await.expect_error(401, "refresh_token_reused");
    // Both parties are out, the access tokens of the session too.
    refresh(&client, &third["refresh_token"]).await.expect_error(401, "invalid_token");
    let access = third["access_token"].as_str().unwrap();
    client.with_token(access).get("/api/v1/auth/me").await.expect_error(401, "invalid_token");
    assert_eq!(server.db().actions("security.refresh_reuse").len(), 1);
    // Another session of the same account is not concerned.
    let login = json!({ "email": user.email, "password": PASSWORD });
    let other = client.post("/api/v1/auth/login", &login).await.expect(200);
    refresh(&client, &other["refresh_token"]).await.expect(200);
}

#[tokio::test]
async fn a_lost_answer_can_be_asked_for_again() {
    let server = server();
    let user = server.user().await;
    let client = server.client();
    let first = json!(user.refresh_token);
    let lost = refresh(&client, &first).await.expect(200);
    let again = refresh(&client, &first).await.expect(200);
    // Of two tabs that share a cookie the answer that comes last stays there: whichever it is, it is good.
    assert_eq!(lost["refresh_token"], again["refresh_token"]);
    client.with_token(again["access_token"].as_str().unwrap()).get("/api/v1/auth/me").await.expect(200);
    let third = refresh(&client, &lost["refresh_token"]).await.expect(200);
    assert_ne!(third["refresh_token"], lost["refresh_token"]);
    assert_eq!(server.db().actions("security.refresh_repeated").len(), 1);
    refresh(&client, &first).await.expect_error(401, "refresh_token_reused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_refreshes_at_once_leave_one_lineage() {
    let server = server();
    let user = server.user().await;
    let tasks: Vec<_> = (0..50)
        .map(|_| {
            let (client, token) = (server.client(), json!(user.refresh_token));
            tokio::spawn(async move { refresh(&client, &token).await })
        })
        .collect();
    let mut given = std::collections::BTreeSet::new();
    for task in tasks {
        given.insert(task.await.unwrap().expect(200)["refresh_token"].as_str().unwrap().to_owned());
    }
    assert_eq!(given.len(), 1);
    let living: i64 = server.db().value(&format!(
        "select count(*) from refresh_tokens t join refresh_families f on f.id = t.family_id \
         join users u on u.id = f.user_id where u.email = '{}' and t.spent_at is null and f.revoked_at is null",
        user.email
    ));
    assert_eq!(living, 1);
}

#[tokio::test]
async fn a_logout_ends_the_session_and_its_access_token() {
    let server = server();
    let user = server.user().await;
    let body = json!({ "refresh_token": user.refresh_token });
    assert_eq!(user.client.post("/api/v1/auth/logout", &body).await.status, 204);
    user.client.get("/api/v1/auth/me").await.expect_error(401, "invalid_token");
    refresh(&server.client(), &json!(user.refresh_token)).await.expect_error(401, "invalid_token");
    assert_eq!(user.client.post("/api/v1/auth/logout", &body).await.status, 204, "again is as good as once");
    for unknown in ["", "nonsense", &user.access_token] {
        refresh(&server.client(), &json!(unknown)).await.expect_error(401, "invalid_token");
    }
}

/// HMAC-SHA256 (RFC 2104), so that a forged token can carry a true signature.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut block = [0u8; 64];
    if key.len() > 64 {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let inner = Sha256::digest([block.map(|b| b ^ 0x36).as_slice(), message].concat());
    Sha256::digest([block.map(|b| b ^ 0x5c).as_slice(), &inner].concat()).to_vec()
}

fn sign(header: &Value, claims: &str, key: &[u8]) -> String {
    let text = format!("{}.{}", B64.encode(header.to_string()), B64.encode(claims));
    let signature = B64.encode(hmac(key, text.as_bytes()));
    format!("{text}.{signature}")
}

#[tokio::test]
async fn an_access_token_is_ours_in_every_part_or_none() {
    let server = server();
    let user = server.user().await;
    let key = server.signing_key();
    let parts: Vec<_> = user.access_token.split('.').collect();
    let decode = |part: &str| -> Value { serde_json::from_slice(&B64.decode(part).unwrap()).unwrap() };
    let (header, claims) = (decode(parts[0]), decode(parts[1]));
    let me = |token: String| {
        let client = server.client().with_token(&token);
        async move { client.get("/api/v1/auth/me").await }
    };
    // The forge itself works: with everything right the token is taken.
    me(sign(&header, &claims.to_string(), key.as_bytes())).await.expect(200);

    let mut forged = vec![
        format!("{}.{}.", B64.encode(header.to_string().replace("HS256", "none")), parts[1]),
        format!("{}.{}.{}", B64.encode(header.to_string().replace("HS256", "none")), parts[1], parts[2]),
        format!("{}.{}.{}", parts[0], B64.encode(claims.to_string().replace("user", "admin")), parts[2]),
        format!("{}.{}", parts[0], parts[1]),
        format!("{}.x", user.access_token),
        user.access_token.to_uppercase(),
        format!("{}A", user.access_token),
        "a".repeat(100_000),
        user.refresh_token.clone(),
        server.provision(1).await.token,
        sign(&header, &claims.to_string(), b"another key of at least 32 bytes!!"),
        sign(&header, &claims.to_string(), b""),
    ];
    for (name, value) in [("alg", "HS512"), ("alg", "RS256"), ("typ", "JWT"), ("typ", "rt+jwt")] {
        let mut changed = header.clone();
        changed[name] = value.into();
        forged.push(sign(&changed, &claims.to_string(), key.as_bytes()));
    }
    let exp = claims["exp"].as_i64().unwrap();
    for (name, value) in [
        ("exp", json!(exp.to_string())),
        ("exp", json!("9999999999")),
        ("exp", json!(-1)),
        ("exp", json!(1)),
        ("exp", json!(exp + 86_400)),
        ("exp", json!(1e300)),
        ("exp", Value::Null),
        ("iat", json!(exp)),
        ("iss", json!("http://elsewhere.example")),
        ("aud", json!("another")),
        ("aud", json!(["x"])),
        ("sub", json!("00000000-0000-0000-0000-000000000000")),
        ("sub", json!("' or 1=1")),
        ("role", json!("root")),
        ("epoch", json!(99)),
        ("kid", json!("../../x")),
    ] {
        let mut changed = claims.clone();
        changed[name] = value;
        forged.push(sign(&header, &changed.to_string(), key.as_bytes()));
    }
    let infinite = claims.to_string().replace(&format!("\"exp\":{exp}"), "\"exp\":1e400");
    forged.push(sign(&header, &infinite, key.as_bytes()));
    for token in forged {
        let shown: String = token.chars().take(120).collect();
        let reply = me(token).await;
        // A header of 100 kB may be refused by HTTP itself.
        if reply.status == 431 {
            continue;
        }
        assert_eq!(reply.status, 401, "{shown}: {}", reply.text);
        reply.expect_error(401, "invalid_token");
        assert!(reply.header("www-authenticate").is_some_and(|h| h.contains("error=\"invalid_token\"")), "{shown}");
    }
    // Keys and addresses in the header are not followed.
    for extra in ["kid", "jku", "x5u", "jwk"] {
        let mut changed = header.clone();
        changed[extra] = "http://127.0.0.1:9/../../x".into();
        let status = me(sign(&changed, &claims.to_string(), b"no key")).await.status;
        assert_eq!(status, 401, "{extra}");
    }
}

#[tokio::test]
async fn a_role_in_a_token_counts_for_nothing_beside_the_account() {
    let server = server();
    let user = server.user().await;
    let key = server.signing_key();
    let parts: Vec<_> = user.access_token.split('.').collect();
    let decode = |part: &str| -> Value { serde_json::from_slice(&B64.decode(part).unwrap()).unwrap() };
    let mut claims = decode(parts[1]);
    claims["role"] = "admin".into();
    let client = server.client().with_token(&sign(&decode(parts[0]), &claims.to_string(), key.as_bytes()));
    client.get("/api/v1/devices?all=true").await.expect_error(403, "forbidden");
}

#[tokio::test]
async fn a_disabled_account_is_out_also_with_a_living_token() {
    let mut server = TestServer::start(Options::new());
    let user = server.user().await;
    server.stop().await;
    server.db().tamper(&format!("update users set active = (1 = 0) where email = '{}'", user.email));
    server.restart();
    let client = server.client();
    client.with_token(&user.access_token).get("/api/v1/auth/me").await.expect_error(401, "account_disabled");
    let login = json!({ "email": user.email, "password": PASSWORD });
    client.post("/api/v1/auth/login", &login).await.expect_error(401, "account_disabled");
    let wrong = json!({ "email": user.email, "password": "not the right password" });
    client.post("/api/v1/auth/login", &wrong).await.expect_error(401, "invalid_credentials");
    refresh(&client, &json!(user.refresh_token)).await.expect_error(401, "account_disabled");
}

#[tokio::test]
async fn requests_of_a_user_have_a_rate_and_others_are_not_concerned() {
    let server = TestServer::start(Options::new().env("LIMIT_USER_RPS", "1").env("LIMIT_USER_BURST", "20"));
    let (loud, calm) = (server.user().await, server.user().await);
    let refused = eventually("the rate limit", || async {
        let reply = loud.client.get("/api/v1/auth/me").await;
        (reply.status != 200).then_some(reply)
    })
    .await;
    refused.expect_error(429, "rate_limited");
    let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=20).contains(&after));
    calm.client.get("/api/v1/auth/me").await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_logins_at_once_are_served_or_told_to_come_back() {
    let server = TestServer::start(Options::new());
    let user = server.user().await;
    let before = server.resident_bytes();
    let mut tasks = Vec::new();
    for n in 0..200 {
        let (client, email) = (server.client(), user.email.clone());
        let password = if n % 2 == 0 { PASSWORD } else { "not the right password" };
        tasks.push(tokio::spawn(async move {
            client.post("/api/v1/auth/login", &json!({ "email": email, "password": password })).await
        }));
    }
    // Others go on meanwhile.
    user.client.get("/api/v1/auth/me").await.expect(200);
    let (mut served, mut busy) = (0, 0);
    for task in tasks {
        let reply = task.await.unwrap();
        match reply.status {
            200 => served += 1,
            401 => {
                reply.expect_error(401, "invalid_credentials");
                served += 1;
            }
            _ => {
                reply.expect_error(503, "busy");
                assert!(reply.header("retry-after").is_some());
                busy += 1;
            }
        }
    }
    assert!(served > 0 && served + busy == 200, "{served} served, {busy} busy");
    let grown = server.resident_bytes().saturating_sub(before);
    assert!(grown < 160 << 20, "{grown} bytes for 200 logins");
}
