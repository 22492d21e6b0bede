//! What stands in front of a request or around it: PROXY protocol headers, the framing of HTTP/1.1, `Forwarded` and its relatives.

use std::net::SocketAddr;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use tidegate::protocol::forwarded::{Form, Trust};
use tidegate::protocol::framing::{Broken, Framing};
use tidegate::protocol::proxy_header::{LONGEST, Parsed, parse};

/// The first byte says where the rest is cut.
pub fn check(input: &[u8]) {
    let Some((cut, bytes)) = input.split_first() else { return };
    framing(bytes, usize::from(*cut));
    header(bytes);
    fields(bytes);
}

/// However the bytes come, they are understood alike, and nothing behind what is wrong is looked at.
fn framing(bytes: &[u8], cut: usize) {
    let whole = Framing::default().read(bytes);
    let (first, second) = bytes.split_at(cut.min(bytes.len()));
    let mut framing = Framing::default();
    let parts = framing
        .read(first)
        .and_then(|()| framing.read(second).map_err(|broken| Broken { at: first.len() + broken.at, ..broken }));
    assert_eq!(whole, parts);
    if let Err(broken) = whole {
        assert!(broken.at < bytes.len());
        assert_eq!(Framing::default().read(&bytes[..broken.at]), Ok(()));
        // A length that contradicts another never gets as far as the body.
        assert_eq!(Framing::default().read(&bytes[..=broken.at]), Err(broken));
    }
}

/// A header is read to its last byte, however it is asked for, and no byte more.
fn header(bytes: &[u8]) {
    let mut read = 0;
    loop {
        match parse(&bytes[..read]) {
            Ok(Parsed::Needs(more)) => {
                assert!(more > read && more <= LONGEST, "{more} after {read}");
                if more > bytes.len() {
                    return;
                }
                read = more;
            }
            Ok(Parsed::Header(header)) => {
                assert!(bytes[..read].starts_with(b"PROXY ") || bytes[..read].starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
                assert!(header.client.is_some() || !header.tls || bytes[0] == b'\r');
                return;
            }
            Err(_) => return,
        }
    }
}

/// Whatever a trusted proxy passes on, there is a client, and it is not one that could not be reached through the proxies.
fn fields(bytes: &[u8]) {
    let peer: SocketAddr = "10.0.0.1:1".parse().expect("an address");
    for (form, name) in [(Form::Forwarded, "forwarded"), (Form::XForwarded, "x-forwarded-for")] {
        let mut map = HeaderMap::new();
        for line in bytes.split(|byte| *byte == b'\n').take(20) {
            if let Ok(value) = HeaderValue::from_bytes(line) {
                map.append(HeaderName::from_static(name), value);
            }
        }
        let trust = Trust { proxies: vec!["10.0.0.0/8".parse().expect("a network")], form, host: true };
        let told = trust.told(&map, peer).expect("a trusted proxy");
        assert!(told.via.0.iter().all(|proxy| trust.covers(*proxy)));
        assert!(told.client == peer || told.via.0.last() == Some(&peer.ip()));
        let stranger = Trust { proxies: Vec::new(), ..trust };
        assert_eq!(stranger.told(&map, peer), None);
    }
}
