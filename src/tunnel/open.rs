//! The backend first: its WebSocket is open before the client is let in.

use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::StatusCode;
use http::header::{HeaderMap, HeaderValue};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use uuid::Uuid;

use super::answer::{Agreed, agreed};
use super::drive::{Begin, Driver};
use super::request::{Handshake, handshake};
use super::rules::Rules;
use super::settings::Settings;
use crate::bridge::memory::{Memory, Newcomer};
use crate::bridge::open::{Asked, instant_of, is_handed_on, refusal};
use crate::bridge::registry::Registry;
use crate::bridge::{Bridges, Stop};
use crate::identity::Holder;
use crate::identity::signer::Signer;
use crate::protocol::problem::Problem;
use crate::session::lifetime::Lifetime;
use crate::telemetry::{self, Opening};
use crate::upstream::{Switched, UpgradeAnswer, Upstream};

/// A route's pass-through with the upstream that its settings name.
#[derive(Clone, Debug)]
pub struct Tunnel {
    /// The settings.
    pub settings: Arc<Settings>,
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// Where its connections stand while they live.
    pub registry: Arc<Registry>,
    /// Whether there is room for further ones.
    pub memory: Arc<Memory>,
    /// What makes identity tokens, if anything does.
    pub signer: Option<Arc<Signer>>,
}

impl Tunnel {
    /// The pass-through for a route's settings, which shares what the bridges share; `None` when they name no upstream, which
    /// the configuration rules out.
    #[must_use]
    pub fn of(settings: &Arc<Settings>, bridges: &Bridges) -> Option<Self> {
        Some(Self {
            settings: settings.clone(),
            upstream: bridges.upstream(&settings.upstream)?,
            registry: bridges.registry().clone(),
            memory: bridges.memory().clone(),
            signer: bridges.signer().cloned(),
        })
    }
}

/// All that the backend will be told of a new connection.
pub struct Prepared {
    id: Uuid,
    handshake: Handshake,
    accept: String,
    newcomer: Newcomer,
}

/// A tunnel whose backend has switched protocols and whose client is about to.
#[derive(Debug)]
pub struct Opened {
    tunnel: Tunnel,
    switched: Switched,
    agreed: Agreed,
    opening: Opening,
    newcomer: Newcomer,
    /// When the client's identity ends.
    expires: Option<Instant>,
}

/// Puts together what the backend is told of a new connection, for which `newcomer` has found room.
///
/// # Errors
///
/// 400 and 403 for what cannot be told, before anything is spent on it.
pub fn prepare(tunnel: &Tunnel, newcomer: Newcomer, asked: &Asked<'_>, id: Uuid) -> Result<Prepared, Problem> {
    let key = generate_key();
    let accept = derive_accept_key(key.as_bytes());
    let signer = tunnel.signer.as_ref();
    let handshake = handshake(asked, &tunnel.settings, signer, id, &key, SystemTime::now())?;
    Ok(Prepared { id, handshake, accept, newcomer })
}

/// Asks the backend for the WebSocket of a new connection.
///
/// # Errors
///
/// What the client is answered instead of being let in: a refusal of the backend's, 502 for what is no WebSocket, 504 for no
/// answer, 503 while the upstream is left alone.
pub async fn open(tunnel: &Tunnel, prepared: Prepared, asked: Asked<'_>, route: &Arc<str>) -> Result<Opened, Problem> {
    let began = Instant::now();
    let Prepared { id, handshake: Handshake { request, host, extensions }, accept, newcomer } = prepared;
    let settings = &tunnel.settings;
    let deadline = began + settings.open_timeout;
    let answer = tunnel.upstream.upgrade(&id, &request, host.as_ref(), deadline, settings.max_refusal_body);
    let switched = match answer.await? {
        UpgradeAnswer::Switched(switched) => switched,
        UpgradeAnswer::Refused { status, headers, body, .. } if is_handed_on(status) => {
            return Err(refusal(status, &headers, body));
        }
        UpgradeAnswer::Refused { endpoint, status, .. } => {
            return Err(unusable(format!("{endpoint} answered {}", status.as_u16())));
        }
    };
    let agreed = agreed(&switched.head, &accept, asked.offered, &extensions).map_err(unusable)?;
    let now = SystemTime::now();
    let opening = Opening {
        connection: id,
        route: route.clone(),
        peer: asked.peer,
        http: asked.head.version,
        upstream: tunnel.upstream.name().clone(),
        endpoint: switched.pool.name().into(),
        turn: asked.turn,
        took: began.elapsed(),
        holder: asked.identity.map(|identity| Arc::new(Holder::of(identity, now))),
    };
    let expires = asked.identity.and_then(|identity| identity.expires);
    let expires = expires.and_then(|expires| instant_of(expires, now, Instant::now()));
    Ok(Opened { tunnel: tunnel.clone(), switched, agreed, opening, newcomer, expires })
}

/// An answer with which a client cannot be let in and which it has no use for.
fn unusable(log: String) -> Problem {
    Problem::new(StatusCode::BAD_GATEWAY, "upstream-unusable", "upstream did not answer with a WebSocket").with_log(log)
}

impl Opened {
    /// The subprotocol that the backend chose, one of those that the client offered.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&HeaderValue> {
        self.agreed.subprotocol.as_ref()
    }

    /// The other fields of the backend's answer that go along to the client.
    #[must_use]
    pub fn fields(&self) -> &HeaderMap {
        &self.agreed.fields
    }

    /// The client was gone before it could be let in.
    pub fn abandoned(self, error: &(dyn std::error::Error + 'static)) {
        tracing::debug!(connection = %self.opening.connection, error, "the client was gone before it could be let in");
    }

    /// Drives the tunnel to its end. `already_read` is what was read of the client too much; `stop` can ask for the end.
    /// `sent_away` is asked once, when the tunnel can be found by those who send somebody away: whether it was too late
    /// for that.
    ///
    /// Not an `async fn`: that would hold all that it is given a second time, for the life of the connection.
    pub fn run<C>(
        self,
        client: C,
        already_read: Vec<u8>,
        stop: Stop,
        sent_away: &dyn Fn(&Holder) -> bool,
    ) -> impl Future<Output = ()> + use<C>
    where
        C: AsyncRead + AsyncWrite + Unpin,
    {
        let now = Instant::now();
        telemetry::connection_opened(&self.opening);
        let live = self.tunnel.registry.open(&self.opening, now);
        if self.opening.holder.as_deref().is_some_and(sent_away) {
            live.revoke();
        }
        drop(self.newcomer);
        // The low half of a version 7 UUID is random but for two bits.
        let (_, random) = self.opening.connection.as_u64_pair();
        let [.., spread, a, b, c, d] = random.to_be_bytes();
        let settings = &self.tunnel.settings;
        let lifetime = Lifetime::new(Some(settings.idle_timeout), settings.max_age, self.expires, spread, now);
        let rules = Rules::new(lifetime, settings.close_timeout);
        let Switched { stream, already_read: of_backend, count, .. } = self.switched;
        let begin = Begin {
            client: (client, already_read),
            backend: (stream, of_backend),
            buffer: settings.buffer,
            key: [a, b, c, d],
        };
        let mut driver = Driver::new(rules, begin, live);
        let opening = self.opening;
        async move {
            let (cause, counts) = driver.run(stop).await;
            telemetry::connection_closed(&opening, &cause, driver.failure(), &counts, now.elapsed());
            driver.close(&cause, &counts);
            drop(count);
        }
    }
}
