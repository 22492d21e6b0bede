//! Asks the admin listener of a gateway that runs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::ledger::report::Report;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Largest answer in bytes: a thousand routes with all that a book can hold.
const MOST: usize = 64 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    #[error("nothing listens there")]
    Connect(#[source] std::io::Error),
    #[error("no answer within {} seconds", PATIENCE.as_secs())]
    Timeout,
    #[error("what answers there speaks no HTTP")]
    Http(#[from] hyper::Error),
    #[error("this is no address of an admin listener")]
    Address(#[from] http::Error),
    #[error("the answer is status {0}: this is not the admin listener of a gateway with a ledger")]
    Status(StatusCode),
    #[error("the answer breaks off or is too long")]
    Body(#[source] tower::BoxError),
    #[error("the answer is no ledger that this version can read")]
    Form(#[from] serde_json::Error),
    #[error("there is no runtime to ask with")]
    Runtime(#[source] std::io::Error),
}

/// Asks for the report of all routes.
pub(super) fn ask(address: &str) -> Result<Report, AskError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(AskError::Runtime)?;
    let body = runtime
        .block_on(async { tokio::time::timeout(PATIENCE, get(address)).await.unwrap_or(Err(AskError::Timeout)) })?;
    Ok(serde_json::from_slice(&body)?)
}

async fn get(address: &str) -> Result<Bytes, AskError> {
    let stream = TcpStream::connect(address).await.map_err(AskError::Connect)?;
    // By its address, since a listener on loopback answers to no other name.
    let host = stream.peer_addr().map_err(AskError::Connect)?.to_string();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get("/ledger").header(header::HOST, host).body(Empty::<Bytes>::new())?;
    let answered = async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(AskError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), MOST).collect().await.map_err(AskError::Body)?;
        Ok(body.to_bytes())
    };
    tokio::pin!(connection, answered);
    tokio::select! {
        biased;
        answered = &mut answered => answered,
        // The connection may be at its end before the last bytes of it are taken.
        ended = &mut connection => match ended {
            Ok(()) => answered.await,
            Err(error) => Err(error.into()),
        },
    }
}

/// Where a listener is reached from this machine: one on all addresses, on loopback.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
