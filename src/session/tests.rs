//! The session as lists of inputs: no socket, no sleep, time as an argument.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::protocol::Text;
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
        Self { session: Session::new(Arc::new(settings), 0, now), now, outputs: Vec::new() }
    }

    fn step(&mut self, input: Input<'_>) -> Vec<Output> {
        self.session.step(input, self.now, &mut self.outputs);
        std::mem::take(&mut self.outputs)
    }

    fn message(&mut self, text: &str) -> Vec<Output> {
        self.step(Input::Client(ClientInput::Message(Message::Text(Text::from(text)))))
    }

    fn event(&mut self, text: &str) -> Vec<Output> {
        self.step(Input::Event(Event { name: None, data: Text::from(text) }, ""))
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

fn close_code(outputs: &[Output]) -> Option<u16> {
    outputs.iter().find_map(|output| match output {
        Output::Close(frame) => Some(frame.code),
        _ => None,
    })
}

const ACCEPTED: PostOutcome = PostOutcome::Accepted(None);

#[test]
fn messages_are_posted_one_at_a_time_in_order() {
    let mut scene = Scene::new(Settings::default());
    let first = scene.post("one");
    assert!(scene.message("two").is_empty() && scene.message("three").is_empty());
    let second = one_post(scene.step(Input::Posted(first, ACCEPTED)));
    assert_eq!((second.sequence, &second.message), (2, &Message::from("two")));
    let third = one_post(scene.step(Input::Posted(second, ACCEPTED)));
    assert_eq!((third.sequence, &third.message), (3, &Message::from("three")));
}

#[test]
fn a_full_queue_stops_reading_and_an_emptier_one_starts_it_again() {
    let mut scene = Scene::new(Settings { queue: 2 * machine::PLACE + 10, ..Settings::default() });
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
    let outputs = scene.step(Input::Client(ClientInput::Closed(Some(1000))));
    assert!(matches!(&outputs[..], [Output::HangUp, Output::Post(last)] if last.message == Message::from("two")));
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
    let outputs = scene.step(Input::Client(ClientInput::Closed(Some(1000))));
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
    }
    assert!(matches!(scene.wait(Duration::from_secs(30))[..], [Output::Ping]));
    assert_eq!(close_code(&scene.wait(Duration::from_secs(20))), Some(1001));
}

/// One thing that can happen; what cannot happen in a state is left out when it is played.
#[derive(Clone, Debug)]
enum Move {
    Message(u16),
    Alive,
    Close,
    Gone,
    Violate,
    Event(u16),
    StreamEnds(bool),
    Post(Ending),
    Wait(u16),
    Shutdown,
    Cut,
}

#[derive(Clone, Debug)]
enum Ending {
    Accept,
    Reply,
    Stream,
    Status(u16, Option<u8>),
    Fail,
}

