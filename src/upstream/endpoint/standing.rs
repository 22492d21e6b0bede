//! The endpoint as a choice, under checks, and as operators see it.

use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use http::StatusCode;
use http::header::HeaderMap;
use tracing::{debug, info, warn};

use super::super::balance::{self, View};
use super::super::connect::Connector;
use super::super::guard::{Traffic, Verdict};
use super::super::health::{HealthRule, HealthState};
use super::super::lock;
use super::super::request::Addressed;
use super::super::snapshot::EndpointSnapshot;
use super::Pool;
use crate::protocol::headers;

impl Pool {
    /// What there is to know for a choice of where to send something of this kind: requests that are passed on are spread by
    /// those under way, everything else by the event streams.
    pub(in crate::upstream) fn view(&self, traffic: Traffic, now: Instant) -> View {
        let (breaker, load) = match traffic {
            Traffic::Requests => (self.request_guard.standing(now), self.requests.load(Ordering::Relaxed)),
            Traffic::Upgrades => (self.upgrade_guard.standing(now), self.open_streams()),
            _ => (self.stream_guard.standing(now), self.open_streams()),
        };
        let checked = lock(&self.health);
        View {
            key: self.key,
            weight: balance::ramp(self.weight, breaker.back.max(checked.back), now, self.slow_start),
            streams: u32::try_from(load).unwrap_or(u32::MAX),
            healthy: checked.health.state() != HealthState::Unhealthy,
            admits: breaker.admits,
        }
    }

    pub(in crate::upstream) fn snapshot(&self, now: Instant) -> EndpointSnapshot {
        let (http2_connections, idle_connections) = self.connections.counts();
        EndpointSnapshot {
            name: self.name.clone(),
            weight: self.weight,
            streams: self.open_streams(),
            http2_connections,
            idle_connections,
            health: lock(&self.health).health.state(),
            streams_breaker: self.stream_guard.standing(now).state,
            messages_breaker: self.message_guard.standing(now).state,
            questions_breaker: self.question_guard.standing(now).state,
            requests: self.requests.load(Ordering::Relaxed),
            requests_breaker: self.request_guard.standing(now).state,
            upgrades_breaker: self.upgrade_guard.standing(now).state,
        }
    }

    pub(in crate::upstream) fn connector(&self) -> &Connector {
        &self.connector
    }

    pub(in crate::upstream) fn addressed(&self) -> &Addressed {
        &self.addressed
    }

    /// Takes in the result of a health check.
    pub(in crate::upstream) fn checked(&self, result: &Result<(), String>, rule: &HealthRule) {
        let change = {
            let mut checked = lock(&self.health);
            let before = checked.health.state();
            let change = checked.health.record(result.is_ok(), rule);
            if (before, change) == (HealthState::Unhealthy, Some(HealthState::Healthy)) {
                checked.back = Some(Instant::now());
            }
            change
        };
        let (upstream, endpoint) = (&*self.upstream, &*self.name);
        let reason = result.as_ref().err();
        match change {
            Some(HealthState::Unhealthy) => warn!(upstream, endpoint, reason, "an endpoint is unhealthy"),
            Some(_) => info!(upstream, endpoint, reason = "its health checks succeed", "an endpoint is healthy"),
            None if result.is_err() => debug!(upstream, endpoint, reason, "a health check failed"),
            None => {}
        }
    }

    /// Whether the endpoint is a name, whose addresses can change.
    pub(in crate::upstream) fn is_name(&self) -> bool {
        self.connector.place.is_name()
    }

    /// Looks the endpoint's name up again. A look-up that fails changes nothing: the connections are still there.
    pub(in crate::upstream) async fn resolve(&self) {
        let Connector { place, resolver, timeout, .. } = &self.connector;
        let (upstream, endpoint) = (&*self.upstream, &*self.name);
        match tokio::time::timeout(*timeout, place.addresses(&**resolver)).await {
            Ok(Ok(addresses)) => {
                let addresses: Vec<IpAddr> = addresses.into_iter().map(|address| address.ip()).collect();
                let gone = self.connections.keep_only(&addresses);
                if !gone.is_empty() {
                    info!(upstream, endpoint, ?gone, "addresses of an endpoint are gone");
                }
            }
            Ok(Err(error)) => debug!(upstream, endpoint, %error, "an endpoint's name could not be looked up"),
            Err(_) => debug!(upstream, endpoint, "looking up an endpoint's name took too long"),
        }
    }
}

/// What an answer says of the endpoint. An application that refuses is one that works; what stands in front of one that
/// does not answers 502, 503 or 504. `Retry-After` is only sent by who knows what it is doing.
pub(in crate::upstream) fn verdict(status: StatusCode, fields: &HeaderMap) -> Verdict {
    match status {
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => Verdict::Bad,
        StatusCode::SERVICE_UNAVAILABLE if headers::retry_after(fields, SystemTime::now()).is_none() => Verdict::Bad,
        _ => Verdict::Good,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answers_of_a_backend_that_is_not_there_are_failures() {
        let fields = |retry: Option<&'static str>| {
            retry.map(|value| (http::header::RETRY_AFTER, http::HeaderValue::from_static(value))).into_iter().collect()
        };
        let of = |status, retry| verdict(StatusCode::from_u16(status).unwrap(), &fields(retry));
        for status in [200, 204, 401, 404, 429, 500] {
            assert_eq!(of(status, None), Verdict::Good, "{status}");
        }
        for status in [502, 503, 504] {
            assert_eq!(of(status, None), Verdict::Bad, "{status}");
        }
        assert_eq!(of(503, Some("1")), Verdict::Good);
        assert_eq!(of(502, Some("1")), Verdict::Bad);
    }
}
