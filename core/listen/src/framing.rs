//! Watches the raw bytes of a connection for requests whose length can be read in two ways.
//!
//! hyper decides such requests by the rules of RFC 9112 section 6.3 and hides that there was anything to decide: a
//! second `Content-Length` of the same value is dropped, and `Transfer-Encoding` wins over `Content-Length`. A proxy
//! in front may decide otherwise, which is how requests are smuggled, so this server refuses them.

use crate::{MAX_HEADER_BYTES, MAX_HEADERS};

/// What is kept of a line: `transfer-encoding:` and a length of 20 digits fit. A longer line that states a length is
/// taken for one that is meant to be read in two ways.
const LINE: usize = 48;

/// Where in the stream of requests the next byte stands.
#[derive(Debug)]
enum At {
    /// Before or in a request's head.
    Head { lines: u32, length: Option<u64>, lengths: u8, chunked: bool },
    /// So many bytes of a body are left.
    Body(u64),
    /// At the line with a chunk's size.
    ChunkSize,
    /// So many bytes of a chunk and its line end are left.
    Chunk(u64),
    /// In the lines after the last chunk.
    Trailer,
    /// Nothing more to watch: another protocol, a head that is too large, or an ambiguous request was found.
    Over,
}

const HEAD: At = At::Head { lines: 0, length: None, lengths: 0, chunked: false };

/// The watcher of one connection.
#[derive(Debug)]
pub(super) struct Framing {
    at: At,
    line: [u8; LINE],
    filled: usize,
    ambiguous: bool,
    /// Of the head that is being read.
    head_lines: usize,
    /// Of the current line, also beyond what is kept of it.
    length: usize,
    head_bytes: usize,
}

impl Framing {
    pub(super) fn new() -> Self {
        Self { at: HEAD, line: [0; LINE], filled: 0, ambiguous: false, head_lines: 0, head_bytes: 0, length: 0 }
    }

    /// The head of a request has more lines or bytes than one may have; the first line is the request's own.
    pub(super) fn too_large(&self) -> bool {
        // The request's own line and the empty one at the end are no headers.
        self.head_bytes > MAX_HEADER_BYTES || self.head_lines > MAX_HEADERS + 2
    }

    /// From now on another protocol is spoken: 101 was answered. What a client only asked for changes nothing.
    pub(super) fn switched(&mut self) {
        (self.at, self.head_lines, self.head_bytes) = (At::Over, 0, 0);
    }

    /// An ambiguous request was seen on this connection.
    pub(super) fn ambiguous(&self) -> bool {
        self.ambiguous
    }

