//! Generated from `sdk/wit` by wit-bindgen; nothing here is written by hand.

#![allow(
    missing_docs,
    unsafe_code,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "generated code; which of these it breaks changes with the generator"
)]

wit_bindgen::generate!({
    path: ["../wit/core.wit", "../wit/driver.wit"],
    world: "hexa:driver/driver",
    pub_export_macro: true,
    default_bindings_module: "hexa_sdk::bindings",
    generate_all,
    additional_derives: [PartialEq],
});
