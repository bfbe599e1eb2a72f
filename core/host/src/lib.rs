//! The guest house: drivers as sandboxed WASM components.
