//! Several gateways with one set of keys and one Redis are one: a ticket of one opens a route of the other, once.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::json;

use crate::support::access::{Desk, files, guarded, write};
use crate::support::process::GatewayProcess;
use crate::support::redis::RedisServer;
use crate::support::upstream::EventSender;
use crate::support::{Client, FakeUpstream, Seen};

/// What a gateway of the cluster reads: the keys in this order, and where Redis is.
fn config(upstream: &FakeUpstream, redis: &RedisServer, keys: &[&str]) -> String {
    let key = |id: &&str| format!("{{ id = \"{id}\", algorithm = \"HS256\", file = \"{id}.secret\" }}");
    let keys: Vec<_> = keys.iter().map(key).collect();
    let sections = format!(
        "[log]\nformat = \"json\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [auth.bearer]\nkeys = [{{ id = \"app\", algorithm = \"HS256\", file = \"app.secret\" }}]\n\
         [ticket]\nstore = \"redis\"\nper_identity = 100000\nper_address = 100000\nkeys = [{}]\n\
         [redis]\nurl = \"redis://127.0.0.1:{}\"\n",
        keys.join(", "),
        redis.port
    );
    guarded(upstream, "\"ticket\"", &sections)
}

/// One gateway of the cluster, as a process of its own.
struct Member {
    process: GatewayProcess,
    desk: Desk,
}

impl Member {
    async fn start(text: &str) -> Self {
        let files = files();
        for id in ["old", "new"] {
            write(files.path(), &format!("{id}.secret"), &format!("{id}{}", "-0123456789abcdef".repeat(2)));
        }
        let process = GatewayProcess::start_in(files, text).await;
        let desk = Desk { address: process.address, tls: process.tls.clone() };
        Self { process, desk }
    }

    async fn open(&self, ticket: &str) -> Result<Client, u16> {
        let target = format!("/chat?ticket={ticket}");
        let asked = Client::ask_at(self.desk.address, &self.desk.tls, &target, &[]).await;
        asked.map_err(|refused| refused.status)
    }

    /// Opens a connection with this ticket, and what is at the other end of it.
    async fn let_in(&self, upstream: &mut FakeUpstream, ticket: &str) -> (Client, EventSender) {
        let (client, events) = tokio::join!(self.open(ticket), async { upstream.next_open().await.accept() });
        (client.unwrap(), events)
    }
}

#[tokio::test]
async fn two_hundred_uses_at_two_gateways_have_one_winner() {
    let (mut upstream, redis) = (FakeUpstream::start().await, RedisServer::start().await);
    let text = config(&upstream, &redis, &["old"]);
    let (one, other) = tokio::join!(Member::start(&text), Member::start(&text));
    let ticket = one.desk.ticket("ada").await;
    let uses = join_all((0..200).map(|use_| if use_ % 2 == 0 { one.open(&ticket) } else { other.open(&ticket) }));
    let (uses, _events) = tokio::join!(uses, async { upstream.next_open().await.accept() });
    assert_eq!(uses.iter().filter(|used| used.is_ok()).count(), 1);
    assert!(uses.iter().all(|used| matches!(used, Ok(_) | Err(401))));
    upstream.assert_untouched();
}

#[tokio::test]
async fn while_redis_is_away_nobody_gets_in_and_nobody_has_to_go() {
    let (mut upstream, redis) = (FakeUpstream::start().await, RedisServer::start().await);
    let mut member = Member::start(&config(&upstream, &redis, &["old"])).await;
    let admin = member.process.admin().await;
    let ticket = member.desk.ticket("ada").await;
    let (mut client, events) = member.let_in(&mut upstream, &ticket).await;
    let until_up = |value: &'static str| async move {
        let look = async {
            loop {
                let page = crate::support::http::plain(admin, http::Method::GET, "/metrics", &[], "").await.body;
                if page.lines().any(|line| line.strip_prefix("tidegate_redis_up ") == Some(value)) {
                    return;
                }
            }
        };
        crate::support::must("the metric to say so", look).await;
    };
    until_up("1").await;

    let port = redis.stop().await;
    let waiting = member.desk.ticket("ada").await;
    let target = format!("/chat?ticket={waiting}");
    let refused = Client::ask_at(member.desk.address, &member.desk.tls, &target, &[]).await.err().unwrap();
    assert_eq!(refused.status, 503);
    assert!(refused.body.contains("ticket-store-unavailable") && refused.field("retry-after") == "1", "{refused:?}");
    until_up("0").await;
    let says = |line: &str| line.contains("ticket-store-unavailable").then_some(());
    member.process.process.stderr.next("why nobody gets in", says).await;
    events.send("data: still here\n\n").await;
    assert_eq!(client.next().await, Seen::text("still here"));
    upstream.assert_untouched();

    let _redis = RedisServer::again(port).await;
    let back = |line: &str| line.contains("Redis is back").then_some(());
    member.process.process.stderr.next("that Redis is back", back).await;
    let ticket = member.desk.ticket("ada").await;
    let _again = member.let_in(&mut upstream, &ticket).await;
    until_up("1").await;
    events.send("data: and still\n\n").await;
    assert_eq!(client.next().await, Seen::text("and still"));
}

