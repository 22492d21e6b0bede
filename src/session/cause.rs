//! Why a connection ended: one closed list, from which close code, reason text and log field all come.

use std::fmt;

use crate::protocol::close::CloseFrame;

/// Why a connection ended. Exactly one is found for every connection that was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The client sent a close frame, with this code if it named one.
    ClientClosed(Option<u16>),
    /// The client's connection broke without a close frame.
    ClientLost,
    /// The client broke RFC 6455; the text says how.
    ProtocolError(&'static str),
    /// The client sent a text message, or a close reason, that is not UTF-8.
    InvalidText,
    /// The client sent a message above the limit, in bytes.
    MessageTooBig(usize),
    /// The client gave no sign of life after a ping.
    PongTimeout,
    /// The client sent more than the route allows.
    RateLimited,
    /// The client did not take messages as fast as they came.
    ClientTooSlow,
    /// No message went either way for as long as the route allows.
    Idle,
    /// What proved who the client is holds no longer.
    Expired,
    /// The connection has reached the age that the route allows.
    MaxAge,
    /// What the client had proven was taken back, or its connection was ended by hand.
    Revoked,
    /// The gateway is being stopped.
    Shutdown,
    /// Upstream sent a close event, or its WebSocket a close frame; the frame is what it asked for.
    UpstreamClosed(CloseFrame),
    /// The WebSocket to a legacy backend ended, or broke, without a close frame.
    UpstreamLost,
    /// The event stream came to an end.
    StreamEnded,
    /// The event stream, or an answer that was one, broke off.
    StreamBroken,
    /// The event stream gave no byte for too long.
    StreamStalled,
    /// Upstream answered the reopening of the event stream by 204: there is nothing more to come.
    UpstreamStopped,
    /// Upstream refused, with this status, to open the event stream again.
    ReopenRefused(u16),
    /// The event stream could not be opened again in time.
    UpstreamGone,
    /// Events may have been lost, and the route does not go on over a gap.
    PositionLost,
    /// Upstream sent something that the contract does not allow; the text says what.
    UpstreamInvalid(&'static str),
    /// Upstream sent a message above the limit, in bytes.
    EventTooBig(usize),
    /// A POST was answered by 404 or 410: upstream no longer knows the connection.
    ConnectionUnknown(u16),
    /// A POST was answered by 401 or 403.
    Unauthorized(u16),
    /// A POST was answered by 413.
    MessageTooBigUpstream,
    /// A POST was answered by 415.
    MessageUnsupported,
    /// A POST was answered by another status that is neither success nor a passing failure.
    MessageRefused(u16),
    /// Upstream asked to wait (429, or 503 with `Retry-After`) for longer than the message may take.
    UpstreamBusy(u16),
    /// A POST was answered by a 5xx.
    UpstreamError(u16),
    /// No POST could be sent in time: upstream has not seen the message.
    UpstreamFailed,
    /// A POST went out and failed without an answer: upstream may have acted on the message, or not.
    MessageInDoubt(Doubt),
    /// A defect in the gateway.
    Defect,
}

/// Why it is not known whether upstream has acted on a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The connection broke after the request had begun.
    Broken,
    /// No answer came in time.
    TimedOut,
    /// It was answered by this 5xx, and could not be sent again.
    Failed(u16),
}

/// Who has to look into an ending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// Whoever runs the client.
    Client,
    /// Whoever runs the backend.
    Upstream,
    /// Whoever runs the gateway.
    Gateway,
}

