//! Attacks over HTTP/2, by hand: each ends its own connection, and nothing else.

use serde_json::Value;

use crate::support::http::Answered;
use crate::support::http2_frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, HEADERS, PING, PRIORITY, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    frame, get, integer, literal, websocket,
};
use crate::support::process::GatewayProcess;
use crate::support::{Client, FakeUpstream, Seen, gateway, http, must};

/// Memory that all attacks together may leave the gateway with, in bytes: what the connections of a few clients take, and what the
/// allocator holds back.
const GROWTH: u64 = 24 << 20;

/// A gateway in a process of its own, with a client on another connection that must not notice anything.
struct Attacked {
    gateway: GatewayProcess,
    admin: std::net::SocketAddr,
    upstream: FakeUpstream,
    bystander: Client,
    events: crate::support::upstream::EventSender,
    before: u64,
}

impl Attacked {
    async fn start(http2: &str) -> Self {
        let mut upstream = FakeUpstream::start().await;
        let toml = gateway::toml(&format!("http://{}", upstream.address), "", "")
            .replace("[upstream.app]", &format!("[listener.http2]\n{http2}\n[upstream.app]"));
        let toml = format!("[log]\nformat = \"json\"\n[admin]\naddress = \"127.0.0.1:0\"\n{toml}");
        let mut gateway = GatewayProcess::start(&toml).await;
        let admin = gateway.admin().await;
        let (bystander, events) = tokio::join!(gateway.client(), async { upstream.next_open().await.accept() });
        let before = gateway.process.resident();
        Self { gateway, admin, upstream, bystander, events, before }
    }

    async fn connect(&self) -> Frames {
        Frames::connect(self.gateway.address, &self.gateway.tls).await
    }

    /// Asserts that the bystander is served, that so many connections were closed for this reason, and that memory is flat.
    async fn unharmed(&mut self, reason: &str, closed: usize) {
        self.events.send("data: not disturbed\n\n").await;
        assert_eq!(self.bystander.next().await, Seen::text("not disturbed"), "{reason}");
        let sample = format!("tidegate_http2_closed_total{{reason=\"{reason}\"}}");
        // Counted when the connection's last task is gone, which may be after its client has seen the end.
        let counted = async {
            loop {
                let text = scrape(self.admin).await.body;
                let line = text.lines().find_map(|line| line.strip_prefix(&sample)).map(str::trim).unwrap().to_owned();
                if line == closed.to_string() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        must(&format!("{closed} connections closed for {reason}"), counted).await;
        let grown = self.gateway.process.resident().saturating_sub(self.before);
        assert!(grown < GROWTH, "{grown} bytes more after {reason}");
    }
}

async fn scrape(admin: std::net::SocketAddr) -> Answered {
    let stream = tokio::net::TcpStream::connect(admin).await.unwrap();
    http::exchange(stream, "localhost", ::http::Method::GET, "/metrics", &[], "").await
}

/// Streams of a client: 1, 3, 5 and so on.
fn streams() -> impl FnMut() -> u32 {
    let mut next = 1;
    move || {
        next += 2;
        next - 2
    }
}

#[tokio::test]
async fn requests_that_are_taken_back_at_once_end_the_connection() {
    let attacked = Attacked::start("").await;
    // As fast as it goes, so that most are gone before they are looked at.
    let mut stream = streams();
    let both = || {
        let stream = stream();
        let request = frame(HEADERS, END_HEADERS, stream, &websocket("/chat"));
        [request, frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())].concat()
    };
    attacked.connect().await.flood(both).await;
    drop(attacked);

    // Each for itself.
    let mut attacked = Attacked::start("max_resets = 10").await;
    let mut frames = attacked.connect().await;
    let mut stream = streams();
    for _ in 0..11 {
        let stream = stream();
        frames.send(&frame(HEADERS, END_HEADERS, stream, &websocket("/chat"))).await;
        let mut held = attacked.upstream.next_open().await.hold();
        frames.send(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())).await;
        must("upstream to see its request cancelled", held.closed()).await;
    }
    frames.ended().await;
    attacked.unharmed("resets", 1).await;
}

