//! The rules of a connection under any sequence of what can happen to it.

use std::num::NonZeroU32;
use std::time::Duration;

use tidegate::protocol::Text;
use tidegate::protocol::close::CloseFrame;
use tidegate::protocol::message::Message;
use tidegate::session::{
    Batch, ClientInput, Doubt, Input, Left, NamedEvents, OnGap, OverRate, Overflow, PostOutcome, Rate, Reconnect,
    RefusedMessage, Reopened, Retry, Settings, Source, StreamEnd, Violation,
};

use super::script::Script;
use super::session_world::{ASKED, World};

/// Stands between the settings and the moves where a script has policies too.
const POLICIES: u8 = 255;

/// Stands before the moves where a script limits what the client may send.
const RATES: u8 = 254;

/// Five bytes of settings, then moves: a number, and as many bytes as it takes. A number without a meaning does nothing,
/// so that a new move takes a free number and old inputs stay what they are.
pub fn check(input: &[u8]) {
    let mut script = Script::new(input);
    let mut settings = settings(&mut script);
    if script.next_is(POLICIES) {
        settings = policies(settings, &mut script);
    }
    if script.next_is(RATES) {
        settings = rates(settings, &mut script);
    }
    let mut world = World::new(settings);
    while let Some(number) = script.next() {
        play(&mut world, number, &mut script);
    }
    world.finish();
}

fn settings(script: &mut Script<'_>) -> Settings {
    Settings {
        in_flight: NonZeroU32::MIN.saturating_add(u32::from(script.byte() % 4)),
        queue: 1 + usize::from(script.byte()) * 8,
        max_reply_streams: 1 + usize::from(script.byte() % 3),
        max_message_size: 256,
        replies: true,
        named_events: match script.byte() % 3 {
            0 => NamedEvents::Data,
            1 => NamedEvents::Envelope,
            _ => NamedEvents::Ignore,
        },
        refused_message: match script.byte() % 3 {
            0 => RefusedMessage::Close,
            1 => RefusedMessage::Tell,
            _ => RefusedMessage::Count,
        },
        ..Settings::default()
    }
}

fn policies(settings: Settings, script: &mut Script<'_>) -> Settings {
    let (switches, choices) = (script.byte(), script.byte());
    let on = |bit: u32| switches >> bit & 1 == 1;
    let minute = Duration::from_mins(1);
    Settings {
        retry: if on(0) { Retry::Idempotent } else { Retry::Safe },
        notify_close: on(1),
        replies: !on(2),
        auto_reply: if on(3) { vec![(ASKED, Text::from_static("answer"))] } else { Vec::new() },
        idle_timeout: on(4).then_some(minute),
        max_age: on(5).then_some(10 * minute),
        overflow: match choices % 3 {
            0 => Overflow::Pause,
            1 => Overflow::Close,
            _ => Overflow::DropOldest,
        },
        batch: match choices / 3 % 3 {
            0 => Batch::Off,
            1 => Batch::Ndjson,
            _ => Batch::JsonArray,
        },
        reconnect: Reconnect {
            on_gap: match choices / 9 % 3 {
                0 => OnGap::Close,
                1 => OnGap::Tell,
                _ => OnGap::Continue,
            },
            remember_ids: usize::from(choices / 27),
            ..Reconnect::default()
        },
        send_queue: 1 + usize::from(script.byte()) * 8,
        batch_size: 1 + usize::from(script.byte()) * 4,
        ..settings
    }
}

fn rates(settings: Settings, script: &mut Script<'_>) -> Settings {
    let choices = script.byte();
    let mut rate = |bit: u32, factor: u32| {
        let mut number = || NonZeroU32::MIN.saturating_add(u32::from(script.byte()) * factor);
        let rate = Rate::per_second(number(), number());
        (choices >> bit & 1 == 1).then_some(rate)
    };
    let (message_rate, byte_rate) = (rate(0, 1), rate(1, 8));
    let over_rate = if choices >> 2 & 1 == 1 { OverRate::Close } else { OverRate::Pause };
    Settings { message_rate, byte_rate, over_rate, ..settings }
}

