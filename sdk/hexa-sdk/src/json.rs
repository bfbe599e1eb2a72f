//! A strict, small view of one JSON text frame.
//!
//! One pass over the text gives a flat list of nodes that borrow from it; members are found by walking siblings. That is
//! faster for frames of a few members than building maps, and it refuses what a protocol should refuse: more than 16
//! levels, a member named twice, numbers that are not finite. Errors name the member, what is allowed and what came.

mod scan;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use crate::error::{Error, Result};

/// How deep objects and arrays may nest.
pub const MAX_DEPTH: usize = 16;

/// One value. A container's children follow it; `next` is the index after all of them.
#[derive(Debug)]
pub(crate) struct Node<'a> {
    key: Cow<'a, str>,
    value: Scalar<'a>,
    next: u32,
}

#[derive(Debug)]
pub(crate) enum Scalar<'a> {
    Null,
    Bool(bool),
    /// Checked against the grammar, not yet converted.
    Number(&'a str),
    Text(Cow<'a, str>),
    Array,
    Object,
}

/// A parsed frame; [`Document::root`] gives the view to read it with.
#[derive(Debug)]
pub struct Document<'a> {
    nodes: Vec<Node<'a>>,
}

impl<'a> Document<'a> {
    /// Parses strict JSON (RFC 8259) whose outermost value is an object.
    ///
    /// # Errors
    /// `malformed`, with where it breaks off.
    pub fn parse(text: &'a str) -> Result<Self> {
        let nodes = scan::scan(text).map_err(Error::malformed)?;
        match nodes.first() {
            Some(Node { value: Scalar::Object, .. }) => Ok(Self { nodes }),
            _ => Err(Error::malformed("a message must be a JSON object with a \"type\"")),
        }
    }

    /// The outermost object.
    pub fn root(&self) -> Json<'_> {
        Json { nodes: &self.nodes, at: 0 }
    }
}

/// One value of a [`Document`].
#[derive(Clone, Copy, Debug)]
pub struct Json<'j> {
    nodes: &'j [Node<'j>],
    at: u32,
}

impl<'j> Json<'j> {
    fn node(self) -> &'j Node<'j> {
        &self.nodes[self.at as usize]
    }

