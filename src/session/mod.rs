//! The rules of one connection: a state machine that reads no clock and touches no socket.
//!
//! Inputs and the time go in, outputs come out; `bridge::driver` carries them out. All order, all deadlines and every
//! decision to close are made here, so that they can be tested as lists of inputs.

pub mod cause;
pub mod heartbeat;
pub mod machine;
pub mod plain;
pub mod settings;
pub mod signals;
#[cfg(test)]
mod tests;

pub use cause::{Cause, Party, PostFailure};
pub use machine::Session;
pub use settings::{NamedEvents, RefusedMessage, Settings};
pub use signals::{ClientInput, Counts, Delivery, Input, Output, PostOutcome, Source, StreamEnd, Violation};
