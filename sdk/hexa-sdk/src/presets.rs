//! Whole protocols and configurations to build a driver from.

pub mod hexa_json;
pub mod relay_config;
