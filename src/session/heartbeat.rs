//! When to ping a client, and when its silence means that it is gone.

use std::time::{Duration, Instant};

/// The WebSocket heartbeat of one connection (RFC 6455 section 5.5.2).
///
/// Any sign of life answers a ping, not only its pong. Silence counts only while the socket is read: a client whose
/// pong we chose not to read is not gone.
#[derive(Debug)]
pub struct Heartbeat {
    interval: Duration,
    timeout: Duration,
    next_ping: Instant,
    /// Set while a ping is unanswered; the oldest such ping counts.
    deadline: Option<Instant>,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beat {
    /// Nothing yet.
    Nothing,
    /// A ping must be sent.
    Ping,
    /// The client is gone.
    Lost,
}

impl Heartbeat {
    /// Starts at `now`. `spread`, from 0 to 255, moves the first ping to somewhere in the second half of the interval,
    /// so that connections opened together do not ping together for ever.
    #[must_use]
    pub fn new(interval: Duration, timeout: Duration, spread: u8, now: Instant) -> Self {
        let late = interval / 2 * (256 - u32::from(spread)) / 256;
        Self { interval, timeout, next_ping: now + interval / 2 + late, deadline: None }
    }

    /// The client gave a sign of life.
    pub fn alive(&mut self) {
        self.deadline = None;
    }

    /// The socket is read again after a pause that we caused: an answer now has its full time again.
    pub fn reading_again(&mut self, now: Instant) {
        if let Some(deadline) = &mut self.deadline {
            *deadline = now + self.timeout;
        }
    }

    /// What is due at `now`, given whether the socket is being read. Pings go on while it is not: proxies on the way
    /// must not take the connection for idle.
    pub fn beat(&mut self, now: Instant, reading: bool) -> Beat {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            if reading {
                return Beat::Lost;
            }
            self.deadline = Some(now + self.timeout);
        }
        if self.next_ping > now {
            return Beat::Nothing;
        }
        self.next_ping = now + self.interval;
        self.deadline.get_or_insert(now + self.timeout);
        Beat::Ping
    }

    /// When [`beat`](Self::beat) must be asked again.
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        self.deadline.map_or(self.next_ping, |deadline| deadline.min(self.next_ping))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(30);
    const TIMEOUT: Duration = Duration::from_secs(10);

    fn started() -> (Heartbeat, Instant) {
        let now = Instant::now();
        (Heartbeat::new(INTERVAL, TIMEOUT, 0, now), now)
    }

    #[test]
    fn a_ping_is_due_after_the_interval_and_not_before() {
        let (mut heartbeat, start) = started();
        assert_eq!(heartbeat.beat(start + INTERVAL.saturating_sub(Duration::from_millis(1)), true), Beat::Nothing);
        assert_eq!(heartbeat.beat(start + INTERVAL, true), Beat::Ping);
        assert_eq!(heartbeat.next_deadline(), start + INTERVAL + TIMEOUT);
    }

    #[test]
    fn any_sign_of_life_answers_a_ping() {
        let (mut heartbeat, start) = started();
        assert_eq!(heartbeat.beat(start + INTERVAL, true), Beat::Ping);
        heartbeat.alive();
        assert_eq!(heartbeat.beat(start + INTERVAL + TIMEOUT, true), Beat::Nothing);
        assert_eq!(heartbeat.beat(start + INTERVAL * 2, true), Beat::Ping);
    }

    #[test]
    fn silence_after_a_ping_means_lost() {
        let (mut heartbeat, start) = started();
        assert_eq!(heartbeat.beat(start + INTERVAL, true), Beat::Ping);
        assert_eq!(heartbeat.beat(start + INTERVAL + TIMEOUT, true), Beat::Lost);
    }

    #[test]
    fn silence_that_we_caused_is_never_taken_for_death() {
        let (mut heartbeat, start) = started();
        assert_eq!(heartbeat.beat(start + INTERVAL, false), Beat::Ping);
        assert_eq!(heartbeat.beat(start + INTERVAL + TIMEOUT, false), Beat::Nothing);
        assert_eq!(heartbeat.beat(start + INTERVAL * 2, false), Beat::Ping, "pings go on meanwhile");
        let later = start + INTERVAL * 2 + TIMEOUT / 2;
        heartbeat.reading_again(later);
        assert_eq!(heartbeat.beat(later + TIMEOUT.saturating_sub(Duration::from_millis(1)), true), Beat::Nothing);
        assert_eq!(heartbeat.beat(later + TIMEOUT, true), Beat::Lost);
    }

    #[test]
    fn connections_opened_together_do_not_ping_together() {
        let now = Instant::now();
        let due = |spread| Heartbeat::new(INTERVAL, TIMEOUT, spread, now).next_deadline();
        assert!(due(255) > now + INTERVAL / 2 && due(255) < due(128) && due(128) < due(0));
    }
}
