//! tidegate lets clients that still speak WebSocket live on top of a backend that speaks Server-Sent Events and POST.
//!
//! One URL serves all that a migration has at once: WebSockets on the `bridge`, WebSockets that go on to an old backend through
//! the `tunnel`, and everything else, native event streams among it, through the `proxy`.
//!
//! The modules, in the order in which a message meets them:
//!
//! ```text
//!                                    .--> bridge --.             events and POSTs
//!  clients --TLS, HTTP, WebSocket--> edge --> proxy --> upstream --> backends
//!                                    | |`--> tunnel --'             WebSocket
//!                                    | `---> access ---^            who is let in; access asks Redis as well
//!                                    `-----> ledger                 who still comes by WebSocket
//!
//!                                  session                        the rules: pure, no I/O, no clock
//!                                  identity                       what proves a client: pure
//!                                  protocol                       the formats: pure, bytes in, values out
//!
//!  commands --> config --> gateway                                builds all of it, again at a reload, and owns its tasks
//!                             |
//!  operators --------------> admin                                shows what the others have counted
//!                          telemetry                              names what is counted and said
//!                          process                                asks the system
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
