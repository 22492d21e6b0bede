//! The pass-through: a client's WebSocket and one to a WebSocket backend, whose frames go from one to the other untouched.
//!
//! [`open::open`] asks the backend; once it has switched protocols, [`open::Opened::run`] moves the bytes until one side ends.
//! `frames` knows where frames begin and end and `rules` why and how a tunnel ends, both pure; `request` and `answer` are the
//! two halves of the backend's handshake; `lane` moves the bytes of one direction and `drive` those of both.

mod answer;
mod drive;
pub mod frames;
mod lane;
pub mod open;
mod request;
mod rules;
mod settings;

pub use settings::Settings;
