//! Lines into the plugin's own log. The host adds plugin and device, and drops what is over 50 lines a second.

#[cfg(target_arch = "wasm32")]
use crate::bindings::hexa::core::log as host;

/// Something that a driver's author wants to see while developing.
pub fn debug(message: &str) {
    #[cfg(target_arch = "wasm32")]
    host::write(host::Level::Debug, message);
    #[cfg(not(target_arch = "wasm32"))]
    let _ = message;
}

/// Something that an operator should know.
pub fn warn(message: &str) {
    #[cfg(target_arch = "wasm32")]
    host::write(host::Level::Warn, message);
    #[cfg(not(target_arch = "wasm32"))]
    let _ = message;
}
