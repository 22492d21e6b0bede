//! What becomes of the client's messages.

use std::time::{Duration, Instant};

use super::{LEAST_WAIT, Phase, Session};
use crate::protocol::message::Message;
use crate::session::cause::{Cause, Doubt};
use crate::session::settings::{RefusedMessage, Retry};
use crate::session::signals::{Delivery, Output, Payload, PostOutcome};

impl Session {
    pub(super) fn posted(&mut self, mut delivery: Delivery, outcome: PostOutcome, now: Instant, out: &mut Vec<Output>) {
        self.up.landed(&delivery);
        let idempotent = self.settings.retry == Retry::Idempotent || matches!(delivery.payload, Payload::Leave(_));
        let (repeated, cause) = match outcome {
            PostOutcome::Accepted(reply) => {
                self.accepted(&delivery);
                if let (Some(reply), Phase::Open) = (reply, &self.phase) {
                    self.lifetime.message(now);
                    self.send(reply, now, out);
                }
                return;
            }
            PostOutcome::Streaming => {
                self.accepted(&delivery);
                self.reply_streams += 1;
                return;
            }
            PostOutcome::ReplyTooLarge => {
                self.accepted(&delivery);
                return self.end(Cause::EventTooBig(self.settings.max_message_size), now, out);
            }
            PostOutcome::ReplyInvalid(why) => {
                self.accepted(&delivery);
                return self.end(Cause::UpstreamInvalid(why), now, out);
            }
            PostOutcome::NotSent => {
                // What an earlier attempt has left in doubt stays so.
                let cause = delivery.doubt.map_or(Cause::UpstreamFailed, Cause::MessageInDoubt);
                (self.repeat(delivery, now), cause)
            }
            PostOutcome::InDoubt(doubt) => {
                delivery.doubt = Some(doubt);
                let repeated = if idempotent { self.repeat(delivery, now) } else { Err(delivery) };
                (repeated, Cause::MessageInDoubt(doubt))
            }
            PostOutcome::Refused { status: status @ (429 | 503), retry_after: Some(wait) } => {
                (self.repeat_after(delivery, wait.max(LEAST_WAIT), true, now), Cause::UpstreamBusy(status))
            }
            PostOutcome::Refused { status: status @ 429, .. } if idempotent => {
                (self.repeat(delivery, now), Cause::UpstreamBusy(status))
            }
            PostOutcome::Refused { status: status @ (500 | 502..=504), .. } if idempotent => {
                delivery.doubt = Some(Doubt::Failed(status));
                (self.repeat(delivery, now), Cause::UpstreamError(status))
            }
            PostOutcome::Refused { status, .. } => match self.refused(&delivery, status, now, out) {
                Some(cause) => (Err(delivery), cause),
                None => return,
            },
        };
        if let Err(delivery) = repeated {
            self.counts.undelivered += delivery.count();
            if delivery.count() > 0 {
                self.end(cause, now, out);
            }
            self.give_up_delivering(out);
        }
    }

    /// Why a final answer ends the connection, if it does.
    pub(super) fn refused(
        &mut self,
        delivery: &Delivery,
        status: u16,
        now: Instant,
        out: &mut Vec<Output>,
    ) -> Option<Cause> {
        Some(match status {
            413 => Cause::MessageTooBigUpstream,
            415 => Cause::MessageUnsupported,
            401 | 403 => Cause::Unauthorized(status),
            404 | 410 => Cause::ConnectionUnknown(status),
            429 => Cause::UpstreamBusy(status),
            400..=499 => match self.settings.refused_message {
                RefusedMessage::Close => Cause::MessageRefused(status),
                RefusedMessage::Tell | RefusedMessage::Count => {
                    self.counts.refused += delivery.count();
                    if self.settings.refused_message == RefusedMessage::Tell {
                        self.tell_refused(delivery, status, now, out);
                    }
                    return None;
                }
            },
            500..=599 => Cause::UpstreamError(status),
            // A redirect, say: it would need another URL than the operator wrote, so it is not followed.
            _ => Cause::MessageRefused(status),
        })
    }

    /// Repeats a POST after a wait of our own.
    pub(super) fn repeat(&mut self, delivery: Delivery, now: Instant) -> Result<(), Delivery> {
        let reconnect = &self.settings.reconnect;
        let wait = self.backoff.wait(delivery.attempt, reconnect.first_delay, reconnect.max_delay);
        self.repeat_after(delivery, wait, false, now)
    }

    pub(super) fn repeat_after(
        &mut self,
        delivery: Delivery,
        wait: Duration,
        asked: bool,
        now: Instant,
    ) -> Result<(), Delivery> {
        // A wait that upstream asks for has its limit all the same: nobody looks at it again.
        let stands_still = !asked && self.is_open() && !self.stream.is_open();
        self.up.repeat(delivery, wait, asked, stands_still, now)
    }

    pub(super) fn accepted(&mut self, delivery: &Delivery) {
        if delivery.count() > 0 {
            self.counts.messages_up += delivery.count();
            self.counts.bytes_up += delivery.len() as u64;
        }
    }

    pub(super) fn tell_refused(&mut self, delivery: &Delivery, status: u16, now: Instant, out: &mut Vec<Output>) {
        if !self.is_open() {
            return;
        }
        let (sequence, count) = (delivery.sequence, delivery.count());
        let count = if count == 1 { String::new() } else { format!(r#""count":{count},"#) };
        let text =
            format!(r#"{{"event":"tidegate.refused","data":{{"sequence":{sequence},{count}"status":{status}}}}}"#);
        self.send(Message::Text(text.into()), now, out);
    }

    /// Whether POSTs may go out. Without an event stream the client's messages wait; once the client is gone, there is
    /// nothing to wait for.
    pub(super) fn may_post(&self) -> bool {
        match &self.phase {
            Phase::Open => self.stream.is_open(),
            Phase::Ending { delivering_until, .. } => delivering_until.is_some(),
            Phase::Closed { .. } => false,
        }
    }

    /// Posts what waits as far as the order and the limits allow.
    pub(super) fn post_next(&mut self, now: Instant, out: &mut Vec<Output>) {
        if !self.may_post() {
            return;
        }
        loop {
            // Once the end has begun, answers are given up and hold nothing back.
            let takes_answers = self.reply_streams < self.settings.max_reply_streams
                && !(self.settings.replies && (self.down.is_blocked() || self.down.waits()));
            let first = takes_answers || !self.is_open();
            let Some(delivery) = self.up.next(first, now, &self.settings) else { return };
            self.counts.retries += u64::from(delivery.attempt > 0);
            out.push(Output::Post(delivery));
        }
    }
}
