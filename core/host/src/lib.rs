pub mod wit;
pub mod wasi;
