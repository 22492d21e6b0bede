//! The probes: each asks the endpoint for one thing and measures what comes.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, COOKIE};
use http::{HeaderName, HeaderValue, Method};
use http_body::Frame;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep, timeout};
use uuid::Uuid;

use super::dial::{Dialer, Offer};
use super::exchange::{Answer, Question, Trouble, ask};
use super::measured::{Arrival, Sent, Silence, Stream};
use crate::protocol::diagnostic::{Beat, Events, Probe, Seen, TIDEGATE_DOCTOR, Wanted};
use crate::protocol::headers::LAST_EVENT_ID;
use crate::protocol::sse::{Limits, Parser};
use crate::telemetry::chain;

/// How much longer than it should take a probe may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// Pieces of an upload.
const PIECES: u32 = 6;
const PIECE: &[u8] = &[b'x'; 512];
const PIECE_INTERVAL: Duration = Duration::from_millis(200);

/// What all probes of a run have in common.
pub(super) struct Patient {
    pub(super) dialer: Dialer,
    /// Of the endpoint.
    pub(super) path: String,
    /// The best that the server speaks.
    pub(super) offer: Offer,
    /// `Authorization`, if the endpoint wants a token.
    pub(super) token: Option<HeaderValue>,
}

/// What an ordinary request showed.
pub(super) struct Greeting {
    pub(super) seen: Seen,
    pub(super) round_trip: Duration,
    pub(super) answer: Facts,
}

/// What is known of a connection and of the answer's head.
pub(super) struct Facts {
    pub(super) address: String,
    pub(super) tls: Option<super::measured::Tls>,
    /// Fields by which programs in front give themselves away.
    pub(super) signs: Vec<(String, String)>,
    pub(super) is_http2: bool,
}

/// Fields by which programs in front give themselves away; the gateway itself sends none of them.
const SIGNS: [&str; 5] = ["server", "via", "x-envoy-upstream-service-time", "x-cache", "cf-ray"];

impl Patient {
    /// Asks what the gateway sees, with fields that are to come through.
    pub(super) async fn greet(&self, offer: Offer) -> Result<Greeting, Trouble> {
        let wanted = fresh(Probe::Seen);
        let fields = self.fields(&[
            (LAST_EVENT_ID, HeaderValue::from_static("tidegate-doctor-1")),
            (COOKIE, HeaderValue::from_static("tidegate_doctor=1")),
            (ACCEPT_ENCODING, HeaderValue::from_static("identity")),
        ]);
        let asked = async {
            let answer = ask(&self.dialer, offer, Question::get(&self.path, &wanted, &fields)).await?;
            let (round_trip, facts) = (answer.asked.elapsed(), facts(&answer));
            Ok(Greeting { seen: answer.json().await?, round_trip, answer: facts })
        };
        let greeting: Greeting = limited(PATIENCE, asked).await?;
        if greeting.seen.doctor == 0 { Err(Trouble::NotOurs) } else { Ok(greeting) }
    }

    /// A stream of events, by a client that takes compressed answers or not.
    pub(super) async fn stream(&self, events: Events, compressed: bool) -> Result<Stream, Trouble> {
        let encodings = if compressed { "gzip, deflate, br, zstd" } else { "identity" };
        let limit = events.duration() + PATIENCE;
        let (count, interval) = (events.count, events.interval);
        let wanted = fresh(Probe::Events(events));
        let fields = self.fields(&stream_fields(encodings));
        limited(limit, async {
            let answer = ask(&self.dialer, self.offer, Question::get(&self.path, &wanted, &fields)).await?;
            let answer = answer.good().await?;
            let mut stream = Stream {
                content_type: answer.field(&CONTENT_TYPE),
                cache_control: answer.field(&CACHE_CONTROL),
                content_encoding: answer.field(&CONTENT_ENCODING),
                has_own_field: answer.head.headers.contains_key(TIDEGATE_DOCTOR),
                is_fresh: true,
                wanted: count,
                interval_us: micros(interval),
                ..Stream::default()
            };
            let mut reader = Reader::new(answer, stream.content_encoding.is_empty());
            // However far it comes: what arrived until the limit counts.
            let read = timeout(limit, reader.read_all(&mut stream, &wanted.nonce)).await;
            stream.broke_off = match read {
                Ok(Ok(())) if reader.is_plain && stream.events.len() < count as usize => {
                    Some("the stream ended".into())
                }
                Ok(Ok(())) => None,
                Ok(Err(why)) => Some(why),
                Err(_) => Some(format!("nothing more within {limit:?}")),
            };
            Ok(stream)
        })
        .await
    }

