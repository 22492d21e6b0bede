//! The session as lists of inputs: no socket, no sleep, time as an argument.

mod limits;
mod properties;
mod rates;
mod reopening;
mod simulation;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::protocol::Text;
use crate::protocol::close::CloseFrame;
use crate::protocol::message::Message;
use crate::protocol::sse::Event;

/// A session with its time and all that it has asked for.
struct Scene {
    session: Session,
    now: Instant,
    outputs: Vec<Output>,
}

impl Scene {
    fn new(settings: Settings) -> Self {
        let now = Instant::now();
        Self { session: Session::new(Arc::new(settings), 0, None, now), now, outputs: Vec::new() }
    }

    fn step(&mut self, input: Input<'_>) -> Vec<Output> {
        self.session.step(input, self.now, &mut self.outputs);
        std::mem::take(&mut self.outputs)
    }

    fn message(&mut self, text: &str) -> Vec<Output> {
        self.step(Input::Client(ClientInput::Message(Message::Text(Text::from(text)))))
    }

    fn event(&mut self, text: &str) -> Vec<Output> {
        self.event_with_id(text, None)
    }

    /// An event of the main stream, with this id if it has one of its own.
    fn event_with_id(&mut self, text: &str, id: Option<&str>) -> Vec<Output> {
        let of = EventOf { source: Source::Main, last_event_id: id.unwrap_or_default(), own_id: id.is_some() };
        self.step(Input::Event(Event { name: None, data: Text::from(text) }, of))
    }

    /// Loses the stream behind an event with an id, and waits until it is asked for again.
    fn lose_stream(&mut self) {
        assert!(self.step(Input::StreamEnded(StreamEnd::Broken, RESUMABLE)).is_empty());
        self.until_reopen();
    }

    /// Waits until the stream is asked for again, and says whether from where it ended.
    fn until_reopen(&mut self) -> bool {
        for _ in 0..100 {
            let outputs = self.next();
            if let Some(resume) = outputs.iter().find_map(|output| match output {
                Output::Reopen { resume } => Some(*resume),
                _ => None,
            }) {
                return resume;
            }
            self.step(Input::Client(ClientInput::Alive));
        }
        panic!("the stream is never asked for again: {:?}", self.session);
    }

    /// Waits for the next deadline.
    fn next(&mut self) -> Vec<Output> {
        self.now = self.session.next_deadline().expect("a deadline");
        self.step(Input::Tick)
    }

    /// The delivery that the session asks for with this message.
    fn post(&mut self, text: &str) -> Delivery {
        one_post(self.message(text))
    }

    fn answer(&mut self, delivery: Delivery, status: u16) -> Vec<Output> {
        self.step(Input::Posted(delivery, PostOutcome::Refused { status, retry_after: None }))
    }

    fn wait(&mut self, time: Duration) -> Vec<Output> {
        self.now += time;
        self.step(Input::Tick)
    }
}

fn one_post(mut outputs: Vec<Output>) -> Delivery {
    match (outputs.pop(), outputs.pop()) {
        (Some(Output::Post(delivery)), None) => delivery,
        other => panic!("expected one POST, got {other:?}"),
    }
}

fn one(text: &'static str) -> Payload {
    Payload::Message(Message::from(text))
}

fn close_code(outputs: &[Output]) -> Option<u16> {
    outputs.iter().find_map(|output| match output {
        Output::Close(frame) => Some(frame.code),
        _ => None,
    })
}

const ACCEPTED: PostOutcome = PostOutcome::Accepted(None);
const RESUMABLE: Left = Left { resumable: true, retry: None };

#[test]
fn messages_are_posted_one_at_a_time_in_order() {
    let mut scene = Scene::new(Settings::default());
    let first = scene.post("one");
    assert!(scene.message("two").is_empty() && scene.message("three").is_empty());
    let second = one_post(scene.step(Input::Posted(first, ACCEPTED)));
    assert_eq!((second.sequence, &second.payload), (2, &one("two")));
    let third = one_post(scene.step(Input::Posted(second, ACCEPTED)));
    assert_eq!((third.sequence, &third.payload), (3, &one("three")));
}

