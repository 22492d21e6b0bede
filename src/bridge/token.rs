//! The identity token of one connection: signed when a request needs it, and again before it is too old.

use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderValue;
use tracing::warn;

use crate::identity::signer::{Said, Signed, Signer, Term};

/// What says who the client of a connection is, and the newest form of it.
#[derive(Clone, Debug)]
pub(super) struct IdentityToken {
    signer: Arc<Signer>,
    said: Said,
    newest: Option<(HeaderValue, Term)>,
    /// The last attempt to sign failed, and that was said.
    failing: bool,
}

impl IdentityToken {
    /// Signs nothing yet.
    pub(super) const fn new(signer: Arc<Signer>, said: Said) -> Self {
        Self { signer, said, newest: None, failing: false }
    }

    /// The value for a request at `now`. One signature serves all requests of half its lifetime. Once the identity is over it is
    /// the last one that was signed, which upstream refuses; `None` if nothing could be signed.
    pub(super) fn at(&mut self, now: SystemTime) -> Option<HeaderValue> {
        if !self.newest.as_ref().is_some_and(|(_, term)| term.will_do(now)) {
            match self.signer.sign(&self.said, now) {
                Ok(Signed { token, term }) => {
                    self.failing = false;
                    self.newest = HeaderValue::try_from(token).ok().map(|mut value| {
                        value.set_sensitive(true);
                        (value, term)
                    });
                }
                // The key has signed at the start: the system has no random bytes, or no memory.
                Err(error) if !self.failing => {
                    self.failing = true;
                    warn!(%error, "an identity token could not be signed");
                }
                Err(_) => {}
            }
        }
        self.newest.as_ref().map(|(value, _)| value.clone())
    }
}
