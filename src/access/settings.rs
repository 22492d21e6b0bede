//! What access is told: what proves a client, and what is kept of it.

use super::{cookie, mtls};

/// Everything below `[auth]`.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Names of the claims that an identity keeps, whatever proves it.
    pub claims: Vec<String>,
    /// The application that is asked who a client is; `None`: nobody is asked.
    pub cookie: Option<cookie::Settings>,
    /// How client certificates are read; `None`: they prove nothing.
    pub mtls: Option<mtls::Settings>,
}
