//! `idempotency-key`: what HTTP has to do with it. The rules are in the service's module of the same name.

use std::collections::HashMap;
use std::future::Future;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::extract::{FromRequestParts, MatchedPath, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hexa_devices::command::lookup;
use hexa_devices::provision;
use hexa_model::{CommandId, CommandResult, ErrorCode, Scope};
use hexa_platform::idempotency::{Decision, IdempotencyRequest, Key, KeyedRequest, MAX_ANSWER_BYTES};
use hexa_platform::principal::Principal;
use hexa_platform::{Error, Result};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use secrecy::ExposeSecret;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::error::{ApiError, ApiResult, ErrorBody, ErrorExtension};
use crate::extract::{bearer, device_credentials, peer_ip, read_body};
use crate::routes::{Access, routes};
use crate::state::ApiState;
use crate::wire::CommandBody;
use hexa_listen::RequestId;
use hexa_listen::transport::RequestSource;

/// The request header that carries the key.
pub(crate) static KEY: HeaderName = HeaderName::from_static("idempotency-key");
static REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Whether this request is to be done once however often it comes.
pub(crate) fn concerns(request: &Request) -> bool {
    matches!(*request.method(), Method::POST | Method::PATCH | Method::PUT | Method::DELETE)
        && request.headers().contains_key(&KEY)
}

/// The keyed request that a handler answers, if it is one.
#[derive(Clone, Debug)]
pub(crate) struct Once(Option<Arc<KeyedRequest>>);

impl<S: Sync> FromRequestParts<S> for Once {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(parts.extensions.get::<Arc<KeyedRequest>>().cloned()))
    }
}

impl Once {
    /// For what makes its own answer of it.
    pub(crate) fn request(self) -> Option<Arc<KeyedRequest>> {
        self.0
    }

    /// For a change whose answer becomes these bytes.
    pub(crate) fn key<T>(self, render: impl Fn(&T) -> Result<Vec<u8>> + Send + Sync + 'static) -> Key<T> {
        Key::new(self.0, render)
    }

    /// For a change that is answered with this body: runs it, and answers.
    pub(crate) async fn answer<T, B, W>(
        self,
        status: StatusCode,
        body: impl Fn(&T) -> B + Send + Sync + Clone + 'static,
        work: impl FnOnce(Key<T>) -> W,
    ) -> ApiResult<Response>
    where
        B: Serialize,
        W: Future<Output = Result<T>>,
    {
        let kept = body.clone();
        let key =
            self.key(move |value| Ok(encode(status, &serde_json::to_vec(&kept(value)).map_err(Error::internal)?)));
        let value = work(key).await?;
        Ok(secret((status, axum::Json(body(&value))).into_response()))
    }

    /// The same for an effect without anything to say.
    pub(crate) async fn done<W>(self, work: impl FnOnce(Key<()>) -> W) -> ApiResult<StatusCode>
    where
        W: Future<Output = Result<()>>,
    {
        work(self.key(|()| Ok(encode(StatusCode::NO_CONTENT, b"")))).await?;
        Ok(StatusCode::NO_CONTENT)
    }
}

/// Status and body of an answer. Its headers follow from them.
fn encode(status: StatusCode, body: &[u8]) -> Vec<u8> {
    encode_tagged(status, "", body)
}

/// The same with an entity tag of at most 255 bytes.
pub(crate) fn encode_tagged(status: StatusCode, etag: &str, body: &[u8]) -> Vec<u8> {
    let length = u8::try_from(etag.len()).unwrap_or(0);
    let etag = &etag.as_bytes()[..usize::from(length)];
    [&status.as_u16().to_be_bytes()[..], &[length], etag, body].concat()
}

fn decode(kept: &[u8]) -> Result<Response> {
    let broken = || Error::internal("a kept answer is not one");
    let (&[high, low, length], rest) = kept.split_first_chunk::<3>().ok_or_else(broken)?;
    let status = StatusCode::from_u16(u16::from_be_bytes([high, low])).map_err(|_| broken())?;
    let (etag, body) = rest.split_at_checked(usize::from(length)).ok_or_else(broken)?;
    if body.is_empty() {
        return Ok(status.into_response());
    }
    let json = [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))];
    let mut response = secret((status, json, body.to_vec()).into_response());
    if !etag.is_empty() {
        response.headers_mut().insert(header::ETAG, HeaderValue::from_bytes(etag).map_err(|_| broken())?);
    }
    Ok(response)
}

