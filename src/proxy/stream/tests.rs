//! Delivered streams, with a body of the test's own and time that it steps.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::HeaderValue;
use http_body::{Body as _, Frame};
use tokio::sync::mpsc;

use super::*;

/// What upstream sends: chunks, or that it broke off.
struct Channel(mpsc::Receiver<Option<Bytes>>);

impl http_body::Body for Channel {
    type Data = Bytes;
    type Error = std::io::Error;
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let broken = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data).ok_or_else(broken)))
    }
}

impl Source for Channel {
    fn closing(&mut self, _: Closing) {}
}

struct Scene {
    upstream: Option<mpsc::Sender<Option<Bytes>>>,
    body: Body,
    head: Parts,
    streams: Arc<Streams>,
    shutdown: CancellationToken,
}

fn scene(settings: &Settings, fields: &[(http::HeaderName, &'static str)]) -> Scene {
    scene_of(settings, fields, None, true)
}

fn scene_of(
    settings: &Settings,
    fields: &[(http::HeaderName, &'static str)],
    expires: Option<SystemTime>,
    comes_back: bool,
) -> Scene {
    let (sender, receiver) = mpsc::channel(16);
    let mut head = Response::new(()).into_parts().0;
    head.headers.insert(header::CONTENT_TYPE, headers::EVENT_STREAM);
    for (name, value) in fields {
        head.headers.insert(name, HeaderValue::from_static(value));
    }
    let (streams, shutdown) = (Arc::new(Streams::default()), CancellationToken::new());
    let entry = Entry::new(Uuid::nil(), "/events".into(), ([127, 0, 0, 1], 1).into(), None, "a:1");
    let opening = Opening { entry, settings, streams: &streams, shutdown: &shutdown, expires, comes_back };
    let (head, body) = delivered(head, Channel(receiver), opening).into_parts();
    Scene { upstream: Some(sender), body, head, streams, shutdown }
}

impl Scene {
    fn send(&self, text: &'static str) {
        self.upstream.as_ref().unwrap().try_send(Some(Bytes::from_static(text.as_bytes()))).unwrap();
    }

    fn break_off(&self) {
        self.upstream.as_ref().unwrap().try_send(None).unwrap();
    }

    async fn next(&mut self) -> Option<String> {
        let frame = self.body.frame().await?.unwrap();
        Some(String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap())
    }

    fn closed_by(&self, cause: Cause) -> bool {
        let totals = self.streams.totals();
        totals["/events"].open == 0 && totals["/events"].closed[cause as usize] == 1
    }
}

const FIRST: &str = "retry: 1000\n\n";

fn settings() -> Settings {
    Settings { heartbeat: None, stall_timeout: None, ..Settings::default() }
}

fn quick() -> Settings {
    Settings { heartbeat: Some(Duration::from_millis(1)), ..settings() }
}

#[tokio::test]
async fn the_client_is_told_at_once_when_to_come_back_and_each_chunk_follows_as_it_comes() {
    let mut scene = scene(&settings(), &[]);
    assert_eq!(scene.next().await.unwrap(), FIRST);
    for chunk in ["data: 1\n\n", "data: ", "2\n", "\n"] {
        scene.send(chunk);
        assert_eq!(scene.next().await.unwrap(), chunk);
    }
    scene.upstream = None;
    assert_eq!(scene.next().await, None);
    assert!(scene.body.is_end_stream() && scene.closed_by(Cause::Ended));
}

#[tokio::test]
async fn a_heartbeat_comes_between_events_and_not_inside_one() {
    let mut scene = scene(&quick(), &[]);
    assert_eq!(scene.next().await.unwrap(), FIRST);
    assert_eq!(scene.next().await.unwrap(), ":\n\n");
    scene.send("data: half");
    assert_eq!(scene.next().await.unwrap(), "data: half");
    let more = tokio::time::timeout(Duration::from_millis(20), scene.next()).await;
    assert!(more.is_err(), "{more:?}");
    scene.send(" a line\n\n");
    assert_eq!(scene.next().await.unwrap(), " a line\n\n");
    assert_eq!(scene.next().await.unwrap(), ":\n\n");
}

#[tokio::test]
async fn upstream_that_breaks_off_is_a_clean_end_and_half_an_event_stays_half() {
    let mut scene = scene(&settings(), &[]);
    scene.send("data: whole\n\ndata: half");
    scene.break_off();
    assert_eq!(scene.next().await.unwrap(), FIRST);
    assert_eq!(scene.next().await.unwrap(), "data: whole\n\ndata: half");
    assert_eq!(scene.next().await, None);
    assert!(scene.closed_by(Cause::Broken));
}

#[tokio::test]
async fn a_client_that_does_not_come_back_learns_that_it_was_not_all() {
    let mut scene = scene_of(&settings(), &[], None, false);
    scene.send("data: 1\n\n");
    assert_eq!(scene.next().await.unwrap(), "data: 1\n\n", "nobody is told when to come back");
    scene.shutdown.cancel();
    scene.send("data: 2\n\n");
    assert_eq!(scene.next().await.unwrap(), "data: 2\n\n", "and it may finish");
    scene.break_off();
    let error = scene.body.frame().await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "the event stream was broken off: stream-broken");
    assert!(scene.body.frame().await.is_none());
}

#[tokio::test]
async fn silence_of_upstream_ends_the_stream() {
    let stalls = Settings { stall_timeout: Some(Duration::from_millis(10)), ..settings() };
    let mut scene = scene(&stalls, &[]);
    assert_eq!(scene.next().await.unwrap(), FIRST);
    assert_eq!(scene.next().await, None);
    assert!(scene.closed_by(Cause::Stalled));
}

#[tokio::test]
async fn a_gateway_that_stops_finishes_the_event_under_way_and_spreads_who_comes_back() {
    let mut scene = scene(&settings(), &[]);
    assert_eq!(scene.next().await.unwrap(), FIRST);
    scene.send("retry: 3\n\ndata: ");
    assert_eq!(scene.next().await.unwrap(), "retry: 3\n\ndata: ");
    scene.shutdown.cancel();
    let waits = tokio::time::timeout(Duration::from_millis(20), scene.next()).await;
    assert!(waits.is_err(), "{waits:?}");
    scene.send("x\n\n");
    assert_eq!(scene.next().await.unwrap(), "x\n\n");
    assert_eq!(scene.next().await.unwrap(), FIRST, "over what upstream had said");
    assert_eq!(scene.next().await, None);
    assert!(scene.closed_by(Cause::Shutdown));
}

#[tokio::test]
async fn a_stream_ends_when_its_identity_does() {
    let ends = SystemTime::now() + Duration::from_millis(20);
    let mut scene = scene_of(&settings(), &[], Some(ends), true);
    assert_eq!(scene.next().await.unwrap(), FIRST);
    assert_eq!(scene.next().await, None);
    assert!(scene.closed_by(Cause::Expired) && SystemTime::now() >= ends);
}

#[tokio::test]
async fn a_client_that_leaves_is_counted() {
    let mut scene = scene(&settings(), &[]);
    assert_eq!(scene.next().await.unwrap(), FIRST);
    scene.body = Full::new(Bytes::new()).map_err(|never: Infallible| match never {}).boxed_unsync();
    assert!(scene.closed_by(Cause::Left));
}

#[tokio::test]
async fn a_byte_order_mark_does_not_stand_behind_what_is_put_in() {
    let mut scene = scene(&settings(), &[]);
    scene.send("\u{FEFF}data: x\n\n");
    assert_eq!(scene.next().await.unwrap(), FIRST);
    assert_eq!(scene.next().await.unwrap(), "data: x\n\n");
}

#[tokio::test]
async fn what_cannot_be_decoded_here_is_passed_on_untouched() {
    let mut scene = scene(&quick(), &[(header::CONTENT_ENCODING, "br")]);
    assert_eq!(scene.head.headers[header::CONTENT_ENCODING], "br");
    scene.send("who knows");
    assert_eq!(scene.next().await.unwrap(), "who knows");
    let more = tokio::time::timeout(Duration::from_millis(20), scene.next()).await;
    assert!(more.is_err(), "{more:?}");
    scene.shutdown.cancel();
    assert_eq!(scene.next().await, None);
}

#[tokio::test]
async fn who_asks_while_upstream_is_away_is_told_when_to_come_back() {
    let wait = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static("7"))]);
    let response = come_back(&Settings::default(), Uuid::nil(), &wait);
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    assert_eq!(response.headers()["x-accel-buffering"], "no");
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "retry: 7000\n\n");
}
