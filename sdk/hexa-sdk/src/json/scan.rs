//! The single pass: grammar, depth and duplicate members in one go.

use std::borrow::Cow;

use super::{MAX_DEPTH, Node, Scalar};

/// Up to this many members are compared one by one; larger objects are sorted, so a hostile frame of ten thousand
/// members costs no quadratic time.
const FEW_MEMBERS: usize = 12;

struct Scanner<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node<'a>>,
}

/// All values of `text` in document order, or a sentence that says what is wrong and where.
pub(super) fn scan(text: &str) -> Result<Vec<Node<'_>>, String> {
    let mut s = Scanner { text, bytes: text.as_bytes(), at: 0, nodes: Vec::with_capacity(16) };
    s.blanks();
    s.value(Cow::Borrowed(""), 0)?;
    s.blanks();
    if s.at < s.bytes.len() {
        return Err(s.wrong("nothing may follow the message"));
    }
    Ok(s.nodes)
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    #[cold]
    fn wrong(&self, what: &str) -> String {
        format!("not valid JSON at byte {}: {what}", self.at)
    }

    fn value(&mut self, key: Cow<'a, str>, depth: usize) -> Result<(), String> {
        let index = self.nodes.len();
        let value = match self.peek() {
            Some(b'{') => return self.object(key, depth),
            Some(b'[') => return self.array(key, depth),
            Some(b'"') => Scalar::Text(self.string()?),
            Some(b't') => self.word("true", Scalar::Bool(true))?,
            Some(b'f') => self.word("false", Scalar::Bool(false))?,
            Some(b'n') => self.word("null", Scalar::Null)?,
            Some(b'-' | b'0'..=b'9') => Scalar::Number(self.number()?),
            Some(_) => return Err(self.wrong("expected a value")),
            None => return Err(self.wrong("the message ends too early")),
        };
        self.nodes.push(Node { key, value, next: index as u32 + 1 });
        Ok(())
    }

    fn enter(&mut self, key: Cow<'a, str>, value: Scalar<'a>, depth: usize) -> Result<usize, String> {
        if depth >= MAX_DEPTH {
            return Err(format!("objects and arrays may nest {MAX_DEPTH} deep at most"));
        }
        self.at += 1;
        self.blanks();
        self.nodes.push(Node { key, value, next: 0 });
        Ok(self.nodes.len() - 1)
    }

    fn leave(&mut self, index: usize) {
        self.at += 1;
        self.nodes[index].next = self.nodes.len() as u32;
    }

    fn array(&mut self, key: Cow<'a, str>, depth: usize) -> Result<(), String> {
        let index = self.enter(key, Scalar::Array, depth)?;
        if self.peek() != Some(b']') {
            loop {
                self.blanks();
                self.value(Cow::Borrowed(""), depth + 1)?;
                self.blanks();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b']') => break,
                    _ => return Err(self.wrong("expected `,` or `]`")),
                }
            }
        }
        self.leave(index);
        Ok(())
    }

    fn object(&mut self, key: Cow<'a, str>, depth: usize) -> Result<(), String> {
        let index = self.enter(key, Scalar::Object, depth)?;
        let mut members = 0;
        if self.peek() != Some(b'}') {
            loop {
                self.blanks();
                if self.peek() != Some(b'"') {
                    return Err(self.wrong("expected a member name in quotes"));
                }
                let name = self.string()?;
                self.blanks();
                if self.peek() != Some(b':') {
                    return Err(self.wrong("expected `:`"));
                }
                self.at += 1;
                self.blanks();
                self.value(name, depth + 1)?;
                members += 1;
                self.blanks();
                match self.peek() {
                    Some(b',') => self.at += 1,
                    Some(b'}') => break,
                    _ => return Err(self.wrong("expected `,` or `}`")),
                }
            }
        }
        self.leave(index);
        self.no_duplicates(index, members)
    }

    fn no_duplicates(&self, object: usize, members: usize) -> Result<(), String> {
        let names = |mut at: usize| {
            let end = self.nodes[object].next as usize;
            std::iter::from_fn(move || {
                let node = (at < end).then(|| &self.nodes[at])?;
                at = node.next as usize;
                Some((node, at))
            })
        };
        let twice = if members <= FEW_MEMBERS {
            names(object + 1).find(|(node, rest)| names(*rest).any(|(other, _)| other.key == node.key)).map(|(n, _)| n)
        } else {
            let mut sorted: Vec<_> = names(object + 1).map(|(node, _)| node).collect();
            sorted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
            sorted.windows(2).find(|pair| pair[0].key == pair[1].key).map(|pair| pair[0])
        };
        match twice {
            None => Ok(()),
            Some(node) => Err(format!("the member `{}` is there twice", super::shorten(&node.key))),
        }
    }

    fn word(&mut self, word: &str, value: Scalar<'a>) -> Result<Scalar<'a>, String> {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(value);
        }
        Err(self.wrong("expected a value"))
    }

    fn digits(&mut self) -> Result<(), String> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start { Err(self.wrong("expected a digit")) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<&'a str, String> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn string(&mut self) -> Result<Cow<'a, str>, String> {
        self.at += 1;
        let start = self.at;
        loop {
            match self.peek() {
                Some(b'"') => {
                    let text = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(Cow::Borrowed(text));
                }
                Some(b'\\') => return self.escaped(start).map(Cow::Owned),
                Some(0..0x20) => return Err(self.wrong("control characters in a text must be escaped")),
                Some(_) => self.at += 1,
                None => return Err(self.wrong("a text is not closed")),
            }
        }
    }

    /// The rest of a string that holds an escape.
    fn escaped(&mut self, start: usize) -> Result<String, String> {
        let mut out = String::from(&self.text[start..self.at]);
        loop {
            let plain = self.at;
            while let Some(0x20..=0x21 | 0x23..=0x5b | 0x5d..) = self.peek() {
                self.at += 1;
            }
            out.push_str(&self.text[plain..self.at]);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let c = self.escape()?;
                    out.push(c);
                }
                Some(_) => return Err(self.wrong("control characters in a text must be escaped")),
                None => return Err(self.wrong("a text is not closed")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, String> {
        let c = self.peek();
        self.at += 1;
        Ok(match c {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => return self.unicode(),
            _ => return Err(self.wrong("unknown escape")),
        })
    }

    fn unicode(&mut self) -> Result<char, String> {
        let first = self.hex4()?;
        let code = if (0xd800..0xdc00).contains(&first) && self.bytes[self.at..].starts_with(b"\\u") {
            self.at += 2;
            let second = self.hex4()?;
            if !(0xdc00..0xe000).contains(&second) {
                return Err(self.wrong("half of a surrogate pair"));
            }
            0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
        } else {
            first
        };
        char::from_u32(code).ok_or_else(|| self.wrong("half of a surrogate pair"))
    }

    fn hex4(&mut self) -> Result<u32, String> {
        let digits = self.bytes.get(self.at..self.at + 4).filter(|d| d.iter().all(u8::is_ascii_hexdigit));
        let Some(digits) = digits else { return Err(self.wrong("expected four hex digits")) };
        self.at += 4;
        Ok(digits.iter().fold(0, |n, d| (n << 4) | char::from(*d).to_digit(16).unwrap_or(0)))
    }
}
