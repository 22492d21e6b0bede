//! What the user sees: messages on stdout, everything else on stderr.

use std::borrow::Cow;
use std::error::Error;
use std::io::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncWrite, AsyncWriteExt, BufWriter};
use tokio::sync::Mutex;
use tokio_tungstenite::tungstenite::Message;

/// Cyan `< ` before what came in, dim `> ` before what went out.
const IN_HINT: &str = "\x1b[36m< \x1b[0m";
const OUT_HINT: &str = "\x1b[2m> \x1b[0m";

/// How messages are printed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Style {
    /// The output is a terminal: mark received messages, and defuse control characters in them.
    pub(super) hints: bool,
    /// Print messages sent as well, because nobody typed them into this terminal.
    pub(super) echo: bool,
}

/// Prints messages to an output that may be slow.
pub(super) struct Screen<O> {
    output: Mutex<BufWriter<O>>,
    style: Style,
}

impl<O: AsyncWrite + Unpin> Screen<O> {
    pub(super) fn new(output: O, style: Style) -> Self {
        Self { output: Mutex::new(BufWriter::with_capacity(64 << 10, output)), style }
    }

    /// Prints a received message; pings and the like are not shown.
    pub(super) async fn received(&self, message: &Message) -> io::Result<()> {
        self.message(IN_HINT, message).await
    }

    /// Prints a message that is about to be sent, if the user does not see it already.
    pub(super) async fn sent(&self, message: &Message) -> io::Result<()> {
        if !self.style.echo {
            return Ok(());
        }
        self.message(OUT_HINT, message).await?;
        self.flush().await
    }

    /// Makes everything visible that was printed before.
    pub(super) async fn flush(&self) -> io::Result<()> {
        self.output.lock().await.flush().await
    }

    async fn message(&self, hint: &str, message: &Message) -> io::Result<()> {
        match message {
            Message::Text(text) => self.print(hint, text).await,
            Message::Binary(bytes) => self.print(hint, &format!("base64:{}", STANDARD.encode(bytes))).await,
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => Ok(()),
        }
    }

    async fn print(&self, hint: &str, text: &str) -> io::Result<()> {
        let mut output = self.output.lock().await;
        if self.style.hints {
            output.write_all(hint.as_bytes()).await?;
            output.write_all(defused(text).as_bytes()).await?;
        } else {
            output.write_all(text.as_bytes()).await?;
        }
        output.write_all(b"\n").await
    }

    #[cfg(test)]
    pub(super) fn into_output(self) -> O {
        self.output.into_inner().into_inner()
    }
}

/// Writes one line of status to stderr.
pub(super) fn note(text: &str) {
    // A closed stderr must not end a conversation.
    let _ = writeln!(io::stderr(), "{}", defused(text));
}

/// Writes an error and its causes to stderr.
pub(super) fn note_error(error: &dyn Error) {
    let mut text = format!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        // Some libraries print their cause as part of their own text.
        let level = error.to_string();
        if !text.ends_with(&level) {
            text.push_str(": ");
            text.push_str(&level);
        }
        cause = error.source();
    }
    note(&text);
}

/// Text from elsewhere with its control characters escaped, so that it cannot command the terminal.
pub(super) fn defused(text: &str) -> Cow<'_, str> {
    let commands = |c: char| c.is_control() && c != '\t' && c != '\n';
    if !text.contains(commands) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| {
        if commands(c) { c.escape_default().to_string() } else { c.to_string() }
    };
    Cow::Owned(text.chars().map(escape).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_tungstenite::tungstenite::Bytes;

    #[tokio::test]
    async fn a_pipe_gets_the_bytes_as_they_are_and_a_terminal_gets_hints() {
        let text = Message::text("a\x1b[2Jb");
        for (hints, want) in [(false, "a\x1b[2Jb\nbase64:AP8=\n"), (true, "\x1b[36m< \x1b[0ma\\u{1b}[2Jb\n")] {
            let screen = Screen::new(Vec::new(), Style { hints, echo: false });
            screen.received(&text).await.unwrap();
            screen.received(&Message::binary(vec![0, 255])).await.unwrap();
            screen.received(&Message::Ping(Bytes::new())).await.unwrap();
            screen.sent(&Message::text("not shown")).await.unwrap();
            screen.flush().await.unwrap();
            let printed = String::from_utf8(screen.into_output()).unwrap();
            assert!(printed.starts_with(want), "{printed:?}");
        }
    }
}
