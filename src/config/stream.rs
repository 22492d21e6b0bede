//! `[route.proxy.stream]`: what holds for event streams through a proxy.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::TableReader;
use crate::proxy::stream::{OnFailure, Settings};

const DAY: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_hours(24);
/// What clients may be told to wait: longer than that, and people reload the page.
const WAIT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(10);

/// Reads it off the table of the proxy.
pub(super) fn read(proxy: &mut TableReader<'_>) -> Settings {
    let defaults = Settings::default();
    let Some(mut table) = proxy
        .field("stream")
        .and_then(|field| proxy.table_of(&field, "route.proxy.stream", "[route.proxy.stream]".to_owned()))
    else {
        return defaults;
    };
    let choices = [("retry", OnFailure::Retry), ("pass", OnFailure::Pass)];
    let settings = Settings {
        heartbeat: unless_zero(&mut table, "heartbeat", defaults.heartbeat),
        stall_timeout: unless_zero(&mut table, "stall_timeout", defaults.stall_timeout),
        idle_timeout: unless_zero(&mut table, "idle_timeout", defaults.idle_timeout),
        reconnect_min: table.duration("reconnect_min", defaults.reconnect_min, WAIT),
        reconnect_max: table.duration("reconnect_max", defaults.reconnect_max, WAIT),
        on_failure: table.one_of("on_failure", defaults.on_failure, &choices),
    };
    if settings.reconnect_max < settings.reconnect_min {
        let span = table.span("reconnect_max").or_else(|| table.span("reconnect_min"));
        table.report().wrong(span, "`reconnect_max` is shorter than `reconnect_min`", "raise `reconnect_max`");
    }
    table.finish();
    settings
}

/// A duration that "0s" turns off.
fn unless_zero(table: &mut TableReader<'_>, key: &'static str, default: Option<Duration>) -> Option<Duration> {
    let Some(field) = table.field(key) else { return default };
    let range = Duration::ZERO..=*DAY.end();
    let read = field.duration(range)?;
    if !read.is_zero() && read < *DAY.start() {
        field.wrong(format!("`{key}` is too short"), "write at least \"10ms\", or \"0s\" for never");
    }
    (!read.is_zero()).then_some(read)
}
