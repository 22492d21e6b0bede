//! Headers as balancers send them, and what only looks like one.

use proptest::prelude::*;

use super::*;

fn header(bytes: &[u8]) -> Result<Header, Malformed> {
    match parse(bytes)? {
        Parsed::Header(header) => Ok(header),
        Parsed::Needs(more) => panic!("{more} bytes are needed, and there are {}", bytes.len()),
    }
}

fn client(text: &str) -> Header {
    Header { client: Some(text.parse().unwrap()), tls: false }
}

/// A header of version 2.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[0x20 | command, family], &length, rest].concat()
}

const V4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 1, 187];

#[test]
fn a_line_names_the_client() {
    assert_eq!(header(b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 443\r\n"), Ok(client("192.0.2.7:4660")));
    assert_eq!(header(b"PROXY TCP6 2001:db8::7 ::1 65535 443\r\n"), Ok(client("[2001:db8::7]:65535")));
    let longest = format!("PROXY TCP6 {0} {0} 65535 65535\r\n", ["ffff"; 8].join(":"));
    assert_eq!((longest.len(), header(longest.as_bytes()).is_ok()), (104, true));
    for unknown in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 whatever\r\n"] {
        assert_eq!(header(unknown.as_bytes()), Ok(Header::default()));
    }
}

#[test]
fn a_line_in_another_form_is_none() {
    for line in [
        "PROXY TCP4 192.0.2.7 10.0.0.1 04660 443",
        "PROXY TCP4 192.0.2.7 10.0.0.1 65536 443",
        "PROXY TCP4 192.0.2.7 10.0.0.1 +1 443",
        "PROXY TCP4 192.0.2.7 10.0.0.1 4660",
        "PROXY TCP4 192.0.2.7 10.0.0.1 4660 443 ",
        "PROXY TCP4  192.0.2.7 10.0.0.1 4660 443",
        "PROXY TCP4 ::1 ::1 4660 443",
        "PROXY TCP6 192.0.2.7 10.0.0.1 4660 443",
        "PROXY TCP4 192.0.2.07 10.0.0.1 4660 443",
        "PROXY UDP4 192.0.2.7 10.0.0.1 4660 443",
        "PROXY UNKNOWNS",
        "PROXY TCP4 192.0.2.7\n10.0.0.1 4660 443",
    ] {
        assert_eq!(parse(format!("{line}\r\n").as_bytes()), Err(Malformed::Form), "{line:?}");
    }
    assert_eq!(parse(format!("PROXY UNKNOWN {}", "x".repeat(100)).as_bytes()), Err(Malformed::Form));
    assert_eq!(parse(b"GET / HTTP/1.1\r\n"), Err(Malformed::Absent));
    assert_eq!(parse(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0, 0]), Err(Malformed::Absent));
}

#[test]
fn version_2_names_the_client_whatever_its_family() {
    assert_eq!(header(&binary(1, 0x11, &V4)), Ok(client("192.0.2.7:4660")));
    let v6 = [[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], [0; 16]].concat();
    assert_eq!(header(&binary(1, 0x21, &[&v6[..], &[0, 80, 1, 187]].concat())), Ok(client("[2001:db8::7]:80")));
    let nobody = Ok(Header::default());
    assert_eq!(header(&binary(0, 0x11, &V4)), nobody, "LOCAL");
    assert_eq!(header(&binary(0, 0, &[])), nobody);
    assert_eq!(header(&binary(1, 0, b"skipped, whatever it is")), nobody);
    assert_eq!(header(&binary(1, 0x31, &[b'/'; 216])), nobody);
    assert_eq!(header(&binary(1, 0x12, &V4)), nobody, "a datagram");
}

