//! Extractors whose refusals have the error shape.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::Bytes;
use hexa_accounts::ClientInfo;
use hexa_model::{DeviceUid, ErrorCode};
use hexa_platform::Error;
use hexa_platform::principal::Principal;
use http::request::Parts;
use http::{HeaderMap, header};
use secrecy::SecretString;
use serde::de::DeserializeOwned;

use crate::error::ApiError;
use crate::state::ApiState;
use hexa_listen::AnonymousConnection;
use hexa_listen::transport::RequestSource;

/// Bodies are at most this long; a longer one is 413.
const MAX_BODY_BYTES: usize = 1024 * 1024;
/// A body arrives within this time.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);

/// A JSON body: the right content type, at most 1 MiB, no unknown or doubled members, nested at most 128 deep.
pub(crate) struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest<ApiState> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &ApiState) -> Result<Self, ApiError> {
        if !is_json(request.headers()) {
            let what = "send the body with content-type: application/json";
            return Err(Error::new(ErrorCode::UnsupportedMediaType, what).into());
        }
        let (parts, body) = request.into_parts();
        let bytes = read_body(&parts.headers, body).await?;
        // serde would take an array's items as a struct's fields in their order.
        if bytes.iter().find(|b| !b.is_ascii_whitespace()) != Some(&b'{') {
            return Err(Error::new(ErrorCode::ValidationError, "the body must be a JSON object").into());
        }
        let value = serde_json::from_slice(&bytes).map_err(|e| {
            Error::new(ErrorCode::ValidationError, format!("the body is not as expected: {}", quiet(&e.to_string())))
        })?;
        Ok(Self(value))
    }
}

/// What serde says of a value, without the value: somebody may have put a password where a boolean belongs, and the
/// message goes into the log.
fn quiet(message: &str) -> String {
    let mut kept = match (message.find('"'), message.rfind('"')) {
        (Some(from), Some(to)) if to > from => format!("{}…{}", &message[..from], &message[to + 1..]),
        _ => message.to_owned(),
    };
    for kind in ["integer `", "floating point `", "character `", "value `"] {
        if let Some(from) = kept.find(kind).map(|at| at + kind.len())
            && let Some(length) = kept[from..].find('`')
        {
            kept.replace_range(from..from + length, "…");
        }
    }
    kept
}

/// A whole body of at most 1 MiB, within 15 s.
pub(crate) async fn read_body(headers: &HeaderMap, body: Body) -> Result<Bytes, Error> {
    let too_large = || Error::new(ErrorCode::PayloadTooLarge, "a body has at most 1048576 bytes");
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|n| n > MAX_BODY_BYTES as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, MAX_BODY_BYTES)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if error_is_length(&error) => Err(too_large()),
        Ok(Err(_)) => Err(Error::new(ErrorCode::ValidationError, "the body broke off")),
        Err(_) => Err(Error::new(ErrorCode::RequestTimeout, "the body did not arrive within 15 s")),
    }
}

fn error_is_length(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>)
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// `Authorization: <scheme> <rest>`, scheme in any case.
fn authorization<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (given, rest) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

/// The token of `Authorization: Bearer <token>`, unchecked; none without that header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    authorization(headers, "bearer")
}

/// The parts of `Authorization: Device <uid>:<token>`, unchecked; none for any other shape.
pub(crate) fn device_credentials(headers: &HeaderMap) -> Option<(DeviceUid, SecretString)> {
    let (uid, token) = authorization(headers, "device")?.split_once(':')?;
    Some((DeviceUid::parse(uid)?, token.into()))
}

/// A signed-in account; part of the handler's arguments where a route needs one.
pub(crate) struct User(pub Principal);

impl FromRequestParts<ApiState> for User {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        // A request with an idempotency key was authenticated, and counted, before it came here.
        let user = if let Some(known) = parts.extensions.get::<Principal>() {
            known.clone()
        } else {
            let token = bearer(&parts.headers).unwrap_or_default();
            state.services.accounts.authenticate(token, peer_ip(&parts.extensions)).await?
        };
        if let Some(guest) = parts.extensions.get::<Arc<AnonymousConnection>>() {
            guest.known();
        }
        Ok(Self(user))
    }
}

/// The client's address, as far as it can be known.
pub(crate) fn peer_ip(extensions: &http::Extensions) -> Option<IpAddr> {
    extensions.get::<RequestSource>().and_then(|source| source.ip)
}

/// The same as an argument of a handler.
pub(crate) struct PeerIp(pub Option<IpAddr>);

impl<S: Sync> FromRequestParts<S> for PeerIp {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(peer_ip(&parts.extensions)))
    }
}

/// Address and user agent, for the session list.
pub(crate) struct LoginClient(pub ClientInfo);

impl<S: Sync> FromRequestParts<S> for LoginClient {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let agent = parts.headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok());
        Ok(Self(ClientInfo {
            ip: peer_ip(&parts.extensions),
            user_agent: agent.map(|a| a.chars().take(256).collect()),
        }))
    }
}

/// Path parameters by position, as text; what does not fit is the handler's 400 or 404.
pub(crate) struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Sync + Send> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            Err(e) => Err(Error::new(
                ErrorCode::ValidationError,
                format!("the path is not as expected: {}", quiet(&e.to_string())),
            )
            .into()),
        }
    }
}

/// The query parameters of a request, read as `T`; others are refused with `validation_error`.
pub(crate) struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Sync + Send> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        // What a socket is opened with is compared, not looked for: a wrong one is 401 like any other.
        let socket = parts.uri.path().starts_with("/ws/");
        if !socket && parts.uri.query().is_some_and(|query| query.contains("%00")) {
            let what = "a parameter must not contain the character NUL (%00)";
            return Err(Error::new(ErrorCode::ValidationError, what).into());
        }
        match axum::extract::Query::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(e) => Err(Error::new(
                ErrorCode::ValidationError,
                format!("the query is not as expected: {}", quiet(&e.to_string())),
            )
            .into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::quiet;

    #[test]
    fn what_was_wrong_is_said_without_what_was_given() {
        for (said, kept) in [
            (
                "invalid type: string \"my password\", expected a boolean at line 1",
                "invalid type: string …, expected a boolean at line 1",
            ),
            ("invalid type: string \"a \\\" b\", expected u16", "invalid type: string …, expected u16"),
            ("invalid type: integer `123456`, expected a string", "invalid type: integer `…`, expected a string"),
            ("unknown field `rol`, expected `role` or `name`", "unknown field `rol`, expected `role` or `name`"),
            ("missing field `code` at line 1 column 2", "missing field `code` at line 1 column 2"),
        ] {
            assert_eq!(quiet(said), kept);
        }
    }
}
