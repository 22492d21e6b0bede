//! A backend as an operator would write it: a process without a memory of its own, in front of a store.
//!
//! - **Events.** The log of a connection is a function of its id and the clock: event `n` exists from (the time in the
//!   connection's UUID) + `n` × (the period in the query) on. So it survives any death, grows while nobody serves it, and
//!   two endpoints agree about it without a word. `Last-Event-ID: n` is answered from `n + 1` on.
//! - **Messages** are recorded by the store, which is the parent of all processes and survives them. A POST is answered
//!   after it was recorded, and one whose `Idempotency-Key` the store has seen is answered again and not recorded again.
//!
//! [`Backend`] is the parent's handle; [`run`] is the process.

mod events;
mod handle;
mod serve;

pub(crate) use handle::Backend;
pub(crate) use serve::run;
