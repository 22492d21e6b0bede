//! `/connections` and `/streams`: the live connections and event streams as JSON.
//!
//! The list is taken at once, which is a pointer for each connection, and written a piece at a time as the reader takes it:
//! ten thousand connections are some megabytes, and writing them must not keep a worker thread from its clients.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use serde::ser::{SerializeMap, Serializer as _};
use uuid::Uuid;

use super::Sources;
use crate::bridge::registry::Entry;
use crate::identity::Holder;
use crate::protocol::problem::Problem;
use crate::protocol::query::decode;
use crate::proxy::stream;
use crate::telemetry::metrics::{COUNTS, values};

/// Connections that are shown when nobody says how many.
const LIMIT: usize = 1000;

/// Connections in one piece of the answer: some 30 kB, written in less than a tenth of a millisecond.
const PIECE: usize = 64;

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    route: Option<String>,
    limit: usize,
}

impl Wanted {
    /// Reads the query: `route`, the path pattern of a route, and `limit`, the most connections that are shown.
    ///
    /// # Errors
    ///
    /// 400, for a limit that is no number and for anything else that is asked.
    pub(super) fn read(query: &str) -> Result<Self, Problem> {
        let bad = |detail| Problem::new(StatusCode::BAD_REQUEST, "bad-query", detail);
        let mut wanted = Self { route: None, limit: LIMIT };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match name {
                "route" => wanted.route = Some(decode(value)),
                "limit" => wanted.limit = value.parse().map_err(|_| bad("limit must be a whole number"))?,
                _ => return Err(bad("the query may hold route and limit, and nothing else")),
            }
        }
        Ok(wanted)
    }
}

/// The answer's body: the oldest connections, as many as are wanted, and the number of all that match.
pub(super) fn list(sources: &Sources, wanted: &Wanted, now: Instant) -> List<Entry> {
    let found = sources.registry.connections(wanted.route.as_deref());
    List::new("connections", found, Entry::id, show, wanted, now)
}

/// The same of event streams that clients read natively.
pub(super) fn streams(sources: &Sources, wanted: &Wanted, now: Instant) -> List<stream::Entry> {
    let found = sources.streams.list(wanted.route.as_deref());
    List::new("streams", found, |stream| stream.id, show_stream, wanted, now)
}

/// Writes one of a list as JSON.
type Show<T> = fn(&T, Instant, &mut Vec<u8>) -> serde_json::Result<()>;

/// A list that is being written.
#[derive(Debug)]
pub(super) struct List<T> {
    name: &'static str,
    left: VecDeque<Arc<T>>,
    show: Show<T>,
    total: usize,
    now: Instant,
    part: Part,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Head,
    Rest,
    Done,
}

impl<T> List<T> {
    fn new(
        name: &'static str,
        found: Vec<Arc<T>>,
        id: fn(&T) -> Uuid,
        show: Show<T>,
        wanted: &Wanted,
        now: Instant,
    ) -> Self {
        // Ids sort by time. They are taken along, so that sorting does not look each one up again and again.
        let mut found: Vec<_> = found.into_iter().map(|one| (id(&one), one)).collect();
        let total = found.len();
        if wanted.limit < total {
            found.select_nth_unstable_by_key(wanted.limit, |(id, _)| *id);
            found.truncate(wanted.limit);
        }
        found.sort_unstable_by_key(|(id, _)| *id);
        let left = found.into_iter().map(|(_, one)| one).collect();
        Self { name, left, show, total, now, part: Part::Head }
    }

    fn next_piece(&mut self) -> Option<Vec<u8>> {
        let mut piece = Vec::with_capacity(PIECE * 512);
        let mut first = match self.part {
            Part::Head => {
                piece.extend_from_slice(format!("{{\"{}\":[", self.name).as_bytes());
                true
            }
            Part::Rest => false,
            Part::Done => return None,
        };
        for one in self.left.drain(..self.left.len().min(PIECE)) {
            if !std::mem::take(&mut first) {
                piece.push(b',');
            }
            // Writing to memory does not fail, and the map has names for keys.
            let _ = (self.show)(&one, self.now, &mut piece);
        }
        self.part = Part::Rest;
        if self.left.is_empty() {
            piece.extend_from_slice(format!("],\"total\":{}}}\n", self.total).as_bytes());
            self.part = Part::Done;
        }
        Some(piece)
    }
}

impl<T> http_body::Body for List<T> {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.get_mut().next_piece().map(|piece| Ok(Frame::data(piece.into()))))
    }
}

fn show(connection: &Entry, now: Instant, out: &mut Vec<u8>) -> serde_json::Result<()> {
    let snapshot = connection.snapshot();
    let mut writer = serde_json::Serializer::new(out);
    let mut map = writer.serialize_map(None)?;
    map.serialize_entry("id", &connection.id().as_hyphenated().to_string())?;
    map.serialize_entry("route", &**connection.route())?;
    map.serialize_entry("peer", &connection.peer())?;
    show_holder(connection.holder(), &mut map)?;
    map.serialize_entry("upstream", connection.upstream())?;
    map.serialize_entry("endpoint", &*connection.endpoint())?;
    map.serialize_entry("age_ms", &u64::try_from(connection.age(now).as_millis()).unwrap_or(u64::MAX))?;
    map.serialize_entry("stream", snapshot.stream.label())?;
    map.serialize_entry("queued_up_bytes", &snapshot.queued_up)?;
    map.serialize_entry("queued_down_bytes", &snapshot.queued_down)?;
    for (count, value) in COUNTS.iter().zip(values(&snapshot.counts)) {
        map.serialize_entry(count.field, &value)?;
    }
    map.end()
}

