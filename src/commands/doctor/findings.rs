//! From what was measured to what is wrong with it. Pure: the same measurements always give the same findings.

use serde::Serialize;

use super::cures;
use super::front::Front;
pub(super) use super::id::{Id, Severity};
use super::measured::{Echoed, Measured, Sent, Silence, Stream, Trial};
use super::timing::{self, Verdict, judge};
use crate::protocol::diagnostic::Heard;

/// A connection that may be silent for less than this, in microseconds, is cut between two heartbeats.
const SHORT_SILENCE_US: u64 = 30_000_000;

/// A certificate that holds for fewer days than this should have been renewed by now.
const DAYS_LEFT: i64 = 14;

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) id: Id,
    pub(super) severity: Severity,
    /// What was measured, with figures.
    pub(super) seen: String,
    /// What it means for users.
    pub(super) means: &'static str,
    /// What to write where; that of the program which seems to be in front comes first.
    pub(super) cures: Vec<(Front, &'static str)>,
}

/// All findings, the worst first.
pub(super) fn all(measured: &Measured) -> Vec<Finding> {
    let mut found = Found { front: Front::guess(measured), findings: Vec::new() };
    found.streams(measured);
    found.silences(measured);
    found.fields(measured);
    found.versions(measured);
    found.websockets(measured);
    found.uploads(measured);
    found.tls(measured);
    // Stable: within a severity in the order in which they were found.
    found.findings.sort_by_key(|finding| finding.severity);
    found.findings
}

struct Found {
    front: Option<Front>,
    findings: Vec<Finding>,
}

impl Found {
    fn add(&mut self, severity: Severity, id: Id, seen: impl Into<String>) {
        let mut cures = cures::of(id).to_vec();
        cures.sort_by_key(|(front, _)| Some(*front) != self.front);
        self.findings.push(Finding { id, severity, seen: seen.into(), means: id.means(), cures });
    }

    fn streams(&mut self, measured: &Measured) {
        let full = self.stream(measured, &measured.events);
        match full {
            Some(Verdict::Together) => self.add(Severity::Error, Id::StreamBuffered, came(measured, &measured.events)),
            Some(Verdict::Late) => self.add(Severity::Warning, Id::StreamLate, came(measured, &measured.events)),
            Some(Verdict::OneByOne) | None => {}
        }
        let bare = measured.bare.done().and_then(|bare| judge(bare, measured.round_trip_us));
        if full == Some(Verdict::OneByOne) && bare.is_some_and(|bare| bare.verdict == Verdict::Together) {
            self.add(Severity::Note, Id::StreamBufferedWithoutHeaders, came(measured, &measured.bare));
        }
        let encoding = |trial: &Trial<Stream>| {
            let stream = trial.done().filter(|stream| !stream.content_encoding.is_empty())?;
            let groups = counted(timing::groups(&stream.pieces_us, stream.interval_us), "group");
            let (encoding, wanted) = (&stream.content_encoding, stream.wanted);
            Some(format!("Content-Encoding: {encoding}; {wanted} events sent apart came in {groups}"))
        };
        // Also where nobody has asked for it.
        match encoding(&measured.compressible).or_else(|| encoding(&measured.events)) {
            Some(seen) => self.add(Severity::Warning, Id::StreamCompressed, seen),
            None => {
                if let Some(seen) = encoding(&measured.bare_compressible) {
                    self.add(Severity::Note, Id::StreamCompressedWithoutHeaders, seen);
                }
            }
        }
    }

