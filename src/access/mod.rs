//! Who is let in: what proves a client, which tickets are spent, who was sent away, and how many may be in.
//!
//! The formats are in [`identity`](crate::identity), pure; here is what needs a clock, a store or a request to somebody.

pub mod caller;
pub mod redis;
pub mod revoked;
pub mod spent;
