//! A client's byte stream that carries HTTP/1.1 in its one unambiguous form, and nothing else.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::info;

use crate::bridge::registry::Registry;
use crate::protocol::framing::{Broken, Framing};

/// What the HTTP library reads in place of the first wrong byte of a head and of all behind it. It allows a NUL nowhere in a
/// head, so that it answers 400 and closes; it looks at a head that comes in pieces only once it seems to end.
const SPOILT: &[u8] = b"\0\r\n\r\n";

/// A stream whose requests are followed as they are read. What is wrong in a head is answered with 400 by the HTTP library,
/// which sees none of it; what is wrong in a body fails the reading of it. Nothing is copied or kept.
#[derive(Debug)]
pub(super) struct Strict<S> {
    stream: S,
    framing: Framing,
    state: State,
    registry: Arc<Registry>,
    peer: SocketAddr,
}

#[derive(Debug)]
enum State {
    Sound,
    /// What is still to be read in place of a head.
    Spoilt(&'static [u8]),
    Failed,
}

impl<S> Strict<S> {
    /// Follows the stream of the client at `peer` from its first request on; what is refused is counted in `registry`.
    pub(super) fn new(stream: S, peer: SocketAddr, registry: Arc<Registry>) -> Self {
        Self { stream, framing: Framing::default(), state: State::Sound, registry, peer }
    }

    /// The stream, where something else than HTTP/1.1 follows.
    pub(super) fn into_inner(self) -> S {
        self.stream
    }

    fn refuse(&self, broken: &Broken) {
        self.registry.refused("malformed");
        // What stands in the request is not said: it may be anything.
        info!(peer = %self.peer, kind = "malformed", detail = %broken.flaw, in_head = broken.in_head, "request refused");
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Strict<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if let State::Sound = this.state {
            let before = buffer.filled().len();
            ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
            let read = buffer.filled().get(before..).unwrap_or_default();
            let Err(broken) = this.framing.read(read) else { return Poll::Ready(Ok(())) };
            this.refuse(&broken);
            // The whole read is taken back where a body is wrong: a request that came in one piece with it is then not begun.
            buffer.set_filled(before + if broken.in_head { broken.at } else { 0 });
            this.state = if broken.in_head { State::Spoilt(SPOILT) } else { State::Failed };
        }
        match &mut this.state {
            State::Failed => {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "the request is malformed")));
            }
            State::Spoilt(rest) => {
                let (now, later) = rest.split_at(rest.len().min(buffer.remaining()));
                buffer.put_slice(now);
                *rest = later;
            }
            State::Sound => {}
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Strict<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    async fn read(bytes: &[u8], room: usize) -> (Vec<u8>, io::Result<()>, u64) {
        let registry = Arc::new(Registry::default());
        let mut stream = Strict::new(bytes, "192.0.2.7:1".parse().unwrap(), registry.clone());
        let (mut all, mut buffer) = (Vec::new(), vec![0; room]);
        let ended = loop {
            match stream.read(&mut buffer).await {
                Ok(0) => break Ok(()),
                Ok(count) => all.extend(&buffer[..count]),
                Err(error) => break Err(error),
            }
        };
        (all, ended, registry.requests_refused().get("malformed").copied().unwrap_or_default())
    }

    #[tokio::test]
    async fn a_wrong_head_is_cut_where_it_is_wrong_and_a_wrong_body_fails() {
        let good = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n";
        for room in 1..80 {
            let (all, ended, refused) = read(good, room).await;
            assert!(all == good && ended.is_ok() && refused == 0);
            let (all, ended, refused) = read(&[&good[..], b"GET / HTTP/1.1\nA: b\r\n\r\n"].concat(), room).await;
            assert!(ended.is_ok() && refused == 1, "at {room}");
            assert_eq!(all, [&good[..], b"GET / HTTP/1.1", SPOILT].concat(), "at {room}");
            let (all, ended, refused) = read(&[&good[..good.len() - 4], b"X"].concat(), room).await;
            assert!(good.starts_with(&all) && ended.is_err() && refused == 1, "at {room}");
        }
    }
}
