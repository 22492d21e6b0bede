//! Phases at chosen times.

use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_hours(1);

/// So many seconds after 2026-12-10T12:00:00Z.
fn at(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(1_796_904_000 + seconds).unwrap())
}

fn address(last: u16) -> IpAddr {
    IpAddr::from([192, 0, u8::try_from(last / 256).unwrap(), u8::try_from(last % 256).unwrap()])
}

fn brownout(percent: u8, windows: Vec<Window>) -> Sunset {
    Sunset { phase: Phase::Brownout, brownout: Some(Brownout { percent, windows }), ..Sunset::default() }
}

fn once(start: i64) -> Window {
    Window { start: at(start), duration: HOUR, every: None }
}

fn fields(sunset: &Sunset, now: SystemTime) -> Vec<(String, String)> {
    let mut fields = HeaderMap::new();
    sunset.announce(&mut fields, now);
    let shown = fields.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
    shown.collect()
}

#[test]
fn only_the_phase_decides_and_a_brownout_only_in_its_window() {
    let verdict = |phase, now| {
        let sunset = Sunset { phase, sunset: Some(at(-1000)), ..brownout(100, vec![once(0)]) };
        sunset.verdict("chat", address(1), now)
    };
    for now in [at(-1), at(0), at(3600)] {
        assert_eq!(verdict(Phase::Observe, now), Verdict::Serve);
        assert_eq!(verdict(Phase::Warn, now), Verdict::Serve);
        assert_eq!(verdict(Phase::Off, now), Verdict::Off);
    }
    let refused = Verdict::Brownout { until: at(3600), lasts: HOUR };
    let seen = [-1, 0, 3599, 3600].map(|second| verdict(Phase::Brownout, at(second)));
    assert_eq!(seen, [Verdict::Serve, refused, refused, Verdict::Serve]);
}

#[test]
fn a_window_comes_again_as_often_as_it_says() {
    let daily = Window { every: Some(24 * HOUR), ..once(0) };
    let starts = |second| daily.at(at(second)).map(|span| span.start);
    assert_eq!(starts(-10), Some(at(0)));
    assert_eq!(starts(3599), Some(at(0)));
    assert_eq!(starts(3600), Some(at(86_400)));
    assert_eq!(starts(10 * 86_400 + 5), Some(at(10 * 86_400)));
    assert_eq!(once(0).at(at(3600)), None);
    let refused = brownout(100, vec![daily]).verdict("chat", address(1), at(10 * 86_400 + 5));
    assert_eq!(refused, Verdict::Brownout { until: at(10 * 86_400 + 3600), lasts: HOUR });
}

#[test]
fn windows_that_overlap_end_together() {
    let sunset = brownout(100, vec![once(0), once(1800)]);
    let refused = Verdict::Brownout { until: at(5400), lasts: HOUR + HOUR / 2 };
    assert_eq!(sunset.verdict("chat", address(1), at(2000)), refused);
}

#[test]
fn so_many_of_a_hundred_are_refused_the_same_ones_all_through_a_window_and_others_in_the_next() {
    let refused = |percent, start: i64, now: i64| -> Vec<u16> {
        let sunset = brownout(percent, vec![once(start)]);
        (0..2000).filter(|last| sunset.verdict("chat", address(*last), at(now)) != Verdict::Serve).collect()
    };
    let first = refused(30, 0, 0);
    assert!((540..=660).contains(&first.len()), "{}", first.len());
    assert_eq!(first, refused(30, 0, 3599));
    assert_ne!(first, refused(30, 86_400, 86_400));
    let more = refused(60, 0, 0);
    assert!(first.iter().all(|address| more.contains(address)), "nobody gets in again because more are refused");
    assert_eq!((refused(0, 0, 0).len(), refused(100, 0, 0).len()), (0, 2000));
}

#[test]
fn clients_are_told_in_the_words_of_the_standards() {
    let told = Sunset {
        phase: Phase::Warn,
        sunset: Some(at(0)),
        deprecated: Some(at(-86_400)),
        link: Some("https://docs.example.com/migrate".into()),
        brownout: Some(Brownout { percent: 20, windows: vec![once(0)] }),
    };
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut expected = vec![
        field("deprecation", "@1796817600"),
        field("sunset", "Thu, 10 Dec 2026 12:00:00 GMT"),
        field("link", "<https://docs.example.com/migrate>; rel=\"deprecation sunset\""),
    ];
    assert_eq!(fields(&told, at(-5)), expected);
    assert_eq!(fields(&Sunset { phase: Phase::Observe, ..told.clone() }, at(-5)), []);
    assert_eq!(fields(&Sunset { phase: Phase::Off, ..told.clone() }, at(-5)), expected);
    let brownout = Sunset { phase: Phase::Brownout, ..told };
    assert_eq!(fields(&brownout, at(4000)), expected, "a window that is over is not told");
    expected.push(field("tidegate-brownout", "start=@1796904000, end=@1796907600, percent=20"));
    assert_eq!(fields(&brownout, at(-5)), expected);
}

#[test]
fn those_who_were_refused_come_back_after_the_window_and_not_all_at_once() {
    let wait = |chance| retry_after(at(3600), HOUR, at(3000), chance);
    let waits: Vec<_> = (0..1000).map(|chance| wait(chance * 7919)).collect();
    assert!(waits.iter().all(|wait| (600..=660).contains(&wait.as_secs())));
    assert!(waits.iter().any(|wait| wait.as_secs() < 610) && waits.iter().any(|wait| wait.as_secs() > 650));
    assert_eq!(retry_after(at(0), HOUR, at(10), 0), Duration::ZERO);
}

proptest! {
    #[test]
    fn no_time_is_too_strange(now in 0_u64..20_000_000_000, start in 0_u64..20_000_000_000, lasts in 1_u64..10_000_000, every: Option<u32>) {
        let (now, start) = (UNIX_EPOCH + Duration::from_secs(now), UNIX_EPOCH + Duration::from_secs(start));
        let every = every.map(|every| Duration::from_secs(lasts + u64::from(every)));
        let window = Window { start, duration: Duration::from_secs(lasts), every };
        if let Some(span) = window.at(now) {
            prop_assert!(span.end > now && span.start >= start);
        } else {
            prop_assert!(every.is_none());
        }
        let sunset = brownout(50, vec![window]);
        let _ = (sunset.verdict("chat", address(7), now), fields(&sunset, now));
    }
}
