//! What is done to a peer while it is watched.

mod connect;
mod down;
mod echo;
mod memory;
mod passed;
mod up;

use std::time::Duration;

use clap::ValueEnum;

use crate::peers::{Http, Peer, To};
use crate::report::Report;

/// Clients of everything that is not about their number.
const CLIENTS: u64 = 64;

/// How much of it.
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    pub(crate) window: Duration,
    pub(crate) connections: usize,
    pub(crate) nginx: bool,
    pub(crate) floor: bool,
}

impl Effort {
    /// The peers of one figure, with the name of their column; tidegate with HTTP/1.1 to the backend, as the others.
    fn peers(&self, to: To) -> Vec<(&'static str, Peer)> {
        let mut peers = vec![("tidegate", Peer::Tidegate(Http::One))];
        if self.nginx {
            peers.push(("nginx", Peer::Nginx));
        }
        if self.floor {
            peers.push(("floor", Peer::Floor(to)));
        }
        peers
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// Memory of connections that do nothing
    Idle,
    /// A message up that comes back as an event
    Echo,
    /// Messages up
    Up,
    /// Events down
    Down,
    /// What is passed through or on: WebSockets to a WebSocket backend, POSTs and event streams of native clients
    Passed,
    /// New connections
    Connect,
    /// Memory after large messages
    Burst,
}

impl Scenario {
    pub(crate) const ALL: [Self; 7] =
        [Self::Idle, Self::Burst, Self::Echo, Self::Up, Self::Down, Self::Passed, Self::Connect];

    pub(crate) async fn run(self, effort: &Effort, report: &mut Report) {
        match self {
            Self::Idle => memory::idle(effort, report).await,
            Self::Echo => echo::run(effort, report).await,
            Self::Up => up::run(effort, report).await,
            Self::Down => down::run(effort, report).await,
            Self::Passed => passed::run(effort, report).await,
            Self::Connect => connect::run(effort, report).await,
            Self::Burst => memory::burst(effort, report).await,
        }
    }
}
