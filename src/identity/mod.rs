//! Who a client is, and the formats in which that is proven. Pure: bytes and time in, values out.
//!
//! `who` is what is known of a client in the end. `key` and `verify` are JSON Web Tokens in general (RFC 7519), `bearer` the
//! rules for those of others, whose keys are `public`, come in sets (`jwks`) and change (`refresh`); `ticket` is our own. `certificate` reads client certificates, `signer` makes the tokens that
//! upstream gets.

pub mod bearer;
pub mod jwks;
pub mod key;
pub mod public;
pub mod refresh;
pub mod verify;
mod who;

pub use key::Algorithm;
pub use who::{BadSubject, Claims, Identity, Subject, Way};
