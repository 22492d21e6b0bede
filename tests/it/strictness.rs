//! Strictness: what RFC 6455 does not allow ends the connection with the code that says so, and ends nothing else.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::support::client;
use crate::support::upstream::EventSender;
use crate::support::{Client, FakeUpstream, Seen, TestGateway, must};

const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CONTINUATION: u8 = 0x0;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xA;
const FIN: u8 = 0x80;

/// A client that sends what bytes it likes, on a connection of its own.
struct Raw {
    stream: TlsStream<TcpStream>,
    events: EventSender,
}

impl Raw {
    async fn connect(gateway: &TestGateway, upstream: &mut FakeUpstream) -> Self {
        let (client, events) = tokio::join!(Client::connect(gateway), async { upstream.next_open().await.accept() });
        Self { stream: client.into_raw(), events }
    }

    async fn send(&mut self, bytes: &[u8]) {
        must("room to send", self.stream.write_all(bytes)).await.unwrap();
    }

    /// First byte and payload of the next frame, which must not be masked.
    async fn frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        must("a frame", self.stream.read_exact(&mut head)).await.unwrap();
        assert!(head[1] <= 125, "masked, or longer than these scenes have it");
        let mut payload = vec![0; usize::from(head[1])];
        must("a payload", self.stream.read_exact(&mut payload)).await.unwrap();
        (head[0], payload)
    }

    /// The code of the close frame that must come next, and its reason; behind it the connection must end.
    async fn closed(mut self) -> (u16, String, EventSender) {
        let (first, payload) = self.frame().await;
        assert_eq!(first, FIN | CLOSE);
        let code = u16::from_be_bytes([payload[0], payload[1]]);
        let mut rest = Vec::new();
        must("the end of the connection", self.stream.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.is_empty(), "something follows the close frame");
        (code, String::from_utf8(payload[2..].to_vec()).unwrap(), self.events)
    }
}

/// A masked frame; `first` is its first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = vec![first];
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..=125), _) => frame.push(0x80 | length),
        (_, Ok(length)) => frame.extend([&[0xFE][..], &length.to_be_bytes()].concat()),
        _ => frame.extend([&[0xFF][..], &(payload.len() as u64).to_be_bytes()].concat()),
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The head of a masked frame of `length` bytes, none of which follows.
fn announcing(first: u8, length: u64) -> Vec<u8> {
    [&[first, 0xFF][..], &length.to_be_bytes(), &[0; 4]].concat()
}

fn close(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// Plays one scene per case, all on one gateway: a message, and then what breaks the rules. The message arrives, what came
/// behind it does not, the stream is given up, and others go on being served.
async fn each_is_refused(bridge_keys: &str, expected: u16, word: &str, cases: &[(&str, Vec<u8>)]) {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::with(&upstream, "", bridge_keys);
    let (mut bystander, events) =
        tokio::join!(Client::connect(&gateway), async { upstream.next_open().await.accept() });
    for (what, bytes) in cases {
        let mut raw = Raw::connect(&gateway, &mut upstream).await;
        raw.send(&[frame(FIN | TEXT, b"before"), bytes.clone(), frame(FIN | TEXT, b"behind")].concat()).await;
        let (code, reason, given_up) = raw.closed().await;
        assert_eq!(code, expected, "{what}: {reason}");
        assert!(reason.starts_with(word), "{what}: {reason}");
        let post = upstream.next_post().await;
        assert_eq!(post.text(), "before", "{what}");
        post.accept();
        // The stream stays until everything is delivered, so that no POST can come after its end.
        given_up.cancelled().await;
        upstream.assert_no_post();
    }
    bystander.text("still here").await;
    upstream.next_post().await.accept();
    events.send("data: so am I\n\n").await;
    assert_eq!(bystander.next().await, Seen::text("so am I"));
}

#[tokio::test]
async fn frames_against_the_rules_are_1002() {
    let unmasked = [&[FIN | TEXT, 6][..], b"broken"].concat();
    let cases = [
        ("an unmasked frame", unmasked),
        ("an unmasked ping", vec![FIN | PING, 0]),
        ("an unknown data opcode", frame(FIN | 0x3, b"broken")),
        ("an unknown control opcode", frame(FIN | 0xB, b"broken")),
        ("RSV1", frame(FIN | 0x40 | TEXT, b"broken")),
        ("RSV2", frame(FIN | 0x20 | TEXT, b"broken")),
        ("RSV3", frame(FIN | 0x10 | TEXT, b"broken")),
        ("RSV1 on a ping", frame(FIN | 0x40 | PING, b"")),
        ("a ping of 126 bytes", frame(FIN | PING, &[b'x'; 126])),
        ("a close frame of 126 bytes", close(1000, &[b'x'; 124])),
        ("a fragmented ping", frame(PING, b"broken")),
        ("a fragmented close frame", frame(CLOSE, &1000_u16.to_be_bytes())),
        ("a continuation of nothing", frame(FIN | CONTINUATION, b"broken")),
        ("an unfinished continuation of nothing", frame(CONTINUATION, b"broken")),
        ("a text message inside another", [frame(TEXT, b"bro"), frame(FIN | TEXT, b"ken")].concat()),
        ("a binary message inside a text message", [frame(TEXT, b"bro"), frame(BINARY, b"ken")].concat()),
    ];
    each_is_refused("", 1002, "protocol-error: ", &cases).await;
}

#[tokio::test]
async fn close_frames_with_a_code_that_must_not_be_sent_are_1002() {
    each_is_refused("", 1002, "protocol-error: ", &[("a close frame of one byte", frame(FIN | CLOSE, &[3]))]).await;
    let reserved = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535];
    let cases = reserved.map(|code| ("a reserved code", close(code, b"broken")));
    each_is_refused("", 1002, "", &cases).await;
}

