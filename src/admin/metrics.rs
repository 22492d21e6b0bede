//! `/metrics`: what was counted, as a page for Prometheus.

use std::fmt;
use std::time::{Instant, SystemTime};

use http::StatusCode;
use http::header::HeaderValue;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry as Exposition;

use super::Sources;
use crate::bridge::registry::{Handshake, Http2End, Registry};
use crate::bridge::{BreakerState, HealthState, UpstreamSnapshot};
use crate::ledger::Ledger;
use crate::ledger::book::Outcome;
use crate::ledger::phase::Phase;
use crate::protocol::problem::Problem;
use crate::proxy::answer::Ending;
use crate::proxy::registry as proxied;
use crate::proxy::stream::{Cause, Streams};
use crate::session::StreamState;
use crate::telemetry::metrics::{self as names, COUNTS, Metric, PREFIX};

/// OpenMetrics 1.0, which Prometheus reads whatever it asks for.
pub(super) const MEDIA_TYPE: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// The page, as things stand now.
///
/// # Errors
///
/// 500 when it cannot be written, which would be a defect.
pub(super) fn page(sources: &Sources) -> Result<String, Problem> {
    let mut families = connections(&sources.registry);
    families.extend(proxied(&sources.proxied));
    families.extend(proxied_streams(&sources.streams));
    families.extend(refusals(&sources.registry));
    families.push(sides(&sources.registry));
    families.extend(upstreams(&sources.bridges.snapshots()));
    families.extend(door(sources));
    families.extend(access(sources));
    families.extend(reloads(sources));
    families.extend(ledger(&sources.ledger));
    families.extend(process(sources));

    let mut exposition = Exposition::with_prefix(PREFIX);
    exposition.register_collector(Box::new(Page(families)));
    let mut text = String::new();
    let written = prometheus_client::encoding::text::encode(&mut text, &exposition);
    let defect = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "defect", "the metrics cannot be written");
    written.map(|()| text).map_err(defect)
}

fn connections(registry: &Registry) -> Vec<Family> {
    let totals = registry.totals();
    let mut open = Family::new(&names::CONNECTIONS_OPEN);
    let mut opened = Family::new(&names::CONNECTIONS_OPENED);
    let mut closed = Family::new(&names::CONNECTIONS_CLOSED);
    let mut streams = Family::new(&names::EVENT_STREAMS);
    let mut queued_up = Family::new(&names::QUEUED_UP);
    let mut queued_down = Family::new(&names::QUEUED_DOWN);
    let mut counts: Vec<_> = COUNTS.iter().map(|count| Family::new(&count.metric)).collect();
    for (route, totals) in &totals {
        open.add([route], totals.open);
        opened.add([route], totals.opened);
        for (cause, count) in &totals.closed {
            closed.add([&**route, *cause], *count);
        }
        for (state, count) in StreamState::ALL.iter().zip(totals.streams) {
            streams.add([route, state.label()], count);
        }
        queued_up.add([route], totals.queued_up);
        queued_down.add([route], totals.queued_down);
        for (family, count) in counts.iter_mut().zip(totals.counts) {
            family.add([route], count);
        }
    }
    let mut families = vec![open, opened, closed, streams, queued_up, queued_down];
    families.append(&mut counts);
    families
}

fn sides(registry: &Registry) -> Family {
    let mut handshakes = Family::new(&names::SPLIT_HANDSHAKES);
    for (route, turn, count) in registry.sides().counted() {
        handshakes.add([&*route, turn.side.label(), turn.reason.label()], count);
    }
    handshakes
}

fn proxied_streams(streams: &Streams) -> [Family; 5] {
    let [mut open, mut opened, mut closed, mut heartbeats, mut away] = [
        &names::PROXIED_STREAMS_OPEN,
        &names::PROXIED_STREAMS_OPENED,
        &names::PROXIED_STREAMS_CLOSED,
        &names::PROXIED_STREAMS_HEARTBEATS,
        &names::PROXIED_STREAMS_AWAY,
    ]
    .map(Family::new);
    for (route, totals) in &streams.totals() {
        open.add([route], totals.open);
        opened.add([route], totals.opened);
        heartbeats.add([route], totals.heartbeats);
        away.add([route], totals.away);
        for (cause, count) in Cause::ALL.iter().zip(totals.closed) {
            closed.add([&**route, cause.label()], count);
        }
    }
    [open, opened, closed, heartbeats, away]
}

