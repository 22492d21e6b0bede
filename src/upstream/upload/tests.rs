use std::task::Waker;

use http_body_util::{BodyExt as _, Full};

use super::*;

const RULES: UploadRules =
    UploadRules { max_size: Some(8), send_timeout: Duration::from_secs(5), expects_continue: false };

fn whole(bytes: &'static [u8]) -> Sent {
    Full::new(Bytes::from_static(bytes)).map_err(|never| match never {}).boxed_unsync()
}

fn poll(upload: &mut Upload) -> Poll<Option<Result<Bytes, String>>> {
    let frame = Pin::new(upload).poll_frame(&mut Context::from_waker(Waker::noop()));
    frame.map(|frame| {
        frame.map(|frame| frame.map(|frame| frame.into_data().unwrap()).map_err(|error| error.to_string()))
    })
}

#[tokio::test]
async fn a_body_of_which_nothing_was_read_comes_back_and_no_other() {
    let (upload, watch) = Upload::new(whole(b"four"), RULES);
    drop(upload);
    let back = watch.take_back().unwrap();
    let (mut upload, watch) = Upload::new(back, RULES);
    assert_eq!(poll(&mut upload), Poll::Ready(Some(Ok(Bytes::from_static(b"four")))));
    assert!(watch.is_over() && watch.bytes() == 4);
    drop(upload);
    assert!(watch.take_back().is_none());
}

#[tokio::test]
async fn it_is_not_read_before_upstream_asks_for_it() {
    let (mut upload, watch) = Upload::new(whole(b"four"), UploadRules { expects_continue: true, ..RULES });
    let gate = upload.gate().unwrap();
    assert!(poll(&mut upload).is_pending());
    gate.informed(StatusCode::EARLY_HINTS);
    assert!(poll(&mut upload).is_pending());
    gate.informed(StatusCode::CONTINUE);
    assert!(poll(&mut upload).is_ready());
    assert!(upload.gate().is_none() && watch.failure().is_none());
}

#[tokio::test]
async fn it_ends_when_it_is_too_large_or_nobody_wants_it() {
    let (mut upload, watch) = Upload::new(whole(b"nine of it"), RULES);
    assert_eq!(poll(&mut upload), Poll::Ready(Some(Err(UploadError::TooLarge.to_string()))));
    assert_eq!(watch.failure(), Some(UploadError::TooLarge));
    assert!(poll(&mut upload).map(|frame| frame.is_none()) == Poll::Ready(true));
    let (mut upload, watch) = Upload::new(whole(b"four"), RULES);
    watch.unwanted();
    assert_eq!(poll(&mut upload), Poll::Ready(Some(Err(UploadError::Unwanted.to_string()))));
    drop(upload);
    assert!(watch.take_back().is_none(), "it is not held for anybody");
}

/// A body whose pieces the test sends.
struct Pieces(tokio::sync::mpsc::Receiver<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = tower::BoxError;
    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

#[tokio::test]
async fn whose_turn_it_is_is_seen_and_a_client_that_is_silent_in_its_own_is_noticed() {
    let (sender, pieces) = tokio::sync::mpsc::channel(1);
    let rules = UploadRules { send_timeout: Duration::from_millis(50), ..RULES };
    let (mut upload, watch) = Upload::new(Pieces(pieces).boxed_unsync(), rules);
    assert!(watch.waits_for_upstream_since().is_some(), "nobody has asked the client for anything yet");
    for _ in 0..3 {
        assert!(poll(&mut upload).is_pending());
        assert_eq!(watch.waits_for_upstream_since(), None);
        sender.try_send(Bytes::from_static(b"a")).unwrap();
        assert!(poll(&mut upload).is_ready());
        assert!(watch.waits_for_upstream_since().is_some());
    }
    let ended = upload.frame().await.unwrap().unwrap_err();
    assert_eq!(ended.to_string(), UploadError::Stalled.to_string());
    assert!(watch.failure() == Some(UploadError::Stalled) && !watch.is_over());
}
