//! Whether events came when they were sent. No clock is compared with another: what counts is how much later than the quickest
//! possible way an event came.

use super::measured::{Arrival, Stream};

/// How late an event may be, in microseconds, before the stream counts as held back; networks are not that slow.
const LATE_US: u64 = 250_000;

/// How a stream came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Timing {
    pub(super) verdict: Verdict,
    /// Lateness of the events: half of them are later.
    pub(super) median_us: u64,
    /// Lateness of the worst.
    pub(super) worst_us: u64,
    /// How many groups they came in: events that were sent apart and came together are one.
    pub(super) groups: usize,
}

/// What that means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Each when it was sent.
    OneByOne,
    /// Each by itself, but all late.
    Late,
    /// Several at once: something has kept them.
    Together,
}

/// Judges a stream; `None` if it has too few events for that. `round_trip_us` is how long an ordinary answer takes.
pub(super) fn judge(stream: &Stream, round_trip_us: u64) -> Option<Timing> {
    if stream.events.len() < 3 {
        return None;
    }
    let travelled = |event: &Arrival| event.arrived_us.saturating_sub(event.sent_us);
    // Never more than the quickest event took: a round trip can be unlucky.
    let least = stream.events.iter().map(travelled).min().unwrap_or_default().min(round_trip_us);
    let mut late: Vec<u64> = stream.events.iter().map(|event| travelled(event) - least).collect();
    late.sort_unstable();
    let worst_us = late.last().copied().unwrap_or_default();
    let median_us = late.get(late.len() / 2).copied().unwrap_or_default();
    let apart = stream.interval_us / 4;
    let gaps = stream.events.iter().zip(stream.events.iter().skip(1));
    let groups = 1 + gaps.filter(|(one, next)| next.arrived_us.saturating_sub(one.arrived_us) > apart).count();
    let verdict = if groups * 2 <= stream.events.len() && worst_us >= stream.interval_us {
        Verdict::Together
    } else if median_us > LATE_US.max(stream.interval_us / 2) {
        Verdict::Late
    } else {
        Verdict::OneByOne
    };
    Some(Timing { verdict, median_us, worst_us, groups })
}

/// How many groups the pieces of a body came in that were sent `interval_us` apart.
pub(super) fn groups(times_us: &[u64], interval_us: u64) -> usize {
    let gaps = times_us.iter().zip(times_us.iter().skip(1));
    let apart = gaps.filter(|(one, next)| next.saturating_sub(**one) > interval_us / 4).count();
    if times_us.is_empty() { 0 } else { 1 + apart }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Events sent every 200 ms that arrived at these milliseconds.
    fn stream(arrived: &[u64]) -> Stream {
        let event = |(at, arrived): (usize, &u64)| Arrival { sent_us: at as u64 * 200_000, arrived_us: arrived * 1000 };
        Stream { interval_us: 200_000, events: arrived.iter().enumerate().map(event).collect(), ..Stream::default() }
    }

    fn verdict(arrived: &[u64]) -> Verdict {
        judge(&stream(arrived), 30_000).unwrap().verdict
    }

    #[test]
    fn events_that_come_as_they_were_sent_are_fine_however_far_away_the_gateway_is() {
        assert_eq!(verdict(&[30, 231, 430, 633, 829, 1040]), Verdict::OneByOne);
        assert_eq!(judge(&stream(&[800, 1000, 1200, 1400]), 800_000).unwrap().worst_us, 0);
    }

    #[test]
    fn one_hiccup_is_no_buffer() {
        let timing = judge(&stream(&[30, 230, 690, 691, 830, 1030, 1230, 1430]), 30_000).unwrap();
        assert_eq!((timing.verdict, timing.worst_us, timing.groups), (Verdict::OneByOne, 260_000, 7));
    }

    #[test]
    fn events_that_come_all_at_the_end_were_kept() {
        let timing = judge(&stream(&[1030, 1030, 1030, 1030, 1031, 1031]), 30_000).unwrap();
        assert_eq!((timing.verdict, timing.worst_us, timing.groups), (Verdict::Together, 1_000_000, 1));
    }

    #[test]
    fn events_that_come_by_the_bufferful_were_kept() {
        assert_eq!(verdict(&[430, 430, 430, 1030, 1030, 1030, 1630, 1630, 1630]), Verdict::Together);
    }

    #[test]
    fn events_that_are_all_late_by_the_same_time_are_late() {
        assert_eq!(verdict(&[530, 730, 930, 1130]), Verdict::Late);
    }

    #[test]
    fn too_few_events_say_nothing() {
        assert_eq!(judge(&stream(&[30, 230]), 0), None);
        assert_eq!((groups(&[], 100), groups(&[5], 100), groups(&[5, 6, 200], 100)), (0, 1, 2));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_judged_without_panic(times in prop::collection::vec((any::<u64>(), any::<u64>()), 0..20),
                                                  round_trip in any::<u64>(), interval in any::<u64>()) {
            let events = times.iter().map(|&(sent_us, arrived_us)| Arrival { sent_us, arrived_us }).collect();
            let timing = judge(&Stream { interval_us: interval, events, ..Stream::default() }, round_trip);
            prop_assert_eq!(timing.is_some(), times.len() > 2);
            prop_assert!(timing.is_none_or(|timing| timing.groups <= times.len() && timing.median_us <= timing.worst_us));
        }
    }
}
