//! First-party driver of the class `relay_controller`, protocol `hexa-json/1`.
//! Called by the host through the contract in `sdk/wit`; calls only the public SDK.
//! Native builds are for the tests; what the server loads is the component built for wasm32-wasip2.
//! Invariants: pure codec, no state between calls, no import beyond the log.
//! Start at [`driver`].

pub mod driver;

hexa_sdk::export_driver!(crate::driver::RelayController);
