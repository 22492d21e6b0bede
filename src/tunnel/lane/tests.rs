use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

use super::*;

/// A lane of a server's frames with both of its ends: what the source writes into, and what the sink is read from.
struct Scene {
    lane: Lane,
    source: DuplexStream,
    sink: DuplexStream,
    writer: DuplexStream,
    reader: DuplexStream,
}

const LIMIT: usize = 4096;

impl Scene {
    /// With room for `room` bytes on the way to the sink.
    fn new(room: usize) -> Self {
        let ((writer, source), (sink, reader)) = (duplex(1 << 20), duplex(room));
        Self { lane: Lane::new(Frames::of_server(), b"", LIMIT, None), source, sink, writer, reader }
    }

    /// Moves all that can be moved now; gives what came of it, if something did.
    async fn turn(&mut self) -> Option<Event> {
        let Self { lane, source, sink, .. } = self;
        let polled = std::future::poll_fn(|cx| Poll::Ready(lane.poll(cx, Some(source), Some(sink))));
        // What the runtime puts off for fairness could not be told from what cannot be moved.
        match tokio::task::unconstrained(polled).await {
            Poll::Ready(event) => Some(event),
            Poll::Pending => None,
        }
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.writer.write_all(bytes).await.unwrap();
    }

    /// What the sink has got, up to a kilobyte.
    async fn read(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 1024];
        let length = self.reader.read(&mut bytes).await.unwrap();
        bytes.truncate(length);
        bytes
    }
}

const HELLO: &[u8] = &[0x81, 5, b'H', b'e', b'l', b'l', b'o'];
const GOODBYE: [u8; 6] = [0x88, 4, 0x03, 0xe9, b'o', b'k'];

fn close() -> Last {
    Last::Close(1001, "ok".to_owned())
}

#[tokio::test]
async fn bytes_pass_as_they_come_and_nothing_is_held() {
    let mut scene = Scene::new(1024);
    for byte in HELLO {
        scene.write(&[*byte]).await;
        assert!(scene.turn().await.is_none());
        assert_eq!(scene.read().await, [*byte]);
    }
    assert_eq!((scene.lane.held(), scene.lane.held.capacity()), (0, 0));
    assert_eq!((scene.lane.frames().messages(), scene.lane.has_moved(), scene.lane.has_moved()), (1, true, false));
}

#[tokio::test]
async fn a_sink_that_takes_nothing_stops_the_reading_of_the_source() {
    let mut scene = Scene::new(16);
    let large = [&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xf0][..], &vec![7; 0xfff0]].concat();
    scene.write(&large).await;
    assert!(scene.turn().await.is_none());
    assert_eq!(scene.lane.held(), LIMIT);
    let mut got = Vec::new();
    while got.len() < large.len() {
        got.extend(scene.read().await);
        assert!(scene.turn().await.is_none() && scene.lane.held() <= LIMIT);
    }
    assert_eq!(got, large);
    assert_eq!((scene.lane.held.capacity(), scene.lane.frames().messages()), (0, 1));
}

#[tokio::test]
async fn a_close_frame_of_ours_waits_for_the_end_of_the_frame_that_is_passing() {
    let mut scene = Scene::new(1024);
    scene.write(&HELLO[..3]).await;
    assert!(scene.turn().await.is_none());
    scene.lane.end(close());
    assert!(scene.turn().await.is_none(), "nothing can be said within a frame");
    // The rest of the frame, and one more that is not passed on.
    scene.write(&HELLO[3..]).await;
    scene.write(HELLO).await;
    assert!(matches!(scene.turn().await, Some(Event::Shut)));
    assert_eq!(scene.read().await, [HELLO, &GOODBYE[..]].concat());
    assert!(scene.read().await.is_empty(), "and the end of the stream");
    // What still comes is read, so that its end is seen.
    scene.write(HELLO).await;
    let Scene { writer, .. } = &mut scene;
    writer.shutdown().await.unwrap();
    assert!(matches!(scene.turn().await, Some(Event::Ended)));
}

#[tokio::test]
async fn what_was_cut_off_gets_no_close_frame() {
    for last in [close(), Last::RestAndClose(1012, "gone".to_owned())] {
        let mut scene = Scene::new(1024);
        scene.write(&HELLO[..3]).await;
        scene.writer.shutdown().await.unwrap();
        assert!(matches!(scene.turn().await, Some(Event::Ended)));
        scene.lane.end(last);
        assert!(matches!(scene.turn().await, Some(Event::SinkLost(_))));
        assert_eq!(scene.read().await, &HELLO[..3]);
    }
}

#[tokio::test]
async fn all_that_came_before_the_end_of_the_source_arrives_before_the_close_frame() {
    let mut scene = Scene::new(4);
    scene.write(HELLO).await;
    scene.writer.shutdown().await.unwrap();
    assert!(matches!(scene.turn().await, Some(Event::Ended)));
    scene.lane.end(Last::RestAndClose(1001, "ok".to_owned()));
    let mut got = Vec::new();
    let mut event = None;
    while got.len() < HELLO.len() + GOODBYE.len() {
        event = event.or(scene.turn().await);
        got.extend(scene.read().await);
    }
    assert!(matches!(event, Some(Event::Shut)), "{event:?}");
    assert_eq!(got, [HELLO, &GOODBYE[..]].concat());
}

#[tokio::test]
async fn what_is_no_frame_is_not_passed_on_and_neither_is_what_follows() {
    let mut scene = Scene::new(1024);
    scene.write(&[HELLO, &[0x81, 0x85], HELLO].concat()).await;
    assert!(matches!(scene.turn().await, Some(Event::Broke(Breach { how: "a frame is masked", .. }))));
    assert_eq!((scene.read().await, scene.lane.held()), (HELLO.to_vec(), 0));
    scene.lane.end(close());
    assert!(matches!(scene.turn().await, Some(Event::Shut)));
    assert_eq!(scene.read().await, GOODBYE);
}

#[tokio::test]
async fn a_close_of_the_source_is_told_once_it_has_gone_by() {
    let mut scene = Scene::new(1024);
    scene.write(&[HELLO, &GOODBYE[..], HELLO].concat()).await;
    assert!(matches!(scene.turn().await, Some(Event::Closed(Some(1001)))));
    assert!(scene.turn().await.is_none());
    assert_eq!(scene.read().await, [HELLO, &GOODBYE[..], HELLO].concat());
}

#[tokio::test]
async fn without_a_sink_the_end_of_the_source_is_still_seen() {
    let Scene { mut lane, mut source, mut writer, .. } = Scene::new(1024);
    writer.write_all(HELLO).await.unwrap();
    writer.shutdown().await.unwrap();
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let polled = lane.poll(&mut cx, Some(&mut source), None::<&mut DuplexStream>);
    assert!(matches!(polled, Poll::Ready(Event::Ended)), "{polled:?}");
}
