//! The values of a message in one list, filled by serde_json, with what serde leaves open: depth, and members of the
//! same name.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::excerpt::{SHOWN, shorten, without_position};

/// How deep objects and arrays may nest.
pub const MAX_DEPTH: usize = 16;

/// One value. A container's children follow it; `next` is the index after all of them.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) value: Scalar<'a>,
    pub(super) next: u32,
}

/// What a value is; what is in an array or object follows it in the list.
#[derive(Debug)]
pub(crate) enum Scalar<'a> {
    Null,
    Bool(bool),
    /// A whole number, zero or more.
    Unsigned(u64),
    /// A whole number with a sign, `-0` included.
    Negative(i64),
    /// Any other number; serde_json refuses what is too large for one.
    Float(f64),
    Text(Cow<'a, str>),
    Array,
    Object,
}

/// Up to this many members are compared one by one; larger objects are sorted, so a hostile frame of ten thousand
/// members costs no quadratic time.
const FEW_MEMBERS: usize = 12;

struct Build<'de> {
    nodes: Vec<Node<'de>>,
    depth: usize,
    /// Why the pass ended early, where it was not for the grammar.
    refusal: Option<String>,
}

/// All values of `text` in document order, or a sentence that says what is wrong and where.
pub(super) fn read(text: &str) -> Result<Vec<Node<'_>>, String> {
    let mut build = Build { nodes: Vec::with_capacity(16), depth: 0, refusal: None };
    let mut json = serde_json::Deserializer::from_str(text);
    let built = Value { build: &mut build, key: Cow::Borrowed("") }.deserialize(&mut json).and_then(|()| json.end());
    match (built, build.refusal) {
        (Ok(()), _) => Ok(build.nodes),
        (Err(_), Some(refusal)) => Err(refusal),
        (Err(error), None) => Err(not_json(&error)),
    }
}

#[cold]
fn not_json(error: &serde_json::Error) -> String {
    let what = if error.is_eof() { "the message ends too early".to_owned() } else { without_position(error) };
    format!("not valid JSON at line {} column {}: {what}", error.line(), error.column())
}

impl<'de> Build<'de> {
    /// Adds a value; gives its index.
    fn add(&mut self, key: Cow<'de, str>, value: Scalar<'de>) -> usize {
        let index = self.nodes.len();
        self.nodes.push(Node { key, value, next: index as u32 + 1 });
        index
    }

    fn enter<E: serde::de::Error>(&mut self, key: Cow<'de, str>, value: Scalar<'de>) -> Result<usize, E> {
        if self.depth == MAX_DEPTH {
            return Err(self.refuse(format!("objects and arrays may nest {MAX_DEPTH} deep at most")));
        }
        self.depth += 1;
        Ok(self.add(key, value))
    }

    fn leave(&mut self, index: usize) {
        self.depth -= 1;
        self.nodes[index].next = self.nodes.len() as u32;
    }

    #[cold]
    fn refuse<E: serde::de::Error>(&mut self, why: String) -> E {
        self.refusal = Some(why);
        E::custom("refused")
    }

    fn twice(&self, object: usize, members: usize) -> Option<&Node<'de>> {
        let names = |mut at: usize| {
            let end = self.nodes[object].next as usize;
            std::iter::from_fn(move || {
                let node = (at < end).then(|| &self.nodes[at])?;
                at = node.next as usize;
                Some((node, at))
            })
        };
        if members <= FEW_MEMBERS {
            return names(object + 1)
                .find(|(node, rest)| names(*rest).any(|(other, _)| other.key == node.key))
                .map(|(node, _)| node);
        }
        let mut sorted: Vec<_> = names(object + 1).map(|(node, _)| node).collect();
        sorted.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        sorted.windows(2).find(|pair| pair[0].key == pair[1].key).map(|pair| pair[0])
    }
}

/// One value, and the name that it has in its object.
struct Value<'b, 'de> {
    build: &'b mut Build<'de>,
    key: Cow<'de, str>,
}

impl<'de> Value<'_, 'de> {
    fn scalar(self, value: Scalar<'de>) {
        self.build.add(self.key, value);
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.scalar(Scalar::Null);
        Ok(())
    }

    fn visit_bool<E>(self, b: bool) -> Result<(), E> {
        self.scalar(Scalar::Bool(b));
        Ok(())
    }

    fn visit_u64<E>(self, n: u64) -> Result<(), E> {
        self.scalar(Scalar::Unsigned(n));
        Ok(())
    }

    fn visit_i64<E>(self, n: i64) -> Result<(), E> {
        self.scalar(Scalar::Negative(n));
        Ok(())
    }

    fn visit_f64<E>(self, n: f64) -> Result<(), E> {
        // serde_json reads `-0` as a float, because no integer has a zero with a sign.
        let minus_zero = n == 0.0 && n.is_sign_negative();
        self.scalar(if minus_zero { Scalar::Negative(0) } else { Scalar::Float(n) });
        Ok(())
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<(), E> {
        self.scalar(Scalar::Text(Cow::Borrowed(text)));
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.scalar(Scalar::Text(Cow::Owned(text.to_owned())));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<(), A::Error> {
        let Self { build, key } = self;
        let index = build.enter(key, Scalar::Array)?;
        while values.next_element_seed(Value { build, key: Cow::Borrowed("") })?.is_some() {}
        build.leave(index);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self { build, key } = self;
        let index = build.enter(key, Scalar::Object)?;
        let mut count = 0;
        while let Some(Name(key)) = members.next_key()? {
            members.next_value_seed(Value { build, key })?;
            count += 1;
        }
        build.leave(index);
        if let Some(node) = build.twice(index, count) {
            let why = format!("the member `{}` is there twice", shorten(&node.key, SHOWN));
            return Err(build.refuse(why));
        }
        Ok(())
    }
}

/// A member's name, borrowed from the message unless it holds escapes; serde's own `Cow` is always a copy.
struct Name<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        from.deserialize_str(Text)
    }
}