impl Cause {
    /// The word for it in reasons, logs and metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::ClientClosed(_) => "client-closed",
            Self::ClientLost => "client-lost",
            Self::ProtocolError(_) => "protocol-error",
            Self::InvalidText => "invalid-text",
            Self::MessageTooBig(_) => "message-too-big",
            Self::PongTimeout => "pong-timeout",
            Self::RateLimited => "rate-limited",
            Self::ClientTooSlow => "client-too-slow",
            Self::Idle => "idle",
            Self::Expired => "expired",
            Self::MaxAge => "max-age",
            Self::Revoked => "revoked",
            Self::Shutdown => "shutdown",
            Self::UpstreamClosed(_) => "upstream-closed",
            Self::UpstreamLost => "upstream-lost",
            Self::StreamEnded => "stream-ended",
            Self::StreamBroken => "stream-broken",
            Self::StreamStalled => "stream-stalled",
            Self::UpstreamStopped => "upstream-stopped",
            Self::ReopenRefused(_) => "reopen-refused",
            Self::UpstreamGone => "upstream-gone",
            Self::PositionLost => "position-lost",
            Self::UpstreamInvalid(_) => "upstream-invalid",
            Self::EventTooBig(_) => "event-too-big",
            Self::ConnectionUnknown(_) => "connection-unknown",
            Self::Unauthorized(_) => "unauthorized",
            Self::MessageTooBigUpstream => "message-too-big-upstream",
            Self::MessageUnsupported => "message-unsupported",
            Self::MessageRefused(_) => "message-refused",
            Self::UpstreamBusy(_) => "upstream-busy",
            Self::UpstreamError(_) => "upstream-error",
            Self::UpstreamFailed => "upstream-failed",
            Self::MessageInDoubt(_) => "message-in-doubt",
            Self::Defect => "defect",
        }
    }

    /// Close code that the client is sent; `None` where it closed first or is out of reach.
    ///
    /// 1012 and 1013 tell clients to come back, and so does 1001; 1008 tells them that coming back unchanged is no use.
    #[must_use]
    pub const fn code(&self) -> Option<u16> {
        match self {
            Self::ClientClosed(_) | Self::ClientLost => None,
            Self::ProtocolError(_) => Some(1002),
            Self::InvalidText => Some(1007),
            Self::MessageTooBig(_) | Self::EventTooBig(_) | Self::MessageTooBigUpstream => Some(1009),
            // Not 1008: a laptop that slept through a ping should come back.
            Self::PongTimeout | Self::Shutdown | Self::Idle => Some(1001),
            Self::UpstreamClosed(frame) => Some(frame.code),
            Self::UpstreamStopped => Some(1000),
            Self::UpstreamLost
            | Self::StreamEnded
            | Self::StreamBroken
            | Self::StreamStalled
            | Self::PositionLost
            | Self::MaxAge
            | Self::ConnectionUnknown(_) => Some(1012),
            // With another proof it may come back; with this one it is no use.
            Self::RateLimited | Self::Revoked | Self::Expired | Self::Unauthorized(_) | Self::MessageRefused(_) => {
                Some(1008)
            }
            Self::MessageUnsupported => Some(1003),
            Self::ClientTooSlow
            | Self::UpstreamInvalid(_)
            | Self::UpstreamBusy(_)
            | Self::UpstreamError(_)
            | Self::UpstreamFailed
            | Self::UpstreamGone
            | Self::ReopenRefused(_)
            | Self::MessageInDoubt(_) => Some(1013),
            Self::Defect => Some(1011),
        }
    }

    /// Who has to look into it.
    #[must_use]
    pub const fn blames(&self) -> Party {
        match self {
            Self::ClientClosed(_)
            | Self::ClientLost
            | Self::ProtocolError(_)
            | Self::InvalidText
            | Self::MessageTooBig(_)
            | Self::PongTimeout
            | Self::RateLimited
            | Self::ClientTooSlow
            | Self::Idle
            | Self::Expired => Party::Client,
            Self::UpstreamClosed(_)
            | Self::UpstreamLost
            | Self::StreamEnded
            | Self::StreamBroken
            | Self::StreamStalled
            | Self::UpstreamStopped
            | Self::ReopenRefused(_)
            | Self::UpstreamGone
            | Self::PositionLost
            | Self::UpstreamInvalid(_)
            | Self::EventTooBig(_)
            | Self::ConnectionUnknown(_)
            | Self::Unauthorized(_)
            | Self::MessageTooBigUpstream
            | Self::MessageUnsupported
            | Self::MessageRefused(_)
            | Self::UpstreamBusy(_)
            | Self::UpstreamError(_)
            | Self::UpstreamFailed
            | Self::MessageInDoubt(_) => Party::Upstream,
            Self::MaxAge | Self::Revoked | Self::Shutdown | Self::Defect => Party::Gateway,
        }
    }

    /// Whether messages that the client sent before this ending are still delivered after it.
    ///
    /// True where upstream is not the one that failed: a client that says its last word and closes is heard. Not true where
    /// nobody may speak for the client any more.
    #[must_use]
    pub const fn delivers_the_rest(&self) -> bool {
        matches!(self.blames(), Party::Client) && !matches!(self, Self::Expired)
            || matches!(self, Self::Shutdown | Self::MaxAge | Self::UpstreamClosed(_) | Self::UpstreamStopped)
    }

    /// The close frame for the client, with the number of its messages that were not delivered.
    #[must_use]
    pub fn frame(&self, undelivered: u64) -> Option<CloseFrame> {
        if let Self::UpstreamClosed(frame) = self {
            return Some(frame.clone());
        }
        let code = self.code()?;
        let mut reason = format!("{}: {self}", self.label());
        if undelivered > 0 {
            let noun = if undelivered == 1 { "message" } else { "messages" };
            reason = format!("{reason}; {undelivered} {noun} not delivered");
        }
        Some(CloseFrame { code, reason: crate::protocol::Text::from(crate::protocol::close::clip_reason(&reason)) })
    }
}

