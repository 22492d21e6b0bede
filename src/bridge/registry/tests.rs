use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::task::{Wake, Waker};
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::identity::{Holder, Subject, What};
use crate::telemetry::metrics::counts_of;

fn opening(route: &str) -> Opening {
    Opening {
        turn: None,
        connection: Uuid::now_v7(),
        route: Arc::from(route),
        peer: SocketAddr::from(([127, 0, 0, 1], 40_000)),
        http: http::Version::HTTP_11,
        upstream: Arc::from("app"),
        endpoint: Arc::from("127.0.0.1:9000"),
        took: Duration::ZERO,
        holder: None,
    }
}

fn held(subject: &str, ticket: &str, issued: u64) -> Opening {
    let holder = Holder {
        subject: Subject::new(subject).expect("a subject"),
        ticket: Some(ticket.into()),
        keys: vec!["k1".into()],
        issued: UNIX_EPOCH + Duration::from_secs(issued),
    };
    Opening { holder: Some(Arc::new(holder)), ..opening("/chat") }
}

fn revocation(kind: &str, name: &str) -> Revocation {
    let what = What::read(kind, name).expect("sound");
    Revocation { what, at: UNIX_EPOCH + Duration::from_secs(100), id: Uuid::nil() }
}

/// Whether it has to end, asked once.
fn has_to_end(live: &Live) -> bool {
    live.poll_revoked(&Context::from_waker(Waker::noop())).is_ready()
}

#[test]
fn a_revocation_ends_those_it_is_about_and_no_others() {
    let registry = Arc::new(Registry::default());
    let ada = [held("ada", "t1", 99), held("ada", "t2", 101)].map(|opening| registry.open(&opening, Instant::now()));
    let eve = registry.open(&held("eve", "t3", 99), Instant::now());
    let anybody = opening("/chat");
    let live = registry.open(&anybody, Instant::now());
    assert_eq!(registry.revoke(&revocation("subject", "ada")), 1, "the other has proven itself anew");
    assert!(has_to_end(&ada[0]) && !has_to_end(&ada[0]), "it is told once");
    assert!(!has_to_end(&ada[1]) && !has_to_end(&eve) && !has_to_end(&live));
    assert_eq!(registry.revoke(&revocation("ticket", "t3")), 1);
    assert!(has_to_end(&eve));
    assert_eq!(registry.revoke(&revocation("key", "k1")), 3);
    assert!(!has_to_end(&live));
    assert_eq!(registry.revoke(&revocation("connection", &anybody.connection.to_string())), 1);
    assert!(has_to_end(&live));
}

#[test]
fn a_task_that_sleeps_is_woken_when_it_has_to_end() {
    struct Woken(AtomicBool);
    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let registry = Arc::new(Registry::default());
    let live = registry.open(&held("ada", "t1", 99), Instant::now());
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(woken.clone());
    let cx = Context::from_waker(&waker);
    assert!(live.poll_revoked(&cx).is_pending());
    assert_eq!(registry.revoke(&revocation("subject", "ada")), 1);
    assert!(woken.0.load(Ordering::Relaxed) && live.poll_revoked(&cx).is_ready());
}

fn carried(messages_up: u64) -> Snapshot {
    Snapshot { counts: Counts { messages_up, ..Counts::default() }, ..Snapshot::default() }
}

fn messages_up(totals: &Totals) -> u64 {
    counts_of(totals.counts).messages_up
}

#[test]
fn a_live_connection_is_counted_as_it_stands() {
    let registry = Arc::new(Registry::new([Arc::from("/chat"), Arc::from("/quiet")]));
    let live = registry.open(&opening("/chat"), Instant::now());
    live.store(&Snapshot { queued_up: 5, queued_down: 7, stream: StreamState::Waiting, ..carried(3) });
    live.set_endpoint("127.0.0.1:9001");
    let totals = &registry.totals()["/chat"];
    assert_eq!((totals.opened, totals.open, totals.queued_up, totals.queued_down), (1, 1, 5, 7));
    assert_eq!((totals.streams, messages_up(totals)), ([0, 1, 0, 0, 0], 3));
    assert_eq!(registry.totals()["/quiet"], Totals::default());
    let shown = registry.connections(None);
    assert_eq!((shown.len(), &*shown[0].endpoint()), (1, "127.0.0.1:9001"));
    assert_eq!(
        shown[0].snapshot(),
        Snapshot { queued_up: 5, queued_down: 7, stream: StreamState::Waiting, ..carried(3) }
    );
}

