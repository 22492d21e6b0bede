//! `[route.bridge]`: the rules of its sessions.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::ANY_DURATION;
use super::names;
use super::problem::quote;
use super::reader::TableReader;
use crate::protocol::Text;
use crate::session::{Batch, NamedEvents, OnGap, OverRate, Overflow, Rate, Reconnect, RefusedMessage, Retry, Settings};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const PING: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);
const CLOSE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(1);
/// What limits on a connection's life may be.
const LIFE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(30 * 24);
const DAY: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(24);

pub(super) fn read(table: &mut TableReader<'_>, message_timeout: Duration, max_event_field: usize) -> Settings {
    let defaults = Settings::default();
    let named = [("data", NamedEvents::Data), ("envelope", NamedEvents::Envelope), ("ignore", NamedEvents::Ignore)];
    let refused = [("close", RefusedMessage::Close), ("tell", RefusedMessage::Tell), ("count", RefusedMessage::Count)];
    let retry = [("safe", Retry::Safe), ("idempotent", Retry::Idempotent)];
    let batch = [("off", Batch::Off), ("ndjson", Batch::Ndjson), ("json-array", Batch::JsonArray)];
    let overflow = [("pause", Overflow::Pause), ("close", Overflow::Close), ("drop-oldest", Overflow::DropOldest)];
    let over_rate = [("pause", OverRate::Pause), ("close", OverRate::Close)];
    let in_flight = table.field("in_flight").and_then(|field| field.integer(1..=64));
    let settings = Settings {
        max_message_size: table.size("max_message_size", defaults.max_message_size, 1..=64 * MIB),
        queue: table.size("queue", defaults.queue, KIB..=1024 * MIB),
        in_flight: in_flight
            .and_then(|number| NonZeroU32::new(u32::try_from(number).ok()?))
            .unwrap_or(defaults.in_flight),
        retry: table.one_of("retry", defaults.retry, &retry),
        batch: table.one_of("batch", defaults.batch, &batch),
        batch_size: table.size("batch_size", defaults.batch_size, KIB..=64 * MIB),
        replies: table.flag("replies", defaults.replies),
        auto_reply: auto_reply(table),
        message_rate: message_rate(table),
        byte_rate: byte_rate(table),
        over_rate: table.one_of("over_rate", defaults.over_rate, &over_rate),
        overflow: table.one_of("overflow", defaults.overflow, &overflow),
        send_queue: table.size("send_queue", defaults.send_queue, KIB..=1024 * MIB),
        named_events: table.one_of("named_events", defaults.named_events, &named),
        binary_event: event(table, "binary_event", defaults.binary_event, max_event_field),
        close_event: event(table, "close_event", defaults.close_event, max_event_field),
        refused_message: table.one_of("refused_message", defaults.refused_message, &refused),
        max_reply_streams: table.integer("max_reply_streams", defaults.max_reply_streams, 1..=1024),
        delivery_timeout: table.duration("delivery_timeout", defaults.delivery_timeout, ANY_DURATION),
        notify_close: table.flag("notify_close", defaults.notify_close),
        stall_timeout: table.duration("stall_timeout", defaults.stall_timeout, DAY),
        reconnect: reconnect(table, defaults.reconnect, max_event_field),
        idle_timeout: table.field("idle_timeout").and_then(|field| field.duration(LIFE)),
        max_age: table.field("max_age").and_then(|field| field.duration(LIFE)),
        ping_interval: table.duration("ping_interval", defaults.ping_interval, PING),
        pong_timeout: table.duration("pong_timeout", defaults.pong_timeout, PING),
        close_timeout: table.duration("close_timeout", defaults.close_timeout, CLOSE),
    };
    check(table, &settings, message_timeout);
    settings
}

/// How many messages the client may send: `message_rate` and `message_burst`.
fn message_rate(table: &mut TableReader<'_>) -> Option<Rate> {
    let mut number = |key| table.field(key).and_then(|field| field.integer(1..=1_000_000));
    let (rate, burst) = (number("message_rate"), number("message_burst"));
    self::rate(table, ["message_rate", "message_burst"], rate, burst)
}

/// How many bytes: `byte_rate` and `byte_burst`.
fn byte_rate(table: &mut TableReader<'_>) -> Option<Rate> {
    let mut size = |key| table.field(key).and_then(|field| field.size(KIB..=1024 * MIB)).map(|bytes| bytes as u64);
    let (rate, burst) = (size("byte_rate"), size("byte_burst"));
    self::rate(table, ["byte_rate", "byte_burst"], rate, burst)
}

