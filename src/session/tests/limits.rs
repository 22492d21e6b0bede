//! What must neither grow without an end, nor overflow, nor be counted twice.

use super::*;

#[test]
fn whoever_is_sent_away_gets_and_gives_nothing_more() {
    let mut scene = Scene::new(Settings::default());
    let _flying = scene.post("one");
    scene.message("two");
    scene.step(Input::ClientBusy);
    let outputs = scene.step(Input::Revoked);
    assert_eq!(close_code(&outputs), Some(1008));
    assert!(outputs.iter().any(|output| matches!(output, Output::DropPosts)), "{outputs:?}");
    assert!(!scene.session.reads_events());
    scene.step(Input::Client(ClientInput::Gone));
    assert_eq!(scene.session.closed(), Some(&Cause::Revoked));
    assert_eq!(scene.session.counts().undelivered, 2);
}

#[test]
fn a_client_that_asks_and_does_not_read_is_not_read_either() {
    let auto_reply = vec![(Text::from_static("ping"), Text::from_static("pong"))];
    let mut scene = Scene::new(Settings { auto_reply, send_queue: 2 * PLACE, ..Settings::default() });
    scene.step(Input::ClientBusy);
    let mut read = 0;
    while scene.session.reads_client() {
        scene.message("ping");
        read += 1;
        assert!(read < 100, "a queue without an end");
    }
    assert_eq!(read, 2);
    // It is not taken for gone meanwhile, and is read again as soon as it reads.
    assert!(matches!(scene.wait(Duration::from_secs(30))[..], [Output::Ping]));
    scene.step(Input::StreamAlive);
    assert!(scene.wait(Duration::from_secs(20)).is_empty());
    assert!(matches!(&scene.step(Input::ClientReady)[..], [Output::Send(pong)] if *pong == "pong".into()));
    assert!(scene.session.reads_client());
}

#[test]
fn a_wait_that_no_clock_can_say_is_as_long_as_the_patience_of_the_route() {
    let mut scene = Scene::new(Settings::default());
    scene.lose_stream();
    let lost = scene.now;
    for _ in 0..6 {
        scene.step(Input::Reopened(Reopened::Failed));
        scene.until_reopen();
    }
    let retry_after = Some(Duration::from_secs(u64::MAX));
    assert!(scene.step(Input::Reopened(Reopened::Refused { status: 503, retry_after })).is_empty());
    let code = loop {
        let outputs = scene.next();
        assert!(!outputs.iter().any(|output| matches!(output, Output::Reopen { .. })), "asked too soon");
        if let Some(code) = close_code(&outputs) {
            break code;
        }
        scene.step(Input::Client(ClientInput::Alive));
    };
    assert_eq!(code, 1013);
    assert!(scene.now - lost <= Duration::from_mins(2));
}

#[test]
fn what_is_given_up_is_dropped_before_the_news_of_it_goes_out() {
    let delivery_timeout = Duration::from_secs(5);
    let mut scene = Scene::new(Settings { notify_close: true, delivery_timeout, ..Settings::default() });
    let _late = scene.post("one");
    scene.step(Input::Client(ClientInput::Gone));
    let mut outputs = scene.wait(delivery_timeout);
    assert!(matches!(outputs.remove(0), Output::DropPosts), "it is given up before the news goes out");
    let news = one_post(outputs);
    assert!(matches!(news.payload, Payload::Leave(_)));
    assert!(scene.session.closed().is_none(), "the news is still under way");
    scene.step(Input::Posted(news, ACCEPTED));
    assert_eq!(scene.session.closed(), Some(&Cause::ClientLost));
    assert_eq!((scene.session.counts().messages_up, scene.session.counts().undelivered), (0, 1));
}
