//! `tidegate demo` as its visitor sees it: the real binary, and its page in a real browser.

use rustix::process::Signal;
use serde_json::json;

use crate::support::chromium::Page;
use crate::support::process::{Process, tidegate};

/// The demo on a free port, and its page once both clients are connected and know of each other.
async fn visit() -> (Process, Page) {
    let mut demo = Process::start(&mut tidegate(&["demo", "--port", "0"]));
    let prints_url = |line: &str| line.split(' ').find(|word| word.starts_with("https://")).map(str::to_owned);
    let url = demo.stdout.next("the URL", prints_url).await;
    let mut page = Page::open(&url).await;
    for client in ["ada", "grace"] {
        let state =
            page.until(&format!("document.querySelector('#{client}-state[data-state=open]')?.textContent")).await;
        assert_eq!(state, "connected");
    }
    page.until("document.querySelector('#ada-log').textContent.includes('Grace joined')").await;
    (demo, page)
}

/// An expression: the texts of the rows of this kind that show this payload, once there are `count` of them.
fn rows(kind: &str, payload: &str, count: usize) -> String {
    format!(
        "(() => {{
           const rows = [...document.querySelectorAll('#trace > li[data-kind={kind}]')];
           const found = rows.filter((row) => (row.querySelector('.payload')?.textContent ?? '').includes({payload}));
           return found.length >= {count} && found.map((row) => row.textContent);
         }})()",
        payload = json!(payload)
    )
}

/// An expression: the last message in this client's log, once it is this one.
fn said(client: &str, text: &str) -> String {
    format!(
        "[...document.querySelectorAll('#{client}-log .said')].map((item) =>
           [item.classList.contains('mine'), item.querySelector('.from').textContent, item.querySelector('.text').textContent]
         ).find(([, , text]) => text === {})",
        json!(text)
    )
}

#[tokio::test]
async fn what_one_client_says_appears_at_the_other_and_the_trace_shows_how() {
    let (_demo, mut page) = visit().await;
    page.type_line("#ada-input", "hello <b>Grace</b>").await;
    assert_eq!(page.until(&said("grace", "hello <b>Grace</b>")).await, json!([false, "Ada", "hello <b>Grace</b>"]));
    assert_eq!(page.until(&said("ada", "hello <b>Grace</b>")).await, json!([true, "Ada", "hello <b>Grace</b>"]));
    page.evaluate("document.querySelector('#grace-input').focus()").await;
    page.command("Input.insertText", json!({"text": "hello Ada"})).await;
    page.click("#grace-send").await;
    assert_eq!(page.until(&said("ada", "hello Ada")).await, json!([false, "Grace", "hello Ada"]));

    for (payload, name) in [("hello <b>Grace</b>", "Ada"), ("hello Ada", "Grace")] {
        let posts = page.until(&rows("POST", payload, 1)).await;
        assert_eq!(posts.as_array().unwrap().len(), 1, "one message is one POST: {posts}");
        let post = posts[0].as_str().unwrap();
        assert!(post.contains(&format!("{name} sent a message: POST /messages")), "{post}");
        assert!(post.contains("tidegate-sequence1") && post.contains("status204"), "{post}");
        let events = page.until(&rows("EVENT", payload, 2)).await;
        let events = events.as_array().unwrap().iter().map(|event| event.as_str().unwrap());
        assert_eq!(events.filter(|event| event.contains("an event becomes a message to")).count(), 2);
    }
    let opened = "[...document.querySelectorAll('#trace > li[data-kind=GET]')].map((row) => row.textContent)";
    let opened = page.evaluate(opened).await;
    let opened: Vec<_> = opened.as_array().unwrap().iter().map(|row| row.as_str().unwrap()).collect();
    assert_eq!(opened.len(), 2, "{opened:?}");
    assert!(opened.iter().all(|row| row.contains("opened an event stream") && row.contains("tidegate-connection")));
    assert_eq!(page.complaints().await, Vec::<String>::new());
    page.close().await;
}

#[tokio::test]
async fn disconnect_shows_the_code_and_the_other_client_is_told() {
    let (_demo, mut page) = visit().await;
    page.click("#ada-toggle").await;
    let state = page.until("document.querySelector('#ada-state[data-state=closed]')?.textContent").await;
    assert_eq!(state, "closed: 1000");
    page.until("document.querySelector('#grace-log').textContent.includes('Ada left')").await;
    assert_eq!(page.evaluate("document.querySelector('#ada-input').disabled").await, true);
    page.until("document.querySelector('#trace').textContent.includes('the event stream of Ada has ended')").await;

    page.click("#ada-toggle").await;
    page.until("document.querySelector('#ada-state[data-state=open]')").await;
    page.type_line("#ada-input", "back again").await;
    page.until(&said("grace", "back again")).await;
    assert_eq!(page.complaints().await, Vec::<String>::new());
    page.close().await;
}

#[tokio::test]
async fn when_the_demo_stops_both_clients_see_why() {
    let (mut demo, mut page) = visit().await;
    demo.signal(Signal::INT);
    for client in ["ada", "grace"] {
        let state =
            page.until(&format!("document.querySelector('#{client}-state[data-state=closed]')?.textContent")).await;
        assert_eq!(state, "closed: 1001 shutdown: the gateway is stopping");
    }
    assert_eq!(demo.exit().await, 0, "{:?}", demo.stderr.all());
    page.close().await;
}

#[tokio::test]
async fn the_pages_policy_lets_no_other_script_run() {
    let (_demo, mut page) = visit().await;
    let inject = "(() => {
        const script = document.createElement('script');
        script.textContent = 'window.injected = true';
        document.body.append(script);
        return window.injected === undefined;
    })()";
    assert_eq!(page.evaluate(inject).await, true);
    let complaints = page.complaints().await.join("\n");
    assert!(complaints.contains("Content Security Policy"), "{complaints}");
    page.close().await;
}
