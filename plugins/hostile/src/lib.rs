//! A driver that misbehaves in every way that a message asks for, and is a plain relay board otherwise.
//! Called by the host through the contract in `sdk/wit`; calls only the public SDK, so it can do what any plugin can.
//! For tests: it is built beside the other plugins, into a folder of its own, and no server loads it by itself.
//! Start at [`driver::Hostile`]. What goes wrong before a driver has a say (truncated bytes, foreign imports, a trap at
//! the start) is made from text by the host's own tests.

pub mod driver;

hexa_sdk::export_driver!(crate::driver::Hostile);
