//! Devices that break the rules: what each is closed with, and that others are served.

use std::sync::OnceLock;

use hexa_tests::raw::{RawSocket, opcode};
use hexa_tests::{Frame, Identity, Shared, TestServer};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

fn server() -> Shared {
    static SERVER: OnceLock<TestServer> = OnceLock::new();
    TestServer::shared(&SERVER)
}

async fn raw(server: &TestServer, identity: &Identity) -> RawSocket {
    RawSocket::open(server.address, &format!("/ws/device?uid={}", identity.uid), &identity.token).await
}

#[tokio::test]
async fn a_message_over_64_kib_is_closed_with_1009() {
    let server = server();
    let mut device = server.connect(&server.provision(1).await).await;
    let text = format!("{{\"type\":\"heartbeat\",\"x\":\"{}\"}}", "y".repeat(65 * 1024));
    device.socket.send(Message::text(text)).await.unwrap();
    assert_eq!(device.socket.expect_close().await.0, 1009);
    // One that just fits is only not understood, or understood.
    let mut device = server.connect(&device.identity).await;
    let text = format!("{{\"type\":\"heartbeat\",\"x\":\"{}\"}}", "y".repeat(60 * 1024));
    device.socket.send(Message::text(text)).await.unwrap();
    device.send(&json!({ "type": "hello" })).await;
    assert!(matches!(device.socket.next().await, Frame::Text(_)));
}

#[tokio::test]
async fn a_declared_frame_of_a_gigabyte_costs_no_memory() {
    let server = server();
    let identity = server.provision(1).await;
    let before = server.resident_bytes();
    let mut open = Vec::new();
    for _ in 0..8 {
        let mut socket = raw(&server, &identity).await;
        socket.declare(opcode::BINARY, 1 << 30).await;
        assert_eq!(socket.close_code().await, Some(1009));
        open.push(socket);
    }
    let grown = server.resident_bytes().saturating_sub(before);
    eprintln!("{} declared frames of 1 GiB cost {grown} bytes", open.len());
    assert!(grown < 8 << 20, "8 such frames cost {grown} bytes");
}

#[tokio::test]
async fn a_message_in_fragments_is_bounded_as_a_whole() {
    let server = server();
    let mut socket = raw(&server, &server.provision(1).await).await;
    let piece = vec![b'a'; 16 * 1024];
    socket.frame(false, opcode::TEXT, true, &piece).await;
    for _ in 0..4 {
        socket.frame(false, opcode::CONTINUATION, true, &piece).await;
    }
    assert_eq!(socket.close_code().await, Some(1009));
}

#[tokio::test]
async fn text_that_is_not_utf8_is_closed_with_1007() {
    let server = server();
    let mut socket = raw(&server, &server.provision(1).await).await;
    socket.frame(true, opcode::TEXT, true, b"{\"type\":\"\xff\xfe\"}").await;
    assert_eq!(socket.close_code().await, Some(1007));
}

#[tokio::test]
async fn broken_framing_is_closed_with_1002() {
    let server = server();
    let mut unmasked = raw(&server, &server.provision(1).await).await;
    unmasked.frame(true, opcode::TEXT, false, b"{}").await;
    assert_eq!(unmasked.close_code().await, Some(1002), "an unmasked frame");
    let mut fragmented = raw(&server, &server.provision(1).await).await;
    fragmented.frame(false, opcode::PING, true, b"x").await;
    assert_eq!(fragmented.close_code().await, Some(1002), "a fragmented control frame");
    let mut reserved = raw(&server, &server.provision(1).await).await;
    reserved.frame(true, 0x0b, true, b"").await;
    assert_eq!(reserved.close_code().await, Some(1002), "a reserved opcode");
    let mut headless = raw(&server, &server.provision(1).await).await;
    headless.frame(true, opcode::CONTINUATION, true, b"x").await;
    assert_eq!(headless.close_code().await, Some(1002), "a continuation of nothing");
}

#[tokio::test]
async fn what_is_not_understood_is_answered_counted_and_in_the_end_closed_with_1008() {
    let server = server();
    let mut device = server.connect(&server.provision(1).await).await;
    let bad = [
        Message::text(r#"{"type":"dance"}"#),
        Message::text("not json"),
        Message::text(r#"{"no":"type"}"#),
        Message::text("[]"),
        Message::text(format!("{}{}", "[".repeat(1000), "]".repeat(1000))),
        Message::binary(vec![0u8, 1, 2]),
        Message::text(r#"{"type":"ack"}"#),
        Message::text(r#"{"type":"heartbeat","type":"ack"}"#),
    ];
    let before = server.metrics().await.count("hexa_malformed_frames_total", &[]);
    for n in 0..20usize {
        device.socket.send(bad[n % bad.len()].clone()).await.unwrap();
        match device.socket.next().await {
            Frame::Text(answer) => {
                assert_eq!((&answer["type"], &answer["code"]), (&json!("error"), &json!("validation_error")), "{n}");
            }
            Frame::Close(code, _) => {
                assert_eq!((n, code), (19, 1008), "the twentieth in a minute is the last");
                let after = server.metrics().await.count("hexa_malformed_frames_total", &[]);
                assert!(after - before >= 20, "{}", after - before);
                return;
            }
            Frame::Gone => panic!("no close frame after frame {n}"),
        }
    }
    assert_eq!(device.socket.expect_close().await.0, 1008);
}

#[tokio::test]
async fn a_flood_is_closed_with_4008_while_others_are_served() {
    let server = server();
    let user = server.user().await;
    let calm = server.device(&user, 1).await.automatic(1);
    let mut loud = server.connect(&server.provision(1).await).await;
    let flood = tokio::spawn(async move {
        for _ in 0..2000 {
            if loud.socket.send(Message::text(r#"{"type":"heartbeat"}"#)).await.is_err() {
                break;
            }
        }
        loud.socket.expect_close().await.0
    });
    for n in 0..10 {
        user.set_relay(calm.uid(), 0, n % 2 == 0).await.expect(200);
    }
    assert_eq!(flood.await.unwrap(), 4008);
}

#[tokio::test]
async fn acks_that_answer_open_commands_are_free_of_the_rate() {
    let server = server();
    let user = server.user().await;
    let device = server.device(&user, 1).await.automatic(1);
    // More than the burst of 120, far faster than 60 a second.
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let (user, uid) = (user.clone(), device.uid().to_owned());
        tasks.push(tokio::spawn(async move {
            for n in 0..40 {
                user.set_relay(&uid, 0, n % 2 == 0).await.expect(200);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(device.seen().len(), 320);
}

#[tokio::test]
async fn a_flood_of_pings_ends_the_session_as_a_flood_of_messages_does() {
    let server = server();
    let mut device = server.connect(&server.provision(1).await).await;
    // The burst is 120; a device that pings as the protocol asks never comes near it.
    for _ in 0..200 {
        if device.socket.send(Message::Ping(Vec::new().into())).await.is_err() {
            break;
        }
    }
    loop {
        match device.socket.next().await {
            Frame::Close(code, _) => return assert_eq!(code, 4008),
            Frame::Text(_) => {}
            Frame::Gone => panic!("the session ended without saying why"),
        }
    }
}
