//! Why HTTP/2 connections were ended for what their clients did.

/// What a client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Http2End {
    /// It took back more requests than `max_resets`.
    Resets,
    /// It sent a flood of frames without content.
    Frames,
    /// It went beyond another limit: of header lists, continuations, or streams that are refused or reset.
    Limits,
    /// It broke the rules of the protocol.
    Protocol,
    /// It did not answer a ping.
    Ping,
}

impl Http2End {
    /// Every one, in the order of the counters.
    pub const ALL: [Self; 5] = [Self::Resets, Self::Frames, Self::Limits, Self::Protocol, Self::Ping];

    /// The word for it in metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Resets => "resets",
            Self::Frames => "frames",
            Self::Limits => "limits",
            Self::Protocol => "protocol",
            Self::Ping => "ping",
        }
    }
}
