//! What one connection holds of upstream: its event streams, its POSTs under way, and the reopening of its stream.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Instant, SystemTime};

use http::header::HeaderValue;
use tracing::debug;

use std::sync::Arc;

use super::Bridge;
use super::open::event_limits;
use super::reopen::{Attempt, reopen};
use super::request::Requests;
use crate::protocol::sse::Event;
use crate::session::{Delivery, Left, PostOutcome, Reopened, Source, StreamEnd};
use crate::upstream::Pool;
use crate::upstream::events::EventStream;
use crate::upstream::messages::{Answered, Rules, post};

/// A POST under way. Boxed, because a connection spends nearly all of its life without one.
type Post = Pin<Box<dyn Future<Output = (Delivery, Answered)> + Send>>;

/// A reopening under way.
type Reopening = Pin<Box<dyn Future<Output = Attempt> + Send>>;

/// One connection's side of upstream.
pub(super) struct UpstreamSide {
    main: Option<EventStream>,
    /// Where the main stream ended, while there is none.
    position: String,
    reopening: Option<Reopening>,
    replies: Vec<Reply>,
    /// Which stream is asked first; the main one is number 0.
    turn: usize,
    posts: Vec<Post>,
    /// The newest thing that went wrong, for the log.
    failure: Option<Box<str>>,
    requests: Requests,
    /// The subprotocol that upstream chose; it stays the same for the life of the connection.
    subprotocol: Option<HeaderValue>,
    /// The endpoint of the main stream, or of the last one.
    pool: Arc<Pool>,
    /// It fell silent there: another endpoint is asked first.
    stalled: bool,
    bridge: Bridge,
}

/// An event stream that answers a POST. The session times the main stream; these are looked at whenever its time comes.
struct Reply {
    stream: EventStream,
    /// When a byte last came, or when it was last our doing that none could.
    heard: Instant,
}

/// What happened on this side.
pub(super) enum FromUpstream {
    Event(Event, Source, usize),
    Alive,
    StreamEnded(StreamEnd, Left),
    ReplyEnded(StreamEnd),
}

impl UpstreamSide {
    /// The side of a connection whose event stream has just been opened.
    pub(super) fn new(
        bridge: Bridge,
        requests: Requests,
        pool: Arc<Pool>,
        events: EventStream,
        subprotocol: Option<HeaderValue>,
    ) -> Self {
        Self {
            main: Some(events),
            position: String::new(),
            reopening: None,
            replies: Vec::new(),
            turn: 0,
            posts: Vec::new(),
            failure: None,
            requests,
            subprotocol,
            pool,
            stalled: false,
            bridge,
        }
    }

    /// The newest thing that went wrong, for the log.
    pub(super) fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The endpoint of the main stream, or of the last one.
    pub(super) fn endpoint(&self) -> String {
        self.pool.name()
    }

    fn stream_mut(&mut self, source: Source, at: usize) -> Option<&mut EventStream> {
        match source {
            Source::Main => self.main.as_mut(),
            Source::Reply => self.replies.get_mut(at).map(|reply| &mut reply.stream),
        }
    }

    pub(super) fn stream(&self, source: Source, at: usize) -> Option<&EventStream> {
        match source {
            Source::Main => self.main.as_ref(),
            Source::Reply => self.replies.get(at).map(|reply| &reply.stream),
        }
    }

    /// Begins a POST.
    pub(super) fn post(&mut self, delivery: Delivery) {
        let settings = &self.bridge.settings;
        let rules = Rules {
            replies: settings.session.replies,
            max_message_size: settings.session.max_message_size,
            events: event_limits(settings),
            timeout: settings.message_timeout,
        };
        let (sequence, payload) = (delivery.sequence, &delivery.payload);
        let request = self.requests.post(sequence, payload, &settings.text_type, SystemTime::now);
        if delivery.attempt == 0 {
            let pool = self.pool.clone();
            return self.posts.push(Box::pin(async move {
                let answered = post(pool, request, rules).await;
                (delivery, answered)
            }));
        }
        let upstream = self.bridge.upstream.clone();
        // Without a stream any endpoint is as good as the one that had it, and better if that one does not answer.
        let elsewhere = self.main.is_none().then(|| upstream.candidates(&self.requests.id()).into_iter().next());
        let pool = elsewhere.flatten().unwrap_or_else(|| self.pool.clone());
        self.posts.push(Box::pin(async move {
            let turn = tokio::time::timeout_at(delivery.give_up().into(), upstream.retries().turn()).await;
            let answered = match turn {
                Ok(_turn) => post(pool, request, rules).await,
                Err(_) => Answered::not_sent(format!("too many POSTs to {} are to be repeated", upstream.name())),
            };
            (delivery, answered)
        }));
    }

    /// Gives all POSTs under way up.
    pub(super) fn drop_posts(&mut self) {
        if !self.posts.is_empty() {
            self.posts = Vec::new();
        }
    }

    /// Gives all answers that stream, and a reopening under way, up.
    pub(super) fn drop_replies(&mut self) {
        if !self.replies.is_empty() {
            self.replies = Vec::new();
        }
        self.reopening = None;
    }

