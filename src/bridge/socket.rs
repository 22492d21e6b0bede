//! What the bridge needs of a client's socket; the edge implements it, so that the bridge need not know the edge.

use std::task::{Context, Poll};

use crate::protocol::close::CloseFrame;
use crate::protocol::message::Message;
use crate::session::ClientInput;

/// The socket failed; nothing more can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

/// What is to be read of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wanted {
    /// Pings, pongs and closes, up to the next message: that stays unread, and so does all that is behind it.
    Control,
    /// Messages as well.
    Everything,
}

/// A client's side of a connection: messages in, messages out.
///
/// Sending only buffers; [`poll_flush`](Self::poll_flush) writes. The buffer is bounded by what
/// [`poll_ready`](Self::poll_ready) lets in.
pub trait ClientSocket {
    /// What the client did, as far as it is wanted. After [`ClientInput::Violation`] or [`ClientInput::Gone`] it is not
    /// called again.
    fn poll_receive(&mut self, cx: &mut Context<'_>, wanted: Wanted) -> Poll<ClientInput>;

    /// Ready when one more message can be buffered.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>>;

    /// Buffers a message, after [`poll_ready`](Self::poll_ready) was ready.
    ///
    /// # Errors
    ///
    /// [`Gone`], when the socket failed.
    fn send(&mut self, message: Message) -> Result<(), Gone>;

    /// Buffers a ping.
    ///
    /// # Errors
    ///
    /// [`Gone`], when the socket failed.
    fn ping(&mut self) -> Result<(), Gone>;

    /// Buffers a close frame; no message may be sent after it.
    ///
    /// # Errors
    ///
    /// [`Gone`], when the socket failed.
    fn close(&mut self, frame: CloseFrame) -> Result<(), Gone>;

    /// Writes what is buffered.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>>;

    /// Writes what is buffered, ends our direction, and waits for the client to end its own, whatever it still sends: a
    /// socket closed over unread bytes would take the close frame with it.
    fn poll_hang_up(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}
