//! One message as a flat list of values that borrow from its text; what the preset reads its messages from (ADR 0038).
//!
//! Members are found by walking siblings, which is faster for frames of a few members than building maps. Errors name
//! the member, what is allowed and what came.

use super::excerpt::{SHOWN, shorten};
use super::nodes::{self, Node, Scalar};
use crate::bindings::hexa::core::types::Value;
use crate::error::{Error, Result};

/// A parsed frame; [`Document::root`] gives the view to read it with.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    nodes: Vec<Node<'a>>,
}

impl<'a> Document<'a> {
    /// Parses strict JSON (RFC 8259) whose outermost value is an object.
    pub(crate) fn parse(text: &'a str) -> Result<Self> {
        let nodes = nodes::read(text).map_err(Error::malformed)?;
        match nodes.first() {
            Some(Node { value: Scalar::Object, .. }) => Ok(Self { nodes }),
            _ => Err(Error::malformed("a message must be a JSON object with a \"type\"")),
        }
    }

    /// The outermost object, to read members from.
    pub(crate) fn root(&self) -> Json<'_> {
        Json { nodes: &self.nodes, at: 0 }
    }
}

/// One value of a [`Document`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Json<'j> {
    nodes: &'j [Node<'j>],
    at: u32,
}

impl<'j> Json<'j> {
    pub(super) fn node(self) -> &'j Node<'j> {
        &self.nodes[self.at as usize]
    }

    /// The values inside an object or array, in order; nothing for a scalar.
    pub(crate) fn children(self) -> impl Iterator<Item = Json<'j>> {
        let (mut at, end) = (self.at + 1, self.node().next);
        std::iter::from_fn(move || {
            (at < end).then(|| {
                let child = Json { nodes: self.nodes, at };
                at = child.node().next;
                child
            })
        })
    }

    /// This value's name in its object; empty inside an array.
    pub(crate) fn key(self) -> &'j str {
        &self.node().key
    }

    /// The member `name`; none when it is absent or null.
    pub(crate) fn get(self, name: &str) -> Option<Json<'j>> {
        let member = self.children().find(|m| m.key() == name)?;
        (!matches!(member.node().value, Scalar::Null)).then_some(member)
    }

    /// The member `name`, or an error that asks for it.
    pub(crate) fn need(self, name: &str) -> Result<Json<'j>> {
        self.get(name).ok_or_else(|| Error::malformed(format!("`{name}` is missing")))
    }

    /// The member `type`, which must be a text.
    pub(crate) fn kind(self) -> Result<&'j str> {
        self.need("type")?.as_str("type")
    }

    /// The member `name`, which must be a text.
    pub(crate) fn str(self, name: &str) -> Result<&'j str> {
        self.need(name)?.as_str(name)
    }

    /// The member `name`, which must be a text if it is there.
    pub(crate) fn opt_str(self, name: &str) -> Result<Option<&'j str>> {
        self.get(name).map(|v| v.as_str(name)).transpose()
    }

    /// The member `name`, which must be true or false.
    pub(crate) fn bool(self, name: &str) -> Result<bool> {
        self.need(name)?.as_bool(name)
    }

    /// The member `name`, which must be true or false if it is there.
    pub(crate) fn opt_bool(self, name: &str) -> Result<Option<bool>> {
        self.get(name).map(|v| v.as_bool(name)).transpose()
    }

    /// The member `name`, which must be a whole number from 0 to 4,294,967,295.
    pub(crate) fn u32(self, name: &str) -> Result<u32> {
        self.need(name)?.whole(name)
    }

    /// The member `name`, which must be a whole number that fits `N` if it is there.
    pub(crate) fn opt_whole<N: Whole>(self, name: &str) -> Result<Option<N>> {
        self.get(name).map(|v| v.whole(name)).transpose()
    }

    /// An array's values; an absent member counts as an empty array.
    pub(crate) fn list(self, name: &str) -> Result<impl Iterator<Item = Json<'j>> + use<'j>> {
        let array = match self.get(name) {
            None => None,
            Some(v) if matches!(v.node().value, Scalar::Array) => Some(v),
            Some(v) => return Err(v.wrong(name, "an array")),
        };
        Ok(array.into_iter().flat_map(Json::children))
    }

    /// This value as text; `name` is for the error.
    pub(crate) fn as_str(self, name: &str) -> Result<&'j str> {
        match &self.node().value {
            Scalar::Text(text) => Ok(text),
            _ => Err(self.wrong(name, "a text")),
        }
    }

    /// This value as true or false; `name` is for the error.
    pub(crate) fn as_bool(self, name: &str) -> Result<bool> {
        match self.node().value {
            Scalar::Bool(b) => Ok(b),
            _ => Err(self.wrong(name, "true or false")),
        }
    }

    /// This value as a whole number that fits `N`; `name` is for the error.
    pub(crate) fn whole<N: Whole>(self, name: &str) -> Result<N> {
        let number = match self.node().value {
            Scalar::Unsigned(n) => N::try_from(n).ok(),
            Scalar::Negative(n) if N::SIGNED => N::try_from(n).ok(),
            _ => None,
        };
        number.ok_or_else(|| self.wrong(name, N::BOUNDS))
    }

    /// A scalar as the platform's reading value: whole numbers stay whole. None for null, arrays and objects.
    pub(crate) fn to_value(self) -> Option<Value> {
        match &self.node().value {
            Scalar::Bool(b) => Some(Value::Boolean(*b)),
            Scalar::Unsigned(n) => Some(i64::try_from(*n).map_or(Value::Number(*n as f64), Value::Integer)),
            Scalar::Negative(n) => Some(Value::Integer(*n)),
            Scalar::Float(n) => Some(Value::Number(*n)),
            Scalar::Text(text) => Some(Value::Text(text.clone().into_owned())),
            Scalar::Null | Scalar::Array | Scalar::Object => None,
        }
    }

    /// Whether this value is an object.
    pub(crate) fn is_object(self) -> bool {
        matches!(self.node().value, Scalar::Object)
    }

    /// The error for a value of the wrong kind.
    pub(crate) fn wrong(self, name: &str, wanted: &str) -> Error {
        let got = match &self.node().value {
            Scalar::Null => "null".to_owned(),
            Scalar::Bool(b) => b.to_string(),
            Scalar::Unsigned(n) => format!("the number {n}"),
            Scalar::Negative(n) => format!("the number -{}", n.unsigned_abs()),
            Scalar::Float(n) => format!("the number {n:?}"),
            Scalar::Text(text) => format!("the text {:?}", shorten(text, SHOWN)),
            Scalar::Array => "an array".to_owned(),
            Scalar::Object => "an object".to_owned(),
        };
        Error::malformed(format!("`{}` must be {wanted}, not {got}", shorten(name, SHOWN)))
    }
}

/// What [`Json::whole`] can give, and its bounds in words.
pub(crate) trait Whole: TryFrom<u64> + TryFrom<i64> {
    const BOUNDS: &'static str;
    const SIGNED: bool = false;
}
impl Whole for u8 {
    const BOUNDS: &'static str = "a whole number from 0 to 255";
}
impl Whole for u32 {
    const BOUNDS: &'static str = "a whole number from 0 to 4294967295";
}
impl Whole for u64 {
    const BOUNDS: &'static str = "a whole number, zero or more";
}
impl Whole for i32 {
    const BOUNDS: &'static str = "a whole number";
    const SIGNED: bool = true;
}
