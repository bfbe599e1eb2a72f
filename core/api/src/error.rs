//! The one place where an error becomes a response (docs/PLATFORM.md#error-shape).
//!
//! A handler's error travels as a response extension to the outermost middleware, which knows the request id and
//! writes the body.

use std::borrow::Cow;
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use hexa_model::ErrorCode;
use hexa_platform::Error;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

/// A service error on its way out.
#[derive(Debug)]
pub(crate) struct ApiError(pub Error);

/// What handlers return: an answer, or an error that becomes a response.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl<E: Into<Error>> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// Found by the middleware in a response's extensions.
#[derive(Clone, Debug)]
pub(crate) struct ErrorExtension(pub Arc<Error>);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = status(self.0.code).into_response();
        response.extensions_mut().insert(ErrorExtension(Arc::new(self.0)));
        response
    }
}

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody<'a> {
    code: &'static str,
    message: &'a str,
    details: Option<Cow<'a, serde_json::Value>>,
    request_id: &'a str,
}

impl<'a> ErrorBody<'a> {
    pub(crate) fn new(error: &'a Error, request_id: &'a str) -> Self {
        Self { code: error.code.name(), message: &error.message, details: error.facts(), request_id }
    }
}

fn status(code: ErrorCode) -> StatusCode {
    StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// In which form a caller wants to read errors.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ErrorFormat<'a> {
    /// `code`, `message`, `details` and `request_id`.
    Plain,
    /// RFC 9457, about the request with this path.
    Problem(&'a str),
}

impl ErrorFormat<'_> {
    /// What these headers ask for: `application/problem+json` by name, and not less than plain JSON.
    pub(crate) fn of(headers: &HeaderMap) -> ErrorFormat<'static> {
        let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let quality = |kind: &str| {
            let item = accept
                .split(',')
                .find(|item| item.split(';').next().is_some_and(|k| k.trim().eq_ignore_ascii_case(kind)))?;
            let given = item.split(';').skip(1).find_map(|p| p.trim().strip_prefix("q="));
            Some(given.map_or(1.0, |q| q.trim().parse::<f32>().unwrap_or(0.0)))
        };
        match quality("application/problem+json") {
            Some(q) if q > 0.0 && q >= quality("application/json").unwrap_or(0.0) => ErrorFormat::Problem(""),
            _ => ErrorFormat::Plain,
        }
    }

    /// About the request with this path.
    pub(crate) fn path(self, path: &str) -> ErrorFormat<'_> {
        match self {
            ErrorFormat::Plain => ErrorFormat::Plain,
            ErrorFormat::Problem(_) => ErrorFormat::Problem(path),
        }
    }
}

/// RFC 9457 around the members that every error has.
#[derive(Debug, Serialize, ToSchema)]
struct ProblemBody<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
    #[serde(flatten)]
    error: ErrorBody<'a>,
}

/// The finished response to an error: status, JSON body, and `retry-after` where there is one.
pub(crate) fn respond(error: &Error, request_id: &str, form: ErrorFormat<'_>) -> Response {
    let plain = ErrorBody::new(error, request_id);
    let (kind, body) = match form {
        ErrorFormat::Plain => ("application/json", serde_json::to_vec(&plain)),
        ErrorFormat::Problem(instance) => {
            let problem = ProblemBody {
                r#type: format!("urn:hexa:error:{}", error.code.name()),
                title: error.code.meaning(),
                status: error.code.status(),
                detail: &error.message,
                instance,
                error: plain,
            };
            ("application/problem+json", serde_json::to_vec(&problem))
        }
    };
    let kind = [(header::CONTENT_TYPE, HeaderValue::from_static(kind))];
    let mut response = (status(error.code), kind, body.unwrap_or_default()).into_response();
    let headers = response.headers_mut();
    if let Some(seconds) = error.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        if error.code == ErrorCode::RateLimited
            && let Ok(limit) = HeaderValue::from_str(&format!("\"default\";r=0;t={seconds}"))
        {
            // draft-ietf-httpapi-ratelimit-headers: nothing is left, and when something will be.
            headers.insert(HeaderName::from_static("ratelimit"), limit);
        }
    }
    match error.code {
        ErrorCode::InvalidToken => {
            let value = HeaderValue::from_static("Bearer error=\"invalid_token\"");
            headers.insert(header::WWW_AUTHENTICATE, value);
        }
        ErrorCode::PayloadTooLarge | ErrorCode::RequestTimeout => {
            // The rest of the body is not read: the connection cannot go on.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        _ => {}
    }
    response
}
