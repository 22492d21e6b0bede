//! From measurements to findings, and the manual.

use super::findings::{Id, Severity, all};
use super::front::Front;
use super::measured::{Arrival, Echoed, Measured, Sent, Silence, Stream, Tls, Trial};
use super::{cures, report};
use crate::protocol::diagnostic::{Chunk, Heard, PeerClass, Seen, Upload};

const MANUAL: &str = include_str!("../../../docs/doctor.md");

fn seen(version: &str) -> Seen {
    let fields = ["host", "last-event-id", "cookie", "tidegate-doctor", "x-forwarded-for", "x-forwarded-proto"];
    Seen {
        doctor: 1,
        nonce: "n1".to_owned(),
        version: version.to_owned(),
        tls: false,
        peer: PeerClass::Private,
        client: Heard::Believed,
        scheme: Heard::Believed,
        host_kept: true,
        fields: fields.map(str::to_owned).to_vec(),
        values: Vec::new(),
    }
}

/// Ten events, the first of which takes 12 ms, each of the others this much longer.
fn stream(late_us: impl Fn(u64) -> u64) -> Stream {
    let events: Vec<_> = (0..10_u64)
        .map(|number| Arrival { sent_us: number * 200_000, arrived_us: 12_000 + number * 200_000 + late_us(number) })
        .collect();
    Stream {
        content_type: "text/event-stream".to_owned(),
        cache_control: "no-cache, no-transform".to_owned(),
        content_encoding: String::new(),
        has_own_field: true,
        is_fresh: true,
        wanted: 10,
        interval_us: 200_000,
        pieces_us: events.iter().map(|event| event.arrived_us).collect(),
        events,
        broke_off: None,
    }
}

/// Everything at the end.
fn buffered() -> Stream {
    stream(|number| (9 - number) * 200_000)
}

/// An upload whose pieces arrived so far apart.
fn upload(apart_us: u64) -> Sent {
    let chunks = (0..6).map(|number| Chunk { at_us: number * apart_us, bytes: 512 }).collect();
    let arrived = Upload { doctor: 1, nonce: String::new(), bytes: 3072, chunks };
    Sent { pieces: 6, interval_us: 200_000, arrived }
}

/// A way on which nothing is wrong.
fn fine() -> Measured {
    let silence = || Trial::Done(Silence { wanted_us: 75_000_000, cut_after_us: None });
    Measured {
        address: "192.0.2.7:443".to_owned(),
        tls: Some(Tls { version: "TLS 1.3".to_owned(), days_left: Some(62) }),
        round_trip_us: 12_000,
        signs: vec![("server".to_owned(), "nginx".to_owned())],
        http1: Trial::Done(seen("HTTP/1.1")),
        http2: Trial::Done(seen("HTTP/1.1")),
        events: Trial::Done(stream(|number| number % 3 * 1000)),
        bare: Trial::Done(stream(|_| 0)),
        compressible: Trial::Done(stream(|_| 0)),
        bare_compressible: Trial::Done(stream(|_| 0)),
        silence: silence(),
        upload: Trial::Done(upload(200_000)),
        websocket: Trial::Done(Echoed { message_us: 13_000, ping_us: 12_000 }),
        websocket_http2: Trial::Done(Echoed { message_us: 13_000, ping_us: 12_000 }),
        websocket_silence: silence(),
    }
}

/// What is found when this is changed on the way.
fn found(change: impl FnOnce(&mut Measured)) -> Vec<(Id, Severity)> {
    let mut measured = fine();
    change(&mut measured);
    all(&measured).into_iter().map(|finding| (finding.id, finding.severity)).collect()
}

fn gzipped() -> Trial<Stream> {
    Trial::Done(Stream { content_encoding: "gzip".to_owned(), events: Vec::new(), ..stream(|_| 0) })
}

#[test]
fn a_way_on_which_nothing_is_wrong_has_no_findings() {
    assert_eq!(found(|_| {}), []);
}

#[test]
fn buffering_is_an_error_in_spite_of_the_fields_and_a_note_without_them() {
    use Severity::{Error, Note, Warning};
    assert_eq!(found(|way| way.events = Trial::Done(buffered())), [(Id::StreamBuffered, Error)]);
    assert_eq!(found(|way| way.bare = Trial::Done(buffered())), [(Id::StreamBufferedWithoutHeaders, Note)]);
    // What is true of the worse case needs not be said of the other.
    let both = found(|way| (way.events, way.bare) = (Trial::Done(buffered()), Trial::Done(buffered())));
    assert_eq!(both, [(Id::StreamBuffered, Error)]);
    assert_eq!(found(|way| way.events = Trial::Done(stream(|_| 900_000))), [(Id::StreamLate, Warning)]);
    assert_eq!(found(|way| way.events = Trial::Failed("502".to_owned())), [(Id::StreamFails, Error)]);
    let cut = |way: &mut Measured| {
        let mut stream = stream(|_| 0);
        stream.events.truncate(4);
        way.events = Trial::Done(Stream { broke_off: Some("reset".to_owned()), ..stream });
    };
    assert_eq!(found(cut), [(Id::StreamFails, Error)]);
}

