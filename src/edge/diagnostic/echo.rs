//! A WebSocket that sends every message back.

use std::future::poll_fn;
use std::time::Duration;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::BufReader;

use crate::bridge::Stop;
use crate::bridge::socket::{ClientSocket as _, Gone, Wanted};
use crate::edge::WebSocket;
use crate::protocol::close::CloseFrame;
use crate::protocol::message::Message;
use crate::session::ClientInput;

/// Largest message in bytes.
const LARGEST_MESSAGE: usize = 16 * 1024;

/// Most messages of one connection: a doctor sends a handful, and this is no place to move data.
const MOST_MESSAGES: usize = 64;

/// How long the client may take to answer the close.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Sends messages back until the client is done, `longest` has passed or the gateway stops.
pub(super) async fn run(upgraded: Upgraded, longest: Duration, stop: &Stop) {
    let mut socket = WebSocket::new(BufReader::new(TokioIo::new(upgraded)), Vec::new(), LARGEST_MESSAGE);
    let frame = tokio::select! {
        frame = echo(&mut socket) => frame,
        () = tokio::time::sleep(longest) => Some(CloseFrame::new(1000, "the probe is over")),
        () = stop.shutdown.cancelled() => Some(CloseFrame::new(1001, "the gateway is stopping")),
    };
    if let Some(frame) = frame {
        // The socket is hung up, whether it takes the frame or not.
        let _ = socket.close(frame);
    }
    let _ = tokio::time::timeout(LAST_WORDS, poll_fn(|cx| socket.poll_hang_up(cx))).await;
}

/// Gives the frame to close with, if the client has not closed.
async fn echo(socket: &mut WebSocket<BufReader<TokioIo<Upgraded>>>) -> Option<CloseFrame> {
    let mut messages = 0;
    loop {
        match poll_fn(|cx| socket.poll_receive(cx, Wanted::Everything)).await {
            ClientInput::Message(_) if messages == MOST_MESSAGES => {
                return Some(CloseFrame::new(1008, "a probe has 64 messages"));
            }
            ClientInput::Message(message) => {
                messages += 1;
                send(socket, message).await.ok()?;
            }
            ClientInput::Alive => {}
            ClientInput::Violation(_) => return Some(CloseFrame::new(1002, "")),
            ClientInput::Closed(_) | ClientInput::Gone => return None,
        }
    }
}

async fn send(socket: &mut WebSocket<BufReader<TokioIo<Upgraded>>>, message: Message) -> Result<(), Gone> {
    poll_fn(|cx| socket.poll_ready(cx)).await?;
    socket.send(message)?;
    poll_fn(|cx| socket.poll_flush(cx)).await
}
