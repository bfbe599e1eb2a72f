//! The answer to a head that is too large, written past hyper, which would answer without a body.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hexa_model::ErrorCode;
use hexa_service::Error;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{MAX_HEADER_BYTES, MAX_HEADERS};
use crate::error::ErrorBody;
use crate::middleware::RequestId;
use crate::transport;

/// Read and thrown away behind the answer, so that the peer's kernel does not lose it with a reset.
const DRAIN_BYTES: usize = 1 << 20;

#[derive(Debug)]
pub(super) struct Refusal {
    answer: Vec<u8>,
    written: usize,
    closed: bool,
    drained: usize,
}

impl Refusal {
    pub(super) fn new() -> Self {
        let id = RequestId::fresh();
        let what = format!("a request has at most {MAX_HEADERS} header lines and {MAX_HEADER_BYTES} bytes of them");
        let error = Error::new(ErrorCode::HeadersTooLarge, what);
        let body = serde_json::to_vec(&ErrorBody::new(&error, id.to_str().unwrap_or_default())).unwrap_or_default();
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        headers.insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        headers.insert(HeaderName::from_static("x-request-id"), id);
        transport::guard(&mut headers, true, false);
        let mut answer = b"HTTP/1.1 431 Request Header Fields Too Large\r\n".to_vec();
        for (name, value) in &headers {
            answer.extend_from_slice(name.as_str().as_bytes());
            answer.extend_from_slice(b": ");
            answer.extend_from_slice(value.as_bytes());
            answer.extend_from_slice(b"\r\n");
        }
        answer.extend_from_slice(b"\r\n");
        answer.extend_from_slice(&body);
        Self { answer, written: 0, closed: false, drained: 0 }
    }

    /// Ready with nothing read, as at the end of a stream, once the peer has what it must know. hyper's timer for heads
    /// is still running, so this ends.
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