/// Lets one thing happen, if it can happen now.
fn play(world: &mut World, number: u8, script: &mut Script<'_>) {
    match number {
        0 => world.message("x".repeat(script.byte().into())),
        1 => world.client(ClientInput::Alive),
        2 => {
            // Whatever the code, the socket lets none through that may not be on the wire.
            let code = Some(script.pair()).filter(|code| *code != 0);
            world.client(ClientInput::Closed(code.map(|code| CloseFrame { code, reason: Text::from_static("bye") })));
        }
        3 => world.client(ClientInput::Gone),
        4 => world.client(ClientInput::Violation(match script.byte() % 3 {
            0 => Violation::Protocol("a frame is not masked"),
            1 => Violation::Text,
            _ => Violation::TooBig,
        })),
        5 => {
            let name = Some(script.byte()).and_then(|choice| match choice {
                0 => None,
                1 => Some(world.settings().binary_event.clone()),
                2 => Some(world.settings().close_event.clone()),
                3 => Some(world.settings().reconnect.gap_event.clone()),
                other => Some(format!("name {other}")),
            });
            let length = usize::from(script.byte());
            let data = String::from_utf8_lossy(script.take(length)).into_owned();
            world.event(name, &data, Source::Main, None);
        }
        6 => {
            let (source, end) = (script.byte(), stream_end(script.byte() % 4));
            match source {
                0 => world.stream_ends(end, Left::default()),
                _ => world.reply_ends(end),
            }
        }
        7 => {
            let (at, ending) = (script.byte(), script.byte());
            world.post_ends(at.into(), outcome(ending, script));
        }
        8 => world.wait(Duration::from_millis(script.pair().into())),
        9 => world.wait_for_deadline(),
        10 => world.step(Input::Shutdown),
        11 => world.step(Input::Cut),
        12 => world.client_is_ready(true),
        13 => world.client_is_ready(false),
        14 => world.stream_is_alive(),
        15 => {
            let end = stream_end(script.byte());
            world.stream_ends(end, left(script));
        }
        16 => world.reply_ends(stream_end(script.byte())),
        17 => {
            let choice = script.byte();
            world.reopened(reopened(choice, script));
        }
        18 => world.numbered_event(if script.byte() == 0 { Source::Main } else { Source::Reply }),
        19 => world.message(format!("[\n\"{}\"]", "j".repeat((script.byte() / 2).into()))),
        20 => world.message(ASKED.as_str().to_owned()),
        21 => {
            let id = format!("id {}", script.byte() % 8);
            world.event(None, "with an id", Source::Main, Some(&id));
        }
        22 => world.left = left(script),
        23 => world.step(Input::Revoked),
        _ => {}
    }
}

fn stream_end(choice: u8) -> StreamEnd {
    match choice % 5 {
        0 => StreamEnd::Complete,
        1 => StreamEnd::Broken,
        2 => StreamEnd::EventTooLarge,
        3 => StreamEnd::FieldTooLarge,
        _ => StreamEnd::Stalled,
    }
}

fn left(script: &mut Script<'_>) -> Left {
    let resumable = script.byte() % 2 == 1;
    Left { resumable, retry: Some(time(script)).filter(|time| !time.is_zero()) }
}

fn reopened(choice: u8, script: &mut Script<'_>) -> Reopened {
    match choice {
        1 => Reopened::Stopped,
        2 => Reopened::PositionLost,
        3 => Reopened::Refused { status: script.pair(), retry_after: None },
        4 => Reopened::Refused { status: script.pair(), retry_after: Some(time(script)) },
        5 => Reopened::Failed,
        6 => Reopened::Invalid("upstream chose another subprotocol"),
        _ => Reopened::Open,
    }
}

fn outcome(choice: u8, script: &mut Script<'_>) -> PostOutcome {
    match choice {
        1 => PostOutcome::Accepted(Some(Message::from("reply"))),
        2 => PostOutcome::Streaming,
        3 => PostOutcome::ReplyTooLarge,
        4 => PostOutcome::ReplyInvalid("an answer is compressed"),
        5 => PostOutcome::Refused { status: script.pair(), retry_after: None },
        6 => PostOutcome::Refused { status: script.pair(), retry_after: Some(time(script)) },
        7 => match script.byte() % 3 {
            0 => PostOutcome::NotSent,
            1 => PostOutcome::InDoubt(Doubt::Broken),
            _ => PostOutcome::InDoubt(Doubt::TimedOut),
        },
        _ => PostOutcome::Accepted(None),
    }
}

/// A time that upstream asks for. 255 stands for the longest that can be read: nothing forbids upstream to ask for it.
fn time(script: &mut Script<'_>) -> Duration {
    match script.byte() {
        u8::MAX => Duration::from_secs(u64::MAX),
        wait => Duration::from_millis(u64::from(wait) * 400),
    }
}