fn proxied(registry: &proxied::Registry) -> [Family; 5] {
    let [mut under_way, mut answers, mut ended, mut up, mut down] = [
        &names::PROXIED_UNDER_WAY,
        &names::PROXIED_ANSWERS,
        &names::PROXIED_ENDED,
        &names::PROXIED_UP,
        &names::PROXIED_DOWN,
    ]
    .map(Family::new);
    for (route, counted) in registry.snapshot() {
        under_way.add([&*route], counted.under_way);
        for (class, count) in proxied::CLASSES.iter().zip(counted.answered) {
            answers.add([&*route, *class], count);
        }
        for (ending, count) in Ending::ALL.iter().zip(counted.endings) {
            ended.add([&*route, ending.label()], count);
        }
        up.add([&*route], counted.bytes_up);
        down.add([&*route], counted.bytes_down);
    }
    [under_way, answers, ended, up, down]
}

fn refusals(registry: &Registry) -> [Family; 4] {
    let mut requests = Family::new(&names::REQUESTS_REFUSED);
    for (kind, count) in registry.requests_refused() {
        requests.add([kind], count);
    }
    let mut handshakes = Family::new(&names::HANDSHAKES_REFUSED);
    for (why, count) in Handshake::ALL.iter().zip(registry.handshakes_refused()) {
        handshakes.add([why.label()], count);
    }
    let mut http2 = Family::new(&names::HTTP2_CLOSED);
    for (why, count) in Http2End::ALL.iter().zip(registry.http2_ends()) {
        http2.add([why.label()], count);
    }
    let mut unread = Family::new(&names::WRITE_TIMEOUTS);
    unread.add([], registry.write_timeouts());
    [requests, handshakes, http2, unread]
}

fn upstreams(upstreams: &[UpstreamSnapshot]) -> [Family; 9] {
    let mut streams = Family::new(&names::ENDPOINT_STREAMS);
    let mut requests = Family::new(&names::ENDPOINT_REQUESTS);
    let mut http2 = Family::new(&names::ENDPOINT_HTTP2_CONNECTIONS);
    let mut idle = Family::new(&names::ENDPOINT_IDLE_CONNECTIONS);
    let mut healthy = Family::new(&names::ENDPOINT_HEALTHY);
    let mut breakers = Family::new(&names::BREAKER_OPEN);
    let mut waiting = Family::new(&names::BUDGET_WAITING);
    let mut active = Family::new(&names::BUDGET_ACTIVE);
    let mut granted = Family::new(&names::BUDGET_GRANTED);
    for upstream in upstreams {
        let name = &*upstream.name;
        for endpoint in &upstream.endpoints {
            let labels = [name, &endpoint.name];
            streams.add(labels, endpoint.streams as u64);
            requests.add(labels, endpoint.requests as u64);
            http2.add(labels, endpoint.http2_connections as u64);
            idle.add(labels, endpoint.idle_connections as u64);
            healthy.add(labels, u64::from(endpoint.health != HealthState::Unhealthy));
            let breakers_of = [
                ("streams", endpoint.streams_breaker),
                ("messages", endpoint.messages_breaker),
                ("questions", endpoint.questions_breaker),
                ("requests", endpoint.requests_breaker),
                ("websockets", endpoint.upgrades_breaker),
            ];
            for (traffic, breaker) in breakers_of {
                let open = u64::from(breaker != BreakerState::Closed);
                breakers.add([name, &endpoint.name, traffic], open);
            }
        }
        for (budget, snapshot) in [("reopen", upstream.reopens), ("retry", upstream.retries)] {
            waiting.add([name, budget], snapshot.waiting as u64);
            active.add([name, budget], snapshot.active as u64);
            granted.add([name, budget], snapshot.granted);
        }
    }
    [streams, requests, http2, idle, healthy, breakers, waiting, active, granted]
}

fn door(sources: &Sources) -> [Family; 7] {
    let door = sources.door.snapshot();
    let [mut issued, mut redeemed, mut remembered] =
        [&names::TICKETS_ISSUED, &names::TICKETS_REDEEMED, &names::TICKETS_REMEMBERED].map(Family::new);
    if sources.door.gives_tickets() {
        door.issued.iter().for_each(|(way, count)| issued.add([way.label()], *count));
        redeemed.add([], door.redeemed);
        remembered.add([], door.remembered as u64);
    }
    let [mut keys, mut age, mut fetches, mut unknown] =
        [&names::BEARER_KEYS, &names::KEY_SET_AGE, &names::KEY_SET_FETCHES, &names::UNKNOWN_KEYS].map(Family::new);
    if let Some(bearer) = &door.bearer {
        keys.add([], bearer.keys as u64);
        unknown.add([], bearer.unknown_keys);
        fetches.add(["ok"], bearer.fetched);
        fetches.add(["failed"], bearer.failed);
        bearer.age.iter().for_each(|since| age.add([], since.as_secs()));
    }
    [issued, redeemed, remembered, keys, age, fetches, unknown]
}