#[tokio::test]
async fn text_that_is_no_utf8_is_1007() {
    let split = |first: &[u8], second: &[u8]| [frame(TEXT, first), frame(FIN | CONTINUATION, second)].concat();
    let cases = [
        ("a stray byte", frame(FIN | TEXT, b"broken \xff")),
        ("a surrogate", frame(FIN | TEXT, b"\xed\xa0\x80")),
        ("an overlong form", frame(FIN | TEXT, b"\xc0\xaf")),
        ("above U+10FFFF", frame(FIN | TEXT, b"\xf4\x90\x80\x80")),
        ("a character that is cut off", frame(FIN | TEXT, b"\xe2\x82")),
        ("a character that goes on wrongly in the next fragment", split(b"bro\xe2\x82", b"ken")),
        ("a character that is cut off in the last fragment", split(b"bro", b"ken\xe2\x82")),
        ("a bad fragment, before the message is complete", frame(TEXT, b"broken \xff")),
        ("a close reason", close(1000, b"\xff")),
    ];
    each_is_refused("", 1007, "invalid-text: ", &cases).await;
}

#[tokio::test]
async fn messages_above_the_limit_are_1009() {
    let limit = "max_message_size = \"1KiB\"";
    let halves = |size: usize| [frame(BINARY, &vec![0; 512]), frame(FIN | CONTINUATION, &vec![0; size - 512])].concat();
    let drops = [frame(TEXT, b""), frame(CONTINUATION, b"x").repeat(1025)].concat();
    let cases = [
        ("one byte too much", frame(FIN | TEXT, &[b'x'; 1025])),
        ("one byte too much in two fragments", halves(1025)),
        ("many small fragments", drops),
        ("2^62 bytes of which nothing follows", announcing(FIN | BINARY, 1 << 62)),
        ("2^64 - 1 bytes of which nothing follows", announcing(FIN | TEXT, u64::MAX)),
        ("2^62 bytes in a second fragment", [frame(TEXT, b"x"), announcing(FIN | CONTINUATION, 1 << 62)].concat()),
    ];
    each_is_refused(limit, 1009, "message-too-big: ", &cases).await;

    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::with(&upstream, "", limit);
    let mut raw = Raw::connect(&gateway, &mut upstream).await;
    raw.send(&[frame(FIN | TEXT, &[b'x'; 1024]), halves(1024)].concat()).await;
    for _ in 0..2 {
        let post = upstream.next_post().await;
        assert_eq!(post.body.len(), 1024, "a message of exactly the limit");
        post.accept();
    }
}

