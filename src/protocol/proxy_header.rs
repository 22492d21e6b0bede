//! The PROXY protocol, versions 1 and 2: what a balancer says about the connection that it passes on, in front of its first
//! byte (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

#[cfg(test)]
mod tests;

/// Longest header that is read in bytes: a version 2 header may have 64 KiB, and what balancers put in it has less than one.
pub const LONGEST: usize = 4096;

/// Longest header of version 1, its line end included (section 2.1).
const LONGEST_LINE: usize = 107;

/// The shortest header of all, `PROXY UNKNOWN` and its line end; one of version 2 has a byte more.
const SHORTEST: usize = 15;

/// How every header of version 2 begins (section 2.2).
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version, family and length of version 2.
const FIXED: usize = 16;

/// Kinds of additional values (section 2.2).
const CRC32C: u8 = 0x03;
const SSL: u8 = 0x20;
/// Bit of [`SSL`]: the client has connected over TLS.
const CLIENT_SSL: u8 = 0x01;

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The header has at least this many bytes: more than have come, and none of them belongs to what is behind it.
    Needs(usize),
    /// The header is complete.
    Header(Header),
}

/// What a balancer says of its client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Where the client connects from; `None` where the balancer speaks for itself, does not know, or says something that is no
    /// address of the internet.
    pub client: Option<SocketAddr>,
    /// Whether the balancer says that the client came over TLS, which it has ended itself.
    pub tls: bool,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Neither version begins so: whoever sends this does not speak the protocol.
    #[error("there is no PROXY protocol header")]
    Absent,
    /// It begins like one and goes on wrongly.
    #[error("the PROXY protocol header is malformed")]
    Form,
    /// It is longer than [`LONGEST`].
    #[error("the PROXY protocol header is too long")]
    TooLong,
    /// Its checksum is not that of its bytes.
    #[error("the checksum of the PROXY protocol header is wrong")]
    Checksum,
}

/// Reads what has come so far, from the first byte of the connection on.
///
/// # Errors
///
/// [`Malformed`], as soon as the bytes cannot be a header.
pub fn parse(bytes: &[u8]) -> Result<Parsed, Malformed> {
    if bytes.len() < SHORTEST {
        return Ok(Parsed::Needs(SHORTEST));
    }
    if bytes.starts_with(SIGNATURE) {
        return second(bytes);
    }
    if !bytes.starts_with(b"PROXY ") {
        return Err(Malformed::Absent);
    }
    if let Some(line) = bytes.strip_suffix(b"\r\n") {
        return first(line).map(Parsed::Header).ok_or(Malformed::Form);
    }
    // A line feed anywhere else ends what is no header.
    if bytes.contains(&b'\n') || bytes.len() >= LONGEST_LINE {
        return Err(Malformed::Form);
    }
    // Its line end at least, of which one half may be there.
    let more = if bytes.ends_with(b"\r") { 1 } else { 2 };
    Ok(Parsed::Needs((bytes.len() + more).min(LONGEST_LINE)))
}

/// A header of version 1 without its line end.
fn first(line: &[u8]) -> Option<Header> {
    let line = str::from_utf8(line).ok()?.strip_prefix("PROXY ")?;
    // Behind this word there may be anything (section 2.1).
    if line == "UNKNOWN" || line.starts_with("UNKNOWN ") {
        return Some(Header::default());
    }
    let mut words = line.split(' ');
    let family = words.next()?;
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse().ok().map(IpAddr::V4),
            "TCP6" => text.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    // Where the client connects from, and where to, which must be there and is ours.
    let (from, _) = (address(words.next()?)?, address(words.next()?)?);
    let (port, _) = (port(words.next()?)?, self::port(words.next()?)?);
    words.next().is_none().then_some(Header { client: Some(SocketAddr::new(from, port)), tls: false })
}

/// Digits alone, without zeros in front (section 2.1).
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

fn second(bytes: &[u8]) -> Result<Parsed, Malformed> {
    let Some((&[version, family, high, low], rest)) =
        bytes.get(SIGNATURE.len()..).and_then(<[u8]>::split_first_chunk::<4>)
    else {
        return Ok(Parsed::Needs(FIXED));
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    if FIXED + length > LONGEST {
        return Err(Malformed::TooLong);
    }
    if rest.len() < length {
        return Ok(Parsed::Needs(FIXED + length));
    }
    let local = match version {
        // LOCAL: the balancer asks for itself, as health checks do; the addresses are to be left alone (section 2.2).
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed::Form),
    };
    if rest.len() > length {
        return Err(Malformed::Form);
    }
    let (client, values) = addresses(family, rest)?;
    let mut header = Header { client, tls: false };
    let mut values = values;
    while !values.is_empty() {
        let (kind, value, behind) = value(values).ok_or(Malformed::Form)?;
        if kind == CRC32C {
            let at = bytes.len() - behind.len() - value.len();
            check(bytes, at, value)?;
        } else if kind == SSL {
            let bits = value.first().ok_or(Malformed::Form)?;
            header.tls = bits & CLIENT_SSL != 0;
        }
        values = behind;
    }
    Ok(Parsed::Header(if local { Header::default() } else { header }))
}

/// The client's address, and what is behind the addresses.
fn addresses(family: u8, rest: &[u8]) -> Result<(Option<SocketAddr>, &[u8]), Malformed> {
    let (kind, transport) = (family >> 4, family & 0x0f);
    if transport > 2 {
        return Err(Malformed::Form);
    }
    let of = |ip: IpAddr, port: [u8; 2]| {
        // Of what is no stream nothing can come in here, and what it says is no address of ours.
        (transport == 1).then(|| SocketAddr::new(ip, u16::from_be_bytes(port)))
    };
    match kind {
        // Unspecified: whatever stands there is skipped, values included (section 2.2).
        0 => Ok((None, &[])),
        1 => {
            let (block, values) = rest.split_first_chunk::<12>().ok_or(Malformed::Form)?;
            let [a, b, c, d, _, _, _, _, high, low, ..] = *block;
            Ok((of(Ipv4Addr::new(a, b, c, d).into(), [high, low]), values))
        }
        2 => {
            let (from, behind) = rest.split_first_chunk::<16>().ok_or(Malformed::Form)?;
            let (block, values) = behind.split_first_chunk::<20>().ok_or(Malformed::Form)?;
            let [.., high, low, _, _] = *block;
            Ok((of(Ipv6Addr::from(*from).into(), [high, low]), values))
        }
        // Two paths of Unix sockets.
        3 => rest.split_first_chunk::<216>().map(|(_, values)| (None, values)).ok_or(Malformed::Form),
        _ => Err(Malformed::Form),
    }
}

/// Kind and content of the first additional value, and what is behind it.
fn value(values: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[kind, high, low], rest) = values.split_first_chunk::<3>()?;
    let (value, behind) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
    Some((kind, value, behind))
}

/// Whether the checksum, whose own bytes count as zero, is that of all the bytes.
fn check(bytes: &[u8], at: usize, value: &[u8]) -> Result<(), Malformed> {
    let said = u32::from_be_bytes(value.try_into().map_err(|_| Malformed::Form)?);
    let own = at..at + value.len();
    let counted = bytes.iter().enumerate().map(|(at, byte)| if own.contains(&at) { 0 } else { *byte });
    if crc32c(counted) == said { Ok(()) } else { Err(Malformed::Checksum) }
}

/// CRC-32C (RFC 9260 appendix A). Bit by bit: a header is short, and comes once in a connection.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    !bytes.fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| crc >> 1 ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    })
}
