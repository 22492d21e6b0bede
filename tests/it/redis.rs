//! A real Redis: tickets that are honoured once by all who share it, and whoever is sent away by one of them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use secrecy::SecretString;
use tidegate::access::redis::{Node, Redis, Settings, Trust};
use tidegate::access::revoked::{self, Report, RevokeError, Revoker};
use tidegate::access::spent::{NotSpent, Spent};
use tidegate::identity::{Revocation, What};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::support::gateway::certificates;
use crate::support::must;
use crate::support::redis::RedisServer;

/// What one gateway has of Redis.
struct Gate {
    redis: Arc<Redis>,
    spent: Arc<Spent>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _guard: DropGuard,
}

impl Gate {
    fn at(port: u16) -> Self {
        Self::with(settings(&[port]))
    }

    fn with(settings: Settings) -> Self {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let redis = Redis::start(settings, &tasks, stop.clone()).unwrap();
        let spent = Arc::new(Spent::in_redis(redis.clone()));
        Self { redis, spent, tasks, _guard: stop.clone().drop_guard(), stop }
    }

    async fn spend(&self, id: &str) -> Result<(), NotSpent> {
        self.spent.spend(id, SystemTime::now() + Duration::from_mins(1)).await
    }

    /// Spends one ticket after another until one is honoured.
    async fn until_honoured(&self, name: &str) {
        let honoured = async {
            let mut number = 0;
            while self.spend(&format!("{name}{number}")).await.is_err() {
                number += 1;
                tokio::task::yield_now().await;
            }
        };
        must("a ticket that is honoured", honoured).await;
    }

    /// A revoker that shows what it was told to end.
    fn revoker(&self) -> (Arc<Revoker>, watch::Receiver<BTreeSet<String>>) {
        let (sender, ended) = watch::channel(BTreeSet::new());
        let sender = Mutex::new(sender);
        let end = move |revocation: &Revocation| {
            sender.lock().unwrap().send_modify(|ended| ended.extend([revocation.what.to_string()]));
            1
        };
        let revoker = Arc::new(Revoker::new(revoked::Settings::default(), Some(self.redis.clone()), end));
        revoker.follow(&self.tasks, self.stop.clone());
        (revoker, ended)
    }
}

fn settings(ports: &[u16]) -> Settings {
    Settings {
        nodes: ports.iter().map(|port| Node { host: "127.0.0.1".to_owned(), port: *port }).collect(),
        cluster: false,
        trust: Trust::Plain,
        database: 0,
        username: None,
        password: None,
        timeout: Duration::from_secs(5),
        prefix: "tidegate:".to_owned(),
    }
}

fn subject(name: &str) -> What {
    What::read("subject", name).unwrap()
}

async fn ends(ended: &mut watch::Receiver<BTreeSet<String>>, what: &str) {
    assert!(must(what, ended.wait_for(|ended| ended.contains(what))).await.is_ok());
}

