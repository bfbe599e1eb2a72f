//! The error of every room: a code of the table, a sentence for people, facts for programs.

use std::borrow::Cow;

use hexa_model::{CommandId, ErrorCode, names};
use hexa_store::StoreError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Whether a command's frame was written to its device's socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sent {
    /// Proven: not a byte of it was written, and none will be. Asking again is harmless.
    No,
    /// It was handed to a socket: the device may have acted on it.
    Yes,
    /// Not proven, or the error is not a command's.
    #[default]
    Unknown,
}

/// What a caller is told. `source` goes to the log only.
#[derive(Debug, Serialize, Deserialize)]
pub struct Error {
    /// From the one table.
    pub code: ErrorCode,
    /// What was wrong, what is allowed, what to do.
    pub message: Cow<'static, str>,
    /// Facts for programs, a JSON object such as `{"field": ...}`; shown as `details` in the error body.
    pub details: Option<Value>,
    /// Seconds after which a retry makes sense.
    pub retry_after_s: Option<u64>,
    /// For the log of the process where it arose.
    #[serde(skip)]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
    /// For a command's error: what is known of its frame.
    pub sent: Sent,
    /// The command that it is about, once it has its place.
    pub command: Option<CommandId>,
}

/// The result of every room.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// With this code and sentence.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            message: message.into(),
            details: None,
            retry_after_s: None,
            source: None,
            sent: Sent::Unknown,
            command: None,
        }
    }
    /// 400: `field` has a value that is not allowed.
    pub fn validation(field: &str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorCode::ValidationError, message).details(json!({ "field": field }))
    }
    /// 404 for a device that is not there, or not the caller's: the two are not told apart.
    pub fn no_device() -> Self {
        Self::new(ErrorCode::NotFound, "there is no such device, or it is not yours")
    }
    /// 429 with the seconds to wait.
    pub fn rate_limited(message: impl Into<Cow<'static, str>>, retry_after_s: u64) -> Self {
        Self::new(ErrorCode::RateLimited, message).retry_after(retry_after_s)
    }
    /// 500 with a source for the log.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self {
            source: Some(source.into()),
            ..Self::new(ErrorCode::InternalError, "the server failed; the request id finds the reason in its log")
        }
    }
    /// Sets `details`, in place of any that were there.
    #[must_use]
    pub fn details(mut self, details: Value) -> Self {
        self.details = Some(details);
        self
    }
    /// With this waiting time.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }
    /// Nothing of the command was written to a socket.
    #[must_use]
    pub fn not_sent(mut self) -> Self {
        self.sent = Sent::No;
        self
    }
    /// Names the command that the error is about; its id is shown in the facts.
    #[must_use]
    pub fn of_command(mut self, id: CommandId) -> Self {
        self.command = Some(id);
        self
    }
    /// The facts for programs, with the command that it is about.
    pub fn facts(&self) -> Option<Cow<'_, Value>> {
        let Some(id) = self.command else { return self.details.as_ref().map(Cow::Borrowed) };
        let mut facts = match &self.details {
            Some(Value::Object(facts)) => facts.clone(),
            _ => serde_json::Map::new(),
        };
        facts.insert("command_id".to_owned(), id.to_string().into());
        Some(Cow::Owned(Value::Object(facts)))
    }
    /// Adds one member to the details.
    #[must_use]
    pub fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        let details = self.details.get_or_insert_with(|| json!({}));
        if let Value::Object(map) = details {
            map.insert(name.to_owned(), value.into());
        }
        self
    }
}

/// The name that somebody gave in this member, as it is kept; none when it is empty.
///
/// # Errors
/// `validation_error`: too long, or with a character that is not seen as what it is.
pub fn named(field: &str, name: &str) -> Result<Option<String>> {
    names::take(name).map_err(|wrong| Error::validation(field, wrong.to_string()))
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}
impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|s| &**s as _)
    }
}

impl From<hexa_model::InvalidAction> for Error {
    fn from(wrong: hexa_model::InvalidAction) -> Self {
        let error = Self::new(wrong.code(), wrong.to_string());
        match wrong {
            hexa_model::InvalidAction::Unsupported(_) => error,
            hexa_model::InvalidAction::Argument { field, .. } => error.detail("field", field),
        }
    }
}

impl From<hexa_crypto::password::WeakPassword> for Error {
    fn from(weak: hexa_crypto::password::WeakPassword) -> Self {
        Self::validation("password", weak.to_string())
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Busy => {
                Self::new(ErrorCode::Busy, "the database writer's queue is full; try again").retry_after(1)
            }
            StoreError::Unavailable { .. } => Self {
                source: Some(Box::new(error)),
                ..Self::new(ErrorCode::StorageUnavailable, "the database did not accept the write; nothing was changed")
            }
            .retry_after(5),
            StoreError::Unknown => Self {
                source: Some(Box::new(error)),
                ..Self::new(
                    ErrorCode::StorageUnavailable,
                    "the database fell silent at the end; whether the change was stored is not known: look before you \
                     try again, or send the request again with its idempotency key",
                )
            }
            .retry_after(5),
            StoreError::Fenced(_) => Self {
                source: Some(Box::new(error)),
                ..Self::new(
                    ErrorCode::StorageUnavailable,
                    "another server has taken this one's place at the database; nothing was changed",
                )
            }
            .retry_after(5),
            other => Self::internal(other),
        }
    }
}
