//! When a stream gets a heartbeat, and when it ends: pure, time comes in.

use std::time::{Duration, Instant};

use super::Settings;

/// How long a stream that has to end may take to finish the event under way; its client drops half an event.
const LAST_EVENT: Duration = Duration::from_secs(1);

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Upstream ended it.
    Ended,
    /// Upstream broke it off, or sent what cannot be decoded.
    Broken,
    /// Upstream sent nothing for `stall_timeout`.
    Stalled,
    /// No event came for `idle_timeout`.
    Idle,
    /// The client's identity has expired.
    Expired,
    /// What the client had proven was taken back.
    Revoked,
    /// The gateway stops.
    Shutdown,
    /// The client left.
    Left,
}

impl Cause {
    /// Every one, in the order of the counters.
    pub const ALL: [Self; 8] = [
        Self::Ended,
        Self::Broken,
        Self::Stalled,
        Self::Idle,
        Self::Expired,
        Self::Revoked,
        Self::Shutdown,
        Self::Left,
    ];

    /// The word for it in logs and metrics; where a bridged connection ends for the same reason, the same word.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Ended => "stream-ended",
            Self::Broken => "stream-broken",
            Self::Stalled => "stream-stalled",
            Self::Idle => "idle",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Shutdown => "shutdown",
            Self::Left => "client-closed",
        }
    }
}

/// What is to be done now that upstream has nothing more to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing, until then.
    Wait(Option<Instant>),
    /// A heartbeat is put in.
    Beat,
    /// The stream ends.
    End(Cause),
}

/// The times of one stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    heartbeat: Option<Duration>,
    stall: Option<Duration>,
    idle: Option<Duration>,
    /// When something was sent last.
    sent: Instant,
    /// When an event came last.
    event: Instant,
    /// Since when upstream is listened to without a word. It is not while the client does not read.
    silent: Option<Instant>,
    /// When the client's identity ends, if it does.
    ends: Option<Instant>,
    /// Why it is about to end, and until when the event under way may take.
    leaving: Option<(Cause, Instant)>,
}

impl Pace {
    pub(super) fn new(settings: &Settings, now: Instant, ends: Option<Instant>) -> Self {
        let Settings { heartbeat, stall_timeout: stall, idle_timeout: idle, .. } = *settings;
        Self { heartbeat, stall, idle, sent: now, event: now, silent: None, ends, leaving: None }
    }

    /// Something came from upstream, and goes to the client; `event`: one has ended in it.
    pub(super) fn passed(&mut self, now: Instant, event: bool) {
        (self.sent, self.silent) = (now, None);
        if event {
            self.event = now;
        }
    }

    /// Something of ours goes to the client.
    pub(super) fn sent(&mut self, now: Instant) {
        self.sent = now;
    }

    /// The stream is to end as soon as no event is under way. The first reason counts.
    pub(super) fn leave(&mut self, cause: Cause, now: Instant) {
        self.leaving.get_or_insert((cause, now + LAST_EVENT));
    }

    /// Whether it ends now although upstream may have more; `between`: no event is under way.
    pub(super) fn over(&mut self, now: Instant, between: bool) -> Option<Cause> {
        if self.ends.is_some_and(|at| at <= now) {
            self.leave(Cause::Expired, now);
        }
        self.leaving.filter(|(_, until)| between || *until <= now).map(|(cause, _)| cause)
    }