/// Sixteen clients at once fetch tickets at one gateway and use them at the other, again and again; gives the keys that signed.
async fn load(members: &[Member], upstream: &mut FakeUpstream) -> BTreeSet<String> {
    let clients = join_all((0..16).map(|client| async move {
        let mut keys = BTreeSet::new();
        for round in 0..5 {
            let (here, there) = (&members[(client + round) % 2], &members[(client + round + 1) % 2]);
            let ticket = here.desk.ticket("ada").await;
            keys.insert(kid(&ticket));
            assert_eq!(there.open(&ticket).await.err(), None, "a client was refused");
        }
        keys
    }));
    let mut streams = Vec::new();
    let serve = async {
        loop {
            streams.push(upstream.next_open().await.accept());
        }
    };
    tokio::select! {
        keys = clients => keys.into_iter().flatten().collect(),
        () = serve => BTreeSet::new(),
    }
}

#[tokio::test]
async fn keys_are_changed_under_load_one_gateway_after_the_other_and_nobody_is_refused() {
    let (mut upstream, redis) = (FakeUpstream::start().await, RedisServer::start().await);
    // Behind, in front, and the old one gone: each gateway is replaced three times while clients come and go.
    let steps: [&[&str]; 4] = [&["old"], &["old", "new"], &["new", "old"], &["new"]];
    let mut members = Vec::new();
    for _ in 0..2 {
        members.push(Member::start(&config(&upstream, &redis, steps[0])).await);
    }
    let mut signed_by = BTreeSet::new();
    for keys in &steps[1..] {
        for index in 0..2 {
            let text = config(&upstream, &redis, keys);
            let (early, other) = (members[0].desk.ticket("ada").await, members[1].desk.ticket("ada").await);
            // The next one starts while the load goes on, and takes over.
            let (signed, next) = tokio::join!(load(&members, &mut upstream), Member::start(&text));
            signed_by.extend(signed);
            members[index] = next;
            signed_by.extend(load(&members, &mut upstream).await);
            // What was issued before the change is good after it, but for a key that was taken out at once; it has to wait
            // for as long as a ticket lives.
            if *keys != ["new"] {
                drop(members[1].let_in(&mut upstream, &early).await);
                drop(members[0].let_in(&mut upstream, &other).await);
            }
        }
    }
    assert_eq!(signed_by.into_iter().collect::<Vec<_>>(), ["new".to_owned(), "old".to_owned()]);
}

/// The name of the key that has signed a ticket.
fn kid(ticket: &str) -> String {
    jsonwebtoken::decode_header(ticket).unwrap().kid.unwrap()
}

#[tokio::test]
async fn whoever_is_sent_away_at_one_gateway_has_to_leave_all() {
    let (mut upstream, redis) = (FakeUpstream::start().await, RedisServer::start().await);
    let text = config(&upstream, &redis, &["old"]);
    let (mut one, other) = tokio::join!(Member::start(&text), Member::start(&text));
    let admin = one.process.admin().await;
    let (ada, grace) = (one.desk.ticket("ada").await, one.desk.ticket("grace").await);
    let unused = other.desk.ticket("ada").await;
    let (mut at_one, _first) = one.let_in(&mut upstream, &ada).await;
    let (mut at_other, events) = other.let_in(&mut upstream, &grace).await;
    let ada_again = one.desk.ticket("ada").await;
    let (mut ada_at_other, _third) = other.let_in(&mut upstream, &ada_again).await;

    let json = [("content-type", "application/json")];
    let told =
        crate::support::http::plain(admin, http::Method::POST, "/revocations", &json, r#"{"subject":"ada"}"#).await;
    assert_eq!(
        (told.status, &told.json()["closed"], &told.json()["told_others"]),
        (200, &json!(1), &json!(true)),
        "{told:?}"
    );
    for client in [&mut at_one, &mut ada_at_other] {
        let (code, reason) = client.closed().await;
        assert_eq!(code, 1008);
        assert!(reason.starts_with("revoked: "), "{reason}");
    }
    for member in [&one, &other] {
        assert_eq!(member.open(&unused).await.err(), Some(401), "what was issued before does not hold any more");
    }
    events.send("data: you may stay\n\n").await;
    assert_eq!(at_other.next().await, Seen::text("you may stay"));
}
