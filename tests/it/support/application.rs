//! An application as a migrated team has it: a page behind a login by cookie, and a backend that knows whose cookie it is.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::FakeUpstream;
use super::upstream::{Answer, Either, EventSender, Open, Post, field};

/// The value of the cookie that a login gives.
pub(crate) const SESSION: &str = "s3ss10n-of-ada-0123456789";

/// A running application. Its page is served over TLS, its backend without.
pub(crate) struct Application {
    /// Where the backend is: `/session` says who a cookie belongs to, `/events` and `/messages` are the contract.
    pub(crate) backend: SocketAddr,
    /// Port of the page.
    pub(crate) page: u16,
    heard: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Application {
    /// Starts it, with this certificate for its page.
    pub(crate) async fn start(tls: TlsAcceptor) -> Self {
        let (mut backend, mut page) = (FakeUpstream::start().await, FakeUpstream::start_with(Some(tls), None).await);
        let (backend_address, page_port) = (backend.address, page.address.port());
        let heard = Arc::new(Mutex::new(Vec::new()));
        let record = heard.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut streams = Vec::new();
            loop {
                match backend.next_of_either().await {
                    Either::Open(open) => {
                        record.lock().unwrap().push(format!("{:?}", open.head));
                        serve(open, &mut streams).await;
                    }
                    Either::Post(post) => {
                        record.lock().unwrap().push(format!("{:?} {:?}", post.head, post.body));
                        echo(post, &streams).await;
                    }
                }
            }
        });
        tasks.spawn(async move {
            while let Some(open) = page.try_next_open().await {
                let html = Answer::status(200).with("content-type", "text/html");
                let answer = match open.head.uri.path() {
                    "/login" => {
                        let cookie = format!("sid={SESSION}; Path=/; Secure; HttpOnly; SameSite=Lax");
                        Answer::status(204).with("set-cookie", &cookie)
                    }
                    "/favicon.ico" => Answer::status(204),
                    _ => html.body("<!doctype html><title>application</title>"),
                };
                open.answer(answer);
            }
        });
        Self { backend: backend_address, page: page_port, heard, _tasks: tasks }
    }

    /// The requests that the backend got so far: heads and bodies.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

async fn serve(open: Open, streams: &mut Vec<EventSender>) {
    if open.head.uri.path() == "/session" {
        let known = field(&open.head.headers, "cookie").split("; ").any(|pair| pair == format!("sid={SESSION}"));
        open.answer(if known {
            Answer::status(200).with("content-type", "application/json").body(r#"{"sub":"ada","tenant":"blue"}"#)
        } else {
            Answer::status(401)
        });
        return;
    }
    let subject = field(&open.head.headers, "tidegate-subject").to_owned();
    let events = open.accept();
    events.send(format!("data: hello {subject}\n\n")).await;
    streams.push(events);
}

/// Every message comes back to everybody.
async fn echo(post: Post, streams: &[EventSender]) {
    let event = format!("data: {} said {}\n\n", post.field("tidegate-subject"), post.text());
    post.accept();
    for stream in streams {
        let _ = stream.try_send(event.clone()).await;
    }
}
