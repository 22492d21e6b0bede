//! Reads what a balancer says in front of a connection's first byte, and not a byte more.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::net::TcpStream;

use super::settings::Listener;
use crate::protocol::proxy_header::{Header, LONGEST, Malformed, Parsed, parse};

/// Who puts the PROXY protocol in front of its connections. Everybody else is closed: whoever may leave the header out may as
/// well send one, and be who he likes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balancers {
    /// Where they connect from.
    pub networks: Vec<IpNet>,
}

/// Why a connection is closed before its first byte.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// It is none of the balancers.
    #[error("the PROXY protocol is required here, and proxy_protocol_from does not name this address")]
    Stranger,
    /// It has sent no header.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It took too long.
    #[error("the PROXY protocol header took longer than handshake_timeout")]
    Late,
    /// It broke off.
    #[error("the connection broke off in the PROXY protocol header")]
    Io(#[from] io::Error),
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    /// The client.
    pub(super) client: SocketAddr,
    /// The balancer that has passed its connection on.
    pub(super) via: Option<SocketAddr>,
    /// Whether the balancer has ended the client's TLS.
    pub(super) over_tls: bool,
}

impl Arrival {
    /// Reads what has to stand in front of TLS on a listener with these settings: nothing, nearly always.
    ///
    /// # Errors
    ///
    /// [`Refused`], as [`Balancers`] do.
    pub(super) async fn of(stream: &mut TcpStream, peer: SocketAddr, settings: &Listener) -> Result<Self, Refused> {
        let Some(balancers) = &settings.balancers else {
            return Ok(Self { client: peer, via: None, over_tls: false });
        };
        // A cold path: boxed, so that the task of an open connection stays small.
        let Header { client, tls } = Box::pin(balancers.header(stream, peer, settings.handshake_timeout)).await?;
        Ok(Self { client: client.unwrap_or(peer), via: client.map(|_| peer), over_tls: tls })
    }
}

impl Balancers {
    /// What the balancer at `peer` says of its client.
    ///
    /// # Errors
    ///
    /// [`Refused`], if it is no balancer of ours, or does not say it in time and in order.
    pub(super) async fn header(
        &self,
        stream: &mut (impl AsyncRead + Unpin),
        peer: SocketAddr,
        timeout: Duration,
    ) -> Result<Header, Refused> {
        let address = peer.ip().to_canonical();
        if !self.networks.iter().any(|network| network.contains(&address)) {
            return Err(Refused::Stranger);
        }
        tokio::time::timeout(timeout, read(stream)).await.map_err(|_| Refused::Late)?
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Header, Refused> {
    let mut bytes = Vec::new();
    loop {
        match parse(&bytes)? {
            Parsed::Header(header) => return Ok(header),
            Parsed::Needs(more) => {
                let from = bytes.len();
                // The parser keeps to it; a defect there is to end here.
                bytes.resize(more.min(LONGEST).max(from + 1), 0);
                stream.read_exact(bytes.get_mut(from..).unwrap_or_default()).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_follows_the_header_is_left() {
        for header in [
            &b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 443\r\n"[..],
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x12\x34\x01\xbb",
        ] {
            let (bytes, balancers) =
                ([header, b"\x16\x03"].concat(), Balancers { networks: vec!["10.0.0.0/8".parse().unwrap()] });
            let mut stream = &bytes[..];
            let peer = "[::ffff:10.0.0.1]:9".parse().unwrap();
            let header = balancers.header(&mut stream, peer, Duration::from_secs(9)).await.unwrap();
            assert_eq!((header.client, stream), (Some("192.0.2.7:4660".parse().unwrap()), &b"\x16\x03"[..]));
            let stranger = balancers.header(&mut stream, "192.0.2.7:1".parse().unwrap(), Duration::from_secs(9)).await;
            assert!(matches!(stranger, Err(Refused::Stranger)) && stream == b"\x16\x03");
        }
    }

    #[tokio::test]
    async fn a_header_has_its_deadline_and_cannot_break_off() {
        let balancers = Balancers { networks: vec!["0.0.0.0/0".parse().unwrap()] };
        let peer = "192.0.2.7:1".parse().unwrap();
        let (mut stream, _other) = tokio::io::duplex(64);
        let late = balancers.header(&mut stream, peer, Duration::ZERO).await;
        assert!(matches!(late, Err(Refused::Late)), "{late:?}");
        let broken = balancers.header(&mut &b"PROXY TCP4 192.0.2.7 "[..], peer, Duration::from_secs(3)).await;
        assert!(matches!(broken, Err(Refused::Io(_))), "{broken:?}");
    }
}
