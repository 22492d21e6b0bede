//! A real browser's `EventSource`, and an upstream that is restarted under it.

use std::fmt::Write as _;

use serde_json::json;

use crate::proxy::gateway;
use crate::support::FakeUpstream;
use crate::support::chromium::Page;
use crate::support::upstream::{Answer, field};

/// Shows in its body's data what has come, and how often the stream was lost.
const PAGE: &str = "<!doctype html><title>events</title><body data-seen='' data-lost=0><script>
  const source = new EventSource('/events');
  source.onmessage = (event) => { document.body.dataset.seen += event.data + ' '; };
  source.onerror = () => { document.body.dataset.lost = Number(document.body.dataset.lost) + 1; };
</script>";

#[tokio::test]
async fn an_event_source_comes_back_by_itself_through_twenty_restarts_and_misses_nothing() {
    const RESTARTS: usize = 20;
    let mut upstream = FakeUpstream::start().await;
    let quick = "[route.proxy.stream]\nreconnect_min = \"20ms\"\nreconnect_max = \"40ms\"\nheartbeat = \"10ms\"";
    // An upstream that is left alone would be a longer restart, which is no other thing.
    let gateway = gateway(&[upstream.address], "breaker = { failures = 1000 }", quick);
    let url = format!("http://{}/page", gateway.address());
    let serve = async {
        // The browser asks for an icon as well, whenever it likes.
        let page = upstream.next_open().await;
        assert_eq!(page.head.uri, "/page");
        page.answer(Answer::status(200).with("content-type", "text/html").body(PAGE));
    };
    let (mut page, ()) = tokio::join!(Page::open(&url), serve);
    let mut sent = 0;
    let mut all = String::new();
    for restart in 0..=RESTARTS {
        let open = loop {
            let open = upstream.next_open().await;
            if open.head.uri == "/events" {
                break open;
            }
            open.answer(Answer::status(404));
        };
        let position = field(&open.head.headers, "last-event-id");
        assert_eq!(position, if sent == 0 { String::new() } else { sent.to_string() }, "restart {restart}");
        let events = open.accept();
        for _ in 0..3 {
            sent += 1;
            write!(all, "{sent} ").unwrap();
            events.send(format!("id: {sent}\ndata: {sent}\n\n")).await;
        }
        page.until(&format!("document.body.dataset.seen === {}", json!(all))).await;
        if restart == RESTARTS {
            break;
        }
        // It dies inside an event, which nobody sees, and is away for a while.
        events.send(format!("id: {}\ndata: half", sent + 1)).await;
        let lost = page.evaluate("Number(document.body.dataset.lost)").await;
        let address = upstream.kill().await;
        page.until(&format!("Number(document.body.dataset.lost) >= {lost} + 2")).await;
        upstream = FakeUpstream::start_again_at(address).await;
    }
    assert_eq!(page.evaluate("document.body.dataset.seen").await, json!(all));
    page.close().await;
}
