//! The answer to what hyper itself refuses, in the place of hyper's own, which has no body, no request id, and none of
//! the headers that every answer has. hyper refuses a request when it is its turn, so this never overtakes an answer.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hexa_model::ErrorCode;
use hexa_platform::Error;
use http::{HeaderMap, HeaderValue};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::request::RequestId;
use crate::transport;
use crate::{MAX_HEADER_BYTES, MAX_HEADERS};

/// Read and thrown away behind the answer, so that the peer's kernel does not lose it with a reset.
const DRAIN_BYTES: usize = 1 << 20;

/// The longest time for that.
const DRAIN_TIME: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(super) struct Refusal {
    answer: Vec<u8>,
    written: usize,
    closed: bool,
    drained: usize,
    drain_until: Option<Pin<Box<Sleep>>>,
}

/// The body of every error of this server.
#[derive(serde::Serialize)]
struct Body<'a> {
    code: &'static str,
    message: &'a str,
    details: Option<()>,
    request_id: &'a str,
}

/// Whether these bytes are a refusal of hyper's own: a head without a body that went through none of our layers.
pub(super) fn is_bare(data: &[u8]) -> bool {
    let has = |part: &[u8]| data.windows(part.len()).any(|w| w == part);
    data.len() < 512
        && (data.starts_with(b"HTTP/1.1 4") || data.starts_with(b"HTTP/1.0 4"))
        && data.ends_with(b"\r\n\r\n")
        && has(b"content-length: 0\r\n")
        && !has(b"x-request-id: ")
}

impl Refusal {
    /// In the place of this refusal.
    pub(super) fn of(bare: &[u8], too_large: bool, encrypted: bool) -> Self {
        let id = RequestId::fresh();
        let (line, error) = if too_large || bare.get(9..12) == Some(b"431") {
            let what = format!("a request has at most {MAX_HEADERS} header lines and {MAX_HEADER_BYTES} bytes of them");
            let line = &b"HTTP/1.1 431 Request Header Fields Too Large\r\n"[..];
            (line, Error::new(ErrorCode::HeadersTooLarge, what))
        } else {
            let what = "this is no well-formed request (RFC 9112): its first line or one of its headers is malformed";
            (&b"HTTP/1.1 400 Bad Request\r\n"[..], Error::new(ErrorCode::ValidationError, what))
        };
        let body = Body {
            code: error.code.name(),
            message: &error.message,
            details: None,
            request_id: id.to_str().unwrap_or_default(),
        };
        let body = serde_json::to_vec(&body).unwrap_or_default();
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        headers.insert(RequestId::HEADER, id);
        transport::guard(&mut headers, true, encrypted);
        let mut answer = line.to_vec();
        for (name, value) in &headers {
            answer.extend_from_slice(name.as_str().as_bytes());
            answer.extend_from_slice(b": ");
            answer.extend_from_slice(value.as_bytes());
            answer.extend_from_slice(b"\r\n");
        }
        answer.extend_from_slice(b"\r\n");
        answer.extend_from_slice(&body);
        Self { answer, written: 0, closed: false, drained: 0, drain_until: None }
    }

    /// Ready once the peer has what it must know, or the time for it is over.
    pub(super) fn poll<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        while self.written < self.answer.len() {
            let wrote = ready!(Pin::new(&mut *stream).poll_write(cx, &self.answer[self.written..]))?;
            if wrote == 0 {
                return Poll::Ready(Ok(()));
            }
            self.written += wrote;
        }
        if !self.closed {
            ready!(Pin::new(&mut *stream).poll_shutdown(cx))?;
            self.closed = true;
        }
        let until = self.drain_until.get_or_insert_with(|| Box::pin(tokio::time::sleep(DRAIN_TIME)));
        if until.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut room = [0; 4096];
        while self.drained < DRAIN_BYTES {
            let mut buf = ReadBuf::new(&mut room);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut buf))?;
            if buf.filled().is_empty() {
                break;
            }
            self.drained += buf.filled().len();
        }
        Poll::Ready(Ok(()))
    }
}