#[test]
fn compression_is_a_warning_in_spite_of_the_fields_and_a_note_without_them() {
    assert_eq!(found(|way| way.compressible = gzipped()), [(Id::StreamCompressed, Severity::Warning)]);
    let bare = found(|way| way.bare_compressible = gzipped());
    assert_eq!(bare, [(Id::StreamCompressedWithoutHeaders, Severity::Note)]);
}

#[test]
fn a_silence_that_is_cut_between_heartbeats_is_a_warning_and_a_later_end_a_note() {
    let cut = |after: u64| Trial::Done(Silence { wanted_us: 75_000_000, cut_after_us: Some(after) });
    assert_eq!(found(|way| way.silence = cut(10_000_000)), [(Id::SilenceCut, Severity::Warning)]);
    assert_eq!(found(|way| way.silence = cut(60_000_000)), [(Id::SilenceCut, Severity::Note)]);
    assert_eq!(found(|way| way.websocket_silence = cut(60_000_000)), [(Id::WebsocketSilenceCut, Severity::Note)]);
}

#[test]
fn fields_that_are_lost_on_the_way_are_found() {
    let seen_without = |lost: &str| {
        let mut seen = seen("HTTP/1.1");
        seen.fields.retain(|field| field != lost);
        Trial::Done(seen)
    };
    for (lost, id) in [
        ("last-event-id", Id::LastEventIdStripped),
        ("cookie", Id::CookiesStripped),
        ("tidegate-doctor", Id::RequestFieldsStripped),
    ] {
        let ids: Vec<_> = found(|way| way.http1 = seen_without(lost)).into_iter().map(|(id, _)| id).collect();
        assert_eq!(ids, [id], "{lost}");
    }
    let no_query = Trial::Done(Seen { nonce: String::new(), ..seen("HTTP/1.1") });
    assert_eq!(found(|way| way.http1 = no_query), [(Id::QueryStripped, Severity::Error)]);
    let kept = Stream { is_fresh: false, ..stream(|_| 0) };
    assert_eq!(found(|way| way.events = Trial::Done(kept)), [(Id::AnswerCached, Severity::Error)]);
    let changed = Stream { cache_control: "no-store".to_owned(), ..stream(|_| 0) };
    assert_eq!(found(|way| way.events = Trial::Done(changed)), [(Id::CacheControlChanged, Severity::Warning)]);
    let bare = Stream { has_own_field: false, ..stream(|_| 0) };
    assert_eq!(found(|way| way.events = Trial::Done(bare)), [(Id::AnswerFieldsStripped, Severity::Warning)]);
}

#[test]
fn nobody_has_to_say_who_asks_where_nothing_stands_in_front() {
    let straight = |way: &mut Measured| {
        let plain = ["host", "last-event-id", "cookie", "tidegate-doctor"].map(str::to_owned).to_vec();
        let (client, scheme) = (Heard::Nothing, Heard::Nothing);
        let seen = |version| Seen { tls: true, fields: plain.clone(), client, scheme, ..seen(version) };
        (way.http1, way.http2) = (Trial::Done(seen("HTTP/1.1")), Trial::Done(seen("HTTP/2.0")));
        way.signs.clear();
    };
    assert_eq!(found(straight), []);
}

#[test]
fn a_front_that_is_silent_is_told_from_one_that_is_not_believed() {
    use Heard::{Believed, Nothing, Unread, Untrusted};
    let heard = |client, scheme, tls| {
        let seen = Seen { tls, client, scheme, ..seen("HTTP/1.1") };
        let found = found(|way| (way.http1, way.http2) = (Trial::Done(seen.clone()), Trial::Done(seen)));
        found.into_iter().map(|(id, _)| id.name()).collect::<Vec<_>>()
    };
    assert_eq!(heard(Nothing, Nothing, false), ["client-address-hidden", "scheme-hidden"]);
    assert_eq!(
        heard(Nothing, Nothing, true),
        ["client-address-hidden"],
        "with TLS on the last hop it needs not be said"
    );
    assert_eq!(heard(Nothing, Believed, false), ["client-address-hidden"]);
    assert_eq!(heard(Believed, Nothing, false), ["scheme-hidden"]);
    assert_eq!(heard(Untrusted, Untrusted, false), ["front-untrusted"]);
    assert_eq!(heard(Untrusted, Nothing, false), ["scheme-hidden", "front-untrusted"]);
    assert_eq!(heard(Believed, Unread, true), [""; 0]);
    assert_eq!(heard(Unread, Unread, false), ["front-unread"]);
    assert_eq!(heard(Believed, Unread, false), ["front-unread"]);
    let moved = |way: &mut Measured| way.http1 = Trial::Done(Seen { host_kept: false, ..seen("HTTP/1.1") });
    assert_eq!(found(moved), [(Id::HostChanged, Severity::Warning)]);
}