#[test]
fn a_full_queue_stops_reading_and_an_emptier_one_starts_it_again() {
    let mut scene = Scene::new(Settings { queue: 2 * PLACE + 10, ..Settings::default() });
    let first = scene.post("in flight, not queued");
    scene.message("123456789");
    assert!(scene.session.reads_client());
    scene.message("0");
    assert!(!scene.session.reads_client());
    scene.step(Input::Posted(first, ACCEPTED));
    assert!(scene.session.reads_client());
}

#[test]
fn waiting_for_upstream_pauses_reading_and_keeps_number_and_key() {
    let mut scene = Scene::new(Settings::default());
    let first = scene.post("one");
    let wait = Some(Duration::from_secs(3));
    assert!(scene.step(Input::Posted(first, PostOutcome::Refused { status: 429, retry_after: wait })).is_empty());
    assert!(!scene.session.reads_client());
    assert_eq!(scene.session.next_deadline(), Some(scene.now + Duration::from_secs(3)));
    assert!(scene.wait(Duration::from_secs(2)).is_empty());
    let again = one_post(scene.wait(Duration::from_secs(1)));
    assert_eq!(again.sequence, 1);
    assert!(scene.session.reads_client());
}

#[test]
fn empty_messages_fill_the_queue_too() {
    let mut scene = Scene::new(Settings { queue: 1024, ..Settings::default() });
    let mut read = 0;
    while scene.session.reads_client() {
        scene.message("");
        read += 1;
        assert!(read < 100, "a queue without an end");
    }
}

#[test]
fn a_retry_that_is_due_together_with_a_pong_is_no_reason_to_take_the_client_for_gone() {
    let mut scene = Scene::new(Settings::default());
    let first = scene.post("one");
    assert!(matches!(scene.wait(Duration::from_secs(30))[..], [Output::Ping]));
    // The socket is not read for exactly as long as the pong may take.
    let wait = Some(Duration::from_secs(20));
    scene.step(Input::Posted(first, PostOutcome::Refused { status: 429, retry_after: wait }));
    assert_eq!(close_code(&scene.wait(Duration::from_secs(20))), None);
}

#[test]
fn a_streaming_answer_does_not_hold_back_the_last_word() {
    let mut scene = Scene::new(Settings { max_reply_streams: 1, ..Settings::default() });
    let first = scene.post("one");
    scene.message("two");
    assert!(scene.step(Input::Posted(first, PostOutcome::Streaming)).is_empty());
    let outputs = scene.step(Input::Client(ClientInput::Closed(Some(CloseFrame::new(1000, "")))));
    assert!(matches!(&outputs[..], [Output::HangUp, Output::Post(last)] if last.payload == one("two")));
}

#[test]
fn a_cut_counts_what_is_left_undone() {
    let mut scene = Scene::new(Settings::default());
    let first = scene.post("one");
    scene.message("two");
    let retry_after = Some(Duration::from_secs(20));
    scene.step(Input::Posted(first, PostOutcome::Refused { status: 503, retry_after }));
    scene.step(Input::Shutdown);
    assert!(matches!(scene.step(Input::Cut)[..], [Output::Abandon]));
    assert_eq!(scene.session.closed(), Some(&Cause::Shutdown));
    assert_eq!(scene.session.counts().undelivered, 2);
}

#[test]
fn waiting_ends_when_the_message_has_had_its_time() {
    let mut scene = Scene::new(Settings { delivery_timeout: Duration::from_secs(5), ..Settings::default() });
    let mut delivery = scene.post("one");
    for _ in 0..2 {
        let outcome = PostOutcome::Refused { status: 503, retry_after: Some(Duration::from_secs(2)) };
        scene.step(Input::Posted(delivery, outcome));
        delivery = one_post(scene.wait(Duration::from_secs(2)));
    }
    let outcome = PostOutcome::Refused { status: 503, retry_after: Some(Duration::from_secs(2)) };
    assert_eq!(close_code(&scene.step(Input::Posted(delivery, outcome))), Some(1013));
}

