//! The rules of one connection: a state machine that reads no clock and touches no socket.
//!
//! Inputs and the time go in, outputs come out; `bridge::driver` carries them out. All order, all deadlines and every
//! decision to close are made here, so that they can be tested as lists of inputs.

mod backoff;
mod batch;
pub mod cause;
mod downlink;
mod gate;
pub mod heartbeat;
pub mod lifetime;
pub mod machine;
pub mod plain;
pub mod rate;
mod seen;
pub mod settings;
pub mod signals;
mod stream;
#[cfg(test)]
mod tests;
mod uplink;

pub use cause::{Cause, Doubt, Party};
pub use machine::Session;
pub use rate::Rate;
pub use settings::{Batch, NamedEvents, OnGap, OverRate, Overflow, Reconnect, RefusedMessage, Retry, Settings};
pub use signals::{
    ClientInput, Counts, Delivery, EventOf, Input, Left, Output, Payload, PostOutcome, Reopened, Source, StreamEnd,
    StreamState, Violation,
};

/// What a message takes in a queue besides its payload, in bytes: without it a queue could hold empty messages for ever.
const PLACE: usize = 128;
