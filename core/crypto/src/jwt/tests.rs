use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
const OTHER: &[u8] = b"another secret of 32 bytes......";
const NOW: TimeMs = TimeMs(1_790_000_000_000);

fn key(secret: &[u8]) -> SigningKey {
    SigningKey::new(std::str::from_utf8(secret).unwrap().to_owned().into())
}

fn single(secret: &[u8], issuer: &str) -> Keys {
    Keys::new(&key(secret), [], issuer)
}

fn keys() -> Keys {
    single(SECRET, "http://hexa.test")
}

fn good() -> Value {
    json!({"iss": "http://hexa.test", "aud": AUDIENCE, "sub": Uuid::nil(), "sid": Uuid::nil(), "role": "user",
        "epoch": 0, "iat": NOW.seconds(), "exp": NOW.seconds() + LIFETIME_S, "jti": Uuid::nil()})
}

/// Signs any header and claims with our secret: what an attacker with a signing oracle, or a careless issuer, makes.
fn forge(header: &Value, claims: &Value, secret: &[u8]) -> String {
    let body = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let sig = jsonwebtoken::crypto::sign(body.as_bytes(), &EncodingKey::from_secret(secret), Algorithm::HS256).unwrap();
    format!("{body}.{sig}")
}

fn header() -> Value {
    json!({"alg": "HS256", "typ": TYPE, "kid": key(SECRET).kid()})
}

#[test]
fn an_issued_token_verifies_until_it_expires() {
    let user = UserId::at(NOW, [1; 10]);
    let token = keys().issue(user, SessionId::at(NOW, [2; 10]), Role::Admin, 3, NOW).unwrap();
    let claims = keys().verify(&token, NOW).unwrap();
    assert_eq!((claims.user(), claims.role, claims.epoch), (user, Role::Admin, 3));
    let last = TimeMs(NOW.0 + (LIFETIME_S + LEEWAY_S - 1) * 1000);
    assert!(keys().verify(&token, last).is_ok());
    assert!(keys().verify(&token, TimeMs(last.0 + 1000)).is_err());
    assert!(keys().verify(&token, TimeMs(NOW.0 - 60_000)).is_err(), "issued in the future");
    assert!(single(SECRET, "http://other").verify(&token, NOW).is_err());
    assert!(single(OTHER, "http://hexa.test").verify(&token, NOW).is_err());
}

#[test]
fn forged_headers_and_claims_are_refused() {
    assert!(keys().verify(&forge(&header(), &good(), SECRET), NOW).is_ok(), "the forge itself works");
    for bad in [
        json!({"alg": "none", "typ": TYPE, "kid": key(SECRET).kid()}),
        json!({"alg": "RS256", "typ": TYPE, "kid": key(SECRET).kid()}),
        json!({"alg": "HS512", "typ": TYPE, "kid": key(SECRET).kid()}),
        json!({"alg": "HS256", "typ": "JWT", "kid": key(SECRET).kid()}),
        json!({"alg": "HS256", "kid": key(SECRET).kid()}),
        json!({"typ": TYPE, "kid": key(SECRET).kid()}),
        json!({"alg": "HS256", "typ": TYPE}),
        json!({"alg": "HS256", "typ": TYPE, "kid": key(OTHER).kid()}),
        json!({"alg": "HS256", "typ": TYPE, "kid": ""}),
        json!({"alg": "HS256", "typ": TYPE, "kid": 7}),
    ] {
        assert!(keys().verify(&forge(&bad, &good(), SECRET), NOW).is_err(), "{bad}");
    }
    let edits: [(&str, Value); 14] = [
        ("exp", json!("9999999999")),
        ("exp", json!(-1)),
        ("exp", json!(1e300)),
        ("exp", Value::Null),
        ("exp", json!(NOW.seconds() + 10 * LIFETIME_S)),
        ("iat", json!(NOW.seconds() + 3600)),
        ("iss", json!("http://evil")),
        ("aud", json!("other")),
        ("aud", json!([])),
        ("sub", json!("root")),
        ("role", json!("superuser")),
        ("jti", Value::Null),
        ("sid", json!(7)),
        ("extra", json!(1)),
    ];
    for (name, value) in edits {
        let mut claims = good();
        claims[name] = value.clone();
        assert!(keys().verify(&forge(&header(), &claims, SECRET), NOW).is_err(), "{name} = {value}");
    }
}

#[test]
fn rubbish_is_refused() {
    let unsigned = forge(&header(), &good(), SECRET);
    let unsigned = &unsigned[..=unsigned.rfind('.').unwrap()];
    for bad in ["", ".", "..", "a.b.c", "eyJhbGciOiJub25lIn0..", unsigned, &"a".repeat(9000)] {
        assert!(keys().verify(bad, NOW).is_err(), "{bad}");
    }
}

#[test]
fn a_former_key_verifies_until_its_time_and_never_signs() {
    let until = TimeMs(NOW.0 + 100_000);
    let (old, new) = (key(SECRET), key(OTHER));
    let ring = Keys::new(&new, [&old.clone().until(Some(until))], "http://hexa.test");
    let of_old = forge(&header(), &good(), SECRET);
    assert!(ring.verify(&of_old, NOW).is_ok());
    assert!(ring.verify(&of_old, until).is_err(), "its time is over");
    // The right name with the other key's signature is neither's.
    let swapped = json!({"alg": "HS256", "typ": TYPE, "kid": new.kid()});
    assert!(ring.verify(&forge(&swapped, &good(), SECRET), NOW).is_err());
    let token = ring.issue(UserId(Uuid::nil()), SessionId(Uuid::nil()), Role::User, 0, NOW).unwrap();
    assert_eq!(jsonwebtoken::decode_header(&token).unwrap().kid.as_deref(), Some(new.kid()));
    assert!(ring.verify(&token, NOW).is_ok() && keys().verify(&token, NOW).is_err());
}

#[test]
fn a_keys_name_and_its_debug_text_tell_nothing_of_it() {
    let key = key(SECRET);
    assert_eq!(key.kid().len(), 16);
    assert!(!format!("{key:?} {:?}", keys()).contains("0123456789"));
    let plain = Sha256::digest(SECRET);
    assert_ne!(key.kid(), crate::hex(&plain[..8]));
}
