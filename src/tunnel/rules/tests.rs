use super::*;
use Side::{Backend, Client};

const CLOSE: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_mins(10);

/// A tunnel that opened at the returned time, and whose identity ends `expires` after that.
fn rules(expires: Option<Duration>, max_age: Option<Duration>) -> (Rules, Instant) {
    let now = Instant::now();
    let lifetime = Lifetime::new(Some(IDLE), max_age, expires.map(|expires| now + expires), 0, now);
    (Rules::new(lifetime, CLOSE), now)
}

fn label(rules: &Rules) -> Option<&'static str> {
    rules.over().map(Cause::label)
}

fn code(last: Option<Last>) -> Option<u16> {
    match last? {
        Last::Close(code, reason) | Last::RestAndClose(code, reason) => {
            assert!(!reason.is_empty());
            Some(code)
        }
        Last::Rest | Last::Drop => None,
    }
}

#[test]
fn a_close_passes_and_the_end_of_both_sides_is_waited_for() {
    for (first, cause) in [(Client, "client-closed"), (Backend, "upstream-closed")] {
        let second = if first == Client { Backend } else { Client };
        let (mut rules, now) = rules(None, None);
        assert_eq!(rules.step(Input::Closed(first, Some(4001)), now), Orders::default());
        assert_eq!(rules.next_deadline(), Some(now + CLOSE));
        assert_eq!(rules.step(Input::Closed(second, Some(4001)), now), Orders::default(), "the answer passes too");
        let rest = rules.step(Input::Ended(Backend), now);
        assert_eq!(rest, Orders { client: Some(Last::Rest), backend: None });
        let rest = rules.step(Input::Ended(Client), now);
        assert_eq!(rest, Orders { client: None, backend: Some(Last::Rest) });
        rules.step(Input::Shut(Client), now);
        assert_eq!(label(&rules), None);
        rules.step(Input::Shut(Backend), now);
        assert_eq!(label(&rules), Some(cause));
    }
}

#[test]
fn a_close_without_a_code_is_told_apart() {
    let (mut rules, now) = rules(None, None);
    rules.step(Input::Closed(Backend, None), now);
    rules.step(Input::Cut, now);
    assert_eq!(rules.over().and_then(Cause::code), Some(1005));
}

#[test]
fn a_side_that_does_not_answer_a_close_is_dropped_in_time() {
    let (mut rules, now) = rules(None, None);
    rules.step(Input::Closed(Client, Some(1000)), now);
    assert_eq!(rules.step(Input::Tick, now + CLOSE / 2), Orders::default());
    let orders = rules.step(Input::Tick, now + CLOSE);
    assert_eq!(orders, Orders { client: Some(Last::Drop), backend: Some(Last::Drop) });
    assert_eq!(label(&rules), Some("client-closed"));
}

#[test]
fn a_client_that_is_gone_takes_the_backend_along_and_what_it_sent_arrives() {
    for gone in [Input::Ended(Client), Input::Lost(Client)] {
        let (mut rules, now) = rules(None, None);
        let orders = rules.step(gone, now);
        assert_eq!(orders, Orders { client: Some(Last::Drop), backend: Some(Last::Rest) });
        rules.step(Input::Shut(Backend), now);
        rules.step(Input::Ended(Backend), now);
        assert_eq!(label(&rules), Some("client-lost"));
    }
}

#[test]
fn a_backend_that_is_gone_is_told_to_the_client_behind_all_that_it_sent() {
    for gone in [Input::Ended(Backend), Input::Lost(Backend)] {
        let (mut rules, now) = rules(None, None);
        let Orders { client, backend } = rules.step(gone, now);
        assert!(matches!(client, Some(Last::RestAndClose(1012, _))), "{client:?}");
        assert_eq!(backend, Some(Last::Drop));
        rules.step(Input::Shut(Client), now);
        rules.step(Input::Ended(Client), now);
        assert_eq!(label(&rules), Some("upstream-lost"));
    }
}

#[test]
fn whatever_the_gateway_ends_is_told_to_both_sides_between_frames() {
    let breach = Breach { whole: 0, how: "a frame is not masked" };
    for (input, codes, cause) in [
        (Input::Shutdown, (1001, 1001), "shutdown"),
        (Input::Revoked, (1008, 1001), "revoked"),
        (Input::Broke(Client, breach), (1002, 1001), "protocol-error"),
        (Input::Broke(Backend, breach), (1013, 1002), "upstream-invalid"),
    ] {
        let (mut rules, now) = rules(None, None);
        let Orders { client, backend } = rules.step(input, now);
        assert!(matches!(client, Some(Last::Close(..))) && matches!(backend, Some(Last::Close(..))));
        assert_eq!((code(client), code(backend)), (Some(codes.0), Some(codes.1)));
        for side in [Client, Backend] {
            assert_eq!(label(&rules), None);
            assert_eq!(rules.step(Input::Shut(side), now), Orders::default());
            assert_eq!(rules.step(Input::Ended(side), now), Orders::default(), "it was told its last");
        }
        assert_eq!(label(&rules), Some(cause));
    }
}

#[test]
fn time_ends_what_is_idle_old_or_no_longer_proven() {
    let minute = Duration::from_mins(1);
    for (expires, max_age, at, codes, cause) in [
        (None, None, IDLE, (1001, 1001), "idle"),
        (Some(minute), None, minute, (1008, 1001), "expired"),
        (None, Some(minute), minute, (1012, 1001), "max-age"),
    ] {
        let (mut rules, now) = rules(expires, max_age);
        assert_eq!(rules.next_deadline(), Some(now + at));
        assert_eq!(rules.step(Input::Tick, now + at / 2), Orders::default());
        let Orders { client, backend } = rules.step(Input::Tick, now + at);
        assert_eq!((code(client), code(backend)), (Some(codes.0), Some(codes.1)));
        rules.step(Input::Tick, now + at + CLOSE);
        assert_eq!(label(&rules), Some(cause));
    }
}

#[test]
fn bytes_either_way_keep_a_tunnel_from_being_idle() {
    let (mut rules, now) = rules(None, None);
    rules.step(Input::Moved, now + IDLE / 2);
    assert_eq!(rules.step(Input::Tick, now + IDLE), Orders::default());
    assert_eq!(rules.next_deadline(), Some(now + IDLE / 2 + IDLE));
}

#[test]
fn a_cut_ends_it_at_once_and_keeps_the_first_cause() {
    for (before, cause) in [(None, "shutdown"), (Some(Input::Revoked), "revoked")] {
        let (mut rules, now) = rules(None, None);
        before.map(|input| rules.step(input, now));
        assert_eq!(rules.step(Input::Cut, now), Orders { client: Some(Last::Drop), backend: Some(Last::Drop) });
        assert_eq!(label(&rules), Some(cause));
    }
}