#[test]
fn what_is_missing_is_found() {
    use Severity::{Error, Note, Warning};
    let failed = || "refused".to_owned();
    assert_eq!(found(|way| way.websocket = Trial::Failed(failed())), [(Id::WebsocketFails, Error)]);
    assert_eq!(found(|way| way.websocket_http2 = Trial::Failed(failed())), [(Id::WebsocketOverHttp2Missing, Note)]);
    assert_eq!(found(|way| way.http2 = Trial::Failed(failed())), [(Id::Http2Missing, Warning)]);
    assert_eq!(found(|way| way.http1 = Trial::Done(seen("HTTP/1.0"))), [(Id::OldHttpToGateway, Warning)]);
    assert_eq!(found(|way| way.upload = Trial::Done(upload(10))), [(Id::UploadBuffered, Note)]);
    assert_eq!(found(|way| way.upload = Trial::Failed(failed())), [(Id::UploadFails, Warning)]);
    let no_tls = |way: &mut Measured| (way.tls, way.http2) = (None, Trial::Skipped("no TLS"));
    assert_eq!(found(no_tls), [(Id::NoTls, Warning)]);
    let tls = |version: &str, days| Some(Tls { version: version.to_owned(), days_left: Some(days) });
    assert_eq!(found(|way| way.tls = tls("TLS 1.2", 62)), [(Id::TlsOld, Note)]);
    assert_eq!(found(|way| way.tls = tls("TLS 1.3", 13)), [(Id::CertificateEnds, Warning)]);
    assert_eq!(found(|way| way.tls = tls("TLS 1.3", -2)), [(Id::CertificateEnds, Error)]);
}

#[test]
fn the_cure_for_what_is_in_front_comes_first() {
    let first = |sign: &str, extra: &str| {
        let mut way = fine();
        way.signs = if sign.is_empty() { Vec::new() } else { vec![("server".to_owned(), sign.to_owned())] };
        if let Trial::Done(seen) = &mut way.http1 {
            seen.fields.extend([extra.to_owned(), "x-real-ip".to_owned()]);
        }
        way.events = Trial::Done(buffered());
        all(&way).first().and_then(|finding| finding.cures.first()).map(|(front, _)| *front)
    };
    assert_eq!(first("nginx/1.22.1", ""), Some(Front::Nginx));
    assert_eq!(first("Caddy", ""), Some(Front::Caddy));
    assert_eq!(first("envoy", ""), Some(Front::Envoy));
    assert_eq!(first("", "x-amzn-trace-id"), Some(Front::Alb));
    assert_eq!(first("", "x-forwarded-server"), Some(Front::Traefik));
    assert_eq!(first("HAProxy", ""), Some(Front::HaProxy));
}

#[test]
fn the_sample_of_the_manual_is_what_is_printed() {
    let mut way = fine();
    way.events = Trial::Done(buffered());
    way.bare = Trial::Done(buffered());
    way.silence = Trial::Done(Silence { wanted_us: 75_000_000, cut_after_us: Some(60_034_000) });
    let text = report::text("https://chat.example.com/.well-known/tidegate/doctor", &way, &all(&way));
    assert!(MANUAL.contains(&format!("```text\n{text}```")), "docs/doctor.md must show this:\n{text}");
}

#[test]
fn the_manual_has_every_finding_with_all_its_cures() {
    for id in Id::ALL {
        let chapter = MANUAL.split("\n### ").find(|chapter| chapter.starts_with(&format!("`{id}`")));
        let chapter = chapter.unwrap_or_else(|| panic!("docs/doctor.md has no chapter `{id}`"));
        assert!(chapter.contains(id.means()), "{id} means: {}", id.means());
        for (front, cure) in cures::of(id) {
            let row = format!("| {} | `{cure}` |", front.name());
            assert!(chapter.contains(&row), "{id} lacks the row\n{row}");
        }
        let rows = chapter.lines().filter(|line| line.starts_with("| ") && line.contains("| `")).count();
        assert_eq!(rows, cures::of(id).len(), "{id} has rows that are not in the program");
    }
    let told = MANUAL.matches("\n### `").count();
    assert_eq!(told, Id::ALL.len(), "docs/doctor.md has findings that are not in the program");
}

#[test]
fn programs_find_the_same_in_json() {
    let mut way = fine();
    way.bare = Trial::Done(buffered());
    let report: serde_json::Value =
        serde_json::from_str(&report::json("https://a.example/d", &way, &all(&way))).unwrap();
    assert_eq!(report["front"], "nginx");
    assert_eq!(report["findings"][0]["id"], "stream-buffered-without-headers");
    assert_eq!(report["findings"][0]["severity"], "note");
    assert_eq!(report["findings"][0]["cures"][0][0], "nginx");
    assert_eq!(report["measured"]["events"]["done"]["wanted"], 10);
}