#[test]
fn version_2_in_another_form_is_none() {
    let form = Err(Malformed::Form);
    assert_eq!(header(&binary(1, 0x11, &V4[..11])), form);
    assert_eq!(header(&binary(1, 0x21, &V4)), form);
    assert_eq!(header(&binary(1, 0x31, &V4)), form);
    assert_eq!(header(&binary(1, 0x41, &V4)), form);
    assert_eq!(header(&binary(1, 0x13, &V4)), form);
    assert_eq!(header(&binary(2, 0x11, &V4)), form);
    assert_eq!(header(&[&binary(1, 0x11, &V4)[..], b"x"].concat()), form);
    for values in [&[4][..], &[4, 0], &[4, 0, 2, 1], &[SSL, 0, 0], &[CRC32C, 0, 1, 0]] {
        assert_eq!(header(&binary(1, 0x11, &[&V4, values].concat())), form, "{values:?}");
    }
    let version_1 = [SIGNATURE, &[0x11, 0x11, 0, 12], &V4].concat();
    assert_eq!(header(&version_1), form);
    assert_eq!(parse(&[SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat()), Err(Malformed::TooLong));
}

#[test]
fn what_a_balancer_adds_is_read_where_it_matters() {
    let with = |values: &[u8]| header(&binary(1, 0x11, &[&V4, values].concat()));
    assert_eq!(with(&[4, 0, 2, 1, 1, 0xea, 0, 1, 9]), Ok(client("192.0.2.7:4660")));
    let tls = Header { client: Some("192.0.2.7:4660".parse().unwrap()), tls: true };
    assert_eq!(with(&[SSL, 0, 5, 1, 0, 0, 0, 0]), Ok(tls));
    assert_eq!(with(&[SSL, 0, 5, 0, 0, 0, 0, 0]), Ok(client("192.0.2.7:4660")));
    let mut bytes = binary(1, 0x11, &[&V4[..], &[CRC32C, 0, 4, 0, 0, 0, 0]].concat());
    assert_eq!(header(&bytes), Err(Malformed::Checksum));
    let sum = crc32c(bytes.iter().copied());
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&sum.to_be_bytes());
    assert_eq!(header(&bytes), Ok(client("192.0.2.7:4660")));
    bytes[20] ^= 1;
    assert_eq!(header(&bytes), Err(Malformed::Checksum));
    assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283, "the check value of the polynomial");
}

proptest! {
    /// Read as it is asked for, a header is read to its last byte and no further.
    #[test]
    fn nothing_behind_the_header_is_asked_for(port in any::<u16>(), address in any::<u32>(), six in any::<u128>(), which in 0..4) {
        let (four, six) = (Ipv4Addr::from(address), Ipv6Addr::from(six));
        let bytes = match which {
            0 => format!("PROXY TCP4 {four} 10.0.0.1 {port} 443\r\n").into_bytes(),
            1 => format!("PROXY TCP6 {six} ::1 {port} 443\r\n").into_bytes(),
            2 => binary(1, 0x11, &[&four.octets()[..], &[10, 0, 0, 1], &port.to_be_bytes(), &[1, 187]].concat()),
            _ => binary(1, 0x21, &[&six.octets()[..], &[0; 16], &port.to_be_bytes(), &[1, 187]].concat()),
        };
        let ip: IpAddr = if which % 2 == 0 { four.into() } else { six.into() };
        let mut read = 0;
        let header = loop {
            match parse(&bytes[..read]).unwrap() {
                Parsed::Needs(more) => {
                    prop_assert!(more > read && more <= bytes.len(), "{} of {}", more, bytes.len());
                    read = more;
                }
                Parsed::Header(header) => break header,
            }
        };
        prop_assert_eq!((read, header.client), (bytes.len(), Some(SocketAddr::new(ip, port))));
    }

    #[test]
    fn any_bytes_are_a_header_or_none(mut bytes in prop::collection::vec(any::<u8>(), 0..300), which in 0..3_usize) {
        let start: &[u8] = [&b""[..], b"PROXY ", SIGNATURE][which];
        bytes.splice(..0, start.iter().copied());
        if let Ok(Parsed::Needs(more)) = parse(&bytes) {
            prop_assert!(more > bytes.len() && more <= LONGEST);
        }
    }
}
