//! What a doctor can find: the names of it, how bad it is, and what it means for users.

use std::fmt;

use serde::{Serialize, Serializer};

/// What can be found. The names are stable: scripts may look for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Id {
    StreamFails,
    StreamBuffered,
    StreamBufferedWithoutHeaders,
    StreamLate,
    StreamCompressed,
    StreamCompressedWithoutHeaders,
    SilenceCut,
    QueryStripped,
    AnswerCached,
    CacheControlChanged,
    AnswerFieldsStripped,
    LastEventIdStripped,
    CookiesStripped,
    RequestFieldsStripped,
    WebsocketFails,
    WebsocketSilenceCut,
    Http2Missing,
    WebsocketOverHttp2Missing,
    OldHttpToGateway,
    ClientAddressHidden,
    SchemeHidden,
    FrontUntrusted,
    FrontUnread,
    HostChanged,
    UploadBuffered,
    UploadFails,
    NoTls,
    TlsOld,
    CertificateEnds,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// It breaks what clients rely on.
    Error,
    /// It hurts some of them, or some day.
    Warning,
    /// Good to know.
    Note,
}

impl Id {
    /// All of them, in the order of the manual.
    #[cfg(test)]
    pub(super) const ALL: [Self; 29] = [
        Self::StreamFails,
        Self::StreamBuffered,
        Self::StreamBufferedWithoutHeaders,
        Self::StreamLate,
        Self::StreamCompressed,
        Self::StreamCompressedWithoutHeaders,
        Self::SilenceCut,
        Self::QueryStripped,
        Self::AnswerCached,
        Self::CacheControlChanged,
        Self::AnswerFieldsStripped,
        Self::LastEventIdStripped,
        Self::CookiesStripped,
        Self::RequestFieldsStripped,
        Self::WebsocketFails,
        Self::WebsocketSilenceCut,
        Self::Http2Missing,
        Self::WebsocketOverHttp2Missing,
        Self::OldHttpToGateway,
        Self::ClientAddressHidden,
        Self::SchemeHidden,
        Self::FrontUntrusted,
        Self::FrontUnread,
        Self::HostChanged,
        Self::UploadBuffered,
        Self::UploadFails,
        Self::NoTls,
        Self::TlsOld,
        Self::CertificateEnds,
    ];

