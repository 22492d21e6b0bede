//! How a connection ends: for one cause, in order, with its last words delivered.

use std::time::Instant;

use bytes::Bytes;
use serde::Serialize;

use super::{ClientSide, LINGER, Leave, Phase, Session};
use crate::protocol::close::CloseFrame;
use crate::session::cause::Cause;
use crate::session::signals::Output;

impl Session {
    pub(super) fn end(&mut self, cause: Cause, now: Instant, out: &mut Vec<Output>) {
        self.end_with(cause, None, now, out);
    }

    /// Begins the end, unless it has begun: the first cause is the cause. `said` is what the client closed with.
    pub(super) fn end_with(&mut self, cause: Cause, said: Option<&CloseFrame>, now: Instant, out: &mut Vec<Output>) {
        if !self.is_open() {
            return;
        }
        self.stream.over();
        let delivering_until = cause.delivers_the_rest().then(|| now + self.settings.delivery_timeout);
        if delivering_until.is_none() {
            self.give_up_messages(out);
        }
        let frame = cause.frame(self.counts.undelivered);
        let leave = if self.settings.notify_close {
            Leave::Due(leave_body(&cause, said.or(frame.as_ref())))
        } else {
            Leave::Done
        };
        // Whoever reads no more, or too slowly, is not sent what waits; nor is it for whoever was sent away.
        if matches!(
            cause,
            Cause::ClientLost
                | Cause::ClientClosed(_)
                | Cause::ClientTooSlow
                | Cause::ProtocolError(_)
                | Cause::InvalidText
                | Cause::MessageTooBig(_)
                | Cause::PongTimeout
                | Cause::Revoked
        ) {
            self.counts.unsent += self.down.clear();
        }
        out.extend(frame.and_then(|frame| self.down.close(frame)).map(Output::Close));
        let until = now + self.settings.close_timeout;
        let client = match cause {
            Cause::ClientLost => ClientSide::Gone,
            // The client said goodbye and the socket has answered it.
            Cause::ClientClosed(_) => {
                out.push(Output::HangUp);
                ClientSide::HangingUp(until.min(now + LINGER))
            }
            // Nothing more can be understood, so that no frame is awaited; but much may still be on its way.
            Cause::ProtocolError(_) | Cause::InvalidText | Cause::MessageTooBig(_) => {
                out.push(Output::HangUp);
                ClientSide::HangingUp(until)
            }
            _ => ClientSide::Closing(until),
        };
        self.phase = Phase::Ending { cause, client, delivering_until, leave };
    }

    /// The time of the gateway itself is over: whatever is left undone is counted, and left.
    pub(super) fn cut(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.end(Cause::Shutdown, now, out);
        self.give_up_delivering(out);
        if let Phase::Ending { client, leave, .. } = &mut self.phase {
            *client = ClientSide::Gone;
            *leave = Leave::Done;
            out.push(Output::Abandon);
        }
    }

    pub(super) fn give_up_delivering(&mut self, out: &mut Vec<Output>) {
        if let Phase::Ending { delivering_until, .. } = &mut self.phase
            && delivering_until.take().is_some()
        {
            self.give_up_messages(out);
        }
    }

    /// Counts all that is not delivered, and what is under way with it.
    pub(super) fn give_up_messages(&mut self, out: &mut Vec<Output>) {
        if self.up.is_flying() {
            out.push(Output::DropPosts);
        }
        self.counts.undelivered += self.up.clear();
    }

    /// Moves on to the end once nothing is left to do.
    pub(super) fn settle(&mut self, now: Instant, out: &mut Vec<Output>) {
        let Phase::Ending { cause, client, delivering_until, leave } = &mut self.phase else { return };
        if self.up.is_empty() {
            *delivering_until = None;
        }
        if delivering_until.is_some() {
            return;
        }
        if let Leave::Due(body) = leave {
            let body = std::mem::take(body);
            *leave = Leave::Posted;
            *delivering_until = Some(now + self.settings.delivery_timeout);
            out.push(Output::Post(self.up.leave(body, now, &self.settings)));
            return;
        }
        if matches!(client, ClientSide::Gone) {
            self.phase = Phase::Closed { cause: cause.clone() };
            self.counts.unsent += self.down.clear();
        }
    }
}

/// What upstream is told of the end: the code and reason that the client closed with or was closed with, and the cause.
fn leave_body(cause: &Cause, frame: Option<&CloseFrame>) -> Bytes {
    #[derive(Serialize)]
    struct Left<'a> {
        code: u16,
        reason: &'a str,
        cause: &'static str,
    }
    // The markers for a close without a code, and for an end without a close (RFC 6455 section 7.4.1).
    let without = if matches!(cause, Cause::ClientClosed(_)) { 1005 } else { 1006 };
    let code = frame.map_or(without, |frame| frame.code);
    let reason = frame.map_or("", |frame| frame.reason.as_str());
    // Numbers and strings always serialise; an empty body is what is left if they do not.
    serde_json::to_vec(&Left { code, reason, cause: cause.label() }).unwrap_or_default().into()
}
