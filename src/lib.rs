//! tidegate lets clients that still speak WebSocket live on top of a backend that speaks Server-Sent Events and POST.
//!
//! The modules, in the order in which a message meets them:
//!
//! ```text
//!  clients ----TLS, WebSocket----> edge --> bridge --> upstream --POST--> backend
//!                                    |  \                ^  ^-----SSE------'
//!                                    |   `--> access ----'   who is let in; access asks Redis as well
//!                                    |        session        the rules: pure, no I/O, no clock
//!                                    |        identity       what proves a client: pure
//!                                    |        protocol       the formats: pure, bytes in, values out
//!  commands --> config --> gateway --'                       gateway builds all of it and owns its tasks
//!                             |
//!  operators --------------> admin                           admin shows what bridge and access have counted
//! ```
//!
//! `docs/architecture.md` tells the story; `docs/protocol.md` is the contract with backends.

pub mod access;
pub mod admin;
pub mod bridge;
pub mod commands;
pub mod config;
pub mod edge;
pub mod gateway;
pub mod identity;
pub mod ledger;
pub mod process;
pub mod protocol;
pub mod proxy;
pub mod session;
pub mod telemetry;
pub mod tunnel;
pub mod upstream;
