//! The one-use ticket: a JSON Web Token that the gateway issues to itself (RFC 7519).
//!
//! Whoever has proven who it is gets one, and opens one connection with it. It is small enough for a URL and holds
//! everything that the gateway needs to know again, so that nothing is kept between issuing and redeeming it. That it
//! is used once is for a store to see; what it says and when it holds is decided here.
//!
//! `ring` holds the keys, `form` is how a ticket is written, `mint` makes one, `redeem` believes one or says with
//! `refusal` why not. With a `pass` beside it, a ticket that is spent brings an event stream back. `explain` shows what a token says, to people.

mod explain;
mod form;
mod mint;
pub mod pass;
mod redeem;
mod refusal;
mod ring;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use explain::{Explanation, NoToken, explain};
pub use form::is_ticket;
pub use mint::{MintError, Minted, Minting, mint};
pub use redeem::{Presented, Redeemed, Rules, redeem};
pub use refusal::{Distrust, Refusal};
pub use ring::{BadKey, KeyRing, sign_key};

/// Longest ticket in bytes. Servers and proxies take request lines of 8 KiB and more, and the rest of the URL needs room.
pub const MAX_TICKET: usize = 4096;

/// The longest that a ticket may live. It bounds how long a store has to remember that one was used, whoever signed it.
pub const MAX_LIFETIME: Duration = Duration::from_mins(10);

/// Random bytes in the id of a ticket: 128 bits, which nobody guesses and no two tickets share.
pub const ID_BYTES: usize = 16;
