//! The identity token of one connection: signed when a request needs it, and again before it is too old.

use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderValue;

use crate::identity::signer::{Said, Signer, Term};
use crate::telemetry;

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
                Ok(signed) => {
                    self.failing = false;
                    let term = signed.term;
                    self.newest = signed.field().map(|value| (value, term));
                }
                Err(error) => {
                    telemetry::unsigned((!self.failing).then_some(&error as _));
                    self.failing = true;
                }
            }
        }
        self.newest.as_ref().map(|(value, _)| value.clone())
    }
}
