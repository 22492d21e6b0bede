//! How a conversation ends, in words and as an exit code.

use std::fmt;

use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::Exit;

/// How the conversation ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The server sent a close frame, perhaps without a code; we have answered it.
    ByServer(Option<CloseFrame>),
    /// We sent a close frame with code 1000.
    ByUs { answered: bool },
    /// The connection ended without a close frame.
    Lost(Option<Error>),
}

impl Ending {
    /// What the exit code says about it.
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::ByUs { .. } => Exit::Fine,
            Self::ByServer(Some(frame)) if matches!(u16::from(frame.code), 1000 | 1001) => Exit::Fine,
            Self::ByServer(_) | Self::Lost(_) => Exit::Closed,
        }
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByServer(Some(frame)) => {
                write!(f, "closed by the server: {}", u16::from(frame.code))?;
                if !frame.reason.is_empty() {
                    write!(f, " {}", frame.reason)?;
                }
                f.write_str(" (clean)")
            }
            Self::ByServer(None) => f.write_str("closed by the server: no code (clean)"),
            Self::ByUs { answered: true } => f.write_str("closed by us: 1000 (clean)"),
            Self::ByUs { answered: false } => f.write_str("closed by us: 1000 (not clean: the server did not answer)"),
            Self::Lost(None) => f.write_str("connection lost: it ended without a close frame"),
            Self::Lost(Some(error)) => write!(f, "connection lost: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_server(code: u16, reason: &str) -> Ending {
        Ending::ByServer(Some(CloseFrame { code: code.into(), reason: reason.to_owned().into() }))
    }

    #[test]
    fn endings_say_who_closed_with_what_and_whether_it_was_clean() {
        let cases = [
            (by_server(1000, ""), "closed by the server: 1000 (clean)", Exit::Fine),
            (by_server(1001, "bye"), "closed by the server: 1001 bye (clean)", Exit::Fine),
            (by_server(1013, "upstream failed"), "closed by the server: 1013 upstream failed (clean)", Exit::Closed),
            (Ending::ByServer(None), "closed by the server: no code (clean)", Exit::Closed),
            (Ending::ByUs { answered: true }, "closed by us: 1000 (clean)", Exit::Fine),
            (Ending::Lost(None), "connection lost: it ended without a close frame", Exit::Closed),
        ];
        for (ending, text, exit) in cases {
            assert_eq!((ending.to_string().as_str(), ending.exit()), (text, exit));
        }
    }
}
