//! How fast a client may send, and until when it may be there at all.

use std::num::NonZeroU32;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_nanos(1);

fn rate(per_second: u32, burst: u32) -> Rate {
    let number = |number| NonZeroU32::new(number).unwrap();
    Rate::per_second(number(per_second), number(burst))
}

/// Sends as long as messages are read, and says how many were.
fn flood(scene: &mut Scene, text: &str) -> usize {
    let mut read = 0;
    while scene.session.reads_client() {
        scene.message(text);
        read += 1;
        assert!(read < 1000, "read without an end");
    }
    read
}

#[test]
fn a_client_that_sends_too_fast_is_read_at_the_rate_and_loses_nothing() {
    let mut scene = Scene::new(Settings { message_rate: Some(rate(2, 3)), ..Settings::default() });
    assert_eq!(flood(&mut scene, "x"), 3);
    assert_eq!(scene.session.next_deadline(), Some(scene.now + SECOND / 2));
    scene.wait((SECOND / 2).saturating_sub(MOMENT));
    assert!(!scene.session.reads_client());
    scene.wait(MOMENT);
    assert_eq!(flood(&mut scene, "x"), 1);
    scene.wait(10 * SECOND);
    assert_eq!(flood(&mut scene, "x"), 3, "no more than the burst comes back");
    assert_eq!((scene.session.counts().rate_pauses, scene.session.counts().undelivered), (3, 0));
    assert!(scene.session.is_open());
}

#[test]
fn bytes_have_a_rate_of_their_own_and_a_large_message_is_paid_off() {
    let byte_rate = Some(rate(100, 50));
    let mut scene = Scene::new(Settings { message_rate: Some(rate(10, 10)), byte_rate, ..Settings::default() });
    assert_eq!(flood(&mut scene, &"x".repeat(30)), 2, "as long as nothing is owed");
    scene.wait(SECOND / 10);
    assert!(!scene.session.reads_client(), "10 are owed, and one has to be there");
    scene.wait(SECOND / 100);
    assert_eq!(flood(&mut scene, &"x".repeat(1001)), 1);
    scene.step(Input::StreamAlive);
    assert!(scene.wait(10 * SECOND).is_empty() && !scene.session.reads_client());
    scene.wait(SECOND / 100);
    assert!(scene.session.reads_client(), "1000 bytes at 100 a second");
    scene.wait(SECOND);
    assert_eq!(flood(&mut scene, ""), 10, "empty messages count as messages");
}

#[test]
fn what_is_answered_here_counts_too() {
    let auto_reply = vec![(Text::from_static("ping"), Text::from_static("pong"))];
    let mut scene = Scene::new(Settings { auto_reply, message_rate: Some(rate(1, 2)), ..Settings::default() });
    assert_eq!(flood(&mut scene, "ping"), 2);
    assert_eq!(scene.session.counts().auto_replies, 2);
}

#[test]
fn whoever_is_kept_waiting_is_not_taken_for_gone() {
    // Paused for exactly as long as a pong may take, from the ping on.
    let byte_rate = Some(rate(1, 1));
    let mut scene = Scene::new(Settings { byte_rate, ..Settings::default() });
    scene.message(&"x".repeat(50));
    assert!(matches!(scene.wait(30 * SECOND)[..], [Output::Ping]));
    assert_eq!(close_code(&scene.wait(20 * SECOND)), None);
    assert!(scene.session.reads_client());
    assert_eq!(close_code(&scene.wait((20 * SECOND).saturating_sub(MOMENT))), None, "a pong has its whole time again");
    scene.step(Input::Client(ClientInput::Alive));
    scene.step(Input::StreamAlive);
    assert!(scene.session.is_open());
}

#[test]
fn whoever_is_kept_waiting_is_not_idle() {
    let idle_timeout = Some(5 * SECOND);
    let mut scene = Scene::new(Settings { byte_rate: Some(rate(1, 1)), idle_timeout, ..Settings::default() });
    scene.message(&"x".repeat(10));
    scene.event("answer");
    assert!(scene.wait(10 * SECOND).is_empty() && scene.session.reads_client());
    assert!(scene.wait((5 * SECOND).saturating_sub(MOMENT)).is_empty());
    assert_eq!(close_code(&scene.wait(MOMENT)), Some(1001));
}