    /// Whether a stream got through at all; if so, how.
    fn stream(&mut self, measured: &Measured, trial: &Trial<Stream>) -> Option<Verdict> {
        let stream = match trial {
            Trial::Done(stream) => stream,
            Trial::Failed(why) => {
                self.add(Severity::Error, Id::StreamFails, why.clone());
                return None;
            }
            Trial::Skipped(_) => return None,
        };
        if let Some(why) = &stream.broke_off {
            let (got, wanted) = (stream.events.len(), stream.wanted);
            self.add(Severity::Error, Id::StreamFails, format!("{got} of {wanted} events came: {why}"));
        } else if !is_event_stream(&stream.content_type) {
            let seen = format!("Content-Type: {}", or_none(&stream.content_type));
            self.add(Severity::Error, Id::StreamFails, seen);
        }
        let control = stream.cache_control.to_ascii_lowercase();
        if !(control.contains("no-transform") && control.contains("no-cache")) {
            let seen = format!("Cache-Control: {}, sent was no-cache, no-transform", or_none(&stream.cache_control));
            self.add(Severity::Warning, Id::CacheControlChanged, seen);
        }
        if !stream.has_own_field {
            self.add(Severity::Warning, Id::AnswerFieldsStripped, "Tidegate-Doctor is missing in the answer");
        }
        judge(stream, measured.round_trip_us).map(|timing| timing.verdict)
    }

    fn silences(&mut self, measured: &Measured) {
        for (id, trial) in [(Id::SilenceCut, &measured.silence), (Id::WebsocketSilenceCut, &measured.websocket_silence)]
        {
            let Some(Silence { wanted_us, cut_after_us: Some(after) }) = trial.done() else { continue };
            let severity = if *after < SHORT_SILENCE_US { Severity::Warning } else { Severity::Note };
            let seen = format!("cut after {} of {} without a word", seconds(*after), seconds(*wanted_us));
            self.add(severity, id, seen);
        }
    }

    fn fields(&mut self, measured: &Measured) {
        if measured.events.done().is_some_and(|stream| !stream.is_fresh && !stream.events.is_empty()) {
            self.add(Severity::Error, Id::AnswerCached, "a stream was the answer to an earlier request");
        }
        let Some(seen) = measured.seen() else { return };
        if seen.nonce.is_empty() {
            self.add(Severity::Error, Id::QueryStripped, "the gateway saw a request without a query");
        }
        for (field, id, severity) in [
            ("last-event-id", Id::LastEventIdStripped, Severity::Error),
            ("cookie", Id::CookiesStripped, Severity::Warning),
            ("tidegate-doctor", Id::RequestFieldsStripped, Severity::Warning),
        ] {
            if !seen.has(field) {
                self.add(severity, id, format!("{field} was sent and did not arrive"));
            }
        }
        if !seen.host_kept && seen.has("tidegate-doctor") {
            self.add(Severity::Warning, Id::HostChanged, "the host that arrived is not the one of the URL");
        }
        if !measured.is_fronted() {
            return;
        }
        if seen.client == Heard::Nothing {
            let what = "neither Forwarded nor X-Forwarded-For arrived";
            self.add(Severity::Warning, Id::ClientAddressHidden, what);
        }
        let ends_tls = measured.tls.is_some() && !seen.tls;
        if ends_tls && seen.scheme == Heard::Nothing {
            self.add(Severity::Warning, Id::SchemeHidden, "neither Forwarded nor X-Forwarded-Proto arrived");
        }
        for (heard, id, why) in [
            (Heard::Untrusted, Id::FrontUntrusted, "from an address that is not trusted"),
            (Heard::Unread, Id::FrontUnread, "and nothing was made of it"),
        ] {
            let what = match (seen.client == heard, ends_tls && seen.scheme == heard) {
                (true, true) => "who asks and by which scheme",
                (true, false) => "who asks",
                (false, true) => "by which scheme",
                (false, false) => continue,
            };
            self.add(Severity::Warning, id, format!("it was said {what}, {why}"));
        }
    }

    fn versions(&mut self, measured: &Measured) {
        if let Some(seen) = measured.seen().filter(|seen| seen.version == "HTTP/1.0") {
            self.add(Severity::Warning, Id::OldHttpToGateway, format!("the gateway was asked by {}", seen.version));
        }
        if let (Trial::Failed(why), Some(_)) = (&measured.http2, &measured.tls) {
            self.add(Severity::Warning, Id::Http2Missing, why.clone());
        }
    }