/// The sentence for people. Holds numbers and fixed texts only, never anything that a client or upstream wrote.
impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientClosed(Some(code)) => write!(f, "the client closed with {code}"),
            Self::ClientClosed(None) => f.write_str("the client closed without a code"),
            Self::ClientLost => f.write_str("the connection broke without a close frame"),
            Self::ProtocolError(how) => f.write_str(how),
            Self::InvalidText => f.write_str("a text is not UTF-8"),
            Self::MessageTooBig(limit) => write!(f, "a message is larger than {limit} bytes"),
            Self::PongTimeout => f.write_str("no answer to a ping"),
            Self::RateLimited => f.write_str("messages came faster than they may"),
            Self::ClientTooSlow => f.write_str("messages came faster than they were read"),
            Self::Idle => f.write_str("no message for too long"),
            Self::Expired => f.write_str("the identity has expired"),
            Self::MaxAge => f.write_str("the connection has reached its age limit"),
            Self::Revoked => f.write_str("the client was sent away"),
            Self::Shutdown => f.write_str("the gateway is stopping"),
            Self::UpstreamClosed(frame) => write!(f, "upstream closed with {}", frame.code),
            Self::UpstreamLost => f.write_str("the backend's connection ended without a close frame"),
            Self::StreamEnded => f.write_str("upstream ended the event stream"),
            Self::StreamBroken => f.write_str("an event stream from upstream broke off"),
            Self::StreamStalled => f.write_str("upstream was silent for too long"),
            Self::UpstreamStopped => f.write_str("upstream has nothing more to send (204)"),
            Self::ReopenRefused(status) => write!(f, "upstream refused to open the event stream again ({status})"),
            Self::UpstreamGone => f.write_str("upstream did not come back in time"),
            Self::PositionLost => f.write_str("events may have been lost"),
            Self::UpstreamInvalid(what) => f.write_str(what),
            Self::EventTooBig(limit) => write!(f, "an event is larger than {limit} bytes"),
            Self::ConnectionUnknown(status) => write!(f, "upstream does not know the connection ({status})"),
            Self::Unauthorized(status) => write!(f, "upstream refused a message ({status})"),
            Self::MessageTooBigUpstream => f.write_str("a message is too large for upstream (413)"),
            Self::MessageUnsupported => f.write_str("upstream does not take this type of message (415)"),
            Self::MessageRefused(status) => write!(f, "upstream refused a message ({status})"),
            Self::UpstreamBusy(status) => write!(f, "upstream is busy ({status})"),
            Self::UpstreamError(status) => write!(f, "upstream failed on a message ({status})"),
            Self::UpstreamFailed => f.write_str("upstream cannot be reached"),
            Self::MessageInDoubt(Doubt::Broken) => f.write_str("upstream broke off during a message"),
            Self::MessageInDoubt(Doubt::Failed(status)) => write!(f, "upstream failed on a message ({status})"),
            Self::MessageInDoubt(Doubt::TimedOut) => f.write_str("upstream did not answer a message in time"),
            Self::Defect => f.write_str("a defect in the gateway"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_cause() -> Vec<Cause> {
        use Cause::*;
        vec![
            ClientClosed(Some(1000)),
            ClientLost,
            ProtocolError("a frame is not masked"),
            InvalidText,
            MessageTooBig(1024),
            PongTimeout,
            RateLimited,
            ClientTooSlow,
            Idle,
            Expired,
            MaxAge,
            Revoked,
            Shutdown,
            UpstreamClosed(CloseFrame::new(4001, "bye")),
            UpstreamLost,
            StreamEnded,
            StreamBroken,
            StreamStalled,
            UpstreamStopped,
            ReopenRefused(400),
            UpstreamGone,
            PositionLost,
            UpstreamInvalid("an event holds bad base64"),
            EventTooBig(1024),
            ConnectionUnknown(404),
            Unauthorized(401),
            MessageTooBigUpstream,
            MessageUnsupported,
            MessageRefused(422),
            UpstreamBusy(429),
            UpstreamError(500),
            UpstreamFailed,
            MessageInDoubt(Doubt::TimedOut),
            Defect,
        ]
    }

    #[test]
    fn only_a_defect_has_code_1011_and_no_reserved_code_is_ever_used() {
        for cause in every_cause() {
            match cause.code() {
                Some(1011) => assert_eq!(cause, Cause::Defect),
                Some(code) => assert!(crate::protocol::close::is_sendable(code), "{cause:?}"),
                None => assert!(cause.frame(0).is_none()),
            }
        }
    }

    #[test]
    fn every_label_is_its_own() {
        let mut labels: Vec<_> = every_cause().iter().map(Cause::label).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), every_cause().len());
    }

    #[test]
    fn the_reason_names_the_cause_and_counts_what_was_not_delivered() {
        let frame = Cause::UpstreamError(500).frame(3).expect("the client is told");
        assert_eq!(frame.code, 1013);
        assert_eq!(
            frame.reason.as_str(),
            "upstream-error: upstream failed on a message (500); 3 messages not delivered"
        );
    }

    #[test]
    fn reasons_always_fit_into_a_close_frame() {
        for cause in every_cause() {
            if let Some(frame) = cause.frame(u64::MAX) {
                assert!(frame.reason.len() <= crate::protocol::close::MAX_REASON, "{cause:?}");
            }
        }
    }
}
