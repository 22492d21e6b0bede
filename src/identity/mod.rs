//! Who a client is, and the formats in which that is proven. Pure: bytes and time in, values out.
//!
//! `who` is what is known of a client in the end. `key` and `verify` are JSON Web Tokens in general (RFC 7519), `bearer` the
//! rules for those of others, `ticket` our own. `certificate` reads client certificates, `signer` makes the tokens that
//! upstream gets. `holder` is what a live connection keeps of all that, and `revocation` what was taken back.

mod holder;
pub mod key;
pub mod revocation;
pub mod verify;
mod who;

pub use holder::Holder;
pub use key::Algorithm;
pub use revocation::{BadWhat, Revocation, What};
pub use who::{BadSubject, Claims, Identity, Subject, Way};