#[test]
fn what_a_connection_counted_stays_when_it_has_ended() {
    let registry = Arc::new(Registry::default());
    let live = registry.open(&opening("/chat"), Instant::now());
    live.store(&carried(3));
    live.close(&Cause::ClientLost, &carried(4).counts);
    let totals = &registry.totals()["/chat"];
    assert_eq!((totals.opened, totals.open, messages_up(totals)), (1, 0, 4));
    assert_eq!(totals.closed, BTreeMap::from([("client-lost", 1)]));
    assert_eq!(registry.connections(None).len(), 0);
}

#[test]
fn a_connection_that_is_dropped_without_a_word_is_a_defect_and_not_lost() {
    let registry = Arc::new(Registry::default());
    let live = registry.open(&opening("/chat"), Instant::now());
    live.store(&carried(3));
    drop(live);
    let totals = &registry.totals()["/chat"];
    assert_eq!((totals.open, messages_up(totals)), (0, 3));
    assert_eq!(totals.closed, BTreeMap::from([("defect", 1)]));
}

#[test]
fn connections_are_found_by_their_route() {
    let registry = Arc::new(Registry::default());
    let _lives: Vec<_> =
        ["/a", "/b", "/a"].map(|route| registry.open(&opening(route), Instant::now())).into_iter().collect();
    assert_eq!(registry.connections(Some("/a")).len(), 2);
    assert_eq!(registry.connections(Some("/c")).len(), 0);
    assert_eq!(registry.connections(None).len(), 3);
}

#[test]
fn a_connection_costs_at_most_330_bytes() {
    let counters = std::mem::size_of::<Arc<()>>() * 2;
    let place = std::mem::size_of::<Arc<Entry>>();
    let all = counters + std::mem::size_of::<Entry>() + place + std::mem::size_of::<Live>();
    assert_eq!(std::mem::size_of::<Entry>(), 168 + 8 * COUNTED, "the comment at it says so");
    assert!(all <= 330, "{all} bytes, {} of them the entry", std::mem::size_of::<Entry>());
}

#[test]
fn sums_never_go_back_while_connections_come_and_go() {
    let registry = Arc::new(Registry::default());
    let rounds = 2000;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..rounds {
                    let live = registry.open(&opening("/chat"), Instant::now());
                    live.store(&carried(1));
                    live.close(&Cause::Shutdown, &carried(1).counts);
                }
            });
        }
        scope.spawn(|| {
            let mut before = 0;
            while before < rounds {
                let sum = registry.totals().get("/chat").map_or(0, messages_up);
                assert!(before <= sum, "{before} then {sum}");
                before = sum;
            }
        });
    });
    let totals = &registry.totals()["/chat"];
    assert_eq!((totals.opened, totals.open, messages_up(totals)), (2 * rounds, 0, 2 * rounds));
}

proptest! {
    #[test]
    fn whatever_opens_and_ends_all_is_counted_once(steps in prop::collection::vec((any::<bool>(), any::<u8>()), 0..200)) {
        let registry = Arc::new(Registry::default());
        let (mut lives, mut opened) = (Vec::new(), 0);
        for (opens, which) in steps {
            if opens || lives.is_empty() {
                let live = registry.open(&opening("/chat"), Instant::now());
                live.store(&carried(1));
                lives.push(live);
                opened += 1;
            } else {
                let live: Live = lives.swap_remove(usize::from(which) % lives.len());
                live.close(&Cause::Shutdown, &carried(1).counts);
            }
            let totals = &registry.totals()["/chat"];
            prop_assert_eq!((totals.opened, totals.open, messages_up(totals)), (opened, lives.len() as u64, opened));
        }
    }
}

/// Not a promise but a figure: `cargo test --release --lib -- --ignored --nocapture takes`.
#[test]
#[ignore = "a measurement"]
fn looking_at_ten_thousand_connections_takes() {
    let registry = Arc::new(Registry::default());
    let lives: Vec<_> = (0..10_000).map(|_| registry.open(&opening("/chat"), Instant::now())).collect();
    let began = Instant::now();
    assert_eq!(registry.totals()["/chat"].open, 10_000);
    println!("totals: {:?}", began.elapsed());
    let began = Instant::now();
    assert_eq!(registry.connections(None).len(), 10_000);
    println!("list: {:?}", began.elapsed());
    let began = Instant::now();
    for _ in 0..100 {
        for live in &lives {
            live.store(&carried(1));
        }
    }
    println!("a store: {:?}", began.elapsed() / 1_000_000);
}