    /// Takes the bytes that were read; says how many of them may be passed on: all, unless a head is [too
    /// large](Self::too_large).
    pub(super) fn read(&mut self, all: &[u8]) -> usize {
        let mut bytes = all;
        while !bytes.is_empty() {
            match &mut self.at {
                At::Over => break,
                At::Body(left) | At::Chunk(left) => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    *left -= taken as u64;
                    bytes = &bytes[taken..];
                    if *left == 0 {
                        self.at = if matches!(self.at, At::Body(_)) { HEAD } else { At::ChunkSize };
                    }
                }
                At::Head { .. } | At::ChunkSize | At::Trailer => {
                    let end = bytes.iter().position(|b| *b == b'\n');
                    let piece = &bytes[..end.unwrap_or(bytes.len())];
                    if matches!(self.at, At::Head { .. }) {
                        self.head_bytes += piece.len() + usize::from(end.is_some());
                        self.head_lines += usize::from(end.is_some());
                        if self.too_large() {
                            self.at = At::Over;
                            return all.len() - bytes.len();
                        }
                    }
                    let kept = piece.len().min(LINE - self.filled);
                    self.line[self.filled..self.filled + kept].copy_from_slice(&piece[..kept]);
                    self.filled += kept;
                    self.length = self.length.saturating_add(piece.len());
                    let Some(end) = end else { break };
                    bytes = &bytes[end + 1..];
                    let begun = matches!(self.at, At::Head { lines: 1.., .. });
                    if begun && self.blank() {
                        (self.head_lines, self.head_bytes) = (0, 0);
                    }
                    self.line_ended();
                    self.length = 0;
                    self.filled = 0;
                }
            }
        }
        all.len()
    }

    /// The current line is an empty one. One that begins with many blanks is not.
    fn blank(&self) -> bool {
        self.length <= 1 && self.line[..self.filled].trim_ascii_end().is_empty()
    }

    fn line_ended(&mut self) {
        let blank = self.blank();
        let line = self.line[..self.filled].trim_ascii_end();
        let whole = self.length <= LINE;
        match &mut self.at {
            At::Head { lines, length, lengths, chunked } => {
                if blank && *lines == 0 {
                    // Empty lines before a request are skipped (RFC 9112 section 2.2).
                    return;
                }
                *lines += 1;
                if !blank {
                    if let Some(value) = header(line, b"content-length") {
                        *lengths = lengths.saturating_add(1);
                        *length = number(value, 10).filter(|_| whole);
                        self.ambiguous |= length.is_none();
                    }
                    if header(line, b"transfer-encoding").is_some() {
                        *chunked = true;
                        self.ambiguous |= !whole;
                    }
                    return;
                }
                self.ambiguous |= *lengths > 1 || (*lengths == 1 && *chunked);
                self.at = match *length {
                    _ if self.ambiguous => At::Over,
                    _ if *chunked => At::ChunkSize,
                    Some(1..) => At::Body(length.unwrap_or(0)),
                    _ => HEAD,
                };
            }
            At::ChunkSize => {
                let digits = line.split(|b| *b == b';').next().unwrap_or_default();
                // Behind a `;` a line may go on for as long as it likes.
                let size = number(digits.trim_ascii(), 16).filter(|_| whole || digits.len() < line.len());
                self.at = match size {
                    Some(0) => At::Trailer,
                    Some(size) => At::Chunk(size.saturating_add(2)),
                    None => {
                        self.ambiguous = true;
                        At::Over
                    }
                };
            }
            At::Trailer if blank => self.at = HEAD,
            At::Trailer | At::Body(_) | At::Chunk(_) | At::Over => {}
        }
    }
}

/// Digits and nothing else: no sign, no blank, none too many.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok().filter(|t| t.bytes().all(|b| b.is_ascii_alphanumeric()))?;
    u64::from_str_radix(text, radix).ok()
}

