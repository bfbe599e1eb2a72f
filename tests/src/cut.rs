//! A caller that leaves in the middle: one request as bytes, and a connection that is closed when the test says so.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::wait::within;

/// One request, whoever sends it and however often.
#[derive(Clone, Debug)]
pub struct Request {
    /// Name of the method, in capitals.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Headers as names and values.
    pub headers: Vec<(&'static str, String)>,
    /// The JSON body; null for none.
    pub body: Value,
}

impl Request {
    /// Without headers and body; `route` is a line of the route table with its ids put in.
    ///
    /// # Panics
    /// When it is not a method and a path.
    pub fn new(route: &str) -> Self {
        let (method, path) = route.split_once(' ').unwrap_or_else(|| panic!("{route} is no method and path"));
        Self { method: method.to_owned(), path: path.to_owned(), headers: Vec::new(), body: Value::Null }
    }
    /// With this header as well.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
    /// With this access token.
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }
    /// With this JSON as its body.
    #[must_use]
    pub fn json(self, body: Value) -> Self {
        Self { body, ..self }
    }
    /// As it goes over the wire.
    fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{} {} HTTP/1.1\r\nhost: x\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        let body = if self.body.is_null() { String::new() } else { self.body.to_string() };
        if !body.is_empty() {
            text.push_str("content-type: application/json\r\n");
        }
        let _ = write!(text, "content-length: {}\r\n\r\n{body}", body.len());
        text.into_bytes()
    }
    /// Sends it and closes the connection after `delay`, with a reset or in good order; true when an answer was there
    /// before.
    ///
    /// # Panics
    /// When the server does not listen.
    pub async fn cut(&self, server: SocketAddr, delay: Duration, reset: bool) -> bool {
        let mut stream = within("a connection", TcpStream::connect(server)).await.expect("the server listens");
        stream.set_nodelay(true).expect("a connected socket");
        stream.write_all(&self.bytes()).await.expect("the server reads");
        // The moment at which the caller leaves is the point of the test.
        tokio::time::sleep(delay).await;
        let answered = matches!(stream.try_read(&mut [0; 1]), Ok(1));
        if reset {
            let _ = stream.set_zero_linger();
        }
        answered
    }
    /// Sends it through a client; none when there was no answer.
    pub async fn send(&self, http: &reqwest::Client, server: SocketAddr) -> Option<Answered> {
        let method = self.method.parse().expect("a method");
        let mut request = http.request(method, format!("http://{server}{}", self.path));
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        if !self.body.is_null() {
            request = request.json(&self.body);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        let replayed = answer.headers().contains_key("idempotency-replayed");
        let text = answer.text().await.ok()?;
        Some(Answered { status, replayed, text })
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug)]
pub struct Answered {
    /// Status code of the answer.
    pub status: u16,
    /// Whether it was given before.
    pub replayed: bool,
    /// The body, as it came.
    pub text: String,
}

impl Answered {
    /// The body as JSON, null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }
}
