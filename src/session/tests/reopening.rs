//! Upstream goes, the client stays: losing the event stream, opening it again, and what happens meanwhile.

use super::*;

fn on_gap(on_gap: OnGap) -> Settings {
    Settings { reconnect: Reconnect { on_gap, ..Reconnect::default() }, ..Settings::default() }
}

fn idempotent() -> Settings {
    Settings { retry: Retry::Idempotent, ..Settings::default() }
}

fn sent(outputs: &[Output]) -> Vec<&str> {
    let text = |output| match output {
        &Output::Send(Message::Text(ref text)) => Some(text.as_str()),
        _ => None,
    };
    outputs.iter().filter_map(text).collect()
}

#[test]
fn a_lost_stream_is_asked_for_again_from_where_it_ended_and_the_client_notices_nothing() {
    let mut scene = Scene::new(Settings::default());
    assert!(scene.step(Input::StreamEnded(StreamEnd::Complete, RESUMABLE)).is_empty());
    assert_eq!(scene.session.stream_state(), StreamState::Waiting);
    assert!(scene.until_reopen());
    assert!(scene.session.awaits_stream());
    assert!(scene.step(Input::Reopened(Reopened::Open)).is_empty());
    assert_eq!((scene.session.stream_state(), scene.session.counts().reopens), (StreamState::Open, 1));
}

#[test]
fn messages_wait_in_order_while_the_stream_is_away() {
    let mut scene = Scene::new(Settings::default());
    scene.lose_stream();
    assert!(scene.message("one").is_empty() && scene.message("two").is_empty());
    let first = one_post(scene.step(Input::Reopened(Reopened::Open)));
    assert_eq!((first.sequence, &first.payload), (1, &one("one")));
    let second = one_post(scene.step(Input::Posted(first, ACCEPTED)));
    assert_eq!((second.sequence, &second.payload), (2, &one("two")));
}

#[test]
fn the_queue_is_bounded_while_the_stream_is_away() {
    let mut scene = Scene::new(Settings { queue: 1024, ..Settings::default() });
    scene.lose_stream();
    let mut read = 0;
    while scene.session.reads_client() {
        scene.message("x");
        read += 1;
    }
    assert_eq!(read, 8, "129 bytes each, and one more than fits");
    one_post(scene.step(Input::Reopened(Reopened::Open)));
}

