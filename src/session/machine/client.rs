//! What the client does, and what it is sent.

use std::time::Instant;

use super::{ClientSide, LINGER, Phase, Session};
use crate::protocol::message::Message;
use crate::session::cause::Cause;
use crate::session::downlink::{Next, Offered};
use crate::session::gate::Passed;
use crate::session::signals::{ClientInput, Output, Violation};

impl Session {
    pub(super) fn client(&mut self, input: ClientInput, now: Instant, out: &mut Vec<Output>) {
        self.heartbeat.alive();
        match (&mut self.phase, input) {
            (Phase::Open, ClientInput::Message(message)) => self.message(message, now, out),
            (Phase::Open, ClientInput::Alive) => {}
            (Phase::Open, ClientInput::Closed(frame)) => {
                let code = frame.as_ref().map(|frame| frame.code);
                self.end_with(Cause::ClientClosed(code), frame.as_ref(), now, out);
            }
            (Phase::Open, ClientInput::Gone) => self.end(Cause::ClientLost, now, out),
            (Phase::Open, ClientInput::Violation(violation)) => {
                let cause = match violation {
                    Violation::Protocol(how) => Cause::ProtocolError(how),
                    Violation::Text => Cause::InvalidText,
                    Violation::TooBig => Cause::MessageTooBig(self.settings.max_message_size),
                };
                self.end(cause, now, out);
            }
            // After our close frame a client may go on sending until it has seen it.
            (Phase::Ending { .. }, ClientInput::Message(_)) => self.counts.undelivered += 1,
            (Phase::Ending { .. }, ClientInput::Alive) => {}
            (Phase::Ending { client, .. }, ClientInput::Closed(_) | ClientInput::Violation(_)) => {
                if let ClientSide::Closing(until) = *client {
                    *client = ClientSide::HangingUp(until.min(now + LINGER));
                    self.counts.unsent += self.down.clear();
                    out.push(Output::HangUp);
                }
            }
            (Phase::Ending { client, .. }, ClientInput::Gone) => *client = ClientSide::Gone,
            (Phase::Closed { .. }, _) => {}
        }
    }

    pub(super) fn message(&mut self, message: Message, now: Instant, out: &mut Vec<Output>) {
        if let Some(gate) = &mut self.gate {
            match gate.message(message.len(), &self.settings, now) {
                Passed::Freely => {}
                Passed::Last => self.counts.rate_pauses += 1,
                Passed::Refused => {
                    self.counts.undelivered += 1;
                    return self.end(Cause::RateLimited, now, out);
                }
            }
        }
        if let Message::Text(text) = &message
            && let Some((_, answer)) = self.settings.auto_reply.iter().find(|(asked, _)| asked == text)
        {
            // Not counted as traffic: it must not keep a connection alive that has an idle limit.
            let answer = Message::Text(answer.clone());
            self.counts.auto_replies += 1;
            return self.send(answer, now, out);
        }
        // A client that is kept waiting is not idle: its time begins when it may send again.
        self.lifetime.message(self.paused_until().unwrap_or(now));
        self.up.push(message);
    }

    pub(super) fn client_ready(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.down.is_blocked() {
            // Until now the silence of a stream that was not read was ours.
            self.stream.heard(now);
            // Its socket has taken something: it is there, even if our pings had no room.
            self.heartbeat.alive();
        }
        match self.down.room() {
            Some(Next::Message(message)) => self.sent(message, out),
            Some(Next::Close(frame)) => out.push(Output::Close(frame)),
            None => {}
        }
    }

    pub(super) fn send(&mut self, message: Message, now: Instant, out: &mut Vec<Output>) {
        match self.down.offer(message, self.settings.overflow, self.settings.send_queue) {
            Offered::Now(message) => self.sent(message, out),
            Offered::Waits(dropped) => self.counts.dropped += dropped,
            Offered::TooMuch => {
                self.counts.unsent += 1;
                self.end(Cause::ClientTooSlow, now, out);
            }
        }
    }

    pub(super) fn sent(&mut self, message: Message, out: &mut Vec<Output>) {
        self.counts.messages_down += 1;
        self.counts.bytes_down += message.len() as u64;
        out.push(Output::Send(message));
    }
}