    /// Silence of the answers up to `now` was our doing: they were not read.
    pub(super) fn read_replies_again(&mut self, now: Instant) {
        self.replies.iter_mut().for_each(|reply| reply.heard = now);
    }

    /// Gives up one answer that has been silent for too long, if there is one.
    pub(super) fn drop_stalled_reply(&mut self, now: Instant) -> bool {
        let limit = self.bridge.settings.session.stall_timeout;
        let stalled = self.replies.iter().position(|reply| now.saturating_duration_since(reply.heard) >= limit);
        stalled.map(|at| self.replies.swap_remove(at)).is_some()
    }

    /// Gives the main stream up for good.
    pub(super) fn drop_main(&mut self) {
        self.main = None;
    }

    /// Ends the main stream and keeps what the next one needs of it.
    pub(super) fn end_main(&mut self, end: StreamEnd) -> Left {
        let Some(stream) = self.main.take() else { return Left::default() };
        self.stalled = end == StreamEnd::Stalled;
        if matches!(end, StreamEnd::Broken | StreamEnd::Stalled) {
            self.pool.stream_failed();
        }
        let retry = stream.retry();
        self.position = stream.into_position();
        // An id may hold what no header can.
        let resumable = !self.position.is_empty() && HeaderValue::from_bytes(self.position.as_bytes()).is_ok();
        Left { resumable, retry }
    }

    /// Asks for the main stream again.
    pub(super) fn reopen(&mut self, resume: bool) {
        if !resume {
            self.position = String::new();
        }
        let position = HeaderValue::from_bytes(self.position.as_bytes()).ok().filter(|_| resume);
        let request = self.requests.events(position, SystemTime::now);
        let id = self.requests.id();
        let avoid = self.stalled.then(|| self.pool.clone());
        self.reopening = Some(Box::pin(reopen(self.bridge.clone(), request, id, self.subprotocol.clone(), avoid)));
    }

    pub(super) fn poll_posts(&mut self, cx: &mut Context<'_>) -> Poll<(Delivery, PostOutcome)> {
        for at in 0..self.posts.len() {
            let Some(post) = self.posts.get_mut(at) else { break };
            if let Poll::Ready((delivery, answered)) = post.as_mut().poll(cx) {
                drop(self.posts.swap_remove(at));
                self.replies.extend(answered.stream.map(|stream| Reply { stream, heard: Instant::now() }));
                self.failed(answered.failure);
                return Poll::Ready((delivery, answered.outcome));
            }
        }
        Poll::Pending
    }

    pub(super) fn poll_reopening(&mut self, cx: &mut Context<'_>) -> Poll<Reopened> {
        let Some(reopening) = &mut self.reopening else { return Poll::Pending };
        let Poll::Ready(attempt) = reopening.as_mut().poll(cx) else { return Poll::Pending };
        self.reopening = None;
        self.failed(attempt.failure);
        if let Some((pool, body, count)) = attempt.opened {
            let limits = event_limits(&self.bridge.settings);
            let position = std::mem::take(&mut self.position);
            self.main = Some(EventStream::new(body, limits, position, Some(count)));
            self.pool = pool;
        }
        Poll::Ready(attempt.outcome)
    }

    fn failed(&mut self, failure: Option<String>) {
        if let Some(failure) = failure {
            self.failure = Some(failure.into());
        }
    }

    /// The next event of any stream. The streams take turns, so that a flood on one does not hold up the others.
    pub(super) fn poll_events(&mut self, cx: &mut Context<'_>) -> Poll<FromUpstream> {
        let streams = 1 + self.replies.len();
        for turn in 0..streams {
            let at = (self.turn + turn) % streams;
            let (source, at) = if at == 0 { (Source::Main, 0) } else { (Source::Reply, at - 1) };
            let Some(stream) = self.stream_mut(source, at) else { continue };
            let polled = stream.poll_event(cx);
            if source == Source::Reply
                && (polled.is_ready() || stream.take_heard())
                && let Some(reply) = self.replies.get_mut(at)
            {
                reply.heard = Instant::now();
            }
            let Poll::Ready(event) = polled else { continue };
            let Some(stream) = self.stream_mut(source, at) else { continue };
            let failure = stream.failure();
            self.turn = (self.turn + turn + 1) % streams;
            return Poll::Ready(match event {
                Ok(event) => FromUpstream::Event(event, source, at),
                Err(end) => {
                    debug!(
                        connection = %self.requests.id(), ?source, ?end, failure = failure.as_deref(),
                        "an event stream is over"
                    );
                    self.failed(failure);
                    match source {
                        Source::Main => FromUpstream::StreamEnded(end, self.end_main(end)),
                        Source::Reply => {
                            drop(self.replies.swap_remove(at));
                            FromUpstream::ReplyEnded(end)
                        }
                    }
                }
            });
        }
        if self.main.as_mut().is_some_and(EventStream::take_heard) {
            return Poll::Ready(FromUpstream::Alive);
        }
        Poll::Pending
    }
}
