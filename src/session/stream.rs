//! The connection's own event stream: open, lost, opened again.

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use super::settings::Settings;

/// The state of the main event stream, and how often and since when it has failed.
#[derive(Debug)]
pub(super) struct MainStream {
    state: State,
    backoff: Backoff,
    /// Attempts since the stream last showed that it is of use.
    attempt: u32,
    /// When this stream was lost, while it is away.
    away: Option<Instant>,
    /// When the first stream was lost; kept over streams that open and end again without having been of use.
    lost: Option<Instant>,
    /// What upstream asked for with `retry:`.
    retry: Duration,
    /// Events may have been lost meanwhile.
    gap: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Open {
        since: Instant,
        heard: Instant,
    },
    /// It is to be asked for then.
    Waiting {
        until: Instant,
    },
    /// It has been asked for.
    Opening,
    /// It is not wanted any more.
    Over,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// The stream has been silent for too long.
    Stalled,
    /// It must be asked for; whether from where it ended, or from wherever upstream begins.
    Reopen {
        resume: bool,
    },
    /// It has been away for too long.
    GiveUp,
}

/// What was while a stream was away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Away {
    /// For how long.
    pub time: Duration,
    /// Whether events may have been lost.
    pub gap: bool,
}

impl MainStream {
    /// A stream that has just been opened.
    pub(super) const fn open(seed: u64, now: Instant) -> Self {
        Self {
            state: State::Open { since: now, heard: now },
            backoff: Backoff::new(seed),
            attempt: 0,
            away: None,
            lost: None,
            retry: Duration::ZERO,
            gap: false,
        }
    }

    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    pub(super) const fn is_opening(&self) -> bool {
        matches!(self.state, State::Opening)
    }

    /// Upstream gave a sign of life.
    pub(super) fn heard(&mut self, now: Instant) {
        if let State::Open { heard, .. } = &mut self.state {
            *heard = now;
        }
    }

    /// An event came: this stream is of use.
    pub(super) fn event(&mut self, now: Instant) {
        self.heard(now);
        self.attempt = 0;
        self.lost = None;
    }

    /// The stream is over and must be opened again. `resumable` says whether it has set a position.
    pub(super) fn lost(&mut self, resumable: bool, retry: Option<Duration>, now: Instant, settings: &Settings) {
        if let State::Open { since, .. } = self.state
            && now.saturating_duration_since(since) >= settings.reconnect.max_delay
        {
            // It lived long enough, even if it had nothing to say.
            self.attempt = 0;
            self.lost = None;
        }
        self.away = Some(now);
        self.lost.get_or_insert(now);
        self.gap |= !resumable;
        self.retry = retry.unwrap_or(self.retry);
        self.wait(Duration::ZERO, now, settings);
    }

    /// An attempt to open it failed; upstream asks for a wait of at least this.
    pub(super) fn failed(&mut self, at_least: Duration, now: Instant, settings: &Settings) {
        self.wait(at_least, now, settings);
    }

    /// Upstream no longer has the position: it is asked without it.
    pub(super) fn position_lost(&mut self, now: Instant, settings: &Settings) {
        self.gap = true;
        self.wait(Duration::ZERO, now, settings);
    }

    fn wait(&mut self, at_least: Duration, now: Instant, settings: &Settings) {
        let (first, max) = (settings.reconnect.first_delay, settings.reconnect.max_delay);
        let jitter = self.backoff.wait(self.attempt, first, max);
        self.attempt = self.attempt.saturating_add(1);
        // What upstream asks for in a stream is a wish; what it asks for in a refusal is a limit, unless it is longer than
        // the stream is waited for at all.
        let at_least = at_least.min(settings.reconnect.give_up_after);
        let wait = self.retry.min(max).max(at_least) + jitter;
        self.state = State::Waiting { until: now.checked_add(wait).unwrap_or(now) };
    }

    /// The stream is open again.
    pub(super) fn opened(&mut self, now: Instant) -> Away {
        self.state = State::Open { since: now, heard: now };
        let since = self.away.take().unwrap_or(now);
        Away { time: now.saturating_duration_since(since), gap: std::mem::take(&mut self.gap) }
    }

    /// Nobody wants the stream any more.
    pub(super) fn over(&mut self) {
        self.state = State::Over;
    }

    /// What is due at `now`. While the stream is not `reading`, its silence is ours.
    pub(super) fn due(&mut self, now: Instant, reading: bool, settings: &Settings) -> Due {
        if !self.is_open()
            && !matches!(self.state, State::Over)
            && self.lost.is_some_and(|lost| now.saturating_duration_since(lost) >= settings.reconnect.give_up_after)
        {
            return Due::GiveUp;
        }
        match self.state {
            State::Open { heard, .. } if now.saturating_duration_since(heard) >= settings.stall_timeout => {
                self.heard(now);
                if reading { Due::Stalled } else { Due::Nothing }
            }
            State::Waiting { until } if until <= now => {
                self.state = State::Opening;
                Due::Reopen { resume: !self.gap }
            }
            State::Open { .. } | State::Waiting { .. } | State::Opening | State::Over => Due::Nothing,
        }
    }

