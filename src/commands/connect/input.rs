//! Lines from stdin, read beside the conversation.

use std::io::{self, Read};
use std::thread;

use bytes::{Buf, Bytes};
use memchr::memchr;
use tokio::sync::mpsc;

/// Bytes asked for in one read.
const CHUNK: usize = 64 << 10;
/// Chunks that may wait for the conversation; a pipe that is faster than the server waits in the pipe.
const CHUNKS_AHEAD: usize = 4;

/// A line without its line end, and its place in the input, counted from 1.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) number: u64,
    /// `None` for a line that was longer than the limit, and was skipped.
    pub(super) content: Option<Vec<u8>>,
}

/// The lines of a blocking reader.
pub(super) struct Lines {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    chunk: Bytes,
    line: Vec<u8>,
    too_long: bool,
    number: u64,
    limit: usize,
}

impl Lines {
    /// Starts to read on a thread of its own. Lines longer than `limit` bytes are skipped.
    ///
    /// A read from a terminal cannot be interrupted, so nobody waits for this thread: it ends with its next read once
    /// the lines are dropped, or with the process.
    pub(super) fn read(mut reader: impl Read + Send + 'static, limit: usize) -> io::Result<Self> {
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        thread::Builder::new().name("stdin".into()).spawn(move || {
            let mut buffer = vec![0; CHUNK];
            loop {
                let chunk = match reader.read(&mut buffer) {
                    Ok(0) => return,
                    Ok(length) => Ok(Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default())),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let failed = chunk.is_err();
                if sender.blocking_send(chunk).is_err() || failed {
                    return;
                }
            }
        })?;
        Ok(Self { chunks, chunk: Bytes::new(), line: Vec::new(), too_long: false, number: 0, limit })
    }

    /// The next line; `None` at the end of input. A last line without a line end counts when it is not empty.
    ///
    /// Cancel safe: what was read before stays for the next call.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some(end) = memchr(b'\n', &self.chunk) {
                let piece = self.chunk.split_to(end);
                self.chunk.advance(1);
                self.append(&piece);
                return Ok(Some(self.take(true)));
            }
            let piece = std::mem::take(&mut self.chunk);
            self.append(&piece);
            match self.chunks.recv().await {
                Some(chunk) => self.chunk = chunk?,
                None if self.line.is_empty() && !self.too_long => return Ok(None),
                None => return Ok(Some(self.take(false))),
            }
        }
    }

    fn append(&mut self, piece: &[u8]) {
        // One byte more than the limit, for the CR that is part of a line end.
        self.too_long |= self.line.len() + piece.len() > self.limit + 1;
        if self.too_long {
            self.line = Vec::new();
        } else {
            self.line.extend_from_slice(piece);
        }
    }

    fn take(&mut self, ended: bool) -> Line {
        let mut line = std::mem::take(&mut self.line);
        if ended && line.last() == Some(&b'\r') {
            line.pop();
        }
        let too_long = std::mem::take(&mut self.too_long) || line.len() > self.limit;
        self.number += 1;
        Line { number: self.number, content: (!too_long).then_some(line) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives out its pieces one read at a time.
    struct Pieces(std::vec::IntoIter<&'static str>);

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let piece = self.0.next().unwrap_or_default();
            buffer[..piece.len()].copy_from_slice(piece.as_bytes());
            Ok(piece.len())
        }
    }

    async fn lines(pieces: Vec<&'static str>, limit: usize) -> Vec<Option<String>> {
        let mut lines = Lines::read(Pieces(pieces.into_iter()), limit).unwrap();
        let mut all = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            assert_eq!(line.number, all.len() as u64 + 1);
            all.push(line.content.map(|content| String::from_utf8(content).unwrap()));
        }
        all
    }

    fn some(lines: &[&str]) -> Vec<Option<String>> {
        lines.iter().map(|line| Some((*line).to_owned())).collect()
    }

    #[tokio::test]
    async fn lines_do_not_depend_on_how_the_bytes_arrive() {
        assert_eq!(lines(vec!["one\ntwo\n\nfour"], 99).await, some(&["one", "two", "", "four"]));
        assert_eq!(
            lines(vec!["o", "ne\r", "\ntw", "o\n", "\nfour", "\r"], 99).await,
            some(&["one", "two", "", "four\r"])
        );
        assert_eq!(lines(vec!["\n"], 99).await, some(&[""]));
        assert_eq!(lines(vec![], 99).await, some(&[]));
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_skipped_and_the_next_is_whole() {
        let got = lines(vec!["123", "4\n", "12345\n", "123", "456\n1234\r\n", "123", "456"], 4).await;
        let want = [Some("1234"), None, None, Some("1234"), None];
        assert_eq!(got, want.map(|line| line.map(str::to_owned)).to_vec());
    }
}
