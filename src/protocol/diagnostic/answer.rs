//! What the gateway answers a doctor.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, Version, header};
use serde::{Deserialize, Serialize};

use super::{Heard, MOST_CHUNKS, TIDEGATE_DOCTOR, VERSION};
use crate::protocol::headers::LAST_EVENT_ID;

/// Longest field value that is told, in characters; the rest is cut.
const LONGEST_VALUE: usize = 200;

/// Fields whose values are told. None of them is a secret or somebody's address: a page that gets a visitor's browser to ask
/// must learn nothing that it could not know.
const TOLD: [HeaderName; 7] = [
    header::VIA,
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    LAST_EVENT_ID,
    HeaderName::from_static("x-forwarded-proto"),
    HeaderName::from_static("x-forwarded-host"),
    TIDEGATE_DOCTOR,
];

/// What the gateway saw of a request, after everything that is in front of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// [`VERSION`].
    pub doctor: u32,
    /// As the request brought it.
    pub nonce: String,
    /// Version of HTTP on the last hop, such as `HTTP/1.1`.
    pub version: String,
    /// Whether the last hop had TLS.
    pub tls: bool,
    /// Where the last hop came from.
    pub peer: PeerClass,
    /// What it says of the client's address.
    pub client: Heard,
    /// What it says of whether the client came over TLS.
    pub scheme: Heard,
    /// Whether the gateway was asked for the host that the doctor asked for; which one it was is not told.
    pub host_kept: bool,
    /// Names of the request's fields, in lower case, each once.
    pub fields: Vec<String>,
    /// Values of those fields whose values are told, in the order of the request.
    pub values: Vec<(String, String)>,
}

/// A request as it arrived, before what proxies say in it was taken out. In the extensions of its head.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// All of its fields.
    pub fields: HeaderMap,
    /// Where the last hop came from.
    pub hop: SocketAddr,
    /// Whether the last hop had TLS.
    pub tls: bool,
    /// What it says of the client's address.
    pub client: Heard,
    /// What it says of whether the client came over TLS.
    pub scheme: Heard,
}

/// What kind of address it is; not which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeerClass {
    /// The machine itself.
    Loopback,
    /// A private network: RFC 1918, RFC 4193, link-local, or the shared space of RFC 6598.
    Private,
    /// Any other.
    #[default]
    Public,
}

/// The data of one timed event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Its number, from 1.
    pub event: u32,
    /// Microseconds from the stream's first event to the moment at which this one was given to the connection.
    pub sent_us: u64,
    /// As the request brought it.
    pub nonce: String,
}

/// When the pieces of an upload arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// [`VERSION`].
    pub doctor: u32,
    /// As the request brought it.
    pub nonce: String,
    /// Length of the whole body in bytes.
    pub bytes: u64,
    /// The pieces; at most [`MOST_CHUNKS`].
    pub chunks: Vec<Chunk>,
}

/// A piece of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// Microseconds from the request's head to its arrival.
    pub at_us: u64,
    /// Its length.
    pub bytes: u64,
}

impl Seen {
    /// Reads it off a request that is for `host`, with its port if it has one.
    #[must_use]
    pub fn of(arrived: &Arrived, host: &str, version: Version, nonce: &str) -> Self {
        let fields = &arrived.fields;
        let asked = fields.get(TIDEGATE_DOCTOR).and_then(|asked| asked.to_str().ok());
        let told = |name: &HeaderName| TOLD.contains(name);
        let values = fields.iter().filter(|(name, _)| told(name)).map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes());
            (name.as_str().to_owned(), value.chars().take(LONGEST_VALUE).collect())
        });
        Self {
            doctor: VERSION,
            nonce: nonce.to_owned(),
            version: format!("{version:?}"),
            tls: arrived.tls,
            peer: PeerClass::of(arrived.hop.ip()),
            client: arrived.client,
            scheme: arrived.scheme,
            host_kept: asked
                .is_some_and(|asked| without_usual_port(asked).eq_ignore_ascii_case(without_usual_port(host))),
            fields: fields.keys().map(|name| name.as_str().to_owned()).collect(),
            values: values.collect(),
        }
    }

    /// Whether the request had a field of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|field| field == name)
    }

    /// The first value of a field that is told.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }
}

/// Without the port that goes without saying.
fn without_usual_port(authority: &str) -> &str {
    authority.strip_suffix(":443").or_else(|| authority.strip_suffix(":80")).unwrap_or(authority)
}

