//! What the event streams bring, and what follows when they end.

use std::time::{Duration, Instant};

use super::Session;
use crate::protocol::message::Message;
use crate::protocol::sse::Event;
use crate::session::cause::Cause;
use crate::session::plain::{self, Meaning};
use crate::session::seen::Seen;
use crate::session::settings::OnGap;
use crate::session::signals::{EventOf, Left, Output, Reopened, Source, StreamEnd};

impl Session {
    pub(super) fn event(&mut self, event: Event, of: EventOf<'_>, now: Instant, out: &mut Vec<Output>) {
        if !self.is_open() {
            return;
        }
        if of.source == Source::Main {
            self.stream.event(now);
            if of.own_id && self.seen.is_repeated(of.last_event_id, self.settings.reconnect.remember_ids) {
                self.counts.duplicates += 1;
                return;
            }
        }
        match plain::meaning(event, of.last_event_id, &self.settings) {
            Meaning::Message(message) => {
                self.lifetime.message(now);
                self.send(message, now, out);
            }
            Meaning::Ignored => self.counts.ignored += 1,
            Meaning::Gap => self.gap(now, out),
            Meaning::Close(frame) => self.end(Cause::UpstreamClosed(frame), now, out),
            Meaning::TooBig => self.end(Cause::EventTooBig(self.settings.max_message_size), now, out),
            Meaning::Invalid(why) => self.end(Cause::UpstreamInvalid(why), now, out),
        }
    }

    /// The main event stream is over. Where it can be continued without a gap, or the route goes on over gaps, it is
    /// opened again and the client does not notice.
    pub(super) fn stream_ended(&mut self, end: StreamEnd, left: Left, now: Instant, out: &mut Vec<Output>) {
        if !self.is_open() {
            return;
        }
        let cause = match end {
            StreamEnd::Complete => Cause::StreamEnded,
            StreamEnd::Broken => Cause::StreamBroken,
            StreamEnd::Stalled => Cause::StreamStalled,
            StreamEnd::EventTooLarge | StreamEnd::FieldTooLarge => return self.end(self.too_large(end), now, out),
        };
        if !left.resumable && self.settings.reconnect.on_gap == OnGap::Close {
            self.counts.gaps += 1;
            return self.end(cause, now, out);
        }
        self.stream.lost(left.resumable, left.retry, now, &self.settings);
    }

    pub(super) fn reply_ended(&mut self, end: StreamEnd, now: Instant, out: &mut Vec<Output>) {
        self.reply_streams = self.reply_streams.saturating_sub(1);
        match end {
            StreamEnd::Complete => {}
            // There is no position to resume an answer from, and what it still had to say is lost.
            StreamEnd::Broken | StreamEnd::Stalled => self.end(Cause::StreamBroken, now, out),
            StreamEnd::EventTooLarge | StreamEnd::FieldTooLarge => self.end(self.too_large(end), now, out),
        }
    }

    pub(super) fn too_large(&self, end: StreamEnd) -> Cause {
        if end == StreamEnd::EventTooLarge {
            Cause::EventTooBig(self.settings.max_message_size)
        } else {
            Cause::UpstreamInvalid("an event has an id or a name above the limit")
        }
    }

    pub(super) fn reopened(&mut self, reopened: Reopened, now: Instant, out: &mut Vec<Output>) {
        if !self.is_open() {
            return;
        }
        match reopened {
            Reopened::Open => {
                let away = self.stream.opened(now);
                self.counts.reopens += 1;
                self.up.stood_still(away.time);
                if away.gap {
                    self.gap(now, out);
                } else {
                    self.seen.reopened();
                }
            }
            Reopened::Stopped => self.end(Cause::UpstreamStopped, now, out),
            Reopened::PositionLost if self.settings.reconnect.on_gap == OnGap::Close => self.gap(now, out),
            Reopened::PositionLost => self.stream.position_lost(now, &self.settings),
            Reopened::Invalid(why) => self.end(Cause::UpstreamInvalid(why), now, out),
            Reopened::Failed => self.stream.failed(Duration::ZERO, now, &self.settings),
            Reopened::Refused { status, retry_after } => match status {
                401 | 403 => self.end(Cause::Unauthorized(status), now, out),
                404 | 410 => self.end(Cause::ConnectionUnknown(status), now, out),
                // Passing by their nature (RFC 9110 section 15.5, RFC 8470, RFC 6585).
                408 | 425 | 429 => self.stream.failed(retry_after.unwrap_or_default(), now, &self.settings),
                400..=499 => self.end(Cause::ReopenRefused(status), now, out),
                _ => self.stream.failed(retry_after.unwrap_or_default(), now, &self.settings),
            },
        }
    }

    /// Events may have been lost.
    pub(super) fn gap(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.counts.gaps += 1;
        // Behind a gap upstream may begin its ids anew.
        self.seen = Seen::default();
        match self.settings.reconnect.on_gap {
            OnGap::Close => self.end(Cause::PositionLost, now, out),
            OnGap::Tell => self.send(Message::from(r#"{"event":"tidegate.gap","data":{}}"#), now, out),
            OnGap::Continue => {}
        }
    }
}
