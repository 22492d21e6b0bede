//! The query of a request to the diagnostic endpoint.

use std::fmt;
use std::time::Duration;

use super::{LONGEST_MS, MOST_EVENTS, SHORTEST_MS};

/// Longest nonce in bytes.
const LONGEST_NONCE: usize = 64;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which answer.
    pub probe: Probe,
    /// Comes back in the answer: one that was kept by a cache on the way has another. Empty if the request brought none.
    pub nonce: String,
}

/// The answers there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// What the gateway saw of the request; without a query it is this.
    Seen,
    /// A stream of timed events.
    Events(Events),
    /// When the pieces of the request's body arrived.
    Upload,
    /// A WebSocket that sends every message back.
    Echo,
}

/// A stream of timed events. Its length, from the first to the last, is at most [`LONGEST_MS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// How many, 1 to [`MOST_EVENTS`].
    pub count: u32,
    /// Time from one to the next, [`SHORTEST_MS`] or more, in whole milliseconds.
    pub interval: Duration,
    /// Without the fields that ask whatever is on the way not to buffer.
    pub bare: bool,
}

/// A query that asks for nothing there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadQuery {
    /// `probe` is none of the probes.
    #[error("probe must be seen, events, upload or echo")]
    Probe,
    /// `events` is no number or out of range.
    #[error("events must be 1 to 100")]
    Count,
    /// `interval_ms` is no number or out of range.
    #[error("interval_ms must be 10 to 120000")]
    Interval,
    /// Both are in range, but not together.
    #[error("the events must all come within 120 seconds")]
    TooLong,
    /// `headers` is no choice.
    #[error("headers must be full or bare")]
    Headers,
    /// `nonce` is too long, or holds other characters.
    #[error("nonce must be at most 64 letters and digits")]
    Nonce,
    /// A parameter that is not known, or not of this probe.
    #[error("this probe has no such parameter")]
    Unknown,
}

impl Events {
    /// Time from the first event to the last.
    #[must_use]
    pub fn duration(&self) -> Duration {
        self.interval.saturating_mul(self.count.saturating_sub(1))
    }
}

impl Wanted {
    /// Reads a query; an empty one asks for [`Probe::Seen`].
    ///
    /// # Errors
    ///
    /// [`BadQuery`]: nothing is ignored.
    pub fn parse(query: &str) -> Result<Self, BadQuery> {
        let (mut probe, mut nonce) = ("seen", "");
        let (mut count, mut interval, mut bare) = (None, None, None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(BadQuery::Unknown)?;
            match name {
                "probe" => probe = value,
                "nonce" => nonce = value,
                "events" => count = Some(number(value, 1..=u64::from(MOST_EVENTS)).ok_or(BadQuery::Count)?),
                "interval_ms" => {
                    interval = Some(number(value, SHORTEST_MS..=LONGEST_MS).ok_or(BadQuery::Interval)?);
                }
                "headers" => {
                    bare = Some(match value {
                        "full" => false,
                        "bare" => true,
                        _ => return Err(BadQuery::Headers),
                    });
                }
                _ => return Err(BadQuery::Unknown),
            }
        }
        if nonce.len() > LONGEST_NONCE || !nonce.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(BadQuery::Nonce);
        }
        let probe = match probe {
            "events" => {
                let count = count.and_then(|count| u32::try_from(count).ok()).unwrap_or(10);
                let interval = Duration::from_millis(interval.unwrap_or(200));
                let events = Events { count, interval, bare: bare.unwrap_or(false) };
                if events.duration() > Duration::from_millis(LONGEST_MS) {
                    return Err(BadQuery::TooLong);
                }
                Probe::Events(events)
            }
            _ if count.is_some() || interval.is_some() || bare.is_some() => return Err(BadQuery::Unknown),
            "seen" => Probe::Seen,
            "upload" => Probe::Upload,
            "echo" => Probe::Echo,
            _ => return Err(BadQuery::Probe),
        };
        Ok(Self { probe, nonce: nonce.to_owned() })
    }
}

fn number(text: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
    // Rust's own reader takes a sign.
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten().filter(|number| range.contains(number))
}

/// As a query, without the question mark.
impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.probe {
            Probe::Seen => f.write_str("probe=seen")?,
            Probe::Upload => f.write_str("probe=upload")?,
            Probe::Echo => f.write_str("probe=echo")?,
            Probe::Events(Events { count, interval, bare }) => {
                let headers = if *bare { "bare" } else { "full" };
                let interval = interval.as_millis();
                write!(f, "probe=events&events={count}&interval_ms={interval}&headers={headers}")?;
            }
        }
        if self.nonce.is_empty() { Ok(()) } else { write!(f, "&nonce={}", self.nonce) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_request_without_a_query_asks_what_was_seen() {
        assert_eq!(Wanted::parse(""), Ok(Wanted { probe: Probe::Seen, nonce: String::new() }));
    }

    #[test]
    fn events_have_defaults_and_bounds() {
        let events = |query: &str| match Wanted::parse(&format!("probe=events&{query}")).map(|wanted| wanted.probe) {
            Ok(Probe::Events(events)) => Ok((events.count, events.interval.as_millis(), events.bare)),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        };
        assert_eq!(events(""), Ok((10, 200, false)));
        assert_eq!(events("events=100&interval_ms=10&headers=bare"), Ok((100, 10, true)));
        assert_eq!(events("events=2&interval_ms=120000"), Ok((2, 120_000, false)));
        for (query, error) in [
            ("events=0", BadQuery::Count),
            ("events=101", BadQuery::Count),
            ("events=+5", BadQuery::Count),
            ("interval_ms=9", BadQuery::Interval),
            ("interval_ms=120001", BadQuery::Interval),
            ("interval_ms=99999999999999999999999", BadQuery::Interval),
            ("events=3&interval_ms=60001", BadQuery::TooLong),
            ("headers=none", BadQuery::Headers),
            ("nonce=a-b", BadQuery::Nonce),
            ("speed=1", BadQuery::Unknown),
            ("events", BadQuery::Unknown),
        ] {
            assert_eq!(events(query), Err(error), "{query}");
        }
        assert_eq!(Wanted::parse("probe=seen&events=3"), Err(BadQuery::Unknown));
        assert_eq!(Wanted::parse("probe=all"), Err(BadQuery::Probe));
    }

    fn any_wanted() -> impl Strategy<Value = Wanted> {
        let events = (1..=MOST_EVENTS, SHORTEST_MS..=1000, any::<bool>()).prop_map(|(count, interval, bare)| {
            Probe::Events(Events { count, interval: Duration::from_millis(interval), bare })
        });
        let probe = prop_oneof![Just(Probe::Seen), Just(Probe::Upload), Just(Probe::Echo), events];
        (probe, "[a-zA-Z0-9]{0,64}").prop_map(|(probe, nonce)| Wanted { probe, nonce })
    }

    proptest! {
        #[test]
        fn what_the_doctor_writes_the_gateway_reads(wanted in any_wanted()) {
            let long = matches!(&wanted.probe, Probe::Events(events) if events.duration() > Duration::from_mins(2));
            prop_assume!(!long);
            prop_assert_eq!(Wanted::parse(&wanted.to_string()), Ok(wanted));
        }

        #[test]
        fn no_query_makes_it_panic(query in "[a-z_&=0-9%]{0,60}") {
            let _ = Wanted::parse(&query);
        }
    }
}
