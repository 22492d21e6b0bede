//! The rules that no sequence of inputs may break, whatever the route's policies.

mod moves;
mod world;

use std::num::NonZeroU32;

use proptest::prelude::*;

use self::moves::{Move, any_move};
use self::world::World;
use super::*;

/// What a client can send at most here.
const MAX_MESSAGE: usize = 500;

fn limits() -> impl Strategy<Value = Settings> {
    let bytes = (1usize..1000, 1usize..3000, 16usize..400);
    let seconds = (5u64..60, 5u64..90, proptest::option::of(1u64..100), proptest::option::of(1u64..400));
    let counts = (1u32..=4, 1usize..3, 0usize..8);
    (bytes, seconds, counts).prop_map(|(bytes, seconds, counts)| Settings {
        max_message_size: MAX_MESSAGE,
        queue: bytes.0,
        send_queue: bytes.1,
        batch_size: bytes.2,
        delivery_timeout: Duration::from_secs(seconds.0),
        stall_timeout: Duration::from_secs(seconds.1),
        idle_timeout: seconds.2.map(Duration::from_secs),
        max_age: seconds.3.map(Duration::from_secs),
        in_flight: NonZeroU32::new(counts.0).unwrap(),
        max_reply_streams: counts.1,
        reconnect: Reconnect { remember_ids: counts.2, ..Reconnect::default() },
        auto_reply: vec![(Text::from_static("ping"), Text::from_static("pong"))],
        ..Settings::default()
    })
}

/// Limits on what the client sends; most routes have none.
fn rates() -> impl Strategy<Value = (Option<Rate>, Option<Rate>, OverRate)> {
    let rate = |most| {
        let number = move || (1u32..most).prop_map(|number| NonZeroU32::new(number).unwrap());
        let rate = (number(), number()).prop_map(|(rate, burst)| Rate::per_second(rate, burst));
        prop_oneof![2 => Just(None), 1 => rate.prop_map(Some)]
    };
    (rate(20), rate(600), prop_oneof![3 => Just(OverRate::Pause), 1 => Just(OverRate::Close)])
}

fn settings() -> impl Strategy<Value = Settings> {
    let retry = prop_oneof![Just(Retry::Safe), Just(Retry::Idempotent)];
    let overflow = prop_oneof![Just(Overflow::Pause), Just(Overflow::Close), Just(Overflow::DropOldest)];
    let batch = prop_oneof![Just(Batch::Off), Just(Batch::Ndjson), Just(Batch::JsonArray)];
    let on_gap = prop_oneof![Just(OnGap::Close), Just(OnGap::Tell), Just(OnGap::Continue)];
    let refused = prop_oneof![Just(RefusedMessage::Close), Just(RefusedMessage::Tell), Just(RefusedMessage::Count)];
    let named = prop_oneof![Just(NamedEvents::Data), Just(NamedEvents::Ignore)];
    let flags = any::<(bool, bool)>();
    ((limits(), rates()), retry, overflow, batch, on_gap, refused, named, flags).prop_map(
        |(
            (mut settings, rates),
            retry,
            overflow,
            batch,
            on_gap,
            refused_message,
            named_events,
            (replies, notify_close),
        )| {
            settings.reconnect.on_gap = on_gap;
            (settings.message_rate, settings.byte_rate, settings.over_rate) = rates;
            Settings { retry, batch, replies, overflow, named_events, refused_message, notify_close, ..settings }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, ..ProptestConfig::default() })]

    /// Whatever happens: order holds, every queue is bounded, every message and every event is accounted for, nothing
    /// follows a close, and the session comes to its end.
    #[test]
    fn no_sequence_of_inputs_breaks_the_rules(
        settings in settings(),
        seed in any::<u64>(),
        moves in proptest::collection::vec(any_move(), 0..120),
    ) {
        let mut world = World::new(settings, seed);
        for step in moves {
            world.play(step)?;
        }
        // Time alone brings everything to its end.
        world.play(Move::Shutdown)?;
        for _ in 0..100 {
            world.play(Move::Wait(10_000))?;
        }
        world.check_the_end()?;
    }
}
