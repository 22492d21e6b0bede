//! The two sides of a route that is split, and the words for them.

/// Where a handshake goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// To the bridge.
    Bridge,
    /// To the WebSocket backend.
    Legacy,
}

/// What has decided it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A rule of the route that the request meets.
    Rule,
    /// The share of clients that the bridge has.
    Share,
    /// The bridge was meant, but its upstream takes nobody at the moment.
    Fallback,
}

/// The side of one handshake, and why it is that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    /// Where it goes.
    pub side: Side,
    /// Why.
    pub reason: Reason,
}

impl Side {
    /// The word for it in logs, metrics and answers.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Legacy => "legacy",
        }
    }
}

impl Reason {
    /// The word for it in logs and metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Rule => "rule",
            Self::Share => "share",
            Self::Fallback => "fallback",
        }
    }
}