#[test]
fn the_first_cause_is_the_cause() {
    let mut scene = Scene::new(Settings::default());
    let delivery = scene.post("one");
    assert_eq!(close_code(&scene.answer(delivery, 500)), Some(1013));
    assert_eq!(close_code(&scene.step(Input::Shutdown)), None);
    scene.step(Input::Client(ClientInput::Gone));
    assert_eq!(scene.session.closed(), Some(&Cause::UpstreamError(500)));
}

#[test]
fn a_client_that_closes_is_closed_only_after_its_last_message() {
    let mut scene = Scene::new(Settings::default());
    let first = scene.post("one");
    scene.message("two");
    let outputs = scene.step(Input::Client(ClientInput::Closed(Some(CloseFrame::new(1000, "")))));
    assert!(matches!(outputs[..], [Output::HangUp]));
    scene.step(Input::Client(ClientInput::Gone));
    assert!(scene.session.needs_upstream() && scene.session.closed().is_none());
    let second = one_post(scene.step(Input::Posted(first, ACCEPTED)));
    scene.step(Input::Posted(second, ACCEPTED));
    assert_eq!(scene.session.closed(), Some(&Cause::ClientClosed(Some(1000))));
    assert_eq!((scene.session.counts().messages_up, scene.session.counts().undelivered), (2, 0));
}

#[test]
fn the_last_messages_get_no_more_than_the_delivery_time() {
    let mut scene = Scene::new(Settings::default());
    let _never_answered = scene.post("one");
    scene.message("two");
    scene.step(Input::Client(ClientInput::Gone));
    scene.wait(Duration::from_secs(59));
    assert!(scene.session.closed().is_none());
    scene.wait(Duration::from_secs(1));
    assert_eq!(scene.session.closed(), Some(&Cause::ClientLost));
    assert_eq!(scene.session.counts().undelivered, 2);
    assert!(!scene.session.awaits_posts());
}

#[test]
fn a_client_that_does_not_answer_our_close_is_abandoned() {
    let mut scene = Scene::new(Settings::default());
    assert_eq!(close_code(&scene.step(Input::Shutdown)), Some(1001));
    assert!(scene.wait(Duration::from_secs(4)).is_empty());
    assert!(matches!(scene.wait(Duration::from_secs(1))[..], [Output::Abandon]));
    assert_eq!(scene.session.closed(), Some(&Cause::Shutdown));
}

#[test]
fn nothing_is_sent_to_the_client_behind_a_close() {
    let mut scene = Scene::new(Settings { replies: true, ..Settings::default() });
    let first = scene.post("one");
    assert!(close_code(&scene.step(Input::Shutdown)).is_some());
    assert!(scene.event("late").is_empty());
    let reply = PostOutcome::Accepted(Some(Message::from("late")));
    assert!(scene.step(Input::Posted(first, reply)).is_empty());
}

#[test]
fn a_second_failure_while_the_rest_is_delivered_is_counted() {
    let mut scene = Scene::new(Settings::default());
    let first = scene.post("one");
    scene.message("two");
    scene.step(Input::Client(ClientInput::Gone));
    scene.answer(first, 500);
    assert_eq!(scene.session.closed(), Some(&Cause::ClientLost));
    assert_eq!(scene.session.counts().undelivered, 2);
}

#[test]
fn pings_go_on_as_long_as_the_client_answers() {
    let mut scene = Scene::new(Settings::default());
    for _ in 0..3 {
        assert!(matches!(scene.wait(Duration::from_secs(30))[..], [Output::Ping]));
        scene.step(Input::Client(ClientInput::Alive));
        scene.step(Input::StreamAlive);
    }
    assert!(matches!(scene.wait(Duration::from_secs(30))[..], [Output::Ping]));
    assert_eq!(close_code(&scene.wait(Duration::from_secs(20))), Some(1001));
}

#[test]
fn a_slow_client_pauses_the_stream_and_loses_nothing() {
    let mut scene = Scene::new(Settings { replies: true, ..Settings::default() });
    let first = scene.post("one");
    scene.message("two");
    scene.step(Input::ClientBusy);
    assert!(!scene.session.reads_events() && scene.session.reads_client());
    // What was asked for still comes, and waits; no more is asked for meanwhile.
    assert!(scene.step(Input::Posted(first, PostOutcome::Accepted(Some("reply".into())))).is_empty());
    assert!(scene.session.client_waits());
    let outputs = scene.step(Input::ClientReady);
    assert!(matches!(&outputs[..], [Output::Send(reply), Output::Post(_)] if *reply == "reply".into()), "{outputs:?}");
    assert!(scene.session.reads_events());
}