/// Answers may carry credentials, first or again: no cache keeps one.
fn secret(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn replayed(mut response: Response) -> Response {
    response.headers_mut().insert(REPLAYED.clone(), HeaderValue::from_static("true"));
    response
}

/// Runs a request with a key: authenticates and authorizes it, and then runs it, or answers as the first one.
pub(crate) async fn run(state: &ApiState, request: Request, next: Next) -> Response {
    match keyed(state, request, next).await {
        Ok(response) => response,
        Err(error) => ApiError::from(error).into_response(),
    }
}

async fn keyed(state: &ApiState, request: Request, next: Next) -> Result<Response> {
    let key = read_key(request.headers())?;
    let Some(access) = access_of(&request) else { return Ok(next.run(request).await) };
    let request_id = request.extensions().get::<RequestId>().map_or_else(String::new, |id| id.as_str().to_owned());
    let (parts, body) = request.into_parts();
    let body = read_body(&parts.headers, body).await?;
    let (scope, principal) = scope(state, access, &parts, &body).await?;
    let ask = IdempotencyRequest { scope, key, fingerprint: fingerprint(state, &parts, &body), request_id };
    let services = &state.services;
    let mut first_time = true;
    // One that finds its key taken hears the answer of whoever took it: that one's is there then.
    for _ in 0..2 {
        let unseen = std::mem::take(&mut first_time) && is_command(access);
        let decision = if unseen {
            Decision::Run(services.idempotency.enter(services, ask.clone())?)
        } else {
            services.idempotency.decide(services, ask.clone()).await?
        };
        let keyed = match decision {
            Decision::Run(keyed) => keyed,
            known => return again(state, access, known).await,
        };
        let mut request = Request::from_parts(parts.clone(), Body::from(body.clone()));
        *request.extensions_mut() = parts.extensions.clone();
        request.extensions_mut().insert(Arc::clone(&keyed));
        if let Some(principal) = &principal {
            request.extensions_mut().insert(principal.clone());
        }
        let response = next.clone().run(request).await;
        if keyed.lost() {
            continue;
        }
        // It did not come as far as its key: whatever it is refused for now, an earlier one may have its answer.
        if unseen && !keyed.placed() {
            match services.idempotency.known(services, &keyed).await {
                Ok(Some(known)) => return again(state, access, known).await,
                Ok(None) => {}
                // What the request itself was told is the best that is known.
                Err(_) if keyed.unsure() => return Ok(response),
                Err(error) if error.code.status() == 503 => return Err(unknown(error)),
                Err(error) => return Err(error),
            }
        }
        // What anybody may ask for leaves nothing behind when it is refused: a refusal costs no write.
        if access == Access::Public && response.extensions().get::<ErrorExtension>().is_some() {
            return Ok(response);
        }
        return keep(state, &keyed, response, &ask.request_id).await;
    }
    Err(Error::new(ErrorCode::IdempotencyInProgress, "a request with this idempotency key is under way").retry_after(1))
}

/// A relay command takes its key itself, before it sends anything; what others do is decided before they begin.
fn is_command(access: Access) -> bool {
    access == Access::Scope(Scope::RelaysWrite)
}

/// The answer of an earlier request with the same key.
async fn again(state: &ApiState, access: Access, known: Decision) -> Result<Response> {
    match known {
        Decision::Replay(kept) => {
            if access == Access::Public {
                account_still_active(state, &kept).await?;
            }
            decode(&kept).map(replayed)
        }
        Decision::Command(id, first) => {
            let done = lookup::outcome(&state.services, id).await.map_err(|error| unread(error, id))?;
            Ok(replayed(command(done, &first)?))
        }
        Decision::Run(_) => Err(Error::internal("a request that is to be run has no answer")),
    }
}

/// Nothing was done now, and what was done before with this key cannot be read.
fn unknown(error: Error) -> Error {
    let what = "nothing was sent now, and whether an earlier request has used this key cannot be read at the moment: ask \
                again with the same key, and do not send the command with another one";
    Error { message: what.into(), ..error }
}

/// The key stands for a command whose end cannot be read: nothing may be said of it, least of all that nothing was done.
fn unread(error: Error, id: CommandId) -> Error {
    let what = "this key stands for a command, and what became of it cannot be read at the moment: ask again with the same \
                key, and do not send the command with another one";
    Error { message: what.into(), ..error }.of_command(id)
}

/// Keeps an answer that is not kept yet, where the rule says so (docs/PLATFORM.md#idempotency-refusals).
async fn keep(state: &ApiState, keyed: &Arc<KeyedRequest>, response: Response, request_id: &str) -> Result<Response> {
    if keyed.placed() {
        return Ok(response);
    }
    if let Some(carried) = response.extensions().get::<ErrorExtension>() {
        if !is_final(carried.0.code) {
            return Ok(response);
        }
        let status = StatusCode::from_u16(carried.0.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&ErrorBody::new(&carried.0, request_id)).unwrap_or_default();
        keyed.keep(&state.services, &encode(status, &body)).await?;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let bytes = axum::body::to_bytes(body, MAX_ANSWER_BYTES).await.map_err(Error::internal)?;
    keyed.keep(&state.services, &encode(parts.status, &bytes)).await?;
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

/// What a later request hears as well. A request that was refused before it did anything may be mended and sent again
/// with its key.
pub(crate) fn is_final(code: ErrorCode) -> bool {
    !matches!(code.status(), 400..=404 | 405 | 408 | 412 | 413 | 415 | 422 | 426 | 429 | 431 | 503)
        && !matches!(code, ErrorCode::IdempotencyConflict | ErrorCode::IdempotencyInProgress)
}

/// 1 to 255 visible ASCII characters, as they are or as a string of RFC 8941.
fn read_key(headers: &HeaderMap) -> Result<String> {
    let wrong =
        || Error::validation("idempotency-key", "idempotency-key is one header of 1 to 255 visible ASCII characters");
    let mut given = headers.get_all(&KEY).iter();
    let (Some(value), None) = (given.next(), given.next()) else { return Err(wrong()) };
    let text = value.to_str().map_err(|_| wrong())?;
    let bare = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    if !(1..=255).contains(&bare.len()) || !bare.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(wrong());
    }
    Ok(bare.to_owned())
}

pub(crate) fn access_of(request: &Request) -> Option<Access> {
    static ACCESS: OnceLock<HashMap<(&'static str, &'static str), Access>> = OnceLock::new();
    let table = ACCESS.get_or_init(|| routes().into_iter().map(|r| ((r.method, r.path), r.access)).collect());
    let path = request.extensions().get::<MatchedPath>()?;
    table.get(&(request.method().as_str(), path.as_str())).copied()
}

/// Whose keys these are: the account's, the device's, or of whoever holds the credential in the request. Every caller is
/// authenticated here, also for a replay.
async fn scope(
    state: &ApiState,
    access: Access,
    parts: &http::request::Parts,
    body: &[u8],
) -> Result<([u8; 32], Option<Principal>)> {
    let services = &state.services;
    let hash = |kind: &str, of: &[u8]| services.idempotency.hash(&[b"scope", kind.as_bytes(), of]);
    let scope = match access {
        Access::Public => {
            // The key of the fleet, or what the body proves. Its answer is sealed, and asked for again only with all of it.
            let fleet = parts.headers.get("x-provision-key").map_or(&b""[..], HeaderValue::as_bytes);
            let source = parts.extensions.get::<RequestSource>();
            let held = source.and_then(|source| state.cookies.refresh_token(*source, &parts.headers));
            let held = held.as_ref().map_or("", ExposeSecret::expose_secret);
            // Each by itself: the hash takes them with their lengths, so that no two pairs are alike.
            let (path, named) = (parts.uri.path().as_bytes(), credential(body));
            return Ok((services.idempotency.hash(&[b"scope", path, fleet, &named, held.as_bytes()]), None));
        }
        Access::Device => {
            let wrong = || Error::new(ErrorCode::InvalidToken, "send Authorization: Device <uid>:<token>");
            let (uid, token) = device_credentials(&parts.headers).ok_or_else(wrong)?;
            let proven = provision::authenticate(services, uid.as_str(), &token).await?;
            return Ok((hash("device", proven.live.uid.as_str().as_bytes()), None));
        }
        Access::Operator => None,
        Access::Account => None,
        Access::Scope(scope) | Access::AdminAnd(scope) => Some(scope),
        Access::Session | Access::Admin => None,
    };
    let offered = bearer(&parts.headers).unwrap_or_default();
    let user = services.accounts.authenticate(offered, peer_ip(&parts.extensions)).await?;
    match access {
        Access::Admin | Access::AdminAnd(_) => user.require_admin()?,
        Access::Session => drop(user.require_session()?),
        _ => {}
    }
    if let Some(scope) = scope {
        user.require(scope)?;
    }
    Ok((hash("user", user.account.id.to_string().as_bytes()), Some(user)))
}

/// A kept sign-in is only for an account that may still sign in.
async fn account_still_active(state: &ApiState, kept: &[u8]) -> Result<()> {
    #[derive(serde::Deserialize)]
    struct Whose {
        user: Of,
    }
    #[derive(serde::Deserialize)]
    struct Of {
        id: hexa_model::UserId,
    }
    match serde_json::from_slice::<Whose>(kept.get(3..).unwrap_or_default()) {
        Ok(whose) => state.services.accounts.check_active(whose.user.id).await,
        Err(_) => Ok(()),
    }
}

/// What names the holder in the body of a request without an account: the e-mail or the refresh token.
fn credential(body: &[u8]) -> Vec<u8> {
    #[derive(serde::Deserialize)]
    struct Named {
        email: Option<String>,
        refresh_token: Option<String>,
    }
    let named = serde_json::from_slice::<Named>(body).ok();
    let text = named.and_then(|n| n.refresh_token.or(n.email.map(|e| e.trim().to_lowercase())));
    text.unwrap_or_default().into_bytes()
}

/// Of method, path, query in any order, content type and body.
fn fingerprint(state: &ApiState, parts: &http::request::Parts, body: &[u8]) -> [u8; 32] {
    let mut query: Vec<_> = parts.uri.query().unwrap_or_default().split('&').collect();
    query.sort_unstable();
    let kind = parts.headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    state.services.idempotency.hash(&[
        b"request",
        parts.method.as_str().as_bytes(),
        parts.uri.path().as_bytes(),
        query.join("&").as_bytes(),
        kind,
        &Sha256::digest(body),
    ])
}

/// The answer to a relay command with a key, first or again: both are made from its audit row.
pub(crate) fn command(result: Result<CommandResult>, request_id: &str) -> Result<Response> {
    match result {
        Ok(result) => Ok(secret((StatusCode::OK, axum::Json(CommandBody::new(&result))).into_response())),
        Err(error) => {
            let status = StatusCode::from_u16(error.code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let body = serde_json::to_vec(&ErrorBody::new(&error, request_id)).map_err(Error::internal)?;
            decode(&encode(status, &body))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_taken_bare_or_quoted_and_never_hidden() {
        let read = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(&KEY, HeaderValue::from_bytes(value).unwrap());
            read_key(&headers).ok()
        };
        assert_eq!(read(b"abc-1").as_deref(), Some("abc-1"));
        assert_eq!(read(b"\"abc-1\"").as_deref(), Some("abc-1"));
        assert_eq!(read(&[b'k'; 255]).map(|k| k.len()), Some(255));
        for bad in [&b""[..], b"\"\"", b"a b", b"\xc3\xa4", &[b'k'; 256]] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
        let mut twice = HeaderMap::new();
        twice.append(&KEY, HeaderValue::from_static("a"));
        twice.append(&KEY, HeaderValue::from_static("b"));
        assert!(read_key(&twice).is_err());
    }

    #[test]
    fn refusals_may_be_mended_and_ends_are_ends() {
        for code in ErrorCode::ALL {
            let refusal = matches!(code.status(), 401..=404 | 400 | 405..=408 | 412..=431 | 503);
            let own = code.name().starts_with("idempotency_");
            assert_eq!(is_final(*code), !refusal && !own, "{}", code.name());
        }
    }
}
