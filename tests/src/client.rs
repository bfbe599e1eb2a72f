//! REST as a client sees it.

use std::net::SocketAddr;

use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;

use crate::shapes::assert_error;
use crate::wait::PATIENCE;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// A caller, with or without an access token.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Reply {
    /// Status code of the answer.
    pub status: u16,
    /// Headers of the answer.
    pub headers: HeaderMap,
    /// The body as text.
    pub text: String,
    what: String,
}

impl Client {
    /// A client that sends no token.
    pub fn new(address: SocketAddr) -> Self {
        Self::telling(address, HeaderMap::new())
    }
    /// Behind a trusted proxy on this machine, which says who asks; a request may name somebody else.
    pub fn behind_a_proxy(address: SocketAddr) -> Self {
        Self::telling(address, HeaderMap::from_iter([(X_FORWARDED_FOR, HeaderValue::from_static("127.0.0.1"))]))
    }
    fn telling(address: SocketAddr, headers: HeaderMap) -> Self {
        // Not through a proxy that the environment may name.
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).default_headers(headers);
        Self { http: http.build().expect("a plain client"), base: format!("http://{address}"), token: None }
    }
    /// The same caller with this token.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }
    /// Its token.
    ///
    /// # Panics
    /// When it has none.
    pub fn token(&self) -> &str {
        self.token.as_deref().expect("a caller with a token")
    }
    /// A request that the caller finishes.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }
    /// Sends a request built with [`request`](Self::request).
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        self.try_send(request).await.unwrap_or_else(|e| panic!("no answer: {e:?}"))
    }
    /// The same where no answer is an answer.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn try_send(&self, request: reqwest::RequestBuilder) -> reqwest::Result<Reply> {
        let request = request.build()?;
        let (method, path) = (request.method().clone(), request.url().path().to_owned());
        let what = format!("{method} {path}");
        let response = self.http.execute(request).await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let text = response.text().await?;
        let kind = headers.get("content-type").and_then(|v| v.to_str().ok());
        if let Err(wrong) = crate::contract::hold(method.as_str(), &path, status, kind, &text) {
            panic!("{what}: the answer is not what docs/openapi.json says: {wrong}\n{text}");
        }
        Ok(Reply { status, headers, text, what })
    }
    /// Sends a GET request.
    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.request(Method::GET, path)).await
    }
    /// POST with a JSON body.
    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(self.request(Method::POST, path).json(body)).await
    }
    /// POST without a body.
    pub async fn post_empty(&self, path: &str) -> Reply {
        self.send(self.request(Method::POST, path)).await
    }
    /// POST with these bytes as JSON.
    pub async fn post_text(&self, path: &str, body: impl Into<String>) -> Reply {
        let request = self.request(Method::POST, path).header("content-type", "application/json");
        self.send(request.body(body.into())).await
    }
    /// PATCH with a JSON body.
    pub async fn patch(&self, path: &str, body: &Value) -> Reply {
        self.send(self.request(Method::PATCH, path).json(body)).await
    }
    /// Sends a DELETE request.
    pub async fn delete(&self, path: &str) -> Reply {
        self.send(self.request(Method::DELETE, path)).await
    }
}

impl Reply {
    /// The JSON body.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| {
            panic!("{}: {} with a body that is no JSON ({e}): {}", self.what, self.status, self.text)
        })
    }
    /// The JSON body of an answer with this status; null for an empty one.
    ///
    /// # Panics
    /// On any other status.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.what, self.text);
        if self.text.is_empty() { Value::Null } else { self.json() }
    }
    /// The body of an error with this status and code, its shape checked, and the id that it shares with the header.
    ///
    /// # Panics
    /// On anything else.
    #[track_caller]
    pub fn expect_error(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.what, self.text);
        let body = self.json();
        assert_error(&body, code, &self.what);
        assert_eq!(self.header("x-request-id"), body["request_id"].as_str(), "{}", self.what);
        body
    }
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}