impl PeerClass {
    /// The class of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        let private = match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [first, second, ..] = v4.octets();
                v4.is_private() || v4.is_link_local() || (first == 100 && second & 0xc0 == 64)
            }
            IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local(),
        };
        match address.to_canonical().is_loopback() {
            true => Self::Loopback,
            false if private => Self::Private,
            false => Self::Public,
        }
    }
}

impl Upload {
    /// Nothing yet.
    #[must_use]
    pub fn begin(nonce: &str) -> Self {
        Self { doctor: VERSION, nonce: nonce.to_owned(), ..Self::default() }
    }

    /// Notes a piece.
    pub fn arrived(&mut self, at_us: u64, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
        let is_full = self.chunks.len() >= MOST_CHUNKS;
        match self.chunks.last_mut() {
            Some(last) if is_full || last.at_us == at_us => {
                *last = Chunk { at_us, bytes: last.bytes.saturating_add(bytes) };
            }
            _ => self.chunks.push(Chunk { at_us, bytes }),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn arrived(fields: HeaderMap, hop: &str) -> Arrived {
        Arrived { fields, hop: hop.parse().unwrap(), tls: true, client: Heard::Believed, scheme: Heard::Nothing }
    }

    #[test]
    fn no_secret_and_no_address_of_a_request_comes_back() {
        let mut fields = HeaderMap::new();
        for name in ["cookie", "authorization", "x-forwarded-for", "forwarded", "x-real-ip", "x-api-key", "host"] {
            fields.insert(HeaderName::from_static(name), HeaderValue::from_static("S3CRET"));
        }
        fields.insert(header::VIA, HeaderValue::from_static("1.1 edge"));
        let seen = Seen::of(&arrived(fields, "127.0.0.1:9"), "S3CRET", Version::HTTP_11, "n1");
        let json = serde_json::to_string(&seen).unwrap();
        assert!(!json.contains("S3CRET"), "{json}");
        assert!(seen.has("cookie") && seen.has("x-forwarded-for") && !seen.has("origin"));
        assert_eq!((seen.value("via"), seen.value("cookie")), (Some("1.1 edge"), None));
        assert_eq!(serde_json::from_str::<Seen>(&json).unwrap(), seen);
    }

    #[test]
    fn a_long_value_is_cut() {
        let mut fields = HeaderMap::new();
        fields.insert("via", HeaderValue::try_from("é".repeat(500)).unwrap());
        let seen = Seen::of(&arrived(fields, "[2001:db8::1]:9"), "", Version::HTTP_2, "");
        assert_eq!(seen.value("via").map(|via| via.chars().count()), Some(LONGEST_VALUE));
    }

    #[test]
    fn it_is_told_whether_the_host_stayed_the_same() {
        for (asked, host, kept) in [
            ("chat.example.com", "chat.example.com", true),
            ("chat.example.com:443", "Chat.example.com", true),
            ("localhost:8443", "localhost:8443", true),
            // A page says its port in Origin as well.
            ("localhost:8443", "localhost", false),
            ("chat.example.com", "10.0.1.5:443", false),
            ("", "", true),
        ] {
            let fields = HeaderMap::from_iter([(TIDEGATE_DOCTOR, HeaderValue::from_static(asked))]);
            let seen = Seen::of(&arrived(fields, "192.0.2.1:9"), host, Version::HTTP_11, "");
            assert_eq!(seen.host_kept, kept, "{asked} {host}");
        }
    }

    #[test]
    fn addresses_have_classes() {
        for (address, class) in [
            ("127.0.0.1", PeerClass::Loopback),
            ("::1", PeerClass::Loopback),
            ("::ffff:127.0.0.1", PeerClass::Loopback),
            ("10.1.2.3", PeerClass::Private),
            ("100.64.0.1", PeerClass::Private),
            ("100.128.0.1", PeerClass::Public),
            ("fd00::1", PeerClass::Private),
            ("192.0.2.1", PeerClass::Public),
            ("2001:db8::1", PeerClass::Public),
        ] {
            assert_eq!(PeerClass::of(address.parse().unwrap()), class, "{address}");
        }
    }

    #[test]
    fn an_upload_of_many_pieces_is_told_in_bounds() {
        let mut upload = Upload::begin("n");
        for at in 0..1000 {
            upload.arrived(at, 2);
        }
        assert_eq!((upload.bytes, upload.chunks.len()), (2000, MOST_CHUNKS));
        assert_eq!(upload.chunks.iter().map(|chunk| chunk.bytes).sum::<u64>(), 2000);
        assert_eq!(upload.chunks.last().map(|chunk| chunk.at_us), Some(999));
    }
}
