//! Where Redis is, and how it is spoken to.

use std::fmt;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

/// Where Redis is, and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Settings {
    /// At least one; of a cluster, those that are asked for all others.
    pub nodes: Vec<Node>,
    /// Whether they are nodes of a cluster.
    pub cluster: bool,
    /// Whether TLS is spoken, and who vouches for the nodes.
    pub trust: Trust,
    /// Number of the database; 0 with a cluster.
    pub database: u16,
    /// Name of the ACL user; `None` is the default user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<SecretString>,
    /// How long the answer to one command may take.
    pub timeout: Duration,
    /// What all names of keys begin with.
    pub prefix: String,
}

/// Whether both mean the same Redis in the same way, so that one connection does for both.
impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        // Named one by one, so that a new one cannot be forgotten.
        let Self { nodes, cluster, trust, database, username, password, timeout, prefix } = self;
        let secret = |password: &Option<SecretString>| password.as_ref().map(|text| text.expose_secret().to_owned());
        (nodes, cluster, trust, database) == (&other.nodes, &other.cluster, &other.trust, &other.database)
            && (username, timeout, prefix) == (&other.username, &other.timeout, &other.prefix)
            && secret(password) == secret(&other.password)
    }
}

impl Settings {
    /// Whether what one of them writes is what the other reads.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        (&self.nodes, self.database, &self.prefix) == (&other.nodes, other.database, &other.prefix)
    }
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// A name or an address, an IPv6 one without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Who vouches for the servers.
#[derive(Clone, PartialEq, Eq)]
pub enum Trust {
    /// Nobody: TLS is not spoken.
    Plain,
    /// The authorities that the system trusts.
    System,
    /// Those in this PEM bundle.
    Bundle(Vec<u8>),
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain => f.write_str("Plain"),
            Self::System => f.write_str("System"),
            Self::Bundle(_) => f.write_str("Bundle(..)"),
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}
