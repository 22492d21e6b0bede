//! From upstream to the client: what waits while the client does not read.

use std::collections::VecDeque;

use super::PLACE;
use super::settings::Overflow;
use crate::protocol::Text;
use crate::protocol::close::CloseFrame;
use crate::protocol::message::Message;

/// What waits for the client. Nothing does as long as its socket takes messages.
#[derive(Debug, Default)]
pub(super) struct Downlink {
    queue: VecDeque<Message>,
    bytes: usize,
    /// The socket takes no more.
    blocked: bool,
    /// Goes behind all that waits.
    close: Option<CloseFrame>,
}

/// What became of a message for the client.
#[derive(Debug)]
pub(super) enum Offered {
    /// It can be sent now.
    Now(Message),
    /// It waits; this many older ones were left out for it.
    Waits(u64),
    /// It does not fit.
    TooMuch,
}

/// What the client is sent next.
#[derive(Debug)]
pub(super) enum Next {
    Message(Message),
    Close(CloseFrame),
}

impl Downlink {
    /// A message has come for the client.
    pub(super) fn offer(&mut self, message: Message, overflow: Overflow, limit: usize) -> Offered {
        if !self.blocked && self.queue.is_empty() {
            return Offered::Now(message);
        }
        let size = message.len() + PLACE;
        let mut dropped = 0;
        match overflow {
            // The event streams are not read meanwhile; what still comes is what was asked for.
            Overflow::Pause => {}
            Overflow::Close if self.bytes > 0 && self.bytes + size > limit => return Offered::TooMuch,
            Overflow::Close => {}
            Overflow::DropOldest => {
                while self.bytes + size > limit && self.take().is_some() {
                    dropped += 1;
                }
            }
        }
        self.bytes += size;
        self.queue.push_back(own(message));
        Offered::Waits(dropped)
    }

    /// The socket takes one more: what it is given, if anything waits.
    pub(super) fn room(&mut self) -> Option<Next> {
        self.blocked = false;
        match self.take() {
            Some(message) => Some(Next::Message(message)),
            None => self.close.take().map(Next::Close),
        }
    }

    /// The socket takes no more.
    pub(super) fn block(&mut self) {
        self.blocked = true;
    }

    pub(super) const fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Whether something waits for the socket.
    pub(super) fn waits(&self) -> bool {
        !self.queue.is_empty() || self.close.is_some()
    }

    /// How much waits, in bytes; each message counts 128 more than its payload.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The last frame: given back if it can go out now, kept behind all that waits otherwise.
    pub(super) fn close(&mut self, frame: CloseFrame) -> Option<CloseFrame> {
        if self.queue.is_empty() {
            return Some(frame);
        }
        self.close = Some(frame);
        None
    }

    /// Gives up on all that waits, and says how many messages that were.
    pub(super) fn clear(&mut self) -> u64 {
        let count = self.queue.len() as u64;
        self.queue = VecDeque::new();
        self.bytes = 0;
        self.close = None;
        count
    }

    fn take(&mut self) -> Option<Message> {
        let message = self.queue.pop_front()?;
        self.bytes = self.bytes.saturating_sub(message.len() + PLACE);
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
        Some(message)
    }
}

/// A copy that holds nothing but the message: events are slices of the chunk that they came in.
fn own(message: Message) -> Message {
    match message {
        Message::Text(text) => Message::Text(Text::from(text.as_str())),
        Message::Binary(octets) => Message::Binary(octets.to_vec().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blocked() -> Downlink {
        let mut downlink = Downlink::default();
        downlink.block();
        downlink
    }

    fn next(downlink: &mut Downlink) -> Option<Message> {
        match downlink.room() {
            Some(Next::Message(message)) => Some(message),
            _ => None,
        }
    }

    #[test]
    fn nothing_waits_while_the_socket_takes_messages() {
        let mut downlink = Downlink::default();
        assert!(matches!(downlink.offer("a".into(), Overflow::Pause, 0), Offered::Now(_)));
        assert!(!downlink.waits());
    }

    #[test]
    fn order_holds_when_the_socket_takes_messages_again() {
        let mut downlink = blocked();
        assert!(matches!(downlink.offer("a".into(), Overflow::Pause, 0), Offered::Waits(0)));
        assert_eq!(next(&mut downlink), Some("a".into()));
        downlink.block();
        downlink.offer("b".into(), Overflow::Pause, 0);
        downlink.offer("c".into(), Overflow::Pause, 0);
        assert_eq!(next(&mut downlink), Some("b".into()));
        // Room for one does not let another overtake what waits.
        assert!(matches!(downlink.offer("d".into(), Overflow::Pause, 0), Offered::Waits(0)));
        assert_eq!([next(&mut downlink), next(&mut downlink)], [Some("c".into()), Some("d".into())]);
        assert!(!downlink.waits() && downlink.bytes() == 0);
    }

    #[test]
    fn the_oldest_give_way_and_are_counted() {
        let limit = 2 * (PLACE + 1);
        let mut downlink = blocked();
        for text in ["a", "b"] {
            assert!(matches!(downlink.offer(text.into(), Overflow::DropOldest, limit), Offered::Waits(0)));
        }
        assert!(matches!(downlink.offer("c".into(), Overflow::DropOldest, limit), Offered::Waits(1)));
        assert_eq!([next(&mut downlink), next(&mut downlink)], [Some("b".into()), Some("c".into())]);
    }

    #[test]
    fn a_message_above_the_limit_waits_alone_where_the_oldest_give_way() {
        let mut downlink = blocked();
        downlink.offer("a".into(), Overflow::DropOldest, PLACE + 1);
        assert!(matches!(downlink.offer("long".into(), Overflow::DropOldest, PLACE + 1), Offered::Waits(1)));
        assert_eq!(next(&mut downlink), Some("long".into()));
    }

    #[test]
    fn what_does_not_fit_is_said_where_the_route_closes() {
        let mut downlink = blocked();
        assert!(matches!(downlink.offer("a".into(), Overflow::Close, PLACE + 1), Offered::Waits(0)));
        assert!(matches!(downlink.offer("b".into(), Overflow::Close, PLACE + 1), Offered::TooMuch));
    }

    #[test]
    fn the_close_frame_goes_behind_all_that_waits() {
        let frame = CloseFrame::new(1000, "");
        let mut downlink = blocked();
        assert_eq!(downlink.close(frame.clone()), Some(frame.clone()), "a frame alone needs no room");
        downlink.offer("a".into(), Overflow::Pause, 0);
        assert_eq!(downlink.close(frame.clone()), None);
        assert!(matches!(downlink.room(), Some(Next::Message(_))));
        assert!(matches!(downlink.room(), Some(Next::Close(last)) if last == frame));
        assert!(downlink.room().is_none());
    }
}
