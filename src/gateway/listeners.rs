//! The listeners that serve, for clients and for operators, and how a reload changes them: new addresses are bound before
//! anything is changed, and addresses that stay keep their sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::info;

use super::StartError;
use super::lasting::Lasting;
use crate::admin;
use crate::edge::current::Current;
use crate::edge::listener::{Desk, Listener, Reception};
use crate::edge::settings;

/// A listener that serves.
pub(super) struct Running {
    /// As the configuration has it: port 0 is any free one.
    configured: SocketAddr,
    /// With the real port.
    address: SocketAddr,
    desk: Desk,
    stop: CancellationToken,
}

impl Running {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// One listener of a new configuration.
enum Planned {
    /// It serves already, at this place of the list; it is to receive clients so.
    Kept(usize, Box<Reception>),
    /// It is bound, and does not serve yet.
    New(Listener, SocketAddr),
}

/// What is to become of the listeners.
pub(super) struct Plan(Vec<Planned>);

impl Plan {
    /// Binds what is new, and changes nothing of those that serve.
    ///
    /// # Errors
    ///
    /// [`StartError`] of the first listener that cannot be as it is to be.
    pub(super) fn new(listeners: &[settings::Listener], running: &[Running]) -> Result<Self, StartError> {
        let mut free: Vec<_> = running.iter().enumerate().collect();
        let mut planned = Vec::with_capacity(listeners.len());
        for settings in listeners {
            let configured = settings.address;
            let there = free.iter().position(|(_, running)| running.configured == configured);
            planned.push(match there.map(|there| free.remove(there)) {
                Some((at, running)) => Planned::Kept(at, Box::new(running.desk.prepare(settings.clone())?)),
                None => Planned::New(Listener::bind(settings.clone())?, configured),
            });
        }
        Ok(Self(planned))
    }

    /// Carries it out. Those that are not in it accept no more; their connections stay.
    pub(super) fn carry_out(self, running: Vec<Running>, current: &Arc<Current>, lasting: &Lasting) -> Vec<Running> {
        let mut running: Vec<_> = running.into_iter().map(Some).collect();
        let mut serving = Vec::with_capacity(self.0.len());
        for planned in self.0 {
            match planned {
                Planned::Kept(at, reception) => {
                    let Some(kept) = running.get_mut(at).and_then(Option::take) else { continue };
                    kept.desk.replace(*reception);
                    serving.push(kept);
                }
                Planned::New(listener, configured) => {
                    let (address, desk) = (listener.address(), listener.desk());
                    let stop = lasting.stop.shutdown.child_token();
                    info!(%address, "listening");
                    lasting.listeners.spawn(listener.run(current.clone(), stop.clone()));
                    serving.push(Running { configured, address, desk, stop });
                }
            }
        }
        for gone in running.into_iter().flatten() {
            info!(address = %gone.address, "no longer listening; its connections stay");
            gone.stop.cancel();
        }
        serving
    }
}

/// The admin listener that serves.
pub(super) struct RunningAdmin {
    configured: SocketAddr,
    address: SocketAddr,
    inside: Arc<admin::Inside>,
    stop: CancellationToken,
}

impl RunningAdmin {
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What is to become of the admin listener.
pub(super) struct AdminPlan(Option<(admin::Settings, Option<admin::Server>)>);

impl AdminPlan {
    /// Binds it if its address is new.
    ///
    /// # Errors
    ///
    /// [`StartError`], if that fails.
    pub(super) fn new(settings: Option<&admin::Settings>, running: Option<&RunningAdmin>) -> Result<Self, StartError> {
        let Some(settings) = settings else { return Ok(Self(None)) };
        let stays = running.is_some_and(|running| running.configured == settings.address);
        let bound = if stays { None } else { Some(admin::Server::bind(settings)?) };
        Ok(Self(Some((settings.clone(), bound))))
    }

    /// Carries it out.
    pub(super) fn carry_out(
        self,
        running: Option<RunningAdmin>,
        sources: admin::Sources,
        lasting: &Lasting,
    ) -> Option<RunningAdmin> {
        let (settings, server) = match (self.0, running) {
            (Some((settings, None)), Some(running)) => {
                running.inside.replace(&settings, sources);
                return Some(running);
            }
            (planned, running) => {
                if let Some(gone) = running {
                    info!(address = %gone.address, "admin no longer listening");
                    gone.stop.cancel();
                }
                planned?
            }
        };
        let server = server?;
        let (address, stop) = (server.address(), lasting.look_away.child_token());
        info!(%address, "admin listening");
        let inside = Arc::new(admin::Inside::new(&settings, sources));
        lasting.observers.spawn(server.run(inside.clone(), lasting.observers.clone(), stop.clone()));
        Some(RunningAdmin { configured: settings.address, address, inside, stop })
    }
}