    /// A stream that says nothing between its first and its second event.
    pub(super) async fn silence(&self, silence: Duration) -> Result<Silence, Trouble> {
        let wanted = fresh(Probe::Events(Events { count: 2, interval: silence, bare: false }));
        let fields = self.fields(&stream_fields("identity"));
        limited(silence + PATIENCE * 2, async {
            let answer = ask(&self.dialer, self.offer, Question::get(&self.path, &wanted, &fields)).await?;
            let answer = answer.good().await?;
            let (mut stream, began) = (Stream::default(), answer.asked);
            let mut reader = Reader::new(answer, true);
            // How it ended does not matter, only whether the second event came and when it ended without.
            let _ = timeout(silence + PATIENCE, reader.read_all(&mut stream, &wanted.nonce)).await;
            let (cut, after) = (stream.events.len() < 2, began.elapsed());
            if cut && after >= silence {
                // It was open for as long as it was to be silent: that is no silence that was too long.
                return Err(Trouble::Http("the event behind the silence did not come".to_owned()));
            }
            Ok(Silence { wanted_us: micros(silence), cut_after_us: cut.then(|| micros(after)) })
        })
        .await
    }

    /// A body that is sent piece by piece.
    pub(super) async fn upload(&self) -> Result<Sent, Trouble> {
        let wanted = fresh(Probe::Upload);
        let fields = self.fields(&[(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))]);
        let body = Pieces { left: PIECES, timer: Box::pin(sleep(Duration::ZERO)) }.boxed_unsync();
        let question = Question { method: Method::POST, path: &self.path, wanted: &wanted, fields: &fields, body };
        let asked = async { ask(&self.dialer, self.offer, question).await?.json().await };
        let arrived = limited(PIECE_INTERVAL * PIECES + PATIENCE, asked).await?;
        Ok(Sent { pieces: PIECES, interval_us: micros(PIECE_INTERVAL), arrived })
    }

    /// These fields, and the token if there is one.
    pub(super) fn fields(&self, fields: &[(HeaderName, HeaderValue)]) -> Vec<(HeaderName, HeaderValue)> {
        let token = self.token.clone().map(|token| (AUTHORIZATION, token));
        fields.iter().cloned().chain(token).collect()
    }
}

/// A request that no cache has an answer to.
pub(super) fn fresh(probe: Probe) -> Wanted {
    Wanted { probe, nonce: Uuid::now_v7().simple().to_string() }
}

/// A time in microseconds.
pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Gives up after a time.
pub(super) async fn limited<T>(limit: Duration, probe: impl Future<Output = Result<T, Trouble>>) -> Result<T, Trouble> {
    // A little more, so that what watches its own limit is not cut short.
    timeout(limit + PATIENCE, probe).await.unwrap_or(Err(Trouble::Late(limit)))
}

fn stream_fields(encodings: &'static str) -> [(HeaderName, HeaderValue); 2] {
    [(ACCEPT, HeaderValue::from_static("text/event-stream")), (ACCEPT_ENCODING, HeaderValue::from_static(encodings))]
}

fn facts(answer: &Answer) -> Facts {
    let signs = SIGNS.iter().filter_map(|name| {
        let value = answer.head.headers.get(*name)?;
        Some(((*name).to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
    });
    Facts {
        address: answer.address.clone(),
        tls: answer.tls.clone(),
        signs: signs.collect(),
        is_http2: answer.head.version == http::Version::HTTP_2,
    }
}

/// Reads the body of a stream and notes when what came.
struct Reader {
    answer: Answer,
    parser: Parser,
    /// It is not compressed, and events can be read.
    is_plain: bool,
}

impl Reader {
    fn new(answer: Answer, is_plain: bool) -> Self {
        Self { answer, parser: Parser::new(Limits { event: 64 * 1024, field: 1024 }), is_plain }
    }

    async fn read_all(&mut self, stream: &mut Stream, nonce: &str) -> Result<(), String> {
        while let Some(frame) = next(&mut self.answer.body).await {
            let piece = frame?;
            let arrived_us = micros(self.answer.asked.elapsed());
            stream.pieces_us.push(arrived_us);
            if !self.is_plain {
                continue;
            }
            self.parser.push(piece);
            while let Some(event) = self.parser.next().map_err(|error| error.to_string())? {
                let beat: Beat = serde_json::from_str(&event.data)
                    .map_err(|_| "an event came that the gateway has not sent".to_owned())?;
                stream.is_fresh &= beat.nonce == nonce;
                stream.events.push(Arrival { sent_us: beat.sent_us, arrived_us });
            }
        }
        Ok(())
    }
}

/// The next piece of a body.
async fn next(body: &mut Incoming) -> Option<Result<Bytes, String>> {
    loop {
        match body.frame().await? {
            Ok(frame) => {
                if let Ok(piece) = frame.into_data() {
                    return Some(Ok(piece));
                }
            }
            Err(error) => return Some(Err(chain(&error))),
        }
    }
}

/// A body that gives one piece after another, with time between them.
struct Pieces {
    left: u32,
    timer: Pin<Box<Sleep>>,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        ready!(this.timer.as_mut().poll(cx));
        this.left -= 1;
        this.timer = Box::pin(sleep(PIECE_INTERVAL));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(PIECE)))))
    }
}
