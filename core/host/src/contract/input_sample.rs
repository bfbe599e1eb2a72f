//! The input of a failed call, as it may be stored: short, and without what could be a secret.

use hexa_model::driver::Frame;
use hexa_model::plugin::SAMPLE_BYTES;

/// Runs of this many letters and digits without a break are keys, tokens, serials: masked.
const LONG_WORD: usize = 16;
/// Runs of this many digits are masked too.
const LONG_NUMBER: usize = 6;
/// Members whose text is masked, however short; part of a name is enough.
const SECRET_NAMES: [&str; 12] =
    ["token", "secret", "pass", "pwd", "key", "auth", "pin", "ssid", "psk", "cred", "jwt", "cookie"];
/// Members of exactly these names too; as parts they occur in other names (`pwm`).
const SECRET_WORDS: [&str; 1] = ["pw"];
/// Bytes of a binary frame that are shown.
const BINARY_BYTES: usize = 8;
const MASK: &str = "***";

/// The sample of a frame.
pub(crate) fn frame(frame: &Frame) -> String {
    match frame {
        Frame::Text(text) => self::text(text),
        Frame::Binary(bytes) => {
            let shown: Vec<_> = bytes.iter().take(BINARY_BYTES).map(|b| format!("{b:02x}")).collect();
            format!("{} bytes: {}", bytes.len(), shown.join(" "))
        }
    }
}

/// The sample of a text: words that look like secrets are masked, and the whole value of a member with a telling name,
/// be it a list or an object.
pub(crate) fn text(text: &str) -> String {
    let mut kept = String::with_capacity(SAMPLE_BYTES);
    let mut rest = text;
    let (mut hide_next, mut quoted, mut escaped) = (false, false, false);
    // Lists and objects that were opened in the value that is hidden.
    let mut depth = 0_usize;
    while !rest.is_empty() && kept.len() < SAMPLE_BYTES {
        let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '/' | '=' | '.' | '%');
        let end = rest.find(|c| !word(c)).unwrap_or(rest.len());
        let (head, tail) = rest.split_at(end);
        if head.is_empty() {
            let c = rest.chars().next().unwrap_or(' ');
            quoted ^= c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            if hide_next && !quoted {
                match c {
                    '[' | '{' => depth += 1,
                    ']' | '}' if depth > 0 => {
                        depth -= 1;
                        hide_next = depth > 0;
                    }
                    // The value of a hidden member ends with its member.
                    ',' | '}' | ']' | '\n' | '&' | ';' => hide_next = depth > 0,
                    _ => {}
                }
            }
            kept.push(if c.is_control() { ' ' } else { c });
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let lower = head.to_lowercase();
        if hide_next || head.chars().count() >= LONG_WORD || longest_number(head) >= LONG_NUMBER {
            kept.push_str(MASK);
        } else {
            kept.push_str(head);
        }
        escaped = false;
        hide_next |=
            SECRET_NAMES.iter().any(|name| lower.contains(name)) || SECRET_WORDS.iter().any(|word| lower == *word);
        rest = tail;
    }
    let mut end = kept.len().min(SAMPLE_BYTES);
    while !kept.is_char_boundary(end) {
        end -= 1;
    }
    kept.truncate(end);
    kept
}

fn longest_number(word: &str) -> usize {
    word.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_could_be_a_secret_is_masked_and_the_rest_can_be_read() {
        for (text, kept) in [
            (r#"{"type":"ack","relay":3}"#, r#"{"type":"ack","relay":3}"#),
            (r#"{"token":"abc","on":true}"#, r#"{"token":"***","on":true}"#),
            (r#"{"wifi_password":"two words!","on":true}"#, r#"{"wifi_password":"*** ***!","on":true}"#),
            (r#"{"a":"hxd_0123456789abcdef01234567"}"#, r#"{"a":"***"}"#),
            (r#"{"phone":"call 4711123456"}"#, r#"{"phone":"call ***"}"#),
            (r#"{"pwd":"a,\"b}c","on":1}"#, r#"{"pwd":"***,\"***}***","on":1}"#),
            ("Authorization: Bearer abc.def\nnext", "Authorization: *** *** next"),
            (r#"{"API_KEY":["x","y"],"on":1}"#, r#"{"API_KEY":["***","***"],"on":1}"#),
            (r#"{"auth":{"user":"a","pw":"b"},"on":1}"#, r#"{"auth":{"***":"***","***":"***"},"on":1}"#),
            (r#"{"creds":[{"a":["b","]"]},"c"],"on":1}"#, r#"{"creds":[{"***":["***","]"]},"***"],"on":1}"#),
            (r#"{"pw":"b","pwm":7}"#, r#"{"pw":"***","pwm":7}"#),
            (
                r#"{"pass":1,"psk":2,"cred":3,"jwt":4,"cookie":5,"on":6}"#,
                r#"{"pass":***,"psk":***,"cred":***,"jwt":***,"cookie":***,"on":6}"#,
            ),
            (r#"{"raw":"{\"token\":[\"a\",\"b\"]}","on":1}"#, r#"{"raw":"{\"token\":[\"***\",\"***\"]}","on":1}"#),
        ] {
            assert_eq!(self::text(text), kept);
        }
        assert_eq!(frame(&Frame::Binary((0..200).collect())), "200 bytes: 00 01 02 03 04 05 06 07");
    }

    proptest! {
        #[test]
        fn a_sample_is_short_and_holds_no_long_word(text in "\\PC{0,600}", secret in "[A-Za-z0-9]{16,64}") {
            let kept = self::text(&format!("{text} {secret} {text}"));
            prop_assert!(kept.len() <= SAMPLE_BYTES);
            prop_assert!(!kept.contains(&secret));
            prop_assert!(kept.split(|c: char| !c.is_ascii_digit()).all(|n| n.len() < LONG_NUMBER));
        }
    }
}