#[test]
fn a_client_that_is_kept_waiting_can_leave_and_its_last_word_is_delivered() {
    let mut scene = Scene::new(Settings { message_rate: Some(rate(1, 2)), ..Settings::default() });
    let first = scene.post("one");
    scene.message("two");
    assert!(!scene.session.reads_client());
    assert!(matches!(scene.step(Input::Client(ClientInput::Closed(None)))[..], [Output::HangUp]));
    let second = one_post(scene.step(Input::Posted(first, ACCEPTED)));
    assert_eq!(second.payload, one("two"));
}

#[test]
fn a_route_can_close_a_client_that_sends_too_fast() {
    let settings = Settings { message_rate: Some(rate(2, 2)), over_rate: OverRate::Close, ..Settings::default() };
    let mut scene = Scene::new(settings);
    let first = scene.post("one");
    assert!(scene.message("two").is_empty() && scene.session.reads_client());
    let outputs = scene.message("three");
    let [Output::Close(frame)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(frame.code, 1008);
    assert_eq!(frame.reason.as_str(), "rate-limited: messages came faster than they may; 1 message not delivered");
    // What came before is delivered all the same.
    let second = one_post(scene.step(Input::Posted(first, ACCEPTED)));
    scene.step(Input::Posted(second, ACCEPTED));
    scene.step(Input::Client(ClientInput::Gone));
    assert_eq!(scene.session.closed(), Some(&Cause::RateLimited));
    assert_eq!((scene.session.counts().messages_up, scene.session.counts().undelivered), (2, 1));
}

#[test]
fn a_message_above_the_burst_passes_a_full_bucket_where_the_route_closes() {
    let settings = || Settings { byte_rate: Some(rate(10, 10)), over_rate: OverRate::Close, ..Settings::default() };
    let mut scene = Scene::new(settings());
    let first = scene.post(&"x".repeat(100));
    scene.step(Input::Posted(first, ACCEPTED));
    scene.wait((10 * SECOND).saturating_sub(MOMENT));
    assert_eq!(close_code(&scene.message(&"x".repeat(100))), Some(1008), "it is not yet full again");
    let mut scene = Scene::new(settings());
    let first = scene.post(&"x".repeat(100));
    scene.step(Input::Posted(first, ACCEPTED));
    scene.wait(10 * SECOND);
    scene.post(&"x".repeat(100));
}

#[test]
fn a_session_ends_with_the_identity_and_speaks_for_it_no_more() {
    let now = Instant::now();
    let expires = Some(now + Duration::from_mins(1));
    let mut scene = Scene { session: Session::new(Arc::default(), 255, expires, now), now, outputs: Vec::new() };
    scene.post("one");
    scene.message("two");
    scene.wait(30 * SECOND);
    scene.step(Input::Client(ClientInput::Alive));
    assert_eq!(close_code(&scene.wait((30 * SECOND).saturating_sub(MOMENT))), None);
    let outputs = scene.wait(MOMENT);
    let [.., Output::DropPosts, Output::Close(frame)] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(
        (frame.code, frame.reason.as_str()),
        (1008, "expired: the identity has expired; 2 messages not delivered")
    );
    scene.step(Input::Client(ClientInput::Gone));
    assert_eq!(scene.session.closed(), Some(&Cause::Expired));
}

#[test]
fn a_session_whose_identity_has_ended_meanwhile_ends_at_once() {
    let now = Instant::now();
    let mut scene = Scene { session: Session::new(Arc::default(), 0, Some(now), now), now, outputs: Vec::new() };
    assert_eq!(close_code(&scene.next()), Some(1008));
    assert_eq!(scene.now, now);
}

#[test]
fn a_connection_without_limits_pays_a_pointer_for_them() {
    let scene = Scene::new(Settings::default());
    assert_eq!(size_of_val(&scene.session.gate), size_of::<usize>());
    assert!(scene.session.gate.is_none());
}
