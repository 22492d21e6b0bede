//! Every metric once: its name, kind, unit, labels and what it means.
//!
//! On the page a name begins with `tidegate_` and ends with its unit and, for counters, `_total`
//! (OpenMetrics 1.0, "Units and Base Units" and "Suffixes"). Label values come from closed lists in the code, or from names
//! in the configuration; never from traffic, which could make as many series as it likes.

use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use crate::session::Counts;

/// What all names begin with, and an underscore.
pub const PREFIX: &str = "tidegate";

/// One metric.
#[derive(Debug)]
pub struct Metric {
    /// Its name, without prefix, unit and `_total`.
    pub name: &'static str,
    /// What its numbers do: a counter only grows, a gauge goes both ways.
    pub kind: MetricType,
    /// The unit of its numbers, if they are not simply numbers of something.
    pub unit: Option<Unit>,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it means, in one sentence.
    pub help: &'static str,
}

/// Makes a static of each line: kind, name, unit, labels, help.
macro_rules! metrics {
    ($($constant:ident = $kind:ident $name:literal, $unit:expr, $labels:expr, $help:literal;)+) => {$(
        #[doc = $help]
        pub static $constant: Metric =
            Metric { name: $name, kind: MetricType::$kind, unit: $unit, labels: $labels, help: $help };
    )+};
}

const NUMBER: Option<Unit> = None;
const BYTES: Option<Unit> = Some(Unit::Bytes);
const SECONDS: Option<Unit> = Some(Unit::Seconds);

/// Label of what belongs to a route: the path pattern of the route.
const ROUTE: &[&str] = &["route"];

/// Label of what the ledger knows of a route: its name, which is told apart on each host.
const NAME: &[&str] = &["name"];

/// Labels of what belongs to an endpoint: the name of its upstream, and host and port.
const ENDPOINT: &[&str] = &["upstream", "endpoint"];

/// Labels of a budget that all connections of an upstream share.
const BUDGET: &[&str] = &["upstream", "budget"];