    /// When [`due`](Self::due) must be asked again.
    pub(super) fn next_deadline(&self, settings: &Settings) -> Option<Instant> {
        let give_up = self.lost.and_then(|lost| lost.checked_add(settings.reconnect.give_up_after));
        match self.state {
            State::Open { heard, .. } => heard.checked_add(settings.stall_timeout),
            State::Waiting { until } => Some(give_up.map_or(until, |give_up| give_up.min(until))),
            State::Opening => give_up,
            State::Over => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn opened() -> (MainStream, Instant, Settings) {
        let now = Instant::now();
        (MainStream::open(7, now), now, Settings::default())
    }

    /// Waits for the next attempt and gives its time.
    fn next_attempt(stream: &mut MainStream, settings: &Settings) -> Instant {
        let at = stream.next_deadline(settings).expect("an attempt is due");
        assert!(matches!(stream.due(at, true, settings), Due::Reopen { .. }));
        at
    }

    #[test]
    fn silence_is_noticed_after_the_stall_timeout_and_not_before() {
        let (mut stream, start, settings) = opened();
        stream.heard(start + SECOND);
        let at = start + SECOND + settings.stall_timeout;
        assert_eq!(stream.next_deadline(&settings), Some(at));
        assert_eq!(stream.due(start + settings.stall_timeout, true, &settings), Due::Nothing);
        assert_eq!(stream.due(at, true, &settings), Due::Stalled);
    }

    #[test]
    fn silence_that_we_caused_does_not_count() {
        let (mut stream, start, settings) = opened();
        let at = start + settings.stall_timeout;
        assert_eq!(stream.due(at, false, &settings), Due::Nothing);
        assert_eq!(stream.next_deadline(&settings), Some(at + settings.stall_timeout));
    }

    #[test]
    fn waits_grow_while_attempts_fail_and_start_over_once_an_event_came() {
        let (mut stream, start, settings) = opened();
        stream.lost(true, None, start, &settings);
        let first = next_attempt(&mut stream, &settings);
        assert!(first <= start + settings.reconnect.first_delay);
        for _ in 0..8 {
            stream.failed(Duration::ZERO, start, &settings);
        }
        assert_eq!(stream.attempt, 9);
        stream.opened(start);
        stream.event(start);
        stream.lost(true, None, start, &settings);
        assert_eq!(stream.attempt, 1);
    }

    #[test]
    fn a_stream_that_opens_and_ends_at_once_is_no_reason_to_start_over() {
        let (mut stream, start, settings) = opened();
        stream.lost(true, None, start, &settings);
        stream.opened(start);
        stream.lost(true, None, start + SECOND, &settings);
        assert_eq!(stream.attempt, 2);
        let give_up = start + settings.reconnect.give_up_after;
        assert_eq!(stream.due(give_up, true, &settings), Due::GiveUp, "counted from the first loss");
    }

    #[test]
    fn what_upstream_asks_for_is_waited() {
        let (mut stream, start, settings) = opened();
        stream.lost(true, Some(3 * SECOND), start, &settings);
        assert!(next_attempt(&mut stream, &settings) >= start + 3 * SECOND);
        stream.failed(30 * SECOND, start, &settings);
        assert!(next_attempt(&mut stream, &settings) >= start + 30 * SECOND);
        // A wish is held against the limit.
        let (mut stream, start, settings) = opened();
        stream.lost(true, Some(3600 * SECOND), start, &settings);
        assert!(next_attempt(&mut stream, &settings) <= start + settings.reconnect.max_delay + SECOND);
    }

    #[test]
    fn a_lost_position_is_not_asked_for_again_and_is_told_once() {
        let (mut stream, start, settings) = opened();
        stream.lost(true, None, start, &settings);
        let at = next_attempt(&mut stream, &settings);
        stream.position_lost(at, &settings);
        let at = stream.next_deadline(&settings).unwrap();
        assert_eq!(stream.due(at, true, &settings), Due::Reopen { resume: false });
        assert!(stream.opened(at).gap);
        stream.lost(true, None, at, &settings);
        assert!(!stream.opened(at).gap);
    }

    #[test]
    fn an_attempt_without_an_answer_is_given_up_in_time() {
        let (mut stream, start, settings) = opened();
        stream.lost(true, None, start, &settings);
        next_attempt(&mut stream, &settings);
        let give_up = start + settings.reconnect.give_up_after;
        assert_eq!(stream.next_deadline(&settings), Some(give_up));
        assert_eq!(stream.due(give_up, true, &settings), Due::GiveUp);
    }
}