#[test]
fn a_route_can_close_a_client_that_is_too_slow() {
    let settings = Settings { overflow: Overflow::Close, send_queue: PLACE + 3, ..Settings::default() };
    let mut scene = Scene::new(settings);
    scene.step(Input::ClientBusy);
    assert!(scene.session.reads_events());
    assert!(scene.event("one").is_empty());
    assert_eq!(close_code(&scene.event("two")), Some(1013));
    scene.step(Input::Client(ClientInput::Gone));
    assert_eq!((scene.session.closed(), scene.session.counts().unsent), (Some(&Cause::ClientTooSlow), 2));
}

#[test]
fn a_route_can_leave_out_the_oldest_for_a_client_that_is_too_slow() {
    let settings = Settings { overflow: Overflow::DropOldest, send_queue: 2 * PLACE + 6, ..Settings::default() };
    let mut scene = Scene::new(settings);
    scene.step(Input::ClientBusy);
    for text in ["one", "two", "3"] {
        assert!(scene.event(text).is_empty());
    }
    assert!(matches!(&scene.step(Input::ClientReady)[..], [Output::Send(next)] if *next == "two".into()));
    assert!(matches!(&scene.step(Input::ClientReady)[..], [Output::Send(next)] if *next == "3".into()));
    assert_eq!((scene.session.counts().dropped, scene.session.counts().messages_down), (1, 2));
}

#[test]
fn what_waits_for_a_slow_client_goes_out_before_the_close() {
    let settings = Settings { overflow: Overflow::DropOldest, ..Settings::default() };
    let mut scene = Scene::new(settings);
    scene.step(Input::ClientBusy);
    scene.event("one");
    assert!(scene.step(Input::Shutdown).is_empty());
    assert!(matches!(&scene.step(Input::ClientReady)[..], [Output::Send(_)]));
    assert_eq!(close_code(&scene.step(Input::ClientReady)), Some(1001));
}

#[test]
fn a_text_can_be_answered_here_and_costs_no_post() {
    let auto_reply = vec![(Text::from_static("ping"), Text::from_static("pong"))];
    let mut scene = Scene::new(Settings { auto_reply, ..Settings::default() });
    assert!(matches!(&scene.message("ping")[..], [Output::Send(pong)] if *pong == "pong".into()));
    assert_eq!(scene.post("ping ").sequence, 1);
    let binary = Message::Binary(bytes::Bytes::from_static(b"ping"));
    scene.step(Input::Client(ClientInput::Message(binary)));
    assert_eq!(scene.session.counts().auto_replies, 1, "a text is not answered for octets");
}

#[test]
fn what_queued_up_goes_out_in_one_post_where_the_route_says_so() {
    let mut scene = Scene::new(Settings { batch: Batch::JsonArray, batch_size: 64, ..Settings::default() });
    let first = scene.post("1");
    assert_eq!(first.payload, Payload::Batch { form: Batch::JsonArray, body: "[1]".into(), count: 1 });
    for text in ["2", "{\"three\":3}", "no json", "5"] {
        scene.message(text);
    }
    let second = one_post(scene.step(Input::Posted(first, ACCEPTED)));
    let body = "[2,{\"three\":3}]".into();
    assert_eq!((second.sequence, &second.payload), (2, &Payload::Batch { form: Batch::JsonArray, body, count: 2 }));
    let third = one_post(scene.step(Input::Posted(second, ACCEPTED)));
    assert_eq!((third.sequence, &third.payload), (4, &one("no json")));
    let fourth = one_post(scene.step(Input::Posted(third, ACCEPTED)));
    assert_eq!(fourth.sequence, 5);
    scene.message("6");
    scene.answer(fourth, 500);
    assert_eq!((scene.session.counts().messages_up, scene.session.counts().undelivered), (4, 2));
}