#[test]
fn a_stream_without_a_position_ends_the_connection_unless_the_route_goes_on() {
    let end = || Input::StreamEnded(StreamEnd::Broken, Left::default());
    let mut scene = Scene::new(on_gap(OnGap::Close));
    assert_eq!(close_code(&scene.step(end())), Some(1012));
    scene.step(Input::Client(ClientInput::Gone));
    assert_eq!(scene.session.closed(), Some(&Cause::StreamBroken));

    let mut scene = Scene::new(on_gap(OnGap::Continue));
    assert!(scene.step(end()).is_empty());
    assert!(!scene.until_reopen(), "there is nothing to resume from");
    assert!(scene.step(Input::Reopened(Reopened::Open)).is_empty());
    assert_eq!(scene.session.counts().gaps, 1);

    let mut scene = Scene::new(on_gap(OnGap::Tell));
    scene.step(end());
    scene.until_reopen();
    assert_eq!(sent(&scene.step(Input::Reopened(Reopened::Open))), [r#"{"event":"tidegate.gap","data":{}}"#]);
}

#[test]
fn a_position_that_upstream_no_longer_has_ends_the_connection_or_is_asked_without() {
    let mut scene = Scene::new(on_gap(OnGap::Close));
    scene.lose_stream();
    assert_eq!(close_code(&scene.step(Input::Reopened(Reopened::PositionLost))), Some(1012));
    scene.step(Input::Client(ClientInput::Gone));
    assert_eq!(scene.session.closed(), Some(&Cause::PositionLost));

    let mut scene = Scene::new(on_gap(OnGap::Continue));
    scene.lose_stream();
    assert!(scene.step(Input::Reopened(Reopened::PositionLost)).is_empty());
    assert!(!scene.until_reopen());
    scene.step(Input::Reopened(Reopened::Open));
    assert_eq!(scene.session.counts().gaps, 1);
}

#[test]
fn a_gap_event_is_no_message_and_follows_the_route() {
    let gap = || Event { name: Some(Text::from_static("tidegate.gap")), data: Text::default() };
    let of = EventOf { source: Source::Main, last_event_id: "", own_id: false };
    let mut scene = Scene::new(on_gap(OnGap::Close));
    assert_eq!(close_code(&scene.step(Input::Event(gap(), of))), Some(1012));
    let mut scene = Scene::new(on_gap(OnGap::Continue));
    assert!(scene.step(Input::Event(gap(), of)).is_empty());
    assert_eq!(scene.session.counts().gaps, 1);
}

#[test]
fn what_upstream_answers_decides() {
    let answer = |reopened| {
        let mut scene = Scene::new(Settings::default());
        scene.lose_stream();
        let outputs = scene.step(Input::Reopened(reopened));
        (close_code(&outputs), scene.session.stream_state())
    };
    let refused = |status| answer(Reopened::Refused { status, retry_after: None });
    assert_eq!(answer(Reopened::Stopped), (Some(1000), StreamState::Ending));
    for (status, code) in [(401, 1008), (403, 1008), (404, 1012), (410, 1012), (400, 1013), (409, 1013)] {
        assert_eq!(refused(status), (Some(code), StreamState::Ending), "{status}");
    }
    for status in [408, 425, 429, 500, 502, 503, 504, 301] {
        assert_eq!(refused(status), (None, StreamState::Waiting), "{status}");
    }
    assert_eq!(answer(Reopened::Failed), (None, StreamState::Waiting));
    assert_eq!(answer(Reopened::Invalid("x")), (Some(1013), StreamState::Ending));
}

#[test]
fn upstream_that_stays_away_is_given_up_and_what_waited_is_named() {
    let mut scene = Scene::new(Settings::default());
    scene.lose_stream();
    scene.message("one");
    let start = scene.now;
    let mut frame = None;
    while frame.is_none() {
        if scene.session.awaits_stream() {
            scene.step(Input::Reopened(Reopened::Failed));
        }
        scene.step(Input::Client(ClientInput::Alive));
        frame = scene.next().into_iter().find_map(|output| match output {
            Output::Close(frame) => Some(frame),
            _ => None,
        });
    }
    let away = scene.now - start;
    assert!(away <= Duration::from_mins(2) && away > Duration::from_secs(118), "{away:?}");
    let frame = frame.unwrap();
    assert_eq!(frame.code, 1013);
    assert_eq!(frame.reason.as_str(), "upstream-gone: upstream did not come back in time; 1 message not delivered");
}

#[test]
fn silence_counts_as_the_end_of_the_stream() {
    let settings = Settings { stall_timeout: Duration::from_secs(5), ..Settings::default() };
    let mut scene = Scene::new(settings.clone());
    assert!(scene.wait(Duration::from_secs(4)).is_empty());
    scene.step(Input::StreamAlive);
    assert!(scene.wait(Duration::from_secs(4)).is_empty());
    assert!(matches!(scene.wait(Duration::from_secs(1))[..], [Output::DropStream]));
    scene.step(Input::StreamEnded(StreamEnd::Stalled, RESUMABLE));
    assert_eq!(scene.session.stream_state(), StreamState::Waiting);

    // A stream that we do not read because of the client is not silent.
    let mut scene = Scene::new(settings);
    scene.step(Input::ClientBusy);
    assert!(scene.wait(Duration::from_secs(5)).is_empty());
    scene.step(Input::ClientReady);
    assert!(scene.wait(Duration::from_secs(4)).is_empty());
}

#[test]
fn events_that_come_again_are_left_out() {
    let mut scene = Scene::new(Settings::default());
    for id in ["1", "2", "3"] {
        assert_eq!(sent(&scene.event_with_id(id, Some(id))), [id]);
    }
    scene.lose_stream();
    scene.step(Input::Reopened(Reopened::Open));
    assert!(scene.event_with_id("2", Some("2")).is_empty() && scene.event_with_id("3", Some("3")).is_empty());
    assert_eq!(sent(&scene.event_with_id("4", Some("4"))), ["4"]);
    assert_eq!((scene.session.counts().duplicates, scene.session.counts().messages_down), (2, 4));
}

#[test]
fn a_message_that_was_not_sent_is_posted_again_and_one_in_doubt_is_not() {
    let mut scene = Scene::new(Settings::default());
    let first = scene.post("one");
    assert!(scene.step(Input::Posted(first, PostOutcome::NotSent)).is_empty());
    let again = one_post(scene.next());
    assert_eq!((again.sequence, again.attempt), (1, 1));
    let outputs = scene.step(Input::Posted(again, PostOutcome::InDoubt(Doubt::Broken)));
    assert_eq!(close_code(&outputs), Some(1013));
    scene.step(Input::Client(ClientInput::Gone));
    assert_eq!(scene.session.closed(), Some(&Cause::MessageInDoubt(Doubt::Broken)));
    assert_eq!((scene.session.counts().undelivered, scene.session.counts().retries), (1, 1));
}

#[test]
fn an_idempotent_route_posts_again_whatever_is_in_doubt() {
    for outcome in [
        PostOutcome::InDoubt(Doubt::Broken),
        PostOutcome::InDoubt(Doubt::TimedOut),
        PostOutcome::Refused { status: 500, retry_after: None },
        PostOutcome::Refused { status: 503, retry_after: None },
        PostOutcome::Refused { status: 429, retry_after: None },
    ] {
        let mut scene = Scene::new(idempotent());
        let first = scene.post("one");
        assert!(scene.step(Input::Posted(first, outcome)).is_empty());
        assert_eq!(one_post(scene.next()).sequence, 1);
    }
    let mut scene = Scene::new(idempotent());
    let first = scene.post("one");
    assert_eq!(close_code(&scene.answer(first, 501)), Some(1013), "not a passing failure");
}

#[test]
fn what_upstream_may_have_acted_on_once_stays_in_doubt() {
    for (outcome, doubt) in [
        (PostOutcome::InDoubt(Doubt::Broken), Doubt::Broken),
        (PostOutcome::Refused { status: 503, retry_after: None }, Doubt::Failed(503)),
    ] {
        let mut scene = Scene::new(idempotent());
        let mut delivery = scene.post("one");
        scene.step(Input::Posted(delivery, outcome));
        loop {
            let again = scene.next().into_iter().find_map(|output| match output {
                Output::Post(delivery) => Some(delivery),
                _ => None,
            });
            scene.step(Input::Client(ClientInput::Alive));
            scene.step(Input::StreamAlive);
            let Some(again) = again else { continue };
            delivery = again;
            scene.now += Duration::from_secs(15);
            if close_code(&scene.step(Input::Posted(delivery, PostOutcome::NotSent))).is_some() {
                break;
            }
        }
        scene.step(Input::Client(ClientInput::Gone));
        assert_eq!(scene.session.closed(), Some(&Cause::MessageInDoubt(doubt)));
    }
}

#[test]
fn repeating_ends_when_the_message_has_had_its_time() {
    let mut scene = Scene::new(idempotent());
    let start = scene.now;
    let mut delivery = scene.post("one");
    let code = loop {
        let outputs = scene.step(Input::Posted(delivery, PostOutcome::InDoubt(Doubt::Broken)));
        if let Some(code) = close_code(&outputs) {
            break code;
        }
        delivery = loop {
            let outputs = scene.next();
            scene.step(Input::Client(ClientInput::Alive));
            if let Some(Output::Post(delivery)) = outputs.into_iter().last() {
                break delivery;
            }
        };
    };
    let took = scene.now - start;
    assert_eq!(code, 1013);
    assert!(took < Duration::from_mins(1) && took > Duration::from_secs(45), "{took:?}");
}

#[test]
fn time_without_a_stream_does_not_count_against_a_message() {
    let mut scene = Scene::new(idempotent());
    let first = scene.post("one");
    scene.step(Input::StreamEnded(StreamEnd::Broken, RESUMABLE));
    assert!(scene.step(Input::Posted(first, PostOutcome::InDoubt(Doubt::Broken))).is_empty());
    let start = scene.now;
    while scene.now - start < Duration::from_secs(90) {
        scene.until_reopen();
        scene.step(Input::Reopened(Reopened::Failed));
    }
    scene.until_reopen();
    let again = one_post(scene.step(Input::Reopened(Reopened::Open)));
    assert_eq!((again.sequence, again.attempt), (1, 1));
    // It may fail once more.
    assert!(scene.step(Input::Posted(again, PostOutcome::InDoubt(Doubt::Broken))).is_empty());
    assert_eq!(one_post(scene.next()).attempt, 2);
}

#[test]
fn nothing_is_posted_again_while_the_stream_is_away() {
    let mut scene = Scene::new(Settings::default());
    let first = scene.post("one");
    scene.step(Input::Posted(first, PostOutcome::NotSent));
    scene.step(Input::StreamEnded(StreamEnd::Broken, RESUMABLE));
    scene.until_reopen();
    let due = scene.wait(Duration::from_secs(1));
    assert!(due.is_empty(), "{due:?}");
    one_post(scene.step(Input::Reopened(Reopened::Open)));
}

#[test]
fn a_client_that_leaves_while_the_stream_is_away_is_still_heard() {
    let mut scene = Scene::new(Settings::default());
    scene.lose_stream();
    scene.message("last word");
    let mut outputs = scene.step(Input::Client(ClientInput::Gone));
    let Some(Output::Post(delivery)) = outputs.pop() else { panic!("{outputs:?}") };
    scene.step(Input::Posted(delivery, ACCEPTED));
    assert_eq!((scene.session.closed(), scene.session.counts().messages_up), (Some(&Cause::ClientLost), 1));
}

#[test]
fn a_post_that_fails_while_the_stream_is_away_has_all_its_time_left_once_it_is_back() {
    let second = Duration::from_secs(1);
    let mut scene = Scene::new(Settings { delivery_timeout: 30 * second, ..idempotent() });
    let first = scene.post("one");
    scene.step(Input::StreamEnded(StreamEnd::Broken, RESUMABLE));
    let start = scene.now;
    while scene.now - start < 40 * second {
        scene.until_reopen();
        scene.step(Input::Reopened(Reopened::Failed));
    }
    // Longer under way than it may take, but nothing could be delivered meanwhile.
    assert!(scene.step(Input::Posted(first, PostOutcome::InDoubt(Doubt::TimedOut))).is_empty());
    scene.until_reopen();
    let again = one_post(scene.step(Input::Reopened(Reopened::Open)));
    assert!(again.give_up() > scene.now + 20 * second);
}

#[test]
fn behind_a_gap_ids_may_begin_anew() {
    let mut scene = Scene::new(on_gap(OnGap::Continue));
    for id in ["1", "2"] {
        scene.event_with_id(id, Some(id));
    }
    scene.lose_stream();
    scene.step(Input::Reopened(Reopened::PositionLost));
    scene.until_reopen();
    scene.step(Input::Reopened(Reopened::Open));
    assert_eq!(sent(&scene.event_with_id("one again", Some("1"))), ["one again"]);
}
