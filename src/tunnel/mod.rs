//! The pass-through: a client's WebSocket and one to a WebSocket backend, whose frames go from one to the other untouched.

mod settings;

pub use settings::Settings;
