//! Who is let in: what proves a client, which tickets are spent, who was sent away, and how many may be in.
//!
//! `cookie` asks the application who a client is, and `answers` remembers what it said; `mtls` goes by client certificates.
//! The formats are in [`identity`](crate::identity), pure; here is what needs a clock, a store or a request to somebody.

mod answers;
pub mod caller;
pub mod cookie;
pub mod mtls;
mod settings;

pub use settings::Settings;
pub mod ticket;
