//! Access tokens: JWT, HS256 and nothing else, 15 minutes (docs/PLATFORM.md#access-token).
//!
//! `exp` is checked here against the time handed in, because the library would read the machine's clock by itself.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use hexa_model::{Role, SessionId, TimeMs, UserId};

/// How long an access token lives, in seconds.
pub const LIFETIME_S: i64 = 15 * 60;
/// Clock skew that keys are kept for beyond a token's life, in seconds.
pub const KEY_LEEWAY_S: i64 = 60;
/// Clock skew allowed on `exp` and `iat`, in seconds.
const LEEWAY_S: i64 = 5;
/// Longer tokens are refused before they are parsed.
const MAX_BYTES: usize = 8 * 1024;
const AUDIENCE: &str = "hexa-api";
const TYPE: &str = "at+jwt";

/// What an access token says (RFC 9068 names).
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claims {
    /// Issuer: the public address of the server, or `urn:hexa:` and its id.
    pub iss: String,
    /// Audience: `hexa-api` and nothing else.
    pub aud: String,
    /// Public id of the account.
    pub sub: Uuid,
    /// The session: the refresh family that it belongs to.
    pub sid: Uuid,
    /// Role at the time of issue; the live account decides.
    pub role: Role,
    /// The account's epoch at the time of issue: a password change or a demotion ends older tokens.
    pub epoch: i64,
    /// Issued at, in seconds since 1970.
    pub iat: i64,
    /// Expires at, in seconds since 1970.
    pub exp: i64,
    /// Unique id of this token.
    pub jti: Uuid,
}

impl Claims {
    /// Whether a token issued and expiring at these seconds is good now.
    pub fn in_time(issued: i64, expires: i64, now: TimeMs) -> bool {
        let now_s = now.seconds();
        issued <= now_s + LEEWAY_S && expires.saturating_add(LEEWAY_S) > now_s
    }
    /// Public id of the account (`sub`).
    pub fn user(&self) -> UserId {
        UserId(self.sub)
    }
    /// Public id of the session (`sid`).
    pub fn session(&self) -> SessionId {
        SessionId(self.sid)
    }
}

/// The token is not one of ours, or no longer: deliberately without a reason for the outside.
#[derive(Debug, thiserror::Error)]
#[error("the access token is not valid: {0}")]
pub struct InvalidToken(&'static str);

/// A key that access tokens are signed with, and its name in their headers.
#[derive(Clone)]
pub struct SigningKey {
    kid: String,
    secret: SecretString,
    until: Option<TimeMs>,
}

impl SigningKey {
    /// `secret` has at least 32 bytes; the configuration checks that.
    pub fn new(secret: SecretString) -> Self {
        // A hash with a purpose of its own: the name tells nothing of the secret, and is the same on every server.
        let digest = Sha256::new().chain_update(b"hexa/jwt/kid/v1\0").chain_update(secret.expose_secret()).finalize();
        Self { kid: crate::hex(&digest[..8]), secret, until: None }
    }
    /// It verifies nothing from then on.
    #[must_use]
    pub fn until(self, until: Option<TimeMs>) -> Self {
        Self { until, ..self }
    }
    /// Its name: 16 hex digits.
    pub fn kid(&self) -> &str {
        &self.kid
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("kid", &self.kid).field("until", &self.until).finish_non_exhaustive()
    }
}

struct Verifier {
    kid: String,
    key: DecodingKey,
    until: Option<TimeMs>,
}

/// Signs access tokens with one key and verifies them with a few (docs/PLATFORM.md#signing-keys).
pub struct Keys {
    kid: String,
    encoding: EncodingKey,
    verifiers: Vec<Verifier>,
    validation: Validation,
    issuer: String,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("issuer", &self.issuer).field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Keys {
    /// `active` signs; it and the others verify.
    pub fn new<'a>(active: &'a SigningKey, others: impl IntoIterator<Item = &'a SigningKey>, issuer: &str) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[AUDIENCE]);
        validation.validate_exp = false;
        let secret = |key: &'a SigningKey| key.secret.expose_secret().as_bytes();
        let verifier = |key: &'a SigningKey| Verifier {
            kid: key.kid.clone(),
            key: DecodingKey::from_secret(secret(key)),
            until: key.until,
        };
        Self {
            kid: active.kid.clone(),
            encoding: EncodingKey::from_secret(secret(active)),
            verifiers: std::iter::once(active).chain(others).map(verifier).collect(),
            validation,
            issuer: issuer.to_owned(),
        }
    }

    /// A token for this account and session.
    ///
    /// # Errors
    /// Never in practice: the claims always serialize.
    pub fn issue(
        &self,
        user: UserId,
        session: SessionId,
        role: Role,
        epoch: i64,
        now: TimeMs,
    ) -> Result<String, InvalidToken> {
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub: user.0,
            sid: session.0,
            role,
            epoch,
            iat: now.seconds(),
            exp: now.seconds() + LIFETIME_S,
            jti: SessionId::at(now, crate::random_bytes()).0,
        };
        let kid = Some(self.kid.clone());
        let header = Header { typ: Some(TYPE.to_owned()), kid, ..Header::new(Algorithm::HS256) };
        jsonwebtoken::encode(&header, &claims, &self.encoding).map_err(|_| InvalidToken("not serializable"))
    }

    /// Checks signature, algorithm, type, issuer, audience and time.
    ///
    /// # Errors
    /// [`InvalidToken`] for everything that is not exactly a living token of ours.
    pub fn verify(&self, token: &str, now: TimeMs) -> Result<Claims, InvalidToken> {
        if token.len() > MAX_BYTES {
            return Err(InvalidToken("too long"));
        }
        // The name picks the key, from memory: one that is not here is refused without trying any.
        let header = jsonwebtoken::decode_header(token).map_err(|_| InvalidToken("header"))?;
        let named = self.verifiers.iter().find(|v| header.kid.as_deref() == Some(&v.kid));
        let verifier = named.filter(|v| v.until.is_none_or(|until| now < until)).ok_or(InvalidToken("key"))?;
        let data = jsonwebtoken::decode::<Claims>(token, &verifier.key, &self.validation)
            .map_err(|_| InvalidToken("signature or claims"))?;
        if data.header.typ.as_deref() != Some(TYPE) {
            return Err(InvalidToken("type"));
        }
        let claims = data.claims;
        if !Claims::in_time(claims.iat, claims.exp, now) {
            return Err(InvalidToken("expired, or not yet"));
        }
        // A lifetime other than ours was not issued here, whatever its signature says.
        if claims.exp.saturating_sub(claims.iat) != LIFETIME_S {
            return Err(InvalidToken("lifetime"));
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests;
