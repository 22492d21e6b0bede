//! What access is told: what proves a client, and what is kept of it.

use super::{bearer, cookie, mtls};
use crate::identity::Way;

/// Everything below `[auth]`.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Names of the claims that an identity keeps, whatever proves it.
    pub claims: Vec<String>,
    /// Whose tokens are good; `None`: nobody's.
    pub bearer: Option<bearer::Settings>,
    /// The application that is asked who a client is; `None`: nobody is asked.
    pub cookie: Option<cookie::Settings>,
    /// How client certificates are read; `None`: they prove nothing.
    pub mtls: Option<mtls::Settings>,
}

impl Settings {
    /// The ways in which callers can prove who they are that have no ticket yet, in the order in which they are tried
    /// unless the configuration has another.
    #[must_use]
    pub fn callers(&self) -> Vec<Way> {
        let configured = [
            (Way::Bearer, self.bearer.is_some()),
            (Way::Cookie, self.cookie.is_some()),
            (Way::Mtls, self.mtls.is_some()),
        ];
        configured.into_iter().filter(|(_, there)| *there).map(|(way, _)| way).collect()
    }
}
