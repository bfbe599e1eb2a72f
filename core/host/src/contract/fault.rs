//! From wasmtime's errors to a fault that people can read.

use hexa_model::driver::{Fault, LimitBroken};
use wasmtime::Trap;
use wasmtime::component::ResourceTableError;

use crate::contract::output_validation::OutputError;
use crate::engine::limits::{HANDLES, IO_BYTES, LimitError};

/// A call after which the instance is not used again.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The guest trapped, or a limit ended it, or its result could not be read.
    Trap(wasmtime::Error),
    /// Its result was read and is invalid.
    Output(OutputError),
}

impl From<wasmtime::Error> for Broken {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

impl From<OutputError> for Broken {
    fn from(error: OutputError) -> Self {
        Self::Output(error)
    }
}

impl Broken {
    /// The fault as the caller and the log see it.
    pub(crate) fn into_fault(self, plugin: &str, version: &str) -> Fault {
        let (kind, limit, message) = match self {
            Self::Output(error) => ("output", error.limit, error.message),
            Self::Trap(error) => classify(&error),
        };
        Fault { plugin: plugin.to_owned(), version: version.to_owned(), kind, limit, message }
    }
}

fn classify(error: &wasmtime::Error) -> (&'static str, Option<LimitBroken>, String) {
    if let Some(broken) = error.downcast_ref::<LimitError>() {
        return (broken.kind, Some(broken.limit.clone()), broken.to_string());
    }
    // Of the host's own resources or of the component's handles, whichever were too many first.
    let handles = matches!(error.downcast_ref(), Some(ResourceTableError::Full))
        // wasmtime has no public type for this one.
        || error.root_cause().to_string().contains("store handle limit exceeded");
    if handles {
        let broken = LimitError::new("memory", "handles", HANDLES as u64, HANDLES as u64 + 1);
        return (broken.kind, Some(broken.limit.clone()), broken.to_string());
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        let message = match trap {
            Trap::UnreachableCodeReached => "the plugin panicked or aborted".to_owned(),
            Trap::StackOverflow => "the plugin used up its call stack".to_owned(),
            other => other.to_string(),
        };
        return ("trap", None, message);
    }
    let cause = error.root_cause().to_string();
    // wasmtime has no public type for this one.
    if cause.contains("fuel allocated for hostcalls") {
        let limit = LimitBroken { limit: "io_bytes", allowed: IO_BYTES as u64, actual: IO_BYTES as u64 + 1 };
        return ("io", Some(limit), "the call moved more data between plugin and host than is allowed".to_owned());
    }
    ("trap", None, cause)
}
