//! What one configuration makes: upstreams, the door, routes. Behind a reload it takes over what is no different, and the rest
//! of the one before ends with the last connection that uses it.

use std::sync::Arc;

use super::lasting::Lasting;
use super::{StartError, door};
use crate::access::limits::Limits;
use crate::admin;
use crate::bridge::Bridges;
use crate::config::Config;
use crate::edge::Edge;
use crate::edge::routes::RouteTable;
use crate::identity::Way;
use crate::process;
use crate::proxy::Proxies;
use crate::upstream::{self, Upstream};

/// The parts that one configuration has made, as far as the next one asks for them.
pub(super) struct Generation {
    upstreams: Vec<(upstream::Settings, Arc<Upstream>)>,
    /// How many of them are new.
    new: usize,
    door: door::Built,
    bridges: Bridges,
    proxies: Proxies,
    limits: Arc<Limits>,
    /// The keys of identity tokens.
    jwks: Option<Arc<str>>,
}

impl Generation {
    /// Builds all parts and begins nothing that the one before would notice.
    ///
    /// # Errors
    ///
    /// [`StartError`]; what was begun until then ends by itself.
    pub(super) fn build(config: &Config, lasting: &Lasting, before: Option<&Self>) -> Result<Self, StartError> {
        let earlier = before.map_or(&[][..], |before| &before.upstreams);
        let (mut upstreams, mut new) = (Vec::with_capacity(config.upstreams.len()), 0);
        for settings in &config.upstreams {
            let same = earlier.iter().find(|(earlier, _)| earlier == settings);
            let upstream = if let Some((_, same)) = same {
                same.clone()
            } else {
                new += 1;
                let upstream = Upstream::new(settings, &lasting.upstream, &lasting.disconnect);
                Arc::new(upstream.map_err(|source| StartError::Tls { upstream: settings.name.clone(), source })?)
            };
            upstreams.push((settings.clone(), upstream));
        }
        let objects: Vec<_> = upstreams.iter().map(|(_, upstream)| upstream.clone()).collect();
        let door = door::build(config, &objects, lasting, before.map(|before| &before.door))?;
        let limited = config.routes.iter().map(|route| (route.name.clone(), route.limits));
        let limits = Limits::new(limited, config.server.prefixes);
        let limits = match before {
            Some(before) => limits.succeeding(&before.limits),
            None => limits,
        };
        let proxies = Proxies::new(
            objects.iter().cloned(),
            lasting.proxied.clone(),
            config.identity.clone(),
            lasting.stop.shutdown.clone(),
        )
        .with_streams(lasting.streams.clone());
        let bridges = Bridges::new(objects, lasting.registry.clone(), lasting.memory.clone())
            .with_signer(config.identity.clone());
        let jwks = config.identity.as_ref().map(|signer| signer.jwks().clone());
        Ok(Self { upstreams, new, door, bridges, proxies, limits: Arc::new(limits), jwks })
    }

    /// What requests are served by.
    ///
    /// # Errors
    ///
    /// Two routes overlap, which the configuration rules out.
    pub(super) fn edge(&self, config: &Config, lasting: &Lasting) -> Result<Edge, StartError> {
        let tickets = config.routes.iter().filter(|route| route.auth.takes(Way::Ticket)).cloned().collect();
        Ok(Edge {
            routes: RouteTable::build(config.routes.clone()).map_err(|_| StartError::Overlap)?,
            ticket_routes: tickets,
            door: self.door.door.clone(),
            trust: config.server.trust.clone(),
            limits: self.limits.clone(),
            ledger: lasting.ledger.clone(),
            bridges: self.bridges.clone(),
            proxies: self.proxies.clone(),
            fallback: lasting.fallback.clone(),
            connections: lasting.connections.clone(),
            stop: lasting.stop.clone(),
        })
    }

    /// What operators are shown.
    pub(super) fn sources(&self, lasting: &Lasting) -> admin::Sources {
        admin::Sources {
            registry: lasting.registry.clone(),
            proxied: lasting.proxied.clone(),
            streams: lasting.streams.clone(),
            bridges: self.bridges.clone(),
            door: self.door.door.clone(),
            ledger: lasting.ledger.clone(),
            memory: lasting.memory.clone(),
            draining: lasting.stop.shutdown.clone(),
            reloads: lasting.reloads.clone(),
            started: lasting.started,
            version: process::VERSION,
            jwks: self.jwks.clone(),
        }
    }

    /// Begins what it does by itself, now that it is the one that serves.
    pub(super) fn begin(&self, config: &Config, before: Option<&Self>) {
        let earlier = before.map_or(&[][..], |before| &before.upstreams);
        let is_new = |upstream: &Arc<Upstream>| !earlier.iter().any(|(_, earlier)| Arc::ptr_eq(earlier, upstream));
        self.upstreams.iter().filter(|(_, upstream)| is_new(upstream)).for_each(|(_, upstream)| upstream.maintain());
        self.door.take_over(config);
    }

    /// How many upstreams it has, and how many of them are new.
    pub(super) fn upstreams(&self) -> (usize, usize) {
        (self.upstreams.len(), self.new)
    }
}
