//! What is one request to everybody passes; what is not stops where it stops being one.

use proptest::prelude::*;

use super::*;

fn flaw(bytes: &[u8]) -> Option<Broken> {
    Framing::default().read(bytes).err()
}

fn good(text: &str) {
    assert_eq!(flaw(text.as_bytes()), None, "{text:?}");
}

fn bad(text: &str, expected: Flaw) {
    let broken = flaw(text.as_bytes()).unwrap_or_else(|| panic!("{text:?} passes"));
    assert_eq!(broken.flaw, expected, "{text:?} at {}", broken.at);
}

#[test]
fn requests_that_everybody_understands_alike_pass() {
    good("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    good("\r\nGET /?a=b HTTP/1.0\r\n\r\n");
    good("OPTIONS * HTTP/1.1\r\nHost:a\r\nX:\r\nY: \t x\ty \r\n\r\nGET / HTTP/1.1\r\n\r\n");
    good("POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\n\0\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    good(
        "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked \r\n\r\n5\r\nhello\r\nA ;x=\"y\"\r\n0123456789\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    );
    good("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n");
    good("GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n\x01\x02\r\x03\n");
    good("CONNECT a:443 HTTP/1.1\r\n\r\n\x16\x03\x01");
}

#[test]
fn a_request_in_any_other_form_stops_at_its_first_wrong_byte() {
    let head = |line: &str| format!("GET / HTTP/1.1\r\n{line}\r\nContent-Length: 0\r\n\r\n");
    bad("GET  / HTTP/1.1\r\n", Flaw::Target);
    bad(" GET / HTTP/1.1\r\n", Flaw::RequestLine);
    bad("\r\n\r\nGET / HTTP/1.1\r\n", Flaw::RequestLine);
    bad("GET /a#b HTTP/1.1\r\n", Flaw::Target);
    bad("GET /a\u{e4} HTTP/1.1\r\n", Flaw::Target);
    bad("GET / HTTP/2.0\r\n", Flaw::Version);
    bad("GET / HTTP/1.1 \r\n", Flaw::LineEnd);
    bad("GET / HTTP/1.1\n", Flaw::LineEnd);
    bad(&head("A: b\r\n c"), Flaw::Folded);
    bad(&head(" A: b"), Flaw::Folded);
    bad(&head("A : b"), Flaw::Name);
    bad(&head(": b"), Flaw::Name);
    bad(&head("A"), Flaw::Name);
    bad(&head("A: b\rc"), Flaw::LineEnd);
    bad(&head("A: b\nc: d"), Flaw::LineEnd);
    bad(&head("A: \0"), Flaw::Value);
    bad(&head("A: \x7f"), Flaw::Value);
    for length in ["", "+1", "-1", "1,1", "1 1", "0x1", "1.0", "18446744073709551616", "0000000000000000000000000"] {
        bad(&format!("POST / HTTP/1.1\r\nContent-Length: {length}\r\n"), Flaw::Length);
    }
    bad(&head("Content-Length: 0"), Flaw::Length);
    for coding in
        ["", "xchunked", "chunked, identity", "gzip, chunked", "chunked;q=1", "\"chunked\"", "chunked chunked"]
    {
        bad(&format!("POST / HTTP/1.1\r\nTransfer-Encoding: {coding}\r\n"), Flaw::Coding);
    }
    bad(&head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), Flaw::Coding);
    bad(&head("Transfer-Encoding: chunked"), Flaw::Conflict);
    bad("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Flaw::Conflict);
    bad("CONNECT a:1 HTTP/1.1\r\nContent-Length: 1\r\n\r\n", Flaw::Conflict);
}

#[test]
fn chunks_have_one_form_and_framing_no_place_behind_them() {
    let body = |chunks: &str| format!("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}");
    for chunks in
        ["\r\n", "g\r\n", "0x1\r\n", "+1\r\n", "-1\r\n", " 1\r\n", "1 \r\n", "1\r\naXX", "1;a\x01\r\n", "1;a\n", "1\n"]
    {
        bad(&body(chunks), Flaw::Chunk);
    }
    bad(&body("1000000000000000\r\n"), Flaw::Chunk);
    bad(&body("1\rX"), Flaw::LineEnd);
    bad(&body("1\r\na\rX"), Flaw::LineEnd);
    for name in NOT_IN_TRAILERS {
        bad(&body(&format!("0\r\n{}: 1\r\n", name.to_uppercase())), Flaw::Trailer);
    }
    let broken = flaw(body("0\r\nA : 1\r\n").as_bytes()).unwrap();
    assert!(!broken.in_head && broken.flaw == Flaw::Name);
    let broken = flaw(b"GET / HTTP/1.1\r\n\r\n\0").unwrap();
    assert!(broken.in_head && broken.at == 18);
}

#[test]
fn what_values_say_is_not_shown() {
    let mut framing = Framing::default();
    framing.read(b"GET / HTTP/1.1\r\nAuthorization: HUSH").unwrap();
    assert!(!format!("{framing:?}").to_lowercase().contains("hush"));
}

/// Requests that are good, and what makes them bad.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("GET / HTTP/1.1\r\n"),
        Just("POST /x HTTP/1.1\r\n"),
        Just("Content-Length: 3\r\n"),
        Just("Transfer-Encoding: chunked\r\n"),
        Just("A: b\r\n"),
        Just("\r\n"),
        Just("\n"),
        Just("3\r\nabc\r\n"),
        Just("0\r\n"),
        Just(" "),
        Just("abc"),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn however_the_bytes_are_cut_they_are_understood_alike(bytes in stream(), cuts in prop::collection::vec(0..200_usize, 0..6)) {
        let whole = flaw(&bytes);
        let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([bytes.len()]).collect();
        cuts.sort_unstable();
        let (mut framing, mut from, mut parts) = (Framing::default(), 0, None);
        for cut in cuts {
            if let Err(broken) = framing.read(&bytes[from..cut]) {
                parts = Some(Broken { at: from + broken.at, ..broken });
                break;
            }
            from = cut;
        }
        prop_assert_eq!(parts, whole);
    }

    #[test]
    fn any_bytes_are_read_or_refused_at_a_place_within_them(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        if let Some(broken) = flaw(&bytes) {
            prop_assert!(broken.at < bytes.len());
        }
    }
}
