//! The task that keeps the connection.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo,
    RedisResult, TlsCertificates, cmd,
};
use secrecy::ExposeSecret as _;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};
use uuid::Uuid;

use super::settings::{Settings, Trust};
use super::{Link, Redis, State, Unusable};

/// How often it is looked whether Redis answers.
const LOOK: Duration = Duration::from_secs(1);

/// Least time between two looks that failed commands ask for: they may be many.
const LEAST_PAUSE: Duration = Duration::from_millis(50);

/// How long connecting may take: name lookup, TCP, TLS, AUTH, and for a cluster the list of its nodes.
const CONNECT: Duration = Duration::from_secs(2);

/// The pause after the first attempt that failed; it doubles with each.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause. It is also how long tickets are refused at most once Redis is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What is connected to.
#[derive(Clone)]
pub(super) enum Servers {
    One(Box<Client>),
    Cluster(Box<ClusterClient>),
}

impl Servers {
    pub(super) fn new(settings: &Settings) -> Result<Self, Unusable> {
        let nodes =
            settings.nodes.iter().map(|node| info(settings, &node.host, node.port)).collect::<RedisResult<Vec<_>>>()?;
        let certificates = match &settings.trust {
            Trust::Plain => None,
            Trust::System => Some(TlsCertificates { client_tls: None, root_cert: None }),
            Trust::Bundle(pem) => Some(TlsCertificates { client_tls: None, root_cert: Some(pem.clone()) }),
        };
        if settings.cluster {
            let mut builder = ClusterClientBuilder::new(nodes)
                .connection_timeout(CONNECT)
                .response_timeout(settings.timeout)
                // A slot that has moved is followed once.
                .retries(1);
            if let Some(certificates) = certificates {
                builder = builder.certs(certificates);
            }
            return Ok(Self::Cluster(Box::new(builder.build()?)));
        }
        let nobody = || Unusable::Failed("no server is named".to_owned());
        let node = nodes.into_iter().next().ok_or_else(nobody)?;
        Ok(Self::One(Box::new(match certificates {
            Some(certificates) => Client::build_with_tls(node, certificates)?,
            None => Client::open(node)?,
        })))
    }

    async fn connect(&self, limit: Duration) -> Result<Link, Unusable> {
        let link = async {
            match self {
                Self::One(client) => {
                    let config = AsyncConnectionConfig::new()
                        .set_connection_timeout(Some(CONNECT))
                        .set_response_timeout(Some(limit));
                    client.get_multiplexed_async_connection_with_config(&config).await.map(Link::One)
                }
                Self::Cluster(client) => client.get_async_connection().await.map(Link::Cluster),
            }
        };
        Ok(timeout(CONNECT, link).await.map_err(|_| Unusable::TimedOut)??)
    }
}

fn info(settings: &Settings, host: &str, port: u16) -> RedisResult<ConnectionInfo> {
    // The library's own name for a client is left out: an ACL user needs no right to set it.
    let mut redis = RedisConnectionInfo::default().set_db(settings.database.into()).set_skip_set_lib_name();
    if let Some(username) = &settings.username {
        redis = redis.set_username(username);
    }
    if let Some(password) = &settings.password {
        redis = redis.set_password(password.expose_secret());
    }
    let host = host.to_owned();
    let address = match settings.trust {
        Trust::Plain => ConnectionAddr::Tcp(host, port),
        _ => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
    };
    Ok(address.into_connection_info()?.set_redis_settings(redis))
}

impl Link {
    /// Whether Redis answers.
    async fn check(&mut self, limit: Duration) -> Result<(), Unusable> {
        let ping = cmd("PING");
        let answered = async {
            match self {
                Self::One(link) => link.send_packed_command(&ping).await,
                // One node is enough: which of them fails is the library's to notice and to mend.
                Self::Cluster(link) => {
                    link.route_command(ping, RoutingInfo::SingleNode(SingleNodeRoutingInfo::Random)).await
                }
            }
        };
        timeout(limit, answered).await.map_err(|_| Unusable::TimedOut)??;
        Ok(())
    }
}

impl Redis {
    /// Connects, looks, and connects again, for ever.
    pub(super) async fn keep(self: Arc<Self>, servers: Servers) {
        let nodes: Vec<_> = self.settings.nodes.iter().map(ToString::to_string).collect();
        let nodes = nodes.join(" ");
        let (mut pause, mut down) = (FIRST_PAUSE, false);
        loop {
            let why = match servers.connect(self.settings.timeout).await {
                Ok(link) => {
                    pause = FIRST_PAUSE;
                    if std::mem::take(&mut down) {
                        info!(redis = nodes, "Redis is back");
                    }
                    self.connected.fetch_add(1, Ordering::Relaxed);
                    self.state.send_replace(State::Up(link.clone()));
                    self.watch(link).await
                }
                Err(why) => why,
            };
            let why = why.to_string();
            self.state.send_replace(State::Down(why.as_str().into()));
            if !std::mem::replace(&mut down, true) {
                warn!(redis = nodes, reason = why, "Redis cannot be used");
            }
            sleep(uneven(pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Looks whether Redis answers until it does not, and says why.
    async fn watch(&self, mut link: Link) -> Unusable {
        loop {
            sleep(LEAST_PAUSE).await;
            // Nobody is asked in vain: a look that is due anyway is the same.
            let _ = timeout(LOOK, self.look.notified()).await;
            if let Err(why) = link.check(self.settings.timeout).await {
                return why;
            }
        }
    }
}

/// A pause up to a quarter shorter, so that gateways which lost Redis together do not come back together.
fn uneven(pause: Duration) -> Duration {
    let byte = Uuid::now_v7().as_bytes().last().copied().unwrap_or_default();
    pause.saturating_sub(pause / 4 * u32::from(byte) / 255)
}
