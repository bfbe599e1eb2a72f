//! What a device driver is written with: the trait [`Driver`], its context [`Context`], protocol presets and the export macro.
//! Called by guests in `plugins/` and by anyone's own driver; compiles natively too, so drivers have ordinary unit tests.
//! Calls nothing of the platform's core: the contract in `sdk/wit` is the only thing they share.
//! Invariants: a driver is a pure codec, so nothing is kept between calls except what [`Context`] hands in and takes out.
//! Start at [`driver::Driver`], then [`presets::hexa_json`] for the protocol that the built-in drivers speak.

pub mod bindings;
pub mod descriptor;
pub mod driver;
pub mod error;
pub mod guest;
pub mod json;
pub mod log;
pub mod prepared;
pub mod presets;

pub use bindings::hexa::driver::types;
pub use descriptor::Descriptor;
pub use driver::{Channel, Context, Driver, Message};
pub use error::{Error, Result};

/// Everything a driver usually names.
pub mod prelude {
    pub use crate::bindings::hexa::core::types::{Reading, Value};
    pub use crate::descriptor::{Descriptor, ReadingSpec};
    pub use crate::driver::{Channel, Context, Driver, Message};
    pub use crate::error::{Error, Result};
    pub use crate::prepared::Accepted;
    pub use crate::types::{
        Ack, AckOutcome, AckPolicy, Command, CommandEnvelope, DeviceEvent, DeviceIdent, Encoded, Frame,
    };
}

/// Makes a [`Driver`] the component's exports. Once per crate; natively it expands to nothing but a type check.
#[macro_export]
macro_rules! export_driver {
    ($driver:ty) => {
        const _: fn() = || {
            fn is_driver<D: $crate::Driver>() {}
            is_driver::<$driver>();
        };
        #[cfg(target_arch = "wasm32")]
        #[doc(hidden)]
        mod hexa_exported {
            #[allow(unused_imports, reason = "the driver's type may be named by any path")]
            use super::*;
            type Exported = $crate::guest::Exported<$driver>;
            $crate::bindings::export!(Exported with_types_in $crate::bindings);
        }
    };
}
