//! What stands behind a route for WebSockets: the bridge, or a backend that speaks WebSocket itself.

use std::pin::Pin;

use http::header::{HeaderMap, HeaderValue};

use super::stream::ClientStream;
use super::websocket::WebSocket;
use crate::bridge::{self, Bridge, Stop};
use crate::identity::Holder;
use crate::tunnel;
use crate::tunnel::open::Tunnel;

/// What a WebSocket is let in to.
pub(super) enum Behind {
    Bridge(Bridge),
    Legacy(Tunnel),
}

/// A WebSocket that was taken there, and whose client is about to be let in.
#[expect(clippy::large_enum_variant, reason = "it lives for the moment between the 101 and the task that drives it")]
pub(super) enum Opened {
    Bridge(bridge::open::Opened),
    Legacy(tunnel::open::Opened),
}

/// What drives a connection to its end. Boxed: a future keeps the size of the largest thing that it ever waits for.
pub(super) type Driven = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Opened {
    /// The subprotocol that was chosen there.
    pub(super) fn subprotocol(&self) -> Option<&HeaderValue> {
        match self {
            Self::Bridge(opened) => opened.subprotocol(),
            Self::Legacy(opened) => opened.subprotocol(),
        }
    }

    /// Adds what else of the answer goes along to the client.
    pub(super) fn add_fields(&self, fields: &mut HeaderMap) {
        let Self::Legacy(opened) = self else { return };
        for (name, value) in opened.fields() {
            fields.append(name.clone(), value.clone());
        }
    }

    /// What drives the connection. `already_read` is what was read of the client too much.
    pub(super) fn run(
        self,
        stream: ClientStream,
        already_read: Vec<u8>,
        stop: Stop,
        sent_away: &dyn Fn(&Holder) -> bool,
    ) -> Driven {
        match self {
            Self::Bridge(opened) => {
                let socket = WebSocket::new(stream, already_read, opened.max_message_size());
                Box::pin(opened.run(socket, stop, sent_away))
            }
            Self::Legacy(opened) => Box::pin(opened.run(stream, already_read, stop, sent_away)),
        }
    }

    /// The client was gone before it could be let in.
    pub(super) fn abandoned(self, error: &(dyn std::error::Error + 'static)) {
        match self {
            Self::Bridge(opened) => opened.abandoned(error),
            Self::Legacy(opened) => opened.abandoned(error),
        }
    }
}