    fn websockets(&mut self, measured: &Measured) {
        if let Trial::Failed(why) = &measured.websocket {
            self.add(Severity::Error, Id::WebsocketFails, why.clone());
        }
        if let (Trial::Failed(why), Some(_)) = (&measured.websocket_http2, measured.http2.done()) {
            self.add(Severity::Note, Id::WebsocketOverHttp2Missing, why.clone());
        }
    }

    fn uploads(&mut self, measured: &Measured) {
        match &measured.upload {
            Trial::Done(sent) => {
                let arrived: Vec<u64> = sent.arrived.chunks.iter().map(|chunk| chunk.at_us).collect();
                let groups = timing::groups(&arrived, sent.interval_us);
                let pieces = sent.pieces;
                if groups * 2 <= usize::try_from(pieces).unwrap_or(usize::MAX) {
                    self.add(Severity::Note, Id::UploadBuffered, arrived_in(sent, groups));
                }
            }
            Trial::Failed(why) => self.add(Severity::Warning, Id::UploadFails, why.clone()),
            Trial::Skipped(_) => {}
        }
    }

    fn tls(&mut self, measured: &Measured) {
        let Some(tls) = &measured.tls else {
            return self.add(Severity::Warning, Id::NoTls, "plain HTTP");
        };
        if tls.version != "TLS 1.3" {
            self.add(Severity::Note, Id::TlsOld, tls.version.clone());
        }
        if let Some(days) = tls.days_left.filter(|days| *days < DAYS_LEFT) {
            let severity = if days < 0 { Severity::Error } else { Severity::Warning };
            let seen = if days < 0 {
                format!("it ended {} days ago", days.unsigned_abs())
            } else {
                format!("it holds for {days} days")
            };
            self.add(severity, Id::CertificateEnds, seen);
        }
    }
}

/// How events came, in words.
pub(super) fn came(measured: &Measured, trial: &Trial<Stream>) -> String {
    let Some(stream) = trial.done() else { return unmeasured(trial) };
    let (got, wanted) = (stream.events.len(), stream.wanted);
    let Some(timing) = judge(stream, measured.round_trip_us) else { return format!("{got} of {wanted} events came") };
    let (apart, median, worst) = (millis(stream.interval_us), millis(timing.median_us), millis(timing.worst_us));
    let how = match timing.verdict {
        Verdict::OneByOne => "one by one".to_owned(),
        Verdict::Late => "one by one, but late".to_owned(),
        Verdict::Together if timing.groups == 1 => "all at once".to_owned(),
        Verdict::Together => format!("in {} groups", timing.groups),
    };
    format!("{got} of {wanted} events sent {apart} apart came {how}; {median} late at the median, {worst} at most")
}

/// How an upload arrived, in words.
pub(super) fn arrived_in(sent: &Sent, groups: usize) -> String {
    let (pieces, apart, groups) = (sent.pieces, millis(sent.interval_us), counted(groups, "group"));
    format!("{pieces} pieces sent {apart} apart arrived in {groups}")
}

/// How a WebSocket went, in words.
pub(super) fn echoed(trial: &Trial<Echoed>) -> String {
    trial.done().map_or_else(
        || unmeasured(trial),
        |echoed| format!("echo after {}, pong after {}", millis(echoed.message_us), millis(echoed.ping_us)),
    )
}

/// Why there is no measurement.
pub(super) fn unmeasured<T>(trial: &Trial<T>) -> String {
    match trial {
        Trial::Done(_) => "yes".to_owned(),
        Trial::Failed(why) => format!("no: {why}"),
        Trial::Skipped(why) => format!("not tried: {why}"),
    }
}

/// Whole milliseconds.
pub(super) fn millis(micros: u64) -> String {
    format!("{} ms", micros.saturating_add(500) / 1000)
}

/// Seconds with one digit behind the point.
pub(super) fn seconds(micros: u64) -> String {
    let tenths = micros.saturating_add(50_000) / 100_000;
    format!("{}.{} s", tenths / 10, tenths % 10)
}

/// A number of things.
pub(super) fn counted(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

fn is_event_stream(content_type: &str) -> bool {
    content_type.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("text/event-stream"))
}

fn or_none(value: &str) -> &str {
    if value.is_empty() { "(none)" } else { value }
}