metrics! {
    CONNECTIONS_OPEN = Gauge "connections_open", NUMBER, ROUTE, "Client connections that are open.";
    CONNECTIONS_OPENED = Counter "connections_opened", NUMBER, ROUTE, "Client connections that were let in.";
    CONNECTIONS_CLOSED = Counter "connections_closed", NUMBER, &["route", "cause"], "Client connections that ended.";
    EVENT_STREAMS = Gauge "event_streams", NUMBER, &["route", "state"],
        "Open client connections by the state of their event stream.";
    QUEUED_UP = Gauge "queued_up", BYTES, ROUTE, "Bytes of client messages that wait for upstream.";
    QUEUED_DOWN = Gauge "queued_down", BYTES, ROUTE, "Bytes that wait for clients to read them.";

    PROXIED_UNDER_WAY = Gauge "proxied_under_way", NUMBER, ROUTE, "Requests that were passed on and whose answers are not over.";
    PROXIED_ANSWERS = Counter "proxied_answers", NUMBER, &["route", "status"],
        "Answers of upstream that were passed on, by the class of their status.";
    PROXIED_ENDED = Counter "proxied_ended", NUMBER, &["route", "cause"], "Requests that were passed on and are over, by how they ended.";
    PROXIED_UP = Counter "proxied_up", BYTES, ROUTE, "Bytes of the bodies of requests that were passed on.";
    PROXIED_DOWN = Counter "proxied_down", BYTES, ROUTE, "Bytes of the bodies of answers that were passed on.";
    PROXIED_STREAMS_OPEN = Gauge "proxied_streams_open", NUMBER, ROUTE, "Event streams that are passed on and open.";
    PROXIED_STREAMS_OPENED = Counter "proxied_streams_opened", NUMBER, ROUTE, "Event streams that were passed on.";
    PROXIED_STREAMS_CLOSED = Counter "proxied_streams_closed", NUMBER, &["route", "cause"],
        "Event streams that were passed on and ended.";
    PROXIED_STREAMS_HEARTBEATS = Counter "proxied_streams_heartbeats", NUMBER, ROUTE,
        "Heartbeats that were put in, of the event streams that have ended.";
    PROXIED_STREAMS_AWAY = Counter "proxied_streams_away", NUMBER, ROUTE,
        "Requests for an event stream that were answered by when to come back.";

    REQUESTS_REFUSED = Counter "requests_refused", NUMBER, &["kind"], "Requests that were answered by a refusal.";
    HANDSHAKES_REFUSED = Counter "handshakes_refused", NUMBER, &["reason"],
        "Client connections that ended before they could send a request.";
    HTTP2_CLOSED = Counter "http2_closed", NUMBER, &["reason"],
        "HTTP/2 connections of clients that were closed for what the client did.";
    WRITE_TIMEOUTS = Counter "write_timeouts", NUMBER, &[],
        "Client connections that were cut because nothing was taken of what they were sent.";

    SPLIT_HANDSHAKES = Counter "split_handshakes", NUMBER, &["route", "side", "reason"],
        "Handshakes on split routes by the side that they took.";

    ENDPOINT_STREAMS = Gauge "endpoint_streams", NUMBER, ENDPOINT, "Event streams that are open at an endpoint or being opened.";
    ENDPOINT_REQUESTS = Gauge "endpoint_requests", NUMBER, ENDPOINT, "Requests of clients that an endpoint has and whose answers are not over.";
    ENDPOINT_HTTP2_CONNECTIONS = Gauge "endpoint_http2_connections", NUMBER, ENDPOINT, "HTTP/2 connections that take requests.";
    ENDPOINT_IDLE_CONNECTIONS = Gauge "endpoint_idle_connections", NUMBER, ENDPOINT, "HTTP/1.1 connections without a request.";
    ENDPOINT_HEALTHY = Gauge "endpoint_healthy", NUMBER, ENDPOINT,
        "0 while the health checks of an endpoint fail, otherwise 1.";
    BREAKER_OPEN = Gauge "breaker_open", NUMBER, &["upstream", "endpoint", "traffic"],
        "1 while an endpoint is left alone because it failed too often, otherwise 0.";
    BUDGET_WAITING = Gauge "budget_waiting", NUMBER, BUDGET, "Connections that wait for their turn.";
    BUDGET_ACTIVE = Gauge "budget_active", NUMBER, BUDGET, "Connections whose turn it is.";
    BUDGET_GRANTED = Counter "budget_granted", NUMBER, BUDGET, "Turns that were given.";

    TICKETS_ISSUED = Counter "tickets_issued", NUMBER, &["by"], "Tickets that were given out.";
    TICKETS_REDEEMED = Counter "tickets_redeemed", NUMBER, &[], "Tickets that were used up.";
    TICKETS_REMEMBERED = Gauge "tickets_remembered", NUMBER, &[], "Used tickets that are remembered in memory.";
    BEARER_KEYS = Gauge "bearer_keys", NUMBER, &[], "Keys that bearer tokens are checked with.";
    KEY_SET_AGE = Gauge "key_set_age", SECONDS, &[], "Time since the key set was fetched.";
    KEY_SET_FETCHES = Counter "key_set_fetches", NUMBER, &["result"], "Times that the key set was asked for.";
    UNKNOWN_KEYS = Counter "bearer_unknown_keys", NUMBER, &[], "Bearer tokens that were refused because their key is not known.";

    REDIS_UP = Gauge "redis_up", NUMBER, &[], "1 while Redis answers, otherwise 0.";
    REDIS_COMMANDS = Counter "redis_commands", NUMBER, &["result"], "Commands that were to go to Redis.";
    REVOCATIONS = Gauge "revocations", NUMBER, &[], "What was taken back and is remembered.";

    LEDGER_HANDSHAKES = Counter "ledger_handshakes", NUMBER, &["name", "outcome"],
        "WebSocket handshakes since the ledger was begun, by what became of them.";
    LEDGER_IDENTITIES = Gauge "ledger_identities_today", NUMBER, NAME, "Different identities that were let in by WebSocket today (UTC).";
    LEDGER_ADDRESSES = Gauge "ledger_addresses_today", NUMBER, NAME,
        "Different addresses of those who were let in by WebSocket today without an identity.";
    SUNSET_PHASE = Gauge "sunset_phase", NUMBER, &["name", "phase"], "1 for the phase that the end of WebSocket is in, otherwise 0.";
    LEDGER_WRITES_FAILED = Counter "ledger_writes_failed", NUMBER, &[], "Times that the ledger could not be written.";

    MEMORY_RESIDENT = Gauge "memory_resident", BYTES, &[], "Resident memory of the process.";
    MEMORY_BUDGET = Gauge "memory_budget", BYTES, &[], "Resident memory above which no connection is let in.";
    MEMORY_OVER_BUDGET = Gauge "memory_over_budget", NUMBER, &[],
        "1 while no connection is let in for want of memory, otherwise 0.";
    CONFIG_RELOADS = Counter "config_reloads", NUMBER, &["result"], "Attempts to reload the configuration.";
    CONFIG_AGE = Gauge "config_age", SECONDS, &[], "Time since the configuration that is in use was loaded.";
    CONFIG_STALE = Gauge "config_stale", NUMBER, &[],
        "1 while the file is not what the gateway runs with, because the newest reload failed, otherwise 0.";
    DRAINING = Gauge "draining", NUMBER, &[], "1 once the gateway was told to stop, otherwise 0.";
    UPTIME = Gauge "uptime", SECONDS, &[], "Time since the gateway started.";
    BUILD = Info "build", NUMBER, &["version"], "The program that runs.";
}