#[test]
fn a_batch_has_a_limit_and_a_message_alone_may_be_above_it() {
    let mut scene = Scene::new(Settings { batch: Batch::Ndjson, batch_size: 12, ..Settings::default() });
    let mut delivery = scene.post("\"much more than twelve\"");
    for _ in 0..4 {
        scene.message("1234");
    }
    for _ in 0..2 {
        delivery = one_post(scene.step(Input::Posted(delivery, ACCEPTED)));
        assert_eq!(delivery.payload, Payload::Batch { form: Batch::Ndjson, body: "1234\n1234\n".into(), count: 2 });
    }
}

#[test]
fn upstream_is_told_that_the_client_is_gone_after_its_last_word() {
    let mut scene = Scene::new(Settings { notify_close: true, ..Settings::default() });
    let first = scene.post("last word");
    scene.step(Input::Client(ClientInput::Closed(Some(CloseFrame::new(4001, "bye")))));
    scene.step(Input::Client(ClientInput::Gone));
    let news = one_post(scene.step(Input::Posted(first, ACCEPTED)));
    let body = r#"{"code":4001,"reason":"bye","cause":"client-closed"}"#;
    assert_eq!(news.payload, Payload::Leave(body.into()));
    assert!(!scene.session.needs_upstream() && scene.session.awaits_posts());
    // It is worth a second try, and not more than the time of a message.
    assert!(scene.step(Input::Posted(news, PostOutcome::InDoubt(Doubt::Broken))).is_empty());
    let again = one_post(scene.next());
    scene.answer(again, 404);
    assert_eq!(scene.session.closed(), Some(&Cause::ClientClosed(Some(4001))));
    assert_eq!((scene.session.counts().messages_up, scene.session.counts().undelivered), (1, 0));
}

#[test]
fn the_news_of_a_lost_client_and_of_our_own_close_name_what_was_seen() {
    let body = |input| {
        let mut scene = Scene::new(Settings { notify_close: true, ..Settings::default() });
        let delivery = scene.step(input).into_iter().find_map(|output| match output {
            Output::Post(delivery) => Some(delivery),
            _ => None,
        });
        match delivery.unwrap().payload {
            Payload::Leave(body) => String::from_utf8(body.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(body(Input::Client(ClientInput::Gone)), r#"{"code":1006,"reason":"","cause":"client-lost"}"#);
    assert_eq!(body(Input::Client(ClientInput::Closed(None))), r#"{"code":1005,"reason":"","cause":"client-closed"}"#);
    let shutdown = r#"{"code":1001,"reason":"shutdown: the gateway is stopping","cause":"shutdown"}"#;
    assert_eq!(body(Input::Shutdown), shutdown);
}

#[test]
fn an_idle_connection_ends_and_pings_do_not_keep_it() {
    let auto_reply = vec![(Text::from_static("ping"), Text::from_static("pong"))];
    let idle_timeout = Some(Duration::from_secs(20));
    let mut scene = Scene::new(Settings { auto_reply, idle_timeout, ..Settings::default() });
    scene.wait(Duration::from_secs(10));
    scene.event("traffic");
    scene.wait(Duration::from_secs(10));
    scene.message("ping");
    scene.step(Input::Client(ClientInput::Alive));
    assert_eq!(close_code(&scene.wait(Duration::from_secs(9))), None);
    assert_eq!(close_code(&scene.wait(Duration::from_secs(1))), Some(1001));
    scene.step(Input::Client(ClientInput::Gone));
    assert_eq!(scene.session.closed(), Some(&Cause::Idle));
}

#[test]
fn an_old_connection_ends_and_is_asked_to_come_back() {
    let mut scene = Scene::new(Settings { max_age: Some(Duration::from_secs(10)), ..Settings::default() });
    assert_eq!(close_code(&scene.wait(Duration::from_millis(8999))), None);
    assert_eq!(close_code(&scene.wait(Duration::from_millis(1001))), Some(1012));
    scene.step(Input::Client(ClientInput::Gone));
    assert_eq!(scene.session.closed(), Some(&Cause::MaxAge));
}
