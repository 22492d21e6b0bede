//! Opening: upstream first, then 101 (contract rules O1 to O7).

use std::time::{Duration, Instant};

use crate::support::upstream::{Answer, field};
use crate::support::{Client, FakeUpstream, Seen, TestGateway, gateway};

#[tokio::test]
async fn the_client_is_let_in_only_after_upstream_has_accepted() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::in_front_of(&upstream);
    let connecting = Client::connect(&gateway);
    tokio::pin!(connecting);
    let open = tokio::select! {
        open = upstream.next_open() => open,
        _ = &mut connecting => panic!("the client was let in before upstream had accepted"),
    };
    let events = open.accept();
    let mut client = connecting.await;
    events.send("data: hello\n\n").await;
    assert_eq!(client.next().await, Seen::text("hello"));
}
