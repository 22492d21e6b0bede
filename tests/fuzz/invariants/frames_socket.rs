//! The gateway's end of a WebSocket in memory: the one place where the targets touch its codec.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tidegate::bridge::socket::ClientSocket;
use tidegate::edge::WebSocket;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};

/// A socket on which the handshake is done.
pub(super) fn open(wire: &Wire, already_read: &[u8], max_message_size: usize) -> impl ClientSocket + use<> {
    WebSocket::new(BufReader::new(wire.clone()), already_read.to_vec(), max_message_size)
}

/// A byte stream whose other end the test holds. It wakes nobody: who drives it asks again.
#[derive(Clone, Debug)]
pub(super) struct Wire(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// What the client sends, a piece for each read; behind the last one its side has ended.
    incoming: VecDeque<Vec<u8>>,
    /// Before each piece there is a moment without any.
    paused: bool,
    read: usize,
    written: Vec<u8>,
    /// How many bytes one write takes; 0 is a client that reads nothing.
    room: usize,
    /// Every other write has to wait.
    full: bool,
    shut_down: bool,
}

impl Wire {
    pub(super) fn new(pieces: &[&[u8]], room: usize) -> Self {
        let incoming = pieces.iter().map(|piece| piece.to_vec()).collect();
        let state =
            State { incoming, paused: false, read: 0, written: Vec::new(), room, full: false, shut_down: false };
        Self(Arc::new(Mutex::new(state)))
    }

    /// How many bytes went either way.
    pub(super) fn carried(&self) -> usize {
        let state = self.state();
        state.read + state.written.len()
    }

    /// All that the gateway has written.
    pub(super) fn written(&self) -> Vec<u8> {
        self.state().written.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        state.paused = !state.paused;
        if state.paused {
            return Poll::Pending;
        }
        let Some(mut piece) = state.incoming.pop_front() else { return Poll::Ready(Ok(())) };
        let rest = piece.split_off(piece.len().min(buffer.remaining()));
        if !rest.is_empty() {
            state.incoming.push_front(rest);
        }
        state.read += piece.len();
        buffer.put_slice(&piece);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.state();
        assert!(!state.shut_down, "bytes behind the end");
        state.full = !state.full;
        if state.full || state.room == 0 {
            return Poll::Pending;
        }
        let taken = bytes.len().min(state.room);
        state.written.extend_from_slice(bytes.get(..taken).unwrap_or(bytes));
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.state().shut_down = true;
        Poll::Ready(Ok(()))
    }
}
