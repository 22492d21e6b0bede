//! Names and their addresses.

use std::fmt::Debug;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a look-up gives.
pub type Lookup<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Where the addresses of a name come from.
pub trait Resolve: Debug + Send + Sync {
    /// The addresses of `host`, each with `port`.
    fn lookup<'a>(&'a self, host: &'a str, port: u16) -> Lookup<'a>;
}

/// The system's resolver: `/etc/hosts`, DNS, and whatever else it is set up to ask.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn lookup<'a>(&'a self, host: &'a str, port: u16) -> Lookup<'a> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// Where an endpoint is.
#[derive(Debug)]
pub(super) struct Place {
    /// Without the brackets that an IPv6 literal has in an authority and nowhere else.
    host: String,
    port: u16,
    /// Set when the host is no name.
    literal: Option<IpAddr>,
    /// Which of several addresses is next to be tried first.
    turn: AtomicUsize,
}

impl Place {
    pub(super) fn new(host: &str, port: u16) -> Self {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Self { port, literal: host.parse().ok(), host, turn: AtomicUsize::new(0) }
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Whether it is a name, whose addresses can change.
    pub(super) fn is_name(&self) -> bool {
        self.literal.is_none()
    }

    /// Its addresses as they are now; never empty.
    pub(super) async fn addresses(&self, resolver: &dyn Resolve) -> io::Result<Vec<SocketAddr>> {
        if let Some(literal) = self.literal {
            return Ok(vec![SocketAddr::new(literal, self.port)]);
        }
        let addresses = resolver.lookup(&self.host, self.port).await?;
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        Ok(addresses)
    }

    /// The same, each time with another one in front, so that connections spread over them.
    pub(super) async fn next_addresses(&self, resolver: &dyn Resolve) -> io::Result<Vec<SocketAddr>> {
        let mut addresses = self.addresses(resolver).await?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        rotate(&mut addresses, turn);
        Ok(addresses)
    }
}

/// Sorted first, because name servers rotate as well, and two rotations may cancel each other out.
fn rotate(addresses: &mut [SocketAddr], turn: usize) {
    addresses.sort_unstable();
    let first = turn.checked_rem(addresses.len()).unwrap_or(0);
    addresses.rotate_left(first);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_no_names() {
        let of = |host| (Place::new(host, 80).is_name(), Place::new(host, 80).host().to_owned());
        assert_eq!(of("app.internal"), (true, "app.internal".to_owned()));
        assert_eq!(of("127.0.0.1"), (false, "127.0.0.1".to_owned()));
        assert_eq!(of("[::1]"), (false, "::1".to_owned()));
    }

    #[test]
    fn every_address_comes_first_in_turn_in_whatever_order_they_are_given() {
        let address = |last: u8| SocketAddr::from(([10, 0, 0, last], 80));
        let firsts = (0..6).map(|turn| {
            let mut addresses = vec![address(1), address(2), address(3)];
            addresses.rotate_left(turn % 2);
            rotate(&mut addresses, turn);
            addresses[0]
        });
        let expected: Vec<_> = [1, 2, 3, 1, 2, 3].into_iter().map(address).collect();
        assert_eq!(firsts.collect::<Vec<_>>(), expected);
        rotate(&mut [], 3);
    }
}
