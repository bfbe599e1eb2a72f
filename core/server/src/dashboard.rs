//! The console's files (`build.rs`).

use hexa_api::{Asset, AssetBody, Dashboard};

include!(concat!(env!("OUT_DIR"), "/dashboard.rs"));

/// What this binary was built with.
pub(crate) fn built_in() -> Dashboard {
    Dashboard { page: PAGE, assets: ASSETS }
}

/// For the generated file: one that is compressed by itself.
#[allow(dead_code, reason = "an empty dashboard/dist names no file")]
const fn plain(path: &'static str, kind: &'static str, bytes: &'static [u8]) -> Asset {
    Asset { path, kind, body: AssetBody::Plain(bytes) }
}

/// And one in both codings.
#[allow(dead_code, reason = "an empty dashboard/dist names no file")]
const fn packed(path: &'static str, kind: &'static str, brotli: &'static [u8], gzip: &'static [u8]) -> Asset {
    Asset { path, kind, body: AssetBody::Packed { brotli, gzip } }
}