    /// What is due, with nothing to read from upstream.
    pub(super) fn turn(&mut self, now: Instant, between: bool) -> Turn {
        let silent = *self.silent.get_or_insert(now);
        let idle = self.idle.map(|idle| self.event + idle);
        if idle.is_some_and(|at| at <= now) {
            self.leave(Cause::Idle, now);
        }
        if let Some(cause) = self.over(now, between) {
            return Turn::End(cause);
        }
        let stall = self.stall.map(|stall| silent + stall);
        if stall.is_some_and(|at| at <= now) {
            return Turn::End(Cause::Stalled);
        }
        // Inside an event nothing is put in, however long it takes.
        let beat = self.heartbeat.filter(|_| between).map(|interval| self.sent + interval);
        if beat.is_some_and(|at| at <= now) {
            return Turn::Beat;
        }
        let leaving = self.leaving.map(|(_, until)| until);
        let ends = self.ends.filter(|at| *at > now);
        let idle = idle.filter(|at| *at > now);
        Turn::Wait([stall, beat, leaving, ends, idle].into_iter().flatten().min())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace(settings: Settings) -> (Pace, Instant) {
        let now = Instant::now();
        (Pace::new(&settings, now, None), now)
    }

    #[test]
    fn a_heartbeat_is_due_when_nothing_was_sent_for_the_interval() {
        let (mut pace, start) = pace(Settings::default());
        assert_eq!(pace.turn(start, true), Turn::Wait(Some(start + 15 * SECOND)));
        pace.passed(start + 10 * SECOND, true);
        assert_eq!(pace.turn(start + 15 * SECOND, true), Turn::Wait(Some(start + 25 * SECOND)));
        assert_eq!(pace.turn(start + 25 * SECOND, true), Turn::Beat);
        pace.sent(start + 25 * SECOND);
        assert_eq!(pace.turn(start + 25 * SECOND, true), Turn::Wait(Some(start + 40 * SECOND)));
    }

    #[test]
    fn inside_an_event_there_is_no_heartbeat() {
        let (mut pace, start) = pace(Settings::default());
        assert_eq!(pace.turn(start, false), Turn::Wait(Some(start + 90 * SECOND)));
        assert_eq!(pace.turn(start + 89 * SECOND, false), Turn::Wait(Some(start + 90 * SECOND)));
        assert_eq!(pace.turn(start + 89 * SECOND, true), Turn::Beat);
    }

    #[test]
    fn a_silent_upstream_counts_as_gone_and_heartbeats_of_ours_are_no_word_of_its() {
        let (mut pace, start) = pace(Settings::default());
        for at in (0..90).step_by(15) {
            let _ = pace.turn(start + at * SECOND, true);
            pace.sent(start + at * SECOND);
        }
        assert_eq!(pace.turn(start + 90 * SECOND, true), Turn::End(Cause::Stalled));
    }

    #[test]
    fn silence_counts_only_while_upstream_is_listened_to() {
        let (mut pace, start) = pace(Settings::default());
        pace.passed(start, true);
        // The client took an hour to read that.
        let later = start + 3600 * SECOND;
        assert_eq!(pace.turn(later, false), Turn::Wait(Some(later + 90 * SECOND)));
    }

    #[test]
    fn comments_do_not_keep_a_stream_alive_that_is_idle() {
        let (mut pace, start) = pace(Settings { idle_timeout: Some(60 * SECOND), ..Settings::default() });
        pace.passed(start + 30 * SECOND, true);
        pace.passed(start + 80 * SECOND, false);
        assert_eq!(pace.turn(start + 89 * SECOND, true), Turn::Wait(Some(start + 90 * SECOND)));
        assert_eq!(pace.turn(start + 90 * SECOND, true), Turn::End(Cause::Idle));
    }

    #[test]
    fn a_stream_that_has_to_end_finishes_its_event_within_a_second() {
        let (mut pace, start) = pace(Settings::default());
        pace.leave(Cause::Shutdown, start);
        pace.leave(Cause::Revoked, start);
        assert_eq!(pace.turn(start, false), Turn::Wait(Some(start + SECOND)));
        assert_eq!(pace.over(start, true), Some(Cause::Shutdown));
        assert_eq!(pace.turn(start + SECOND, false), Turn::End(Cause::Shutdown));
    }

    #[test]
    fn a_stream_ends_with_the_identity_of_its_client_also_while_events_pour_in() {
        let start = Instant::now();
        let mut pace = Pace::new(&Settings::default(), start, Some(start + 5 * SECOND));
        assert_eq!(pace.turn(start, true), Turn::Wait(Some(start + 5 * SECOND)));
        assert_eq!(pace.over(start + 4 * SECOND, true), None);
        assert_eq!(pace.over(start + 5 * SECOND, false), None);
        assert_eq!(pace.over(start + 5 * SECOND, true), Some(Cause::Expired));
    }

    #[test]
    fn what_is_off_is_never_due() {
        let (mut pace, start) = pace(Settings { heartbeat: None, stall_timeout: None, ..Settings::default() });
        assert_eq!(pace.turn(start, true), Turn::Wait(None));
        assert_eq!(pace.turn(start + 86_400 * SECOND, true), Turn::Wait(None));
    }
}