/// One of the numbers that a connection counts.
#[derive(Debug)]
pub struct Count {
    /// Its name in [`Counts`], in the log and in the list of connections.
    pub field: &'static str,
    /// Its sum over all connections of a route.
    pub metric: Metric,
}

/// Makes [`COUNTS`], [`values`] and [`counts_of`] of one line for each field of [`Counts`]; a field without a line does not
/// compile.
macro_rules! counts {
    ($($field:ident => $name:literal, $unit:expr, $help:literal;)+) => {
        /// How many numbers a connection counts.
        pub const COUNTED: usize = [$(stringify!($field)),+].len();

        /// What a connection counts, in the order of [`values`].
        pub static COUNTS: [Count; COUNTED] = [$(Count {
            field: stringify!($field),
            metric: Metric { name: $name, kind: MetricType::Counter, unit: $unit, labels: ROUTE, help: $help },
        }),+];

        /// The numbers in the order of [`COUNTS`].
        #[must_use]
        pub const fn values(counts: &Counts) -> [u64; COUNTED] {
            let Counts { $($field),+ } = *counts;
            [$($field),+]
        }

        /// The other way round.
        #[must_use]
        pub const fn counts_of(values: [u64; COUNTED]) -> Counts {
            let [$($field),+] = values;
            Counts { $($field),+ }
        }
    };
}

counts! {
    messages_up => "messages_up", NUMBER, "Messages of clients that upstream accepted.";
    bytes_up => "messages_up", BYTES, "Bytes of the messages of clients that upstream accepted.";
    messages_down => "messages_down", NUMBER, "Messages that were sent to clients.";
    bytes_down => "messages_down", BYTES, "Bytes of the messages that were sent to clients.";
    undelivered => "messages_undelivered", NUMBER, "Messages of clients that were not delivered, or may not have been.";
    refused => "messages_refused", NUMBER, "Messages of clients that upstream refused while the connection went on.";
    auto_replies => "auto_replies", NUMBER, "Messages of clients that the gateway answered itself.";
    retries => "post_retries", NUMBER, "POSTs that were repeated.";
    ignored => "events_ignored", NUMBER, "Events of upstream that the route ignores.";
    duplicates => "events_duplicate", NUMBER, "Events that came again behind a reopening and were left out.";
    dropped => "messages_dropped", NUMBER, "Messages that were left out because their client is too slow.";
    unsent => "messages_unsent", NUMBER, "Messages that still waited for their client when the connection ended.";
    reopens => "stream_reopens", NUMBER, "Event streams that were opened again.";
    gaps => "stream_gaps", NUMBER, "Times that events may have been lost.";
    rate_pauses => "rate_pauses", NUMBER, "Times that a client was kept waiting because it sent faster than it may.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_stands_at_the_place_of_its_name() {
        let counts = Counts { messages_up: 1, ignored: 7, gaps: 9, ..Counts::default() };
        let named: Vec<_> = COUNTS.iter().map(|count| count.field).zip(values(&counts)).collect();
        assert_eq!(counts_of(values(&counts)), counts);
        assert_eq!(
            named.iter().filter(|(_, value)| *value > 0).collect::<Vec<_>>(),
            [&("messages_up", 1), &("ignored", 7), &("gaps", 9)]
        );
    }
}
