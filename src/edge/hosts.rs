//! Host names: what a client asks for, and the patterns that routes match it with.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::net::Ipv6Addr;

/// A host that a route answers for: `chat.example.com`, or `*.example.com` for every name below it.
///
/// A wildcard stands for one label or more and never for the name itself. The order puts the more specific pattern
/// first: exact names, then wildcards from the longest to the shortest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPattern {
    wildcard: bool,
    name: String,
}

/// Why a text is no [`HostPattern`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// There is a port, and a route is the same on all of them.
    #[error("a host is written without a port")]
    Port,
    /// A `*` that is not the whole first label.
    #[error("`*` may only be the whole first label, as in `*.example.com`")]
    Wildcard,
    /// A name outside ASCII; on the wire it has another form.
    #[error("an internationalised name is written as it is sent, in its `xn--` form")]
    NotAscii,
    /// Anything else that cannot be a host.
    #[error("this is no host name")]
    NoHost,
}

impl HostPattern {
    /// Reads a pattern; upper case is lowered and a trailing dot is dropped.
    ///
    /// # Errors
    ///
    /// [`HostError`] if the text has a port, a misplaced `*` or is no host name or address.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let (wildcard, rest) = match text.strip_prefix("*.") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if rest.contains('*') {
            return Err(HostError::Wildcard);
        }
        if !rest.is_ascii() {
            return Err(HostError::NotAscii);
        }
        let below_address = wildcard && rest.starts_with('[');
        match split_port(rest) {
            Some((_, Some(_))) => Err(HostError::Port),
            Some((name, None)) if !below_address && !rest.ends_with(':') => {
                Ok(Self { wildcard, name: name.into_owned() })
            }
            Some((_, None)) | None => Err(HostError::NoHost),
        }
    }

    /// Whether `host`, as [`host_of`] gives it, is one of those meant.
    #[must_use]
    pub fn matches(&self, host: &str) -> bool {
        if !self.wildcard {
            return host == self.name;
        }
        let labels = host.strip_suffix(self.name.as_str()).and_then(|left| left.strip_suffix('.'));
        labels.is_some_and(|labels| !labels.is_empty())
    }

    /// The one host meant, if the pattern is not a wildcard.
    #[must_use]
    pub fn exact(&self) -> Option<&str> {
        (!self.wildcard).then_some(self.name.as_str())
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.wildcard { "*." } else { "" }, self.name)
    }
}

impl Ord for HostPattern {
    fn cmp(&self, other: &Self) -> Ordering {
        let longer_first = other.name.len().cmp(&self.name.len());
        self.wildcard.cmp(&other.wildcard).then(longer_first).then_with(|| self.name.cmp(&other.name))
    }
}

impl PartialOrd for HostPattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The host that a `Host` header or `:authority` names: lowercased, without port and trailing dot; an IPv6 address in
/// its shortest form, in brackets. `None` if it is no host at all.
#[must_use]
pub fn host_of(header: &str) -> Option<Cow<'_, str>> {
    split_port(header).map(|(host, _)| host)
}

/// Takes `host[:port]` apart; the host comes out as [`host_of`] describes. An empty port counts as none (RFC 3986
/// section 3.2.3).
pub(crate) fn split_port(authority: &str) -> Option<(Cow<'_, str>, Option<u16>)> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        let port = if after.is_empty() { "" } else { after.strip_prefix(':')? };
        (Cow::Owned(format!("[{address}]")), port)
    } else {
        let (name, port) = authority.split_once(':').unwrap_or((authority, ""));
        let name = name.strip_suffix('.').unwrap_or(name);
        if !is_name(name) {
            return None;
        }
        let is_lower = !name.bytes().any(|byte| byte.is_ascii_uppercase());
        (if is_lower { Cow::Borrowed(name) } else { Cow::Owned(name.to_ascii_lowercase()) }, port)
    };
    if port.is_empty() {
        return Some((host, None));
    }
    // `u16::from_str` takes a leading `+`, which a port may not have.
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    Some((host, Some(port.parse().ok().filter(|_| digits)?)))
}

/// Letters, digits, hyphens and, because names inside clusters have them, underscores (RFC 1123 section 2.1).
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        HostPattern::parse(text).expect(text)
    }

    #[test]
    fn an_exact_pattern_means_one_host() {
        assert!(pattern("Chat.Example.com").matches("chat.example.com"));
        assert!(pattern("chat.example.com.").matches("chat.example.com"));
        assert!(!pattern("chat.example.com").matches("a.chat.example.com"));
        assert!(pattern("127.0.0.1").matches("127.0.0.1"));
        assert!(pattern("[0:0::1]").matches("[::1]"));
    }

    #[test]
    fn a_wildcard_means_every_name_below_but_not_the_name_itself() {
        let pattern = pattern("*.example.com");
        assert!(pattern.matches("chat.example.com"));
        assert!(pattern.matches("a.b.example.com"));
        assert!(!pattern.matches("example.com"));
        assert!(!pattern.matches(".example.com"));
        assert!(!pattern.matches("badexample.com"));
    }

    #[test]
    fn the_more_specific_pattern_comes_first() {
        let mut patterns =
            ["*.example.com", "*.a.example.com", "z.io", "*.b.example.com", "chat.example.com"].map(pattern);
        patterns.sort();
        let shown = patterns.map(|pattern| pattern.to_string());
        assert_eq!(shown, ["chat.example.com", "z.io", "*.a.example.com", "*.b.example.com", "*.example.com"]);
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let refused = |text| HostPattern::parse(text).expect_err(text);
        assert_eq!(refused("example.com:443"), HostError::Port);
        assert_eq!(refused("a.*.com"), HostError::Wildcard);
        assert_eq!(refused("*"), HostError::Wildcard);
        assert_eq!(refused("*.*.com"), HostError::Wildcard);
        assert_eq!(refused("müller.de"), HostError::NotAscii);
        for text in ["", ".", "*.", "a..b", "a b", "https://a.com", "a.com/x", "[::1", "*.[::1]", "a.com:", "[::1]:"] {
            assert_eq!(refused(text), HostError::NoHost, "{text}");
        }
        assert_eq!(refused(&"a".repeat(64)), HostError::NoHost);
    }

    #[test]
    fn the_host_is_taken_out_of_the_header() {
        let cases = [
            ("Chat.Example.com", Some("chat.example.com")),
            ("chat.example.com:8443", Some("chat.example.com")),
            ("chat.example.com.:8443", Some("chat.example.com")),
            ("chat.example.com:", Some("chat.example.com")),
            ("[::1]:8443", Some("[::1]")),
            ("[2001:DB8::0001]", Some("[2001:db8::1]")),
            ("my_service", Some("my_service")),
            ("", None),
            ("::1", None),
            ("[::1]8443", None),
            ("[::g]", None),
            ("a:b", None),
            ("a:+80", None),
            ("a:65536", None),
            ("user@host", None),
        ];
        for (header, host) in cases {
            assert_eq!(host_of(header).as_deref(), host, "{header}");
        }
        assert!(matches!(host_of("chat.example.com:1"), Some(Cow::Borrowed(_))), "nothing is copied without need");
    }
}
