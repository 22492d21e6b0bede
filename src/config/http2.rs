//! `[listener.http2]`: whether clients may speak HTTP/2, and how much of it.

use std::num::NonZeroU32;
use std::time::Duration;

use super::ANY_DURATION;
use super::reader::TableReader;
use crate::edge::settings::Http2;

const LARGEST_WINDOW: usize = 64 * 1024 * 1024;

/// Reads the table; `is_plain` is a listener without TLS.
pub(super) fn read(mut table: TableReader<'_>, is_plain: bool) -> Http2 {
    let defaults = Http2::default();
    let seconds = Duration::from_secs;
    let enabled = table.flag("enabled", defaults.enabled);
    let prior_knowledge = table.flag("prior_knowledge", defaults.prior_knowledge);
    if prior_knowledge && !is_plain {
        let message = "`prior_knowledge` has no effect with TLS, where the client says which HTTP it speaks";
        table.report().wrong(table.span("prior_knowledge"), message, "take it out");
    }
    let max_streams = table.integer("max_streams", 100, 1..=10_000);
    let max_resets = table.integer("max_resets", 200, 1..=1_000_000);
    let stream_window = table.size("stream_window", 128 * 1024, 16 * 1024..=LARGEST_WINDOW);
    let connection_window = table.size("connection_window", 2 * 1024 * 1024, 64 * 1024..=LARGEST_WINDOW);
    if connection_window < stream_window {
        let message = "`connection_window` is smaller than `stream_window`, which then has no effect";
        let help = "make `connection_window` the larger one";
        let place = table.span("connection_window").or_else(|| table.span("stream_window"));
        table.report().wrong(place, message, help);
    }
    let idle_timeout = table.duration("idle_timeout", defaults.idle_timeout, ANY_DURATION);
    let ping_interval = table.duration("ping_interval", defaults.ping_interval, seconds(1)..=seconds(3600));
    let ping_timeout = table.duration("ping_timeout", defaults.ping_timeout, ANY_DURATION);
    table.finish();
    let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Http2 {
        enabled,
        prior_knowledge,
        max_streams: number(max_streams),
        max_resets: NonZeroU32::new(number(max_resets)).unwrap_or(NonZeroU32::MIN),
        stream_window: number(stream_window),
        connection_window: number(connection_window),
        idle_timeout,
        ping_interval,
        ping_timeout,
    }
}
