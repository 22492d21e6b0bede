//! What is printed.

use std::fmt::Write as _;

use serde::Serialize;

use super::findings::{Finding, Severity, arrived_in, came, counted, echoed, millis, seconds, unmeasured};
use super::front::Front;
use super::measured::{Measured, Silence, Trial};
use super::timing;

/// For people: what was measured, then what was found. Nothing of it is coloured, so that it can be put into a mail.
pub(super) fn text(url: &str, measured: &Measured, findings: &[Finding]) -> String {
    let mut text = String::new();
    // A string takes all.
    let _ = write(&mut text, url, measured, findings);
    text
}

/// For programs: everything.
pub(super) fn json(url: &str, measured: &Measured, findings: &[Finding]) -> String {
    #[derive(Serialize)]
    struct Report<'a> {
        url: &'a str,
        front: Option<Front>,
        findings: &'a [Finding],
        measured: &'a Measured,
    }
    let front = Front::guess(measured);
    serde_json::to_string_pretty(&Report { url, front, findings, measured }).unwrap_or_default()
}

fn write(text: &mut String, url: &str, measured: &Measured, findings: &[Finding]) -> std::fmt::Result {
    writeln!(text, "tidegate doctor {url}\n")?;
    for (name, value) in lines(measured) {
        writeln!(text, "{name:<22}{value}")?;
    }
    for finding in findings {
        let severity = match finding.severity {
            Severity::Error => "ERROR",
            Severity::Warning => "WARNING",
            Severity::Note => "note",
        };
        writeln!(text, "\n{severity} {}", finding.id)?;
        writeln!(text, "  seen   {}", finding.seen)?;
        writeln!(text, "  means  {}", finding.means)?;
        for (index, (front, cure)) in finding.cures.iter().enumerate() {
            let label = if index == 0 { "cure" } else { "" };
            writeln!(text, "  {label:<6} {:<8} {cure}", front.name())?;
        }
    }
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let (errors, warnings, notes) = (count(Severity::Error), count(Severity::Warning), count(Severity::Note));
    let (errors, warnings) = (counted(errors, "error"), counted(warnings, "warning"));
    writeln!(text, "\n{errors}, {warnings}, {}", counted(notes, "note"))
}

fn lines(measured: &Measured) -> Vec<(&'static str, String)> {
    let tls = measured.tls.as_ref().map_or_else(
        || "without TLS".to_owned(),
        |tls| match tls.days_left {
            Some(days) => format!("{}, certificate good for {days} days", tls.version),
            None => tls.version.clone(),
        },
    );
    let front = match (Front::guess(measured), measured.signs.first()) {
        (Some(front), Some((name, value))) => format!("{} ({name}: {value})", front.name()),
        (Some(front), None) => front.name().to_owned(),
        (None, Some((name, value))) => format!("something that says {name}: {value}"),
        (None, None) if measured.is_fronted() => "something that does not say what it is".to_owned(),
        (None, None) => "nothing that can be seen".to_owned(),
    };
    let hop = measured.seen().map_or_else(
        || "unknown".to_owned(),
        |seen| {
            let tls = if seen.tls { "with TLS" } else { "without TLS" };
            format!("{} {tls}, from a {} address", seen.version, format!("{:?}", seen.peer).to_lowercase())
        },
    );
    let silence = |trial: &Trial<Silence>| match trial.done() {
        Some(Silence { wanted_us, cut_after_us: None }) => format!("lasted {}", seconds(*wanted_us)),
        Some(Silence { cut_after_us: Some(after), .. }) => format!("cut after {}", seconds(*after)),
        None => unmeasured(trial),
    };
    let encoded = |stream: &super::measured::Stream| match stream.content_encoding.as_str() {
        "" => "not compressed".to_owned(),
        encoding => format!("compressed by {encoding}"),
    };
    let compressed = |trial: &Trial<_>| trial.done().map_or_else(|| unmeasured(trial), encoded);
    let upload = measured.upload.done().map_or_else(
        || unmeasured(&measured.upload),
        |sent| {
            let times: Vec<u64> = sent.arrived.chunks.iter().map(|chunk| chunk.at_us).collect();
            arrived_in(sent, timing::groups(&times, sent.interval_us))
        },
    );
    vec![
        ("reached", format!("{}, {tls}, {} there and back", measured.address, millis(measured.round_trip_us))),
        ("in front", front),
        ("last hop", hop),
        ("HTTP/1.1", unmeasured(&measured.http1)),
        ("HTTP/2", unmeasured(&measured.http2)),
        ("events", came(measured, &measured.events)),
        ("events, bare", came(measured, &measured.bare)),
        ("compression", compressed(&measured.compressible)),
        ("compression, bare", compressed(&measured.bare_compressible)),
        ("silent stream", silence(&measured.silence)),
        ("upload", upload),
        ("WebSocket", echoed(&measured.websocket)),
        ("WebSocket, HTTP/2", echoed(&measured.websocket_http2)),
        ("silent WebSocket", silence(&measured.websocket_silence)),
    ]
}
