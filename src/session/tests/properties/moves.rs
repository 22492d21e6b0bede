//! One thing that can happen to a session.

use proptest::prelude::*;

use super::super::*;

/// What cannot happen in a state is left out when it is played.
#[derive(Clone, Debug)]
pub(super) enum Move {
    Message(Kind, u16),
    /// Many in a row.
    Pings(u8),
    Alive,
    Close,
    Gone,
    Violate(Violation),
    Ready,
    Busy,
    Event(What, Source),
    StreamAlive,
    StreamEnds(StreamEnd, Left),
    ReplyEnds(StreamEnd),
    Reopened(Reopened),
    Post(usize, Ending),
    Wait(u16),
    /// Waits for the next deadline.
    Next,
    Shutdown,
    Revoke,
    Cut,
}

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Json,
    Ping,
}

/// What upstream sends.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// A text of this size, with a new id, an old one, or none.
    Text(u16, Id),
    Named,
    Gap,
    Close,
    Invalid,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Id {
    New,
    /// The one that was used so many events ago.
    Again(u8),
    None,
}

/// How a POST comes back.
#[derive(Clone, Debug)]
pub(super) enum Ending {
    Accept,
    Reply(u8),
    ReplyTooLarge,
    ReplyInvalid,
    Stream,
    Status(u16, Option<u64>),
    NotSent,
    InDoubt(Doubt),
}

fn ending() -> impl Strategy<Value = Ending> {
    let status = prop_oneof![
        Just(413u16),
        Just(404),
        Just(401),
        Just(429),
        Just(500),
        Just(502),
        Just(503),
        Just(501),
        Just(302)
    ];
    let doubt = prop_oneof![Just(Doubt::Broken), Just(Doubt::TimedOut)];
    prop_oneof![
        12 => Just(Ending::Accept),
        2 => any::<u8>().prop_map(Ending::Reply),
        1 => Just(Ending::Stream),
        2 => Just(Ending::Status(422, None)),
        2 => (0u64..8).prop_map(|wait| Ending::Status(503, Some(wait))),
        1 => (status, proptest::option::of(wait())).prop_map(|(status, wait)| Ending::Status(status, wait)),
        3 => Just(Ending::NotSent),
        2 => doubt.prop_map(Ending::InDoubt),
        1 => prop_oneof![Just(Ending::ReplyTooLarge), Just(Ending::ReplyInvalid)],
    ]
}

/// A `Retry-After` in seconds.
fn wait() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0u64..8, 1 => Just(u64::MAX)]
}

fn reopened() -> impl Strategy<Value = Reopened> {
    let passing = prop_oneof![Just(408u16), Just(425), Just(429), Just(500), Just(503), Just(302)];
    let final_ones = prop_oneof![Just(401u16), Just(404), Just(400)];
    let refused = |status: BoxedStrategy<u16>| {
        (status, proptest::option::of(wait()))
            .prop_map(|(status, wait)| Reopened::Refused { status, retry_after: wait.map(Duration::from_secs) })
    };
    prop_oneof![
        16 => Just(Reopened::Open),
        4 => Just(Reopened::Failed),
        4 => refused(passing.boxed()),
        2 => Just(Reopened::PositionLost),
        1 => refused(final_ones.boxed()),
        1 => Just(Reopened::Stopped),
        1 => Just(Reopened::Invalid("invalid")),
    ]
}

fn stream_end() -> impl Strategy<Value = StreamEnd> {
    prop_oneof![
        8 => Just(StreamEnd::Complete),
        8 => Just(StreamEnd::Broken),
        1 => Just(StreamEnd::EventTooLarge),
        1 => Just(StreamEnd::FieldTooLarge),
    ]
}

fn left() -> impl Strategy<Value = Left> {
    (proptest::bool::weighted(0.8), proptest::option::of(0u64..20_000))
        .prop_map(|(resumable, retry)| Left { resumable, retry: retry.map(Duration::from_millis) })
}

fn what() -> impl Strategy<Value = What> {
    let id = prop_oneof![4 => Just(Id::New), 2 => (0u8..8).prop_map(Id::Again), 1 => Just(Id::None)];
    prop_oneof![
        24 => (prop_oneof![3 => 0u16..40, 1 => 0u16..=502], id).prop_map(|(size, id)| What::Text(size, id)),
        4 => Just(What::Named),
        1 => Just(What::Gap),
        1 => prop_oneof![Just(What::Close), Just(What::Invalid)],
    ]
}

pub(super) fn any_move() -> impl Strategy<Value = Move> {
    let kind = prop_oneof![2 => Just(Kind::Plain), 2 => Just(Kind::Json), 1 => Just(Kind::Ping)];
    let violation = prop_oneof![Just(Violation::Text), Just(Violation::TooBig), Just(Violation::Protocol("rule"))];
    let source = prop_oneof![4 => Just(Source::Main), 1 => Just(Source::Reply)];
    let rare = prop_oneof![
        Just(Move::Close),
        Just(Move::Gone),
        violation.prop_map(Move::Violate),
        Just(Move::Shutdown),
        Just(Move::Revoke),
        Just(Move::Cut)
    ];
    // The frequent ones come first: a union tries its parts in order, which costs the more the further down one stands.
    prop_oneof![
        24 => (0usize..4, ending()).prop_map(|(at, ending)| Move::Post(at, ending)),
        20 => (kind, 0u16..400).prop_map(|(kind, size)| Move::Message(kind, size)),
        12 => (what(), source).prop_map(|(what, source)| Move::Event(what, source)),
        8 => Just(Move::Next),
        8 => reopened().prop_map(Move::Reopened),
        6 => Just(Move::Ready),
        5 => Just(Move::Busy),
        4 => (stream_end(), left()).prop_map(|(end, left)| Move::StreamEnds(end, left)),
        4 => (0u16..20_000).prop_map(Move::Wait),
        2 => Just(Move::Alive),
        2 => Just(Move::StreamAlive),
        1 => (0u8..100).prop_map(Move::Pings),
        1 => stream_end().prop_map(Move::ReplyEnds),
        1 => rare,
    ]
}