#[tokio::test]
async fn floods_of_frames_without_content_end_the_connection() {
    let mut attacked = Attacked::start("").await;
    let open = || frame(HEADERS, END_HEADERS, 1, &websocket("/chat"));
    let floods: [(&str, Vec<u8>); 7] = [
        ("settings", frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])),
        ("settings that are none", frame(SETTINGS, 0, 0, &[])),
        ("pings", frame(PING, 0, 0, &[7; 8])),
        ("answers to no ping", frame(PING, 1, 0, &[7; 8])),
        ("priorities", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16])),
        ("window updates", frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("unknown frames", frame(0x2a, 0, 0, &[1; 100])),
    ];
    for (at, (what, flood)) in floods.into_iter().enumerate() {
        let mut frames = attacked.connect().await;
        frames.send(&open()).await;
        let events = attacked.upstream.next_open().await.accept();
        let flood = flood.repeat(10);
        frames.flood(|| flood.clone()).await;
        events.cancelled().await;
        println!("{what}");
        attacked.unharmed("frames", at + 1).await;
    }
    // Of empty pieces of a body the HTTP library has enough before we have.
    let mut frames = attacked.connect().await;
    frames.send(&open()).await;
    let events = attacked.upstream.next_open().await.accept();
    let flood = frame(DATA, 0, 1, &[]).repeat(10);
    frames.flood(|| flood.clone()).await;
    events.cancelled().await;
    attacked.unharmed("limits", 1).await;
}

#[tokio::test]
async fn heads_that_never_end_or_unpack_to_megabytes_end_the_connection() {
    let mut attacked = Attacked::start("").await;
    // Continuations without an end, with and without content.
    for (at, piece) in [literal("x-more", &"x".repeat(1000)), Vec::new()].into_iter().enumerate() {
        let mut first = Some(frame(HEADERS, END_STREAM, 1, &get("/chat")));
        let next = || first.take().unwrap_or_else(|| frame(CONTINUATION, 0, 1, &piece));
        attacked.connect().await.flood(next).await;
        attacked.unharmed("limits", at + 1).await;
    }
    // A field of 4000 bytes that is sent once, and named by one byte 10,000 times.
    let mut bomb = get("/chat");
    bomb.push(0x40);
    let value = "b".repeat(4000);
    integer(6, &mut bomb);
    bomb.extend(b"x-bomb");
    integer(value.len(), &mut bomb);
    bomb.extend(value.as_bytes());
    bomb.extend([0xbe].repeat(10_000));
    let bomb = frame(HEADERS, END_STREAM | END_HEADERS, 1, &bomb);
    attacked.connect().await.flood(|| bomb.clone()).await;
    attacked.unharmed("limits", 3).await;
    // A head that is no HPACK at all.
    attacked.connect().await.flood(|| frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0xff; 100])).await;
    attacked.unharmed("protocol", 1).await;
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_and_a_flood_of_them_ends_the_connection() {
    let mut attacked = Attacked::start("max_streams = 5").await;
    let mut stream = streams();
    let next = || frame(HEADERS, END_HEADERS, stream(), &websocket("/chat"));
    attacked.connect().await.flood(next).await;
    attacked.unharmed("limits", 1).await;
    let mut asked = 0;
    while !attacked.upstream.no_open_for(std::time::Duration::from_millis(100)).await {
        asked += 1;
    }
    assert!(asked <= 5, "upstream was asked for {asked} streams");
}

#[tokio::test]
async fn breaches_of_the_protocol_end_the_connection() {
    let mut attacked = Attacked::start("").await;
    let breaches: [(&str, Vec<u8>); 6] = [
        ("a body before its head", frame(DATA, 0, 1, b"x")),
        ("a stream of the server's", frame(HEADERS, END_HEADERS, 2, &get("/chat"))),
        ("a continuation of nothing", frame(CONTINUATION, 0, 1, b"x")),
        ("settings of a wrong length", frame(SETTINGS, 0, 0, &[1; 5])),
        ("a ping of a wrong length", frame(PING, 0, 0, &[1; 7])),
        ("a frame that is too large", frame(DATA, 0, 1, &vec![0; 20_000])),
    ];
    for (at, (what, breach)) in breaches.into_iter().enumerate() {
        let mut frames = attacked.connect().await;
        frames.send(&breach).await;
        frames.ended().await;
        println!("{what}");
        attacked.unharmed("protocol", at + 1).await;
    }
}

#[tokio::test]
async fn a_client_that_answers_no_ping_is_gone() {
    let mut attacked = Attacked::start("ping_interval = \"1s\"\nping_timeout = \"200ms\"").await;
    let mut frames = attacked.connect().await;
    frames.send(&frame(HEADERS, END_HEADERS, 1, &websocket("/chat"))).await;
    let events = attacked.upstream.next_open().await.accept();
    frames.ended().await;
    events.cancelled().await;
    attacked.unharmed("ping", 1).await;
    let opened = attacked.gateway.process.stderr.json();
    let versions: Vec<_> =
        opened.iter().filter(|line| line["message"] == "connection opened").map(|line| line["http"].clone()).collect();
    assert_eq!(versions, [Value::from("1.1"), Value::from("2")]);
}