fn moves() -> impl Strategy<Value = Move> {
    let status = prop_oneof![Just(413u16), Just(404), Just(401), Just(422), Just(429), Just(500), Just(503), Just(302)];
    let ending = prop_oneof![
        8 => Just(Ending::Accept),
        1 => Just(Ending::Reply),
        1 => Just(Ending::Stream),
        1 => (status, proptest::option::of(0u8..8)).prop_map(|(status, wait)| Ending::Status(status, wait)),
        1 => Just(Ending::Fail),
    ];
    prop_oneof![
        10 => (0u16..400).prop_map(Move::Message),
        2 => Just(Move::Alive),
        1 => Just(Move::Close),
        1 => Just(Move::Gone),
        1 => Just(Move::Violate),
        6 => (0u16..400).prop_map(Move::Event),
        1 => any::<bool>().prop_map(Move::StreamEnds),
        12 => ending.prop_map(Move::Post),
        4 => (0u16..20_000).prop_map(Move::Wait),
        1 => Just(Move::Shutdown),
        1 => Just(Move::Cut),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    /// Whatever happens: order holds, the queue is bounded, every message is accounted for, nothing follows a close,
    /// and the session comes to its end.
    #[test]
    fn no_sequence_of_inputs_breaks_the_rules(
        moves in proptest::collection::vec(moves(), 0..80),
        in_flight in 1u32..4,
        queue in 1usize..1000,
    ) {
        let in_flight = NonZeroU32::new(in_flight).unwrap();
        let settings = Settings { in_flight, queue, replies: true, ..Settings::default() };
        let mut scene = Scene::new(settings);
        let mut world = World::default();
        for step in moves {
            world.play(&mut scene, step)?;
        }
        // Time alone brings everything to its end.
        world.play(&mut scene, Move::Shutdown)?;
        for _ in 0..100 {
            world.play(&mut scene, Move::Wait(10_000))?;
        }
        prop_assert!(scene.session.closed().is_some(), "never closed: {:?}", scene.session);
        prop_assert_eq!(scene.session.next_deadline(), None);
        let counts = scene.session.counts();
        prop_assert_eq!(counts.messages_up + counts.undelivered + counts.refused, world.read, "a message is unaccounted for");
    }
}

/// What the driver and the two sides would know.
#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is one fact that the world knows")]
struct World {
    flying: Vec<Delivery>,
    reply_streams: u32,
    read: u64,
    last_first_post: u64,
    client_gone: bool,
    violated: bool,
    said_goodbye: bool,
    close_sent: bool,
    main_ended: bool,
}

impl World {
    fn play(&mut self, scene: &mut Scene, step: Move) -> Result<(), TestCaseError> {
        let readable = scene.session.reads_client() && !self.client_gone && !self.violated;
        let outputs = match step {
            Move::Message(size) if readable && !self.said_goodbye => {
                self.read += 1;
                scene.message(&"x".repeat(size.into()))
            }
            Move::Alive if readable => scene.step(Input::Client(ClientInput::Alive)),
            Move::Close if readable && !self.said_goodbye => {
                self.said_goodbye = true;
                scene.step(Input::Client(ClientInput::Closed(Some(1000))))
            }
            Move::Gone if readable => {
                self.client_gone = true;
                scene.step(Input::Client(ClientInput::Gone))
            }
            Move::Violate if readable => {
                self.violated = true;
                scene.step(Input::Client(ClientInput::Violation(Violation::Text)))
            }
            Move::Event(size) if scene.session.reads_events() => scene.event(&"x".repeat(size.into())),
            Move::StreamEnds(main) if scene.session.reads_events() => {
                let source = if main { Source::Main } else { Source::Reply };
                if (main && self.main_ended) || (!main && self.reply_streams == 0) {
                    return Ok(());
                }
                if main {
                    self.main_ended = true;
                } else {
                    self.reply_streams -= 1;
                }
                scene.step(Input::StreamEnded(source, StreamEnd::Complete))
            }
            Move::Post(ending) if !self.flying.is_empty() => {
                let delivery = self.flying.remove(0);
                let outcome = match ending {
                    Ending::Accept => PostOutcome::Accepted(None),
                    Ending::Reply => PostOutcome::Accepted(Some(Message::from("reply"))),
                    Ending::Stream => {
                        self.reply_streams += 1;
                        PostOutcome::Streaming
                    }
                    Ending::Status(status, wait) => {
                        let retry_after = wait.map(|seconds| Duration::from_secs(seconds.into()));
                        PostOutcome::Refused { status, retry_after }
                    }
                    Ending::Fail => PostOutcome::Failed(PostFailure::Broken),
                };
                scene.step(Input::Posted(delivery, outcome))
            }
            Move::Wait(millis) => scene.wait(Duration::from_millis(millis.into())),
            Move::Shutdown => scene.step(Input::Shutdown),
            Move::Cut => scene.step(Input::Cut),
            _ => return Ok(()),
        };
        for output in outputs {
            match output {
                Output::Send(_) | Output::Ping => {
                    prop_assert!(!self.close_sent && !self.client_gone, "something was sent behind the close");
                }
                Output::Close(frame) => {
                    prop_assert!(!self.close_sent, "two close frames");
                    prop_assert!(crate::protocol::close::is_sendable(frame.code));
                    self.close_sent = true;
                }
                Output::HangUp => {}
                Output::Abandon => self.client_gone = true,
                Output::Post(delivery) => {
                    if delivery.sequence > self.last_first_post {
                        prop_assert_eq!(delivery.sequence, self.last_first_post + 1, "a message was overtaken");
                        self.last_first_post = delivery.sequence;
                    }
                    self.flying.push(delivery);
                }
            }
        }
        if !scene.session.awaits_posts() {
            self.flying.clear();
        }
        prop_assert!(self.flying.len() <= 3);
        if let Some(deadline) = scene.session.next_deadline() {
            prop_assert!(deadline + Duration::from_secs(20) > scene.now, "a deadline was left behind");
        }
        Ok(())
    }
}