    /// The values inside an object or array, in order; nothing for a scalar.
    pub fn children(self) -> impl Iterator<Item = Json<'j>> {
        let (mut at, end) = (self.at + 1, self.node().next);
        std::iter::from_fn(move || {
            (at < end).then(|| {
                let child = Json { nodes: self.nodes, at };
                at = child.node().next;
                child
            })
        })
    }

    /// This value's member name; empty inside an array.
    pub fn key(self) -> &'j str {
        &self.node().key
    }

    /// The member `name`; none when it is absent or null.
    pub fn get(self, name: &str) -> Option<Json<'j>> {
        let member = self.children().find(|m| m.key() == name)?;
        (!matches!(member.node().value, Scalar::Null)).then_some(member)
    }

    /// The member `name`, or an error that asks for it.
    ///
    /// # Errors
    /// `malformed` when it is not there.
    pub fn need(self, name: &str) -> Result<Json<'j>> {
        self.get(name).ok_or_else(|| Error::malformed(format!("`{name}` is missing")))
    }

    /// The message's `type`.
    ///
    /// # Errors
    /// `malformed` when it is not there, or no text.
    pub fn type_(self) -> Result<&'j str> {
        self.need("type")?.as_str("type")
    }

    /// Text.
    ///
    /// # Errors
    /// `malformed` when it is not there, or something else.
    pub fn str(self, name: &str) -> Result<&'j str> {
        self.need(name)?.as_str(name)
    }

    /// Text, if the member is there.
    ///
    /// # Errors
    /// `malformed` when it is there and is something else.
    pub fn opt_str(self, name: &str) -> Result<Option<&'j str>> {
        self.get(name).map(|v| v.as_str(name)).transpose()
    }

    /// true or false.
    ///
    /// # Errors
    /// `malformed` when it is not there, or something else.
    pub fn bool(self, name: &str) -> Result<bool> {
        self.need(name)?.as_bool(name)
    }

    /// true or false, if the member is there.
    ///
    /// # Errors
    /// `malformed` when it is there and is something else.
    pub fn opt_bool(self, name: &str) -> Result<Option<bool>> {
        self.get(name).map(|v| v.as_bool(name)).transpose()
    }

    /// A whole number from 0 to 4,294,967,295.
    ///
    /// # Errors
    /// `malformed` when it is not there, or something else.
    pub fn u32(self, name: &str) -> Result<u32> {
        self.need(name)?.whole(name)
    }

    /// A whole number that fits the wanted type, if the member is there.
    ///
    /// # Errors
    /// `malformed` when it is there and is something else.
    pub fn opt_whole<N: std::str::FromStr>(self, name: &str) -> Result<Option<N>> {
        self.get(name).map(|v| v.whole(name)).transpose()
    }

    /// A finite number.
    ///
    /// # Errors
    /// `malformed` when it is not there, or something else.
    pub fn f64(self, name: &str) -> Result<f64> {
        self.need(name)?.as_f64(name)
    }

    /// An array's values; an absent member counts as an empty array.
    ///
    /// # Errors
    /// `malformed` when it is there and is something else.
    pub fn list(self, name: &str) -> Result<impl Iterator<Item = Json<'j>> + use<'j>> {
        let array = match self.get(name) {
            None => None,
            Some(v) if matches!(v.node().value, Scalar::Array) => Some(v),
            Some(v) => return Err(v.wrong(name, "an array")),
        };
        Ok(array.into_iter().flat_map(Json::children))
    }

    /// This value as text; `name` is for the error.
    ///
    /// # Errors
    /// `malformed` when it is something else.
    pub fn as_str(self, name: &str) -> Result<&'j str> {
        match &self.node().value {
            Scalar::Text(text) => Ok(text),
            _ => Err(self.wrong(name, "a text")),
        }
    }

    /// This value as true or false; `name` is for the error.
    ///
    /// # Errors
    /// `malformed` when it is something else.
    pub fn as_bool(self, name: &str) -> Result<bool> {
        match self.node().value {
            Scalar::Bool(b) => Ok(b),
            _ => Err(self.wrong(name, "true or false")),
        }
    }

    /// This value as a finite number; `name` is for the error.
    ///
    /// # Errors
    /// `malformed` when it is something else.
    pub fn as_f64(self, name: &str) -> Result<f64> {
        let number = match self.node().value {
            Scalar::Number(digits) => digits.parse().ok().filter(|n: &f64| n.is_finite()),
            _ => None,
        };
        number.ok_or_else(|| self.wrong(name, "a finite number"))
    }

    /// This value as a whole number that fits `N`; `name` is for the error.
    ///
    /// # Errors
    /// `malformed` when it is something else.
    pub fn whole<N: std::str::FromStr>(self, name: &str) -> Result<N> {
        let number = match self.node().value {
            Scalar::Number(digits) => digits.parse().ok(),
            _ => None,
        };
        number.ok_or_else(|| self.wrong(name, whole_range::<N>()))
    }

    /// A scalar as the platform's reading value: whole numbers stay whole. None for null, arrays and objects.
    pub fn to_value(self) -> Option<crate::bindings::hexa::core::types::Value> {
        use crate::bindings::hexa::core::types::Value;
        match &self.node().value {
            Scalar::Bool(b) => Some(Value::Boolean(*b)),
            Scalar::Number(digits) => match digits.parse() {
                Ok(whole) => Some(Value::Integer(whole)),
                Err(_) => digits.parse().ok().filter(|n: &f64| n.is_finite()).map(Value::Number),
            },
            Scalar::Text(text) => Some(Value::Text(text.clone().into_owned())),
            Scalar::Null | Scalar::Array | Scalar::Object => None,
        }
    }

    /// true for an object.
    pub fn is_object(self) -> bool {
        matches!(self.node().value, Scalar::Object)
    }

    /// The error for a value of the wrong kind.
    pub fn wrong(self, name: &str, wanted: &str) -> Error {
        let got = match &self.node().value {
            Scalar::Null => "null".to_owned(),
            Scalar::Bool(b) => b.to_string(),
            Scalar::Number(digits) => format!("the number {}", shorten(digits)),
            Scalar::Text(text) => format!("the text {:?}", shorten(text)),
            Scalar::Array => "an array".to_owned(),
            Scalar::Object => "an object".to_owned(),
        };
        Error::malformed(format!("`{name}` must be {wanted}, not {got}"))
    }
}

fn whole_range<N>() -> &'static str {
    match std::any::type_name::<N>() {
        "u8" => "a whole number from 0 to 255",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" => "a whole number, zero or more",
        _ => "a whole number",
    }
}

/// At most 40 characters of what a device sent, for an error text.
pub fn shorten(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(40) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}