    /// As it is printed.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::StreamFails => "stream-fails",
            Self::StreamBuffered => "stream-buffered",
            Self::StreamBufferedWithoutHeaders => "stream-buffered-without-headers",
            Self::StreamLate => "stream-late",
            Self::StreamCompressed => "stream-compressed",
            Self::StreamCompressedWithoutHeaders => "stream-compressed-without-headers",
            Self::SilenceCut => "silence-cut",
            Self::QueryStripped => "query-stripped",
            Self::AnswerCached => "answer-cached",
            Self::CacheControlChanged => "cache-control-changed",
            Self::AnswerFieldsStripped => "answer-fields-stripped",
            Self::LastEventIdStripped => "last-event-id-stripped",
            Self::CookiesStripped => "cookies-stripped",
            Self::RequestFieldsStripped => "request-fields-stripped",
            Self::WebsocketFails => "websocket-fails",
            Self::WebsocketSilenceCut => "websocket-silence-cut",
            Self::Http2Missing => "http2-missing",
            Self::WebsocketOverHttp2Missing => "websocket-over-http2-missing",
            Self::OldHttpToGateway => "old-http-to-gateway",
            Self::ClientAddressHidden => "client-address-hidden",
            Self::SchemeHidden => "scheme-hidden",
            Self::FrontUntrusted => "front-untrusted",
            Self::FrontUnread => "front-unread",
            Self::HostChanged => "host-changed",
            Self::UploadBuffered => "upload-buffered",
            Self::UploadFails => "upload-fails",
            Self::NoTls => "no-tls",
            Self::TlsOld => "tls-old",
            Self::CertificateEnds => "certificate-ends",
        }
    }

    /// What it means for users.
    pub(super) const fn means(self) -> &'static str {
        match self {
            Self::StreamFails => "Event streams do not get through: clients keep reconnecting and get nothing.",
            Self::StreamBuffered => {
                "Something on the way keeps events back until a buffer is full or the stream ends: clients see nothing, \
                 then everything at once."
            }
            Self::StreamBufferedWithoutHeaders => {
                "The way buffers, and only the fields that tidegate sets keep it from doing so. Nothing is wrong as long as \
                 nobody removes them."
            }
            Self::StreamLate => "Every event comes late by about the same time: something flushes by a timer.",
            Self::StreamCompressed => {
                "Something compresses event streams: a compressor waits for enough to compress, and costs memory for each \
                 stream."
            }
            Self::StreamCompressedWithoutHeaders => {
                "The way compresses event streams, and only Cache-Control: no-transform keeps it from doing so. Nothing is \
                 wrong as long as nobody removes it."
            }
            Self::SilenceCut => {
                "A stream on which nothing is said for that long is cut. Heartbeats must come at least twice as often."
            }
            Self::QueryStripped => "Queries do not reach the gateway: tickets in them are lost, and nobody is let in.",
            Self::AnswerCached => "A cache answers in place of the gateway: clients get what others got before.",
            Self::CacheControlChanged => {
                "What tells caches, compressors and buffers to leave the stream alone does not get through: those further \
                 out do as they like."
            }
            Self::AnswerFieldsStripped => {
                "Fields that are not known are taken out of answers: the connection id, and what a phase-out announces, \
                 are lost."
            }
            Self::LastEventIdStripped => {
                "A client that comes back cannot say where it was: it misses events, or gets them twice."
            }
            Self::CookiesStripped => {
                "Cookies do not reach the gateway: clients that prove themselves by them are refused."
            }
            Self::RequestFieldsStripped => {
                "Fields that are not known are taken out of requests: the backend misses them."
            }
            Self::WebsocketFails => "No WebSocket gets through: clients that still need one are shut out.",
            Self::WebsocketSilenceCut => {
                "A WebSocket on which nothing is said for that long is cut. Pings must come at least twice as often."
            }
            Self::Http2Missing => {
                "Browsers keep six connections to a host over HTTP/1.1: the seventh event stream of a user waits for ever."
            }
            Self::WebsocketOverHttp2Missing => {
                "Browsers open a connection of its own for each WebSocket. That works, and costs a handshake each."
            }
            Self::OldHttpToGateway => {
                "The last hop speaks HTTP/1.0: no WebSocket gets through it, and each request costs a connection."
            }
            Self::ClientAddressHidden => {
                "The gateway is not told who asks: limits for each address hold for all clients together, and logs name \
                 the proxy."
            }
            Self::SchemeHidden => {
                "TLS ends before the gateway, which is not told: pages of the same origin look like foreign ones and are \
                 refused."
            }
            Self::FrontUntrusted => {
                "What the front says of its clients could be anybody's invention, and the gateway takes no notice of it: \
                 limits for each address hold for all clients together, and logs name the proxy."
            }
            Self::FrontUnread => {
                "The gateway trusts the front, and reads other fields than it writes: limits for each address hold for all \
                 clients together, and logs name the proxy."
            }
            Self::HostChanged => {
                "The gateway is asked for another host than clients ask for: pages of the same origin look like foreign ones \
                 and are refused, and routes for a host are not found."
            }
            Self::UploadBuffered => {
                "Request bodies are stored whole before they are passed on: large uploads fill a disk and start late."
            }
            Self::UploadFails => "A request body in pieces does not get through.",
            Self::NoTls => {
                "Everybody on the way can read and change everything, tickets included; browsers use no HTTP/2."
            }
            Self::TlsOld => "TLS 1.3 is not offered: each connection takes one round trip more.",
            Self::CertificateEnds => "When it ends, nobody gets in.",
        }
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Id {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