fn show_stream(stream: &stream::Entry, now: Instant, out: &mut Vec<u8>) -> serde_json::Result<()> {
    let mut writer = serde_json::Serializer::new(out);
    let mut map = writer.serialize_map(None)?;
    map.serialize_entry("id", &stream.id.as_hyphenated().to_string())?;
    map.serialize_entry("route", &*stream.route)?;
    map.serialize_entry("peer", &stream.peer)?;
    show_holder(stream.holder.as_deref(), &mut map)?;
    map.serialize_entry("endpoint", &*stream.endpoint)?;
    let age = now.saturating_duration_since(stream.opened);
    map.serialize_entry("age_ms", &u64::try_from(age.as_millis()).unwrap_or(u64::MAX))?;
    map.end()
}

fn show_holder<M: SerializeMap>(holder: Option<&Holder>, map: &mut M) -> Result<(), M::Error> {
    let Some(holder) = holder else { return Ok(()) };
    map.serialize_entry("subject", holder.subject.as_str())?;
    holder.ticket.as_ref().map_or(Ok(()), |ticket| map.serialize_entry("ticket", &**ticket))
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use http_body_util::BodyExt as _;
    use serde_json::Value;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::bridge::memory::Memory;
    use crate::bridge::registry::{Live, Registry};
    use crate::telemetry::Opening;

    fn sources() -> Sources {
        Sources {
            reloads: Arc::new(crate::admin::Reloads::new(Instant::now())),
            proxied: Arc::default(),
            streams: Arc::default(),
            bridges: crate::bridge::Bridges::default(),
            door: Arc::new(crate::access::Door::without_proofs()),
            registry: Arc::new(Registry::default()),
            memory: Arc::new(Memory::default()),
            draining: CancellationToken::new(),
            started: Instant::now(),
            version: "0",
            jwks: None,
            ledger: crate::ledger::Ledger::open(&crate::ledger::Settings::default(), std::time::SystemTime::now())
                .expect("a ledger in memory")
                .0,
        }
    }

    fn open(sources: &Sources, count: usize) -> Vec<(Uuid, Live)> {
        let open = |_| {
            let opening = Opening {
                turn: None,
                connection: Uuid::now_v7(),
                route: Arc::from("/chat"),
                peer: SocketAddr::from(([127, 0, 0, 1], 40_000)),
                http: http::Version::HTTP_11,
                upstream: Arc::from("app"),
                endpoint: Arc::from("127.0.0.1:9000"),
                took: Duration::ZERO,
                holder: None,
            };
            (opening.connection, sources.registry.open(&opening, Instant::now()))
        };
        (0..count).map(open).collect()
    }

    #[tokio::test]
    async fn a_long_list_comes_in_pieces_with_the_oldest_first() {
        let sources = sources();
        let lives = open(&sources, 3 * PIECE);
        for limit in [0, 1, PIECE, 2 * PIECE + 1, 1000] {
            let wanted = Wanted { route: None, limit };
            let mut list = list(&sources, &wanted, Instant::now());
            let (mut text, mut pieces) = (Vec::new(), 0);
            while let Some(Ok(frame)) = list.frame().await {
                text.extend_from_slice(frame.data_ref().expect("data"));
                pieces += 1;
            }
            let listed: Value = serde_json::from_slice(&text).expect("JSON");
            let ids: Vec<_> = listed["connections"].as_array().expect("a list").iter().map(|one| &one["id"]).collect();
            let oldest: Vec<_> = lives.iter().take(limit).map(|(id, _)| id.to_string()).collect();
            assert_eq!(ids, oldest.iter().collect::<Vec<_>>());
            assert_eq!((&listed["total"], pieces), (&Value::from(3 * PIECE), oldest.len().div_ceil(PIECE).max(1)));
        }
    }

    /// Not a promise but a figure: `cargo test --release --lib -- --ignored --nocapture takes`.
    #[tokio::test]
    #[ignore = "a measurement"]
    async fn showing_ten_thousand_connections_takes() {
        let sources = sources();
        let _lives = open(&sources, 10_000);
        let began = Instant::now();
        let page = crate::admin::metrics::page(&sources).expect("a page");
        println!("/metrics: {:?}, {} bytes", began.elapsed(), page.len());
        let began = Instant::now();
        let mut list = list(&sources, &Wanted { route: None, limit: 10_000 }, began);
        println!("/connections until its first byte: {:?}", began.elapsed());
        let (mut longest, mut bytes) = (Duration::ZERO, 0);
        loop {
            let piece = Instant::now();
            let Some(Ok(frame)) = list.frame().await else { break };
            longest = longest.max(piece.elapsed());
            bytes += frame.data_ref().map_or(0, Bytes::len);
        }
        println!("/connections whole: {:?}, {bytes} bytes, longest piece {longest:?}", began.elapsed());
    }

    #[test]
    fn the_query_says_which_and_how_many() {
        let read = |query| Wanted::read(query).ok();
        assert_eq!(read(""), Some(Wanted { route: None, limit: 1000 }));
        let rooms = Wanted { route: Some("/rooms/{room}".to_owned()), limit: 5 };
        assert_eq!(read("limit=5&route=/rooms/%7Broom%7D"), Some(rooms));
        for query in ["limit=", "limit=-1", "limit=many", "order=age"] {
            assert_eq!(Wanted::read(query).expect_err(query).status, 400);
        }
    }
}
