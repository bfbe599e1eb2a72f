//! The two WebSockets, `/ws/device` for devices and `/ws/client` for apps and the console, and their limits.

pub mod client;
pub mod device;
mod frames;
pub mod hub;

use axum::extract::ws::WebSocketUpgrade;
use hexa_devices::session::CloseReason;
use hexa_model::ErrorCode;
use hexa_platform::Error;
use tokio_tungstenite::tungstenite;

/// The largest message and frame of a device.
const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// Read and write buffers: tungstenite's default of 128 KiB each would cost 1.3 GB at 10,000 connections.
const BUFFER_BYTES: usize = 4 * 1024;
/// Of a device: its frames have some 100 bytes, an idle connection holds the buffer all the time, and a larger message
/// gets what it needs when its header has been read.
const DEVICE_READ_BYTES: usize = 1024;
/// What may wait in the socket's own buffer before writing fails.
const MAX_WRITE_BUFFER_BYTES: usize = 256 * 1024;

/// A peer that takes nothing for so long is closed with 4008.
const STALL: std::time::Duration = std::time::Duration::from_secs(10);

fn tuned(upgrade: WebSocketUpgrade, max_message_bytes: usize, read_bytes: usize) -> WebSocketUpgrade {
    upgrade
        .read_buffer_size(read_bytes)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(MAX_WRITE_BUFFER_BYTES)
        .max_message_size(max_message_bytes)
        .max_frame_size(max_message_bytes)
}

/// A request on a socket route that is no WebSocket upgrade.
fn not_an_upgrade() -> Error {
    Error::new(
        ErrorCode::ValidationError,
        "this route is a WebSocket: send Connection: Upgrade and Upgrade: websocket; a proxy in between must pass both on",
    )
}

/// The close code that a broken peer is told.
fn reason_of(error: axum::Error) -> Option<CloseReason> {
    let error = error.into_inner().downcast::<tungstenite::Error>().ok()?;
    match *error {
        tungstenite::Error::Capacity(_) => Some(CloseReason::TooLarge),
        tungstenite::Error::Utf8(_) => Some(CloseReason::InvalidUtf8),
        tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => None,
        tungstenite::Error::Protocol(_) => Some(CloseReason::ProtocolError),
        _ => None,
    }
}
