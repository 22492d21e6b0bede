//! What may stand behind the body of a request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderName;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;

use super::{Body, Settings};
use crate::protocol::passing::may_trail;

/// The body without those of its trailers that upstream might take for fields which only the gateway may set: some servers join
/// both.
pub(super) fn checked(body: Body, settings: Arc<Settings>) -> Body {
    Checked { body, settings }.boxed_unsync()
}

struct Checked {
    body: Body,
    settings: Arc<Settings>,
}

impl http_body::Body for Checked {
    type Data = Bytes;
    type Error = tower::BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            other => return Poll::Ready(other),
        };
        Poll::Ready(Some(Ok(match frame.into_trailers() {
            Ok(mut trailers) => {
                let bad = |name: &&HeaderName| !may_trail(name, &this.settings.claim_headers);
                let bad: Vec<HeaderName> = trailers.keys().filter(bad).cloned().collect();
                for name in bad {
                    trailers.remove(name);
                }
                Frame::trailers(trailers)
            }
            Err(frame) => frame,
        })))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http_body_util::Full;

    use super::super::test_settings;
    use super::*;

    #[tokio::test]
    async fn a_trailer_says_nothing_that_a_field_may_not() {
        let mut settings = test_settings();
        settings.claim_headers = vec![("role".into(), HeaderName::from_static("x-role"))];
        let names = [
            "x-checksum",
            "tidegate-subject",
            "tidegate_subject",
            "x-forwarded-for",
            "forwarded",
            "x_role",
            "host",
            "content-length",
            "transfer-encoding",
            "connection",
        ];
        let mut trailers = HeaderMap::new();
        for name in names {
            trailers.insert(name, "1".parse().unwrap());
        }
        let body = Full::new(Bytes::from_static(b"body")).with_trailers(async move { Some(Ok(trailers)) });
        let body = body.map_err(|never| match never {}).boxed_unsync();
        let collected = checked(body, Arc::new(settings)).collect().await.unwrap();
        let left: Vec<_> = collected.trailers().unwrap().keys().map(HeaderName::as_str).collect();
        assert_eq!(left, ["x-checksum"]);
        assert_eq!(collected.to_bytes(), "body");
    }
}