/// A rate per second; its burst is what comes in a second unless said otherwise.
fn rate(table: &TableReader<'_>, keys: [&str; 2], rate: Option<u64>, burst: Option<u64>) -> Option<Rate> {
    let [rate_key, burst_key] = keys;
    if table.span(rate_key).is_none() && burst.is_some() {
        let message = format!("`{burst_key}` has no effect, because there is no `{rate_key}`");
        table.report().wrong(table.span(burst_key), message, format!("write `{rate_key}`, or take it out"));
    }
    let number = |number: u64| NonZeroU32::new(u32::try_from(number).ok()?);
    Some(Rate::per_second(number(rate?)?, number(burst.or(rate)?)?))
}

/// What only a view of several values shows.
fn check(table: &TableReader<'_>, settings: &Settings, message_timeout: Duration) {
    let names = [
        ("binary_event", &settings.binary_event),
        ("close_event", &settings.close_event),
        ("gap_event", &settings.reconnect.gap_event),
    ];
    for (at, (later, name)) in names.iter().enumerate() {
        if let Some((earlier, _)) = names.iter().take(at).find(|(_, other)| other == name) {
            let place = |key| table.span(key).or_else(|| table.span("reconnect").filter(|_| key == "gap_event"));
            let span = place(later).or_else(|| place(earlier));
            let message = format!("`{later}` and `{earlier}` are both {}", quote(name));
            table.report().wrong(span, message, "give them different names");
        }
    }
    if settings.delivery_timeout < message_timeout {
        let span = table.span("delivery_timeout").or_else(|| table.span("message_timeout"));
        let help = "a message may be posted more than once before it is delivered; raise `delivery_timeout`";
        table.report().wrong(span, "`delivery_timeout` is shorter than `message_timeout`", help);
    }
}

fn reconnect(bridge: &mut TableReader<'_>, defaults: Reconnect, max_event_field: usize) -> Reconnect {
    let Some(mut table) = bridge
        .field("reconnect")
        .and_then(|field| bridge.table_of(&field, "route.bridge.reconnect", "[route.bridge.reconnect]".to_owned()))
    else {
        return defaults;
    };
    let gaps = [("close", OnGap::Close), ("tell", OnGap::Tell), ("continue", OnGap::Continue)];
    let least = Duration::from_millis(10);
    let reconnect = Reconnect {
        first_delay: table.duration("first_delay", defaults.first_delay, least..=Duration::from_mins(1)),
        max_delay: table.duration("max_delay", defaults.max_delay, ANY_DURATION),
        give_up_after: table.duration("give_up_after", defaults.give_up_after, DAY),
        on_gap: table.one_of("on_gap", defaults.on_gap, &gaps),
        gap_event: event(&mut table, "gap_event", defaults.gap_event, max_event_field),
        remember_ids: table.integer("remember_ids", defaults.remember_ids, 0..=4096),
    };
    if reconnect.max_delay < reconnect.first_delay {
        let span = table.span("max_delay").or_else(|| table.span("first_delay"));
        table.report().wrong(span, "`max_delay` is shorter than `first_delay`", "raise `max_delay`");
    }
    table.finish();
    reconnect
}

/// `{ ping = "pong" }`: texts of the client that are answered here.
fn auto_reply(table: &mut TableReader<'_>) -> Vec<(Text, Text)> {
    let Some(field) = table.field("auto_reply") else { return Vec::new() };
    let form = "write auto_reply = { ping = \"pong\" }, or a key in quotes for any other text";
    let DeValue::Table(pairs) = field.value else {
        field.wrong_type("a table of texts", form);
        return Vec::new();
    };
    let mut replies = Vec::new();
    for (asked, answer) in pairs {
        let DeValue::String(answer) = answer.get_ref() else {
            let message = format!("the answer to {} in `auto_reply` must be a text", quote(asked.get_ref()));
            field.report.wrong(Some(answer.span()), message, form);
            continue;
        };
        replies.push((Text::from(asked.get_ref().as_ref()), Text::from(answer.as_ref())));
    }
    replies
}

fn event(table: &mut TableReader<'_>, key: &'static str, default: String, longest: usize) -> String {
    let Some(text) = table.text(key) else { return default };
    let too_long = text.value.len() > longest;
    let reason = names::event_error(text.value).or(too_long.then_some("it is longer than `max_event_field` allows"));
    if let Some(reason) = reason {
        let message = format!("`{key}` cannot be {}: {reason}", quote(text.value));
        table.report().wrong(Some(text.span), message, format!("write a name such as \"{default}\""));
    }
    text.value.to_owned()
}