fn access(sources: &Sources) -> [Family; 3] {
    let mut up = Family::new(&names::REDIS_UP);
    let mut commands = Family::new(&names::REDIS_COMMANDS);
    if let Some(redis) = sources.door.redis.as_ref().map(|redis| redis.snapshot()) {
        up.add([], u64::from(redis.up));
        commands.add(["ok"], redis.succeeded);
        commands.add(["failed"], redis.failed);
    }
    [up, commands, Family::one(&names::REVOCATIONS, sources.door.revoker.count() as u64)]
}

fn reloads(sources: &Sources) -> [Family; 3] {
    let (applied, refused) = sources.reloads.counts();
    let mut reloads = Family::new(&names::CONFIG_RELOADS);
    reloads.add(["ok"], applied);
    reloads.add(["failed"], refused);
    let age = sources.reloads.age(Instant::now()).as_secs();
    let stale = u64::from(sources.reloads.is_stale());
    [reloads, Family::one(&names::CONFIG_AGE, age), Family::one(&names::CONFIG_STALE, stale)]
}

fn ledger(ledger: &Ledger) -> [Family; 5] {
    let [mut handshakes, mut phases, mut identities, mut addresses, mut failed] = [
        &names::LEDGER_HANDSHAKES,
        &names::SUNSET_PHASE,
        &names::LEDGER_IDENTITIES,
        &names::LEDGER_ADDRESSES,
        &names::LEDGER_WRITES_FAILED,
    ]
    .map(Family::new);
    for sums in ledger.sums(SystemTime::now()) {
        for (outcome, count) in Outcome::ALL.iter().zip(sums.handshakes) {
            handshakes.add([&sums.route, outcome.label()], count);
        }
        for phase in Phase::ALL {
            phases.add([&sums.route, phase.label()], u64::from(phase == sums.phase));
        }
        identities.add([&sums.route], sums.identities);
        addresses.add([&sums.route], sums.addresses);
    }
    failed.add([], ledger.writes_failed());
    [handshakes, phases, identities, addresses, failed]
}

fn process(sources: &Sources) -> [Family; 6] {
    let held = sources.memory.held();
    let mut budget = Family::new(&names::MEMORY_BUDGET);
    if let Some(bytes) = held.budget {
        budget.add([], bytes);
    }
    let mut build = Family::new(&names::BUILD);
    build.add([sources.version], 1);
    [
        Family::one(&names::MEMORY_RESIDENT, held.resident),
        budget,
        Family::one(&names::MEMORY_OVER_BUDGET, u64::from(held.over)),
        Family::one(&names::DRAINING, u64::from(sources.draining.is_cancelled())),
        Family::one(&names::UPTIME, sources.started.elapsed().as_secs()),
        build,
    ]
}

/// A metric with all its samples.
#[derive(Debug)]
struct Family {
    metric: &'static Metric,
    samples: Vec<(Vec<(&'static str, String)>, u64)>,
}

impl Family {
    fn new(metric: &'static Metric) -> Self {
        Self { metric, samples: Vec::new() }
    }

    /// A metric without labels.
    fn one(metric: &'static Metric, value: u64) -> Self {
        let mut family = Self::new(metric);
        family.add([], value);
        family
    }

    /// Adds a sample, with a value for each label of the metric in its order.
    fn add<const LABELS: usize>(&mut self, labels: [&str; LABELS], value: u64) {
        debug_assert_eq!(self.metric.labels.len(), LABELS, "{}", self.metric.name);
        let labels = self.metric.labels.iter().copied().zip(labels.map(str::to_owned)).collect();
        self.samples.push((labels, value));
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Metric { name, kind, unit, help, .. } = self.metric;
        let mut encoder = encoder.encode_descriptor(name, help, unit.as_ref(), *kind)?;
        for (labels, value) in &self.samples {
            match (kind, labels.is_empty()) {
                (MetricType::Info, _) => encoder.encode_info(labels)?,
                (_, true) => number(&mut encoder, *kind, *value)?,
                (_, false) => number(&mut encoder.encode_family(labels)?, *kind, *value)?,
            }
        }
        Ok(())
    }
}

fn number(encoder: &mut MetricEncoder<'_>, kind: MetricType, value: u64) -> fmt::Result {
    match kind {
        MetricType::Counter => encoder.encode_counter(&value, None::<&Exemplar<NoLabelSet, f64>>),
        _ => encoder.encode_gauge(&value),
    }
}

/// All families, for the library that knows the format.
#[derive(Debug)]
struct Page(Vec<Family>);

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|family| family.encode(&mut encoder))
    }
}
