//! A dashboard on `/ws/client`.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::device::{Frame, Refused, Socket};
use crate::server::{TestServer, User};

/// A connected client socket.
#[derive(Debug)]
pub struct WsClient {
    /// The socket, for frames that no method sends.
    pub socket: Socket,
}

impl WsClient {
    /// Connects with an access token.
    ///
    /// # Errors
    /// The server's HTTP answer.
    pub async fn open(server: &TestServer, token: &str) -> Result<Self, Refused> {
        let authorization = format!("Bearer {token}");
        Ok(Self { socket: Socket::open(server.address, "/ws/client", Some(&authorization)).await? })
    }
    /// Connects a user and subscribes to all of its devices; gives the snapshot's devices.
    ///
    /// # Panics
    /// When the first answer is no snapshot.
    pub async fn subscribed(server: &TestServer, user: &User) -> (Self, Vec<Value>) {
        let mut client = Self::open(server, &user.access_token).await.expect("the socket opens");
        client.send(&json!({ "type": "subscribe" })).await;
        let snapshot = client.next().await;
        assert_eq!(snapshot["type"], "snapshot", "{snapshot}");
        let devices = snapshot["devices"].as_array().cloned().unwrap_or_else(|| panic!("{snapshot}"));
        (client, devices)
    }
    /// Sends a JSON frame.
    ///
    /// # Panics
    /// When the connection is over.
    pub async fn send(&mut self, frame: &Value) {
        self.socket.send(Message::text(frame.to_string())).await.expect("the connection is open");
    }
    /// The next frame.
    ///
    /// # Panics
    /// On a close.
    pub async fn next(&mut self) -> Value {
        match self.socket.next().await {
            Frame::Text(value) => value,
            other => panic!("expected a text frame, got {other:?}"),
        }
    }
    /// The next frame of this type; others before it are dropped.
    ///
    /// # Panics
    /// When none comes.
    pub async fn expect(&mut self, kind: &str) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] == kind {
                return frame;
            }
        }
    }
    /// The frames up to the answer to a ping: everything that was sent before it.
    pub async fn drained(&mut self) -> Vec<Value> {
        self.send(&json!({ "type": "ping" })).await;
        let mut before = Vec::new();
        loop {
            let frame = self.next().await;
            if frame["type"] == "pong" {
                return before;
            }
            before.push(frame);
        }
    }
}
