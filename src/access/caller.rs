//! Whoever asks to be let in, as far as a proof needs it.

use std::fmt;
use std::net::IpAddr;

use http::request;
use rustls::pki_types::CertificateDer;

/// One request and what is known of the connection that it came on.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// The request head.
    pub head: &'a request::Parts,
    /// The host that it asks for, port included.
    pub host: &'a str,
    /// Where it comes from.
    pub address: IpAddr,
    /// Whether it came over TLS.
    pub tls: bool,
    /// The web origin that it comes from: `scheme://host[:port]` in lower case, without a default port.
    pub origin: Option<&'a str>,
    /// The client's own certificate, which TLS has verified.
    pub certificate: Option<&'a CertificateDer<'static>>,
}

/// Without the head and the certificate: tickets, tokens and cookies stand there.
impl fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, address, origin) = (self.host, self.address, self.origin);
        write!(f, "Caller({host:?} from {address}, origin {origin:?})")
    }
}

/// How much of an address stands for one client, in bits: networks hand out whole prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixLengths {
    /// Of an IPv4 address, 8 to 32.
    pub v4: u8,
    /// Of an IPv6 address, 16 to 128.
    pub v6: u8,
}

impl Default for PrefixLengths {
    fn default() -> Self {
        Self { v4: 32, v6: 64 }
    }
}

impl PrefixLengths {
    /// The address with all bits behind the prefix cleared; an IPv4 address in IPv6 form counts as what it is.
    #[must_use]
    pub fn of(self, address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.v4.min(32))).unwrap_or(0);
                IpAddr::from((u32::from(address) & mask).to_be_bytes())
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.v6.min(128))).unwrap_or(0);
                IpAddr::from((u128::from(address) & mask).to_be_bytes())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_proves_a_caller_is_not_shown() {
        let request = http::Request::builder().uri("/chat?ticket=HUSH").header("cookie", "sid=HUSH");
        let (head, ()) = request.header("authorization", "Bearer HUSH").body(()).unwrap().into_parts();
        let address = IpAddr::from([192, 0, 2, 1]);
        let caller = Caller { head: &head, host: "gw", address, tls: true, origin: None, certificate: None };
        assert_eq!(format!("{caller:?}"), "Caller(\"gw\" from 192.0.2.1, origin None)");
        let kept = [("cookie", "sid=HUSH"), ("authorization", "Bearer HUSH")]
            .map(|(name, value)| (http::HeaderName::from_static(name), value.as_bytes().into()));
        assert!(!format!("{:?}", crate::protocol::headers::Kept::copy(&kept)).contains("HUSH"));
    }

    #[test]
    fn a_prefix_is_what_its_addresses_have_in_common() {
        let of = |v4, v6, address: &str| PrefixLengths { v4, v6 }.of(address.parse().unwrap()).to_string();
        assert_eq!(of(32, 64, "192.0.2.77"), "192.0.2.77");
        assert_eq!(of(24, 64, "192.0.2.77"), "192.0.2.0");
        assert_eq!(of(24, 64, "::ffff:192.0.2.77"), "192.0.2.0");
        assert_eq!(of(32, 64, "2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of(32, 128, "2001:db8::1"), "2001:db8::1");
        assert_eq!(of(0, 0, "2001:db8::1"), "::");
    }
}