/// The value of a header line of this name.
fn header<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    (found.eq_ignore_ascii_case(name) && rest.first() == Some(&b':')).then(|| rest[1..].trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict, which must not depend on how the bytes arrive.
    fn ambiguous(text: &str) -> bool {
        let (mut at_once, mut slow) = (Framing::new(), Framing::new());
        at_once.read(text.as_bytes());
        for byte in text.as_bytes() {
            slow.read(&[*byte]);
        }
        assert_eq!(at_once.ambiguous(), slow.ambiguous(), "{text:?}");
        at_once.ambiguous()
    }

    const POST: &str = "POST /x HTTP/1.1\r\nhost: x\r\n";

    #[test]
    fn two_lengths_and_a_length_beside_chunks_are_found() {
        assert!(ambiguous(&format!("{POST}content-length: 5\r\ncontent-length: 5\r\n\r\nhello")));
        assert!(ambiguous(&format!("{POST}Content-Length: 5\r\nX: y\r\nCONTENT-LENGTH: 6\r\n\r\nhello")));
        assert!(ambiguous(&format!("{POST}content-length: 5, 5\r\n\r\nhello")));
        assert!(ambiguous(&format!("{POST}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")));
        assert!(ambiguous(&format!("{POST}transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n")));
        assert!(ambiguous(&format!("{POST}content-length: 5\ntransfer-encoding: chunked\n\n0\n\n")));
    }

    #[test]
    fn what_is_plain_stays_plain_also_behind_bodies_that_look_like_heads() {
        let tricky = "content-length: 1\r\ncontent-length: 2\r\n\r\n";
        let length = tricky.len();
        let one = format!("{POST}content-length: {length}\r\n\r\n{tricky}");
        assert!(!ambiguous(&one));
        assert!(!ambiguous(&one.repeat(3)));
        let chunked =
            format!("{POST}transfer-encoding: chunked\r\n\r\n{length:x};a=b\r\n{tricky}\r\n0\r\nt: u\r\n\r\n");
        assert!(!ambiguous(&chunked));
        assert!(!ambiguous(&format!("\r\n{chunked}{one}GET / HTTP/1.1\r\nhost: x\r\n\r\n")));
        assert!(!ambiguous(&format!("{POST}x-content-length: 1\r\ncontent-lengthy: 2\r\ncontent-length: 0\r\n\r\n")));
        let long = "y".repeat(500);
        assert!(!ambiguous(&format!("GET /{long} HTTP/1.1\r\ncookie: {long}content-length: 1\r\n\r\n")));
    }

    #[test]
    fn it_is_found_behind_plain_requests_and_behind_upgrades_that_were_only_asked_for() {
        let bad = format!("{POST}content-length: 1\r\ncontent-length: 1\r\n\r\nx");
        assert!(ambiguous(&format!("{POST}content-length: 2\r\n\r\nok{bad}")));
        assert!(ambiguous(&format!("{POST}transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{bad}")));
        for asked in ["x", "websocket", "h2c", ""] {
            let upgrade = format!("GET /health HTTP/1.1\r\nhost: x\r\nupgrade: {asked}\r\nconnection: upgrade\r\n\r\n");
            assert!(!ambiguous(&upgrade) && ambiguous(&format!("{upgrade}{bad}")), "{asked}");
        }
        // Granted, nothing is HTTP any more.
        let mut granted = Framing::new();
        granted.read(b"GET /ws/device HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\n\r\n");
        granted.switched();
        assert_eq!(granted.read(bad.repeat(1000).as_bytes()), bad.len() * 1000);
        assert!(!granted.ambiguous() && !granted.too_large());
    }

    #[test]
    fn a_length_that_hides_behind_padding_is_found() {
        let tricky = "content-length: 1\r\ncontent-length: 2\r\n\r\n";
        let length = tricky.len();
        for padded in [
            format!("content-length:{}{length}", " ".repeat(40)),
            format!("content-length: {}{length}", "0".repeat(33)),
            format!("content-length:{}", " ".repeat(100)),
            format!("transfer-encoding:{}chunked", "\t".repeat(40)),
            format!("transfer-encoding: {}, chunked", "gzip, ".repeat(10)),
            "content-length: +5".to_owned(),
            "content-length: 5, 5".to_owned(),
            "content-length: ".to_owned(),
            "content-length: 99999999999999999999".to_owned(),
        ] {
            assert!(ambiguous(&format!("{POST}{padded}\r\n\r\n")), "{padded:?}");
        }
        let chunks = format!("{POST}transfer-encoding: chunked\r\n\r\n");
        for size in ["0".repeat(48) + "5", " ".repeat(48) + "5", "+5".to_owned(), "5 5".to_owned(), String::new()] {
            assert!(ambiguous(&format!("{chunks}{size}\r\nhello\r\n0\r\n\r\n")), "{size:?}");
        }
        let extension = format!("5;name=\"{}\"", "v".repeat(200));
        assert!(!ambiguous(&format!("{chunks}{extension}\r\nhello\r\n0\r\n\r\n")));
        assert!(!ambiguous(&format!("{POST}content-length: {}5\r\n\r\nhello", "0".repeat(19))));
    }

    #[test]
    fn a_head_is_too_large_however_it_arrives_and_one_that_fits_is_not() {
        let verdict = |text: &str| {
            let (mut at_once, mut slow) = (Framing::new(), Framing::new());
            at_once.read(text.as_bytes());
            let found = text.as_bytes().iter().any(|byte| {
                slow.read(&[*byte]);
                slow.too_large()
            });
            assert_eq!(at_once.too_large(), found, "{} bytes", text.len());
            found
        };
        let lines = |n: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(n));
        assert!(!verdict(&lines(MAX_HEADERS)) && verdict(&lines(MAX_HEADERS + 1)));
        let bytes = |n: usize| format!("GET / HTTP/1.1\r\ncookie: {}\r\n\r\n", "x".repeat(n));
        assert!(!verdict(&bytes(MAX_HEADER_BYTES - 100)) && verdict(&bytes(MAX_HEADER_BYTES)));
        // Each request has its own.
        assert!(!verdict(&lines(MAX_HEADERS).repeat(5)) && !verdict(&bytes(10_000).repeat(5)));
        // What looks empty at its beginning ends no head.
        let folded = format!("GET / HTTP/1.1\r\n{}x\r\n", " ".repeat(100));
        assert!(verdict(&folded.repeat(200)));
    }
}
