//! One connection of a device, as the rest of the server sees it: something to wake and to close.
//!
//! There is no channel: commands wait in the device's [`DeviceCommands`](crate::command::pending::DeviceCommands), and waking is one
//! `Notify`, so that an idle connection costs a few words.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use hexa_model::{SessionId, TimeMs};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::contest::Party;

/// Why the server ends a device's connection; the close codes of docs/DEVICES.md#connecting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// A newer session of the same device.
    Replaced,
    /// Token rotated, or the device was released or deleted.
    Revoked,
    /// The device is disabled.
    Disabled,
    /// A client's session ended, its token was revoked or its account deactivated.
    SignedOut,
    /// Over the message rate, or too slow to take what is sent.
    TooFast,
    /// It broke the WebSocket protocol.
    ProtocolError,
    /// A text frame was not UTF-8.
    InvalidUtf8,
    /// Too many frames that its driver did not understand.
    Malformed,
    /// A message over the size that the socket takes.
    TooLarge,
    /// The server stops or restarts; come back after so many milliseconds.
    Restarting {
        /// Jittered, so that the fleet does not come back at once.
        reconnect_after_ms: u32,
    },
    /// No sign of life for 2.25 heartbeats.
    Dead,
}

impl CloseReason {
    /// For a restart: a random moment within `spread` to come back at.
    pub fn restarting_within(spread: Duration) -> Self {
        let jitter = u32::from_le_bytes(hexa_crypto::random_bytes()) % (spread.as_millis() as u32).max(1);
        Self::Restarting { reconnect_after_ms: jitter }
    }
    /// The WebSocket close code (RFC 6455 section 7.4 and the private range).
    pub fn code(self) -> u16 {
        match self {
            Self::Replaced => 4001,
            Self::Revoked => 4002,
            Self::Disabled | Self::SignedOut => 4003,
            Self::TooFast => 4008,
            Self::ProtocolError => 1002,
            Self::InvalidUtf8 => 1007,
            Self::Malformed => 1008,
            Self::TooLarge => 1009,
            Self::Restarting { .. } => 1012,
            Self::Dead => 1001,
        }
    }
    /// The close reason's text; JSON where there is something to read in it.
    pub fn text(self) -> String {
        match self {
            Self::Replaced => "replaced by a newer session".into(),
            Self::Revoked => "token rotated or device released".into(),
            Self::Disabled => "device disabled".into(),
            Self::SignedOut => "signed out: the session ended or the account was changed".into(),
            Self::TooFast => "more than 60 messages per second, or too slow a reader".into(),
            Self::ProtocolError => "WebSocket protocol error".into(),
            Self::InvalidUtf8 => "text is not UTF-8".into(),
            Self::Malformed => "too many malformed frames".into(),
            Self::TooLarge => "a message is larger than this socket takes".into(),
            Self::Restarting { reconnect_after_ms } => format!("{{\"reconnect_after_ms\":{reconnect_after_ms}}}"),
            Self::Dead => "no sign of life".into(),
        }
    }
}

/// One connection of a device, shared between its task and the rest of the server.
#[derive(Debug)]
pub struct Session {
    /// Unique for each connection, made when the device connects.
    pub id: SessionId,
    /// Wakes its task: there is something to send, or it is to close.
    pub wake: Notify,
    /// The device's access version at which its token was checked.
    pub(crate) access_version: i64,
    close: Mutex<Option<CloseReason>>,
    ping_due: AtomicBool,
    last_rx_ms: AtomicU64,
    last_noted_ms: AtomicI64,
    party: Mutex<Party>,
}

impl Session {
    /// As of monotonic `now`, with a token that was good at this access version.
    pub(crate) fn new(id: SessionId, access_version: i64, now: Duration, ip: Option<IpAddr>) -> Self {
        Self {
            id,
            access_version,
            wake: Notify::new(),
            close: Mutex::new(None),
            ping_due: AtomicBool::new(false),
            last_rx_ms: AtomicU64::new(now.as_millis() as u64),
            last_noted_ms: AtomicI64::new(0),
            party: Mutex::new(Party { ip, boot_id: None }),
        }
    }
    /// Who it is, as far as it has told.
    pub(crate) fn party(&self) -> Party {
        self.party.lock().clone()
    }
    /// It has told which boot it is.
    pub(crate) fn booted(&self, boot_id: &str) {
        let mut party = self.party.lock();
        if party.boot_id.as_deref() != Some(boot_id) {
            party.boot_id = Some(boot_id.into());
        }
    }
    /// Asks the task to close. The first reason stays.
    pub fn close(&self, reason: CloseReason) {
        self.close.lock().get_or_insert(reason);
        self.wake.notify_one();
    }
    /// Whether, and why, the task is to close.
    pub fn closing(&self) -> Option<CloseReason> {
        *self.close.lock()
    }
    /// Whether a ping is to be sent; clears the request.
    pub fn take_ping(&self) -> bool {
        self.ping_due.swap(false, Ordering::Relaxed)
    }
    pub(crate) fn ask_ping(&self) {
        self.ping_due.store(true, Ordering::Relaxed);
        self.wake.notify_one();
    }
    /// Notes that a frame or a pong arrived at monotonic `now`.
    pub(crate) fn received(&self, now: Duration) {
        self.last_rx_ms.store(now.as_millis() as u64, Ordering::Relaxed);
    }
    /// Time since something arrived.
    pub(crate) fn silence(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(self.last_rx_ms.load(Ordering::Relaxed)))
    }
    /// Whether `last_seen_at` should be noted for the store again: at most once in 30 s.
    pub(crate) fn note_due(&self, now: TimeMs) -> bool {
        let last = self.last_noted_ms.load(Ordering::Relaxed);
        let due = now.0 - last >= 30_000 || now.0 < last;
        if due {
            self.last_noted_ms.store(now.0, Ordering::Relaxed);
        }
        due
    }
}