#[tokio::test]
async fn a_small_message_limit_is_no_limit_for_control_frames() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::with(&upstream, "", "max_message_size = \"1B\"");
    let mut raw = Raw::connect(&gateway, &mut upstream).await;
    raw.send(&frame(FIN | PING, &[b'x'; 125])).await;
    assert_eq!(raw.frame().await, (FIN | PONG, vec![b'x'; 125]));
    raw.send(&close(4000, b"as long as a reason may be")).await;
    assert_eq!(raw.closed().await.0, 4000);
    each_is_refused(
        "max_message_size = \"10B\"",
        1009,
        "message-too-big: ",
        &[("11 bytes", frame(FIN | TEXT, &[b'x'; 11]))],
    )
    .await;
}

#[tokio::test]
async fn fragments_make_one_message_wherever_they_are_cut() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let mut raw = Raw::connect(&gateway, &mut upstream).await;
    let text = "aß€😀";
    for cut in 0..=text.len() {
        let (head, tail) = text.as_bytes().split_at(cut);
        raw.send(&[frame(TEXT, head), frame(CONTINUATION, b""), frame(FIN | CONTINUATION, tail)].concat()).await;
        let post = upstream.next_post().await;
        assert_eq!(post.text(), text, "cut at {cut}");
        post.accept();
    }
    raw.send(&[frame(BINARY, b"\xff"), frame(FIN | CONTINUATION, b"\xfe")].concat()).await;
    let post = upstream.next_post().await;
    assert_eq!((&post.body[..], post.field("content-type")), (&b"\xff\xfe"[..], "application/octet-stream"));
}

#[tokio::test]
async fn a_ping_is_answered_with_its_payload_and_goes_nowhere_else() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let mut raw = Raw::connect(&gateway, &mut upstream).await;
    for payload in [&b""[..], b"tide", &[0xff; 125]] {
        raw.send(&frame(FIN | PING, payload)).await;
        assert_eq!(raw.frame().await, (FIN | PONG, payload.to_vec()));
    }
    raw.send(&[frame(FIN | PONG, b"nobody asked"), frame(TEXT, b"in two ")].concat()).await;
    raw.send(&frame(FIN | PING, b"between")).await;
    assert_eq!(raw.frame().await, (FIN | PONG, b"between".to_vec()));
    upstream.assert_no_post();
    raw.send(&frame(FIN | CONTINUATION, b"parts")).await;
    assert_eq!(upstream.next_post().await.text(), "in two parts");
}

#[tokio::test]
async fn messages_without_a_byte_are_messages() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let mut raw = Raw::connect(&gateway, &mut upstream).await;
    raw.send(&[frame(FIN | TEXT, b""), frame(FIN | BINARY, b"")].concat()).await;
    for (sequence, content_type) in [("1", "text/plain; charset=utf-8"), ("2", "application/octet-stream")] {
        let post = upstream.next_post().await;
        assert_eq!((post.body.len(), post.field("content-length")), (0, "0"));
        assert_eq!((post.field("tidegate-sequence"), post.field("content-type")), (sequence, content_type));
        post.accept();
    }
}

#[tokio::test]
async fn nothing_behind_a_close_frame_is_heard() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    for (payload, answered) in [(&[3_u8, 232][..], Some(1000_u16)), (b"\x0f\xa0bye", Some(4000)), (b"", None)] {
        let mut raw = Raw::connect(&gateway, &mut upstream).await;
        raw.send(&[frame(FIN | CLOSE, payload), frame(FIN | TEXT, b"behind")].concat()).await;
        let (first, payload) = raw.frame().await;
        assert_eq!(
            (first, payload.get(..2)),
            (FIN | CLOSE, answered.map(u16::to_be_bytes).as_ref().map(|code| &code[..]))
        );
        must("the end of the connection", raw.stream.read_to_end(&mut Vec::new())).await.unwrap();
        let events = raw.events;
        drop(raw.stream);
        events.cancelled().await;
        upstream.assert_no_post();
    }
}

#[tokio::test]
async fn a_message_in_one_packet_with_the_handshake_is_not_lost() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let mut stream = client::tls(gateway.address(), &gateway.tls).await;
    let request = client::handshake(&gateway, "/chat", "");
    stream.write_all(&[request.as_bytes(), &frame(FIN | TEXT, b"early")].concat()).await.unwrap();
    let _events = upstream.next_open().await.accept();
    assert_eq!(upstream.next_post().await.text(), "early");
}
