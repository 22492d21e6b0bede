//! The configuration: the only place that reads TOML and the files named in it.
//!
//! `problem` is what is wrong and how it is told; `syntax` makes a table of the text; `reader`, `field` and `report` walk
//! over it and gather everything that is wrong; `units`, `names` and `pem` read single values; `file` puts the sections
//! together. Every other file reads the section or key that it is named after, into the checked settings that the parts of the
//! program take.

mod admin;
mod auth;
mod bridge;
mod diagnostics;
mod endpoints;
mod field;
mod file;
mod http2;
mod identity;
mod ledger;
mod legacy;
mod limits;
mod listener;
mod log;
mod names;
mod passing;
mod pem;
mod problem;
mod proxy;
mod reader;
mod redis;
mod report;
mod route;
mod secret;
mod server;
mod session;
mod split;
mod stream;
mod sunset;
mod syntax;
#[cfg(test)]
mod tests;
mod ticket;
mod told;
mod trust;
mod units;
mod upstream;

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use self::problem::{Problem, Problems};
pub use self::server::Server;
pub(crate) use self::units::parse_duration;
use crate::access::{redis as shared, revoked};
use crate::identity::signer::Signer;
use crate::ledger as kept;
use crate::ledger::report::Plans;
use crate::{access, admin as inside, edge, telemetry, upstream as backend};

/// What durations may be that have no stricter rule of their own.
const ANY_DURATION: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_hours(1);

/// A whole configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The process as a whole.
    pub server: Server,
    /// Logs.
    pub log: telemetry::Settings,
    /// Where operators look inside; `None` is nowhere.
    pub admin: Option<inside::Settings>,
    /// How tickets are issued and redeemed; `None` is neither.
    pub ticket: Option<access::ticket::Settings>,
    /// What makes the tokens that tell upstream who a client is; `None` makes none.
    pub identity: Option<Arc<Signer>>,
    /// What proves a client.
    pub auth: access::Settings,
    /// What several gateways share; `None` is nothing.
    pub redis: Option<shared::Settings>,
    /// How long it is remembered what was taken back.
    pub revocation: revoked::Settings,
    /// Where it is kept who still comes by WebSocket.
    pub ledger: kept::Settings,
    /// Where clients are served; at least one, each with an address of its own.
    pub listeners: Vec<edge::settings::Listener>,
    /// The backends, each with a name of its own.
    pub upstreams: Vec<backend::Settings>,
    /// What is let in and where it goes; at least one, no two for the same requests, each to one of the upstreams.
    pub routes: Vec<Arc<edge::settings::Route>>,
}

impl Config {
    /// Reads a file. Paths in it are relative to the directory it is in.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it. A file that cannot be read at all is one problem.
    pub fn load(path: &Path) -> Result<Self, Problems> {
        let text = file::read(path)?;
        Self::parse(&text, &path.display().to_string(), path.parent().unwrap_or(Path::new("")))
    }

    /// Reads the text of a file that is called `name` in reports. Paths in it are relative to `base`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it, above all unknown and missing keys and values of the wrong type or out of range.
    pub fn parse(text: &str, name: &str, base: &Path) -> Result<Self, Problems> {
        file::parse(text, base).map_err(|problems| Problems::new(name, text, problems))
    }
}

/// What routes with WebSocket say of its end, by their names.
#[must_use]
pub fn sunsets(routes: &[Arc<edge::settings::Route>]) -> Plans {
    let with_websocket = routes.iter().filter(|route| route.bridge.is_some() || route.legacy.is_some());
    with_websocket.map(|route| (route.name.clone(), route.sunset.clone())).collect()
}

/// Every key that is read, as `section.key`, sorted: `listener.address`, `route.bridge.queue`.
#[must_use]
pub fn keys() -> Vec<String> {
    file::keys()
}
