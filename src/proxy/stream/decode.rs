//! An event stream that comes compressed although that was not asked for: decoded as it comes, never held back.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::write::{MultiGzDecoder, ZlibDecoder};
use http::header::{self, HeaderMap};

/// How much is decoded at a time, in bytes: Deflate makes at most 1032 of one, so that no more than half a MiB is held.
const AT_A_TIME: usize = 512;

/// What became of a body's codings (RFC 9110 section 8.4).
#[derive(Debug)]
pub(super) enum Coding {
    /// It comes as it is.
    Identity,
    /// It is decoded here.
    Known(Box<Decoder>),
    /// Nobody here can read it.
    Unknown,
}

impl Coding {
    /// What `Content-Encoding` says.
    pub(super) fn of(fields: &HeaderMap) -> Self {
        if crate::protocol::headers::is_identity(fields) {
            return Self::Identity;
        }
        let mut values = fields.get_all(header::CONTENT_ENCODING).iter();
        let (Some(coding), None) = (values.next(), values.next()) else { return Self::Unknown };
        let coding = coding.as_bytes().trim_ascii();
        let reads = if coding.eq_ignore_ascii_case(b"gzip") || coding.eq_ignore_ascii_case(b"x-gzip") {
            Reads::Gzip(MultiGzDecoder::new(Vec::new()))
        } else if coding.eq_ignore_ascii_case(b"deflate") {
            Reads::Deflate(ZlibDecoder::new(Vec::new()))
        } else {
            return Self::Unknown;
        };
        Self::Known(Box::new(Decoder { reads, waiting: Bytes::new() }))
    }
}

/// Decodes one body.
#[derive(Debug)]
pub(super) struct Decoder {
    reads: Reads,
    /// What came and is not decoded yet.
    waiting: Bytes,
}

#[derive(Debug)]
enum Reads {
    Gzip(MultiGzDecoder<Vec<u8>>),
    Deflate(ZlibDecoder<Vec<u8>>),
}

impl Decoder {
    /// Takes the next chunk. All of the one before has been decoded: [`next`](Self::next) gave `None`.
    pub(super) fn push(&mut self, chunk: Bytes) {
        self.waiting = chunk;
    }

    /// Some of what can be made of the chunks that came; `None` when that is all.
    ///
    /// # Errors
    ///
    /// What came is not what its `Content-Encoding` says.
    pub(super) fn next(&mut self) -> io::Result<Option<Bytes>> {
        while !self.waiting.is_empty() {
            let piece = self.waiting.split_to(AT_A_TIME.min(self.waiting.len()));
            let decoded = match &mut self.reads {
                Reads::Gzip(decoder) => {
                    decoder.write_all(&piece)?;
                    decoder.flush()?;
                    decoder.get_mut()
                }
                Reads::Deflate(decoder) => {
                    decoder.write_all(&piece)?;
                    decoder.flush()?;
                    decoder.get_mut()
                }
            };
            if !decoded.is_empty() {
                return Ok(Some(std::mem::take(decoded).into()));
            }
        }
        self.waiting = Bytes::new();
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use http::HeaderValue;

    use super::*;

    fn decoder(coding: &'static str) -> Decoder {
        match Coding::of(&HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(coding))])) {
            Coding::Known(decoder) => *decoder,
            other => panic!("{other:?}"),
        }
    }

    fn all(decoder: &mut Decoder, chunk: &[u8]) -> Vec<Bytes> {
        decoder.push(Bytes::copy_from_slice(chunk));
        std::iter::from_fn(|| decoder.next().unwrap()).collect()
    }

    #[test]
    fn each_event_comes_out_as_soon_as_it_is_in() {
        let mut decoder = decoder("gzip");
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        for number in 0..100 {
            let event = format!("data: {number}\n\n");
            encoder.write_all(event.as_bytes()).unwrap();
            encoder.flush().unwrap();
            let chunk = std::mem::take(encoder.get_mut());
            assert_eq!(all(&mut decoder, &chunk).concat(), event.as_bytes());
        }
    }

    #[test]
    fn bytes_may_come_one_by_one_and_members_one_after_another() {
        let mut decoder = decoder("X-GZip");
        for _ in 0..2 {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(b"data: one\n\ndata: two\n\n").unwrap();
            let out: Vec<_> = encoder.finish().unwrap().iter().flat_map(|byte| all(&mut decoder, &[*byte])).collect();
            assert_eq!(out.concat(), b"data: one\n\ndata: two\n\n");
        }
    }

    #[test]
    fn a_bomb_comes_out_in_small_pieces() {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&vec![b':'; 64 << 20]).unwrap();
        let bomb = encoder.finish().unwrap();
        let pieces = all(&mut decoder("deflate"), &bomb);
        assert_eq!(pieces.iter().map(Bytes::len).sum::<usize>(), 64 << 20);
        assert!(pieces.iter().all(|piece| piece.len() <= 600 * 1024));
    }

    #[test]
    fn what_is_not_compressed_as_it_says_is_an_error() {
        let mut decoder = decoder("gzip");
        decoder.push(Bytes::from_static(b"data: plain text, which no gzip starts with\n\n"));
        assert!(decoder.next().is_err());
    }

    #[test]
    fn other_codings_and_several_at_once_are_not_read() {
        let of = |values: &[&'static str]| {
            Coding::of(
                &values.iter().map(|value| (header::CONTENT_ENCODING, HeaderValue::from_static(value))).collect(),
            )
        };
        assert!(matches!(of(&[]), Coding::Identity) && matches!(of(&["none"]), Coding::Identity));
        for unknown in [&["br"][..], &["zstd"], &["gzip, gzip"], &["gzip", "deflate"]] {
            assert!(matches!(of(unknown), Coding::Unknown), "{unknown:?}");
        }
    }
}
