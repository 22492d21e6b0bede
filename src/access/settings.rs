//! What proves a client, as it is configured.

use super::bearer;

/// What proves a client, for all routes alike.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Names of the claims that an identity keeps, whatever proves it.
    pub claims: Vec<String>,
    /// Bearer tokens; `None`: there are none.
    pub bearer: Option<bearer::Settings>,
}