#[tokio::test]
async fn of_200_uses_of_a_ticket_on_two_gateways_exactly_one_wins() {
    let server = RedisServer::start().await;
    let gates = [Gate::at(server.port), Gate::at(server.port)];
    let mut uses = JoinSet::new();
    for number in 0..200 {
        let spent = gates[number % 2].spent.clone();
        uses.spawn(async move { spent.spend("one", SystemTime::now() + Duration::from_mins(1)).await });
    }
    let mut won = 0;
    for used in must("all answers", uses.join_all()).await {
        match used {
            Ok(()) => won += 1,
            Err(why) => assert_eq!(why, NotSpent::AlreadySpent),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(gates.each_ref().map(|gate| gate.redis.snapshot().succeeded), [100, 100]);
}

#[tokio::test]
async fn a_ticket_is_forgotten_when_it_has_expired() {
    let server = RedisServer::start().await;
    let gate = Gate::at(server.port);
    let soon = SystemTime::now();
    assert_eq!(gate.spent.spend("one", soon).await, Ok(()));
    assert_eq!(gate.spent.spend("one", soon).await, Err(NotSpent::AlreadySpent));
    let forgotten = async { while gate.spent.spend("one", soon).await.is_err() {} };
    must("the key to expire", forgotten).await;
}

#[tokio::test]
async fn tls_and_a_user_with_few_rights_are_enough_and_a_wrong_password_is_told_without_it() {
    let files = certificates();
    let certs = files.path().join("certs");
    let server = RedisServer::locked(&certs, "HUSH1").await;
    let locked = |password: &str| Settings {
        nodes: vec![Node { host: "localhost".to_owned(), port: server.port }],
        trust: Trust::Bundle(std::fs::read(certs.join("dev.pem")).unwrap()),
        username: Some("gate".to_owned()),
        password: Some(SecretString::from(password.to_owned())),
        ..settings(&[])
    };
    let gate = Gate::with(locked("HUSH1"));
    assert_eq!(gate.spend("one").await, Ok(()));
    assert_eq!(gate.spend("one").await, Err(NotSpent::AlreadySpent));
    let (revoker, _ended) = gate.revoker();
    assert_eq!(revoker.revoke(subject("ada")).await, Ok(Report { closed: 1, told_others: true }));
    assert_eq!(gate.redis.snapshot().failed, 0);

    let Err(NotSpent::Unavailable(why)) = Gate::with(locked("HUSH2")).spend("two").await else { panic!("let in") };
    assert!(why.to_lowercase().contains("password") && !why.contains("HUSH"), "{why}");
    let other = certificates();
    let stranger = Trust::Bundle(std::fs::read(other.path().join("certs/dev.pem")).unwrap());
    let refused = Gate::with(Settings { trust: stranger, ..locked("HUSH1") }).spend("two").await;
    assert!(matches!(refused, Err(NotSpent::Unavailable(_))), "{refused:?}");
}

#[tokio::test]
async fn without_redis_no_ticket_is_honoured_and_it_works_again_when_it_is_back() {
    let server = RedisServer::start().await;
    let gate = Gate::at(server.port);
    assert_eq!(gate.spend("one").await, Ok(()));
    let port = server.stop().await;
    for id in ["one", "two"] {
        assert!(matches!(gate.spend(id).await, Err(NotSpent::Unavailable(_))));
    }
    let down = async {
        while gate.redis.snapshot().up {
            assert!(gate.spend("two").await.is_err());
        }
    };
    must("it to be noticed", down).await;
    let _server = RedisServer::again(port).await;
    gate.until_honoured("three").await;
    assert!(gate.redis.snapshot().up);
}

#[tokio::test]
async fn a_redis_that_stands_still_is_not_waited_for_longer_than_the_time_limit() {
    let server = RedisServer::start().await;
    let timeout = Duration::from_millis(200);
    let gate = Gate::with(Settings { timeout, ..settings(&[server.port]) });
    gate.until_honoured("one").await;
    server.signal(Signal::STOP);
    let began = Instant::now();
    assert!(matches!(gate.spend("two").await, Err(NotSpent::Unavailable(_))));
    assert!(began.elapsed() >= timeout && began.elapsed() < timeout * 10, "{:?}", began.elapsed());
    server.signal(Signal::CONT);
    gate.until_honoured("three").await;
}

#[tokio::test]
async fn a_cluster_honours_tickets_of_all_its_slots_once() {
    let nodes = RedisServer::cluster().await;
    // One of them is enough to find the others.
    let gate = Gate::with(Settings { cluster: true, ..settings(&[nodes[0].port]) });
    gate.until_honoured("first").await;
    for id in 0..50 {
        assert_eq!(gate.spend(&format!("many{id}")).await, Ok(()));
        assert_eq!(gate.spend(&format!("many{id}")).await, Err(NotSpent::AlreadySpent));
    }
    let (revoker, _ended) = gate.revoker();
    assert_eq!(revoker.revoke(subject("ada")).await, Ok(Report { closed: 1, told_others: true }));
}

#[tokio::test]
async fn what_one_gateway_takes_back_all_others_hear_of_those_included_that_start_later() {
    let server = RedisServer::start().await;
    let [one, other, late] = [(); 3].map(|()| Gate::at(server.port));
    let ((here, _), (_there, mut ended)) = (one.revoker(), other.revoker());
    assert_eq!(here.revoke(subject("ada")).await, Ok(Report { closed: 1, told_others: true }));
    assert!(here.revoke(What::read("key", "k1").unwrap()).await.is_ok());
    ends(&mut ended, "subject ada").await;
    ends(&mut ended, "key k1").await;
    let (later, mut ended) = late.revoker();
    ends(&mut ended, "subject ada").await;
    ends(&mut ended, "key k1").await;
    assert_eq!(later.kept(), here.kept());
}

#[tokio::test]
async fn what_others_could_not_be_told_holds_here_and_can_be_repeated() {
    let server = RedisServer::start().await;
    let [one, other] = [(); 2].map(|()| Gate::at(server.port));
    let ((here, _), (_there, mut ended)) = (one.revoker(), other.revoker());
    assert!(here.revoke(subject("ada")).await.is_ok());
    let port = server.stop().await;
    assert!(matches!(here.revoke(subject("eve")).await, Err(RevokeError::NotTold(_))));
    assert_eq!(here.count(), 2);
    let _server = RedisServer::again(port).await;
    let told = async {
        while here.revoke(subject("eve")).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    must("others to be told", told).await;
    ends(&mut ended, "subject eve").await;
}
