//! The one place where an error becomes a response (platform.md 13.3).
//!
//! A handler's error travels as a response extension to the outermost middleware, which knows the request id and
//! writes the body.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use hexa_model::ErrorCode;
use hexa_service::Error;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

/// A service error on its way out.
#[derive(Debug)]
pub(crate) struct ApiError(pub Error);

/// What handlers return.
pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl<E: Into<Error>> From<E> for ApiError {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

/// Found by the middleware in a response's extensions.
#[derive(Clone, Debug)]
pub(crate) struct Carried(pub Arc<Error>);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = status(self.0.code).into_response();
        response.extensions_mut().insert(Carried(Arc::new(self.0)));
        response
    }
}

/// The body of every error.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorBody<'a> {
    code: &'static str,
    message: &'a str,
    details: &'a Option<serde_json::Value>,
    request_id: &'a str,
}

impl<'a> ErrorBody<'a> {
    pub(crate) fn new(error: &'a Error, request_id: &'a str) -> Self {
        Self { code: error.code.name(), message: &error.message, details: &error.details, request_id }
    }
}

fn status(code: ErrorCode) -> StatusCode {
    StatusCode::from_u16(code.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// The finished response.
pub(crate) fn respond(error: &Error, request_id: &str) -> Response {
    let body = serde_json::to_vec(&ErrorBody::new(error, request_id)).unwrap_or_default();
    let json = HeaderValue::from_static("application/json");
    let mut response = (status(error.code), [(header::CONTENT_TYPE, json)], body).into_response();
    let headers = response.headers_mut();
    if let Some(seconds) = error.retry_after_s {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
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
