//! Who a client is, and the formats in which that is proven. Pure: bytes and time in, values out.
//!
//! `who` is what is known of a client in the end. `key` and `verify` are JSON Web Tokens in general (RFC 7519); `bearer` is the
//! rules for those of others, whose keys are `public`, come in sets (`jwks`) and change (`refresh`); `ticket` is our own.
//! `certificate` reads client certificates, `answer` what an application says of its cookies. `told` and `signer` say to
//! upstream who a client is, in header fields and in tokens. `holder` is what a live connection keeps of all that, and
//! `revocation` what was taken back.

pub mod answer;
pub mod bearer;
pub mod certificate;
mod holder;
pub mod jwks;
pub mod key;
pub mod public;
pub mod refresh;
pub mod revocation;
pub mod signer;
pub mod ticket;
pub mod told;
pub mod verify;
mod who;

pub use holder::Holder;
pub use key::Algorithm;
pub use revocation::{BadWhat, Revocation, What};
pub use who::{BadSubject, Claims, Identity, Subject, Way};
