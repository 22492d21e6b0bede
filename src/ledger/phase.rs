//! The phases of an end: what a route says of it, and whom it still lets in by WebSocket. Pure: time and chance come in.
//!
//! Told by `Deprecation` (RFC 9745), `Sunset` (RFC 8594) and their `Link`s, on the answers to handshakes.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};

/// RFC 8594 section 3.
const SUNSET: HeaderName = HeaderName::from_static("sunset");

/// RFC 9745 section 2.
const DEPRECATION: HeaderName = HeaderName::from_static("deprecation");

/// The brownout that is on or comes next, as a dictionary of RFC 9651: `start=@1796904000, end=@1796907600, percent=20`.
pub const BROWNOUT: HeaderName = HeaderName::from_static("tidegate-brownout");

/// Longest time over which those who were refused are asked to come back behind a window.
const MOST_SPREAD: Duration = Duration::from_mins(1);

/// How far an end has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Clients are counted and told nothing.
    #[default]
    Observe,
    /// Clients are told.
    Warn,
    /// Some are refused at announced times.
    Brownout,
    /// All are refused.
    Off,
}

impl Phase {
    /// All of them, in their order.
    pub const ALL: [Self; 4] = [Self::Observe, Self::Warn, Self::Brownout, Self::Off];

    /// The word for it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Warn => "warn",
            Self::Brownout => "brownout",
            Self::Off => "off",
        }
    }
}

/// A time at which some are refused, once or again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// When it begins for the first time.
    pub start: SystemTime,
    /// How long it lasts, at least a second.
    pub duration: Duration,
    /// How long after it began it begins again; at least `duration`. `None`: it does not.
    pub every: Option<Duration>,
}

/// One time from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// When it begins.
    pub start: SystemTime,
    /// When it is over.
    pub end: SystemTime,
}

impl Window {
    /// The time that is on now, or otherwise the next one; `None` if it is over for good.
    #[must_use]
    pub fn at(&self, now: SystemTime) -> Option<Span> {
        let span = |start: SystemTime| Some(Span { start, end: start.checked_add(self.duration)? });
        let Ok(since) = now.duration_since(self.start) else { return span(self.start) };
        let Some(every) = self.every.filter(|every| !every.is_zero()) else {
            return span(self.start).filter(|span| now < span.end);
        };
        let passed = Duration::from_nanos_u128(since.as_nanos() - since.as_nanos() % every.as_nanos());
        let current = span(self.start.checked_add(passed)?)?;
        if now < current.end { Some(current) } else { span(current.start.checked_add(every)?) }
    }
}

/// Which clients are refused, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brownout {
    /// How many of a hundred, 0 to 100.
    pub percent: u8,
    /// When.
    pub windows: Vec<Window>,
}

impl Brownout {
    /// The window that is on now or comes next.
    #[must_use]
    pub fn next(&self, now: SystemTime) -> Option<Span> {
        self.windows.iter().filter_map(|window| window.at(now)).min_by_key(|span| span.start)
    }

    /// The time that is on now, over all windows that overlap.
    fn current(&self, now: SystemTime) -> Option<Span> {
        let on = self.windows.iter().filter_map(|window| window.at(now)).filter(|span| span.start <= now);
        on.reduce(|one, other| Span { start: one.start.min(other.start), end: one.end.max(other.end) })
    }
}

/// What a route says of the end of WebSocket on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sunset {
    /// How far it has come.
    pub phase: Phase,
    /// When it ends; told, and not acted upon.
    pub sunset: Option<SystemTime>,
    /// Since when, or from when on, nobody should use it any more.
    pub deprecated: Option<SystemTime>,
    /// Where people read what to do: a URL.
    pub link: Option<Arc<str>>,
    /// Who is refused in phase `brownout`, and when.
    pub brownout: Option<Brownout>,
}

/// What becomes of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The phase does not concern it.
    Serve,
    /// It is refused until then.
    Brownout {
        /// The end of the window.
        until: SystemTime,
        /// How long it lasts altogether.
        lasts: Duration,
    },
    /// It is refused for good.
    Off,
}

impl Sunset {
    /// What becomes of a handshake on a route from an address. In one window an address is let in or refused throughout, on
    /// every gateway, so that a client that tries again does not slip through; in another window others are concerned.
    #[must_use]
    pub fn verdict(&self, route: &str, address: IpAddr, now: SystemTime) -> Verdict {
        match self.phase {
            Phase::Observe | Phase::Warn => Verdict::Serve,
            Phase::Off => Verdict::Off,
            Phase::Brownout => {
                let Some(brownout) = &self.brownout else { return Verdict::Serve };
                match brownout.current(now) {
                    Some(Span { start, end }) if draw(route, address, start) < brownout.percent => {
                        Verdict::Brownout { until: end, lasts: end.duration_since(start).unwrap_or_default() }
                    }
                    _ => Verdict::Serve,
                }
            }
        }
    }

    /// Adds to an answer what clients are told; nothing in phase `observe`.
    pub fn announce(&self, fields: &mut HeaderMap, now: SystemTime) {
        if self.phase == Phase::Observe {
            return;
        }
        let mut told = |name: HeaderName, value: String| {
            if let Ok(value) = HeaderValue::try_from(value) {
                fields.append(name, value);
            }
        };
        if let Some(at) = self.deprecated {
            told(DEPRECATION, format!("@{}", unix(at)));
        }
        if let Some(at) = self.sunset {
            told(SUNSET, httpdate::fmt_http_date(at));
        }
        if let Some(link) = &self.link {
            let relations = [("deprecation", self.deprecated.is_some()), ("sunset", self.sunset.is_some())];
            let told_of = relations.iter().filter(|(_, is_told)| *is_told).map(|(relation, _)| *relation);
            let mut told_of: Vec<_> = told_of.collect();
            if told_of.is_empty() {
                told_of.push("deprecation");
            }
            told(header::LINK, format!("<{link}>; rel=\"{}\"", told_of.join(" ")));
        }
        let brownout = self.brownout.as_ref().filter(|_| self.phase == Phase::Brownout);
        if let Some((brownout, span)) = brownout.and_then(|brownout| Some((brownout, brownout.next(now)?))) {
            told(
                BROWNOUT,
                format!("start=@{}, end=@{}, percent={}", unix(span.start), unix(span.end), brownout.percent),
            );
        }
    }
}

/// When to come back behind a window that lasts so long: a while later, by chance, so that not all come at once.
#[must_use]
pub fn retry_after(until: SystemTime, lasts: Duration, now: SystemTime, chance: u64) -> Duration {
    let spread = (lasts / 10).clamp(Duration::from_secs(1), MOST_SPREAD);
    let millis = u64::try_from(spread.as_millis()).unwrap_or(1).max(1);
    until.duration_since(now).unwrap_or_default() + Duration::from_millis(chance % millis)
}

/// A number below 100, always the same for an address in a window of a route.
fn draw(route: &str, address: IpAddr, window: SystemTime) -> u8 {
    let mut asked = unix(window).to_be_bytes().to_vec();
    asked.extend_from_slice(address.to_string().as_bytes());
    asked.push(0);
    asked.extend_from_slice(route.as_bytes());
    let hash = digest(&SHA256, &asked);
    let number = hash.as_ref().first_chunk().copied().map_or(0, u64::from_be_bytes);
    u8::try_from(number % 100).unwrap_or(0)
}

/// Seconds since 1970; what was before is 0.
#[must_use]
pub fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
