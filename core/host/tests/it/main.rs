//! The plugin host with a real driver and with guests that misbehave.

mod compiling;
mod embedded;
mod fuzz;
mod hostile;
mod loading;
mod micro;
mod policy;
mod relay_controller;
mod retire;
mod support;
mod tiny_wasi;
