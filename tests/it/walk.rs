//! The whole way of a browser: log in, get a ticket, open a WebSocket with it. And the ways that lead nowhere.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tempfile::TempDir;
use tokio_rustls::TlsAcceptor;

use crate::support::TestGateway;
use crate::support::application::Application;
use crate::support::chromium::Page;
use crate::support::gateway::{certificates, toml};

fn acceptor(files: &TempDir) -> TlsAcceptor {
    let chain =
        CertificateDer::pem_file_iter(files.path().join("certs/dev.pem")).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(files.path().join("certs/dev.key")).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()))
}

/// An application, and a gateway in front of its backend that lets in its page's tickets.
async fn scene() -> (Application, TestGateway) {
    let files = certificates();
    let application = Application::start(acceptor(&files)).await;
    let sections = "[auth.cookie]\nupstream = \"app\"\npath = \"/session\"\ncookies = [\"sid\"]\n";
    let auth = format!("auth = \"ticket\"\norigins = [\"https://localhost:{}\"]", application.page);
    let routes = toml(&format!("http://{}", application.backend), "", "").replace("auth = \"none\"", &auth);
    (application, TestGateway::from_files(&format!("{sections}{routes}"), files))
}

/// An expression: status and body of the answer to a request for a ticket, or what `fetch` fails with.
fn ask(gateway: &TestGateway, options: &str) -> String {
    let url = format!("https://localhost:{}/stream-ticket", gateway.address().port());
    format!(
        "fetch('{url}', {{method: 'POST', credentials: 'include', headers: {{'content-type': 'application/json'}}, body: '{{}}', {options}}})
           .then(async (answer) => [answer.status, await answer.json().catch(() => null)], (error) => [0, error.name])"
    )
}

/// An expression: what a WebSocket at `target` sees until it has a message or is closed.
fn open(gateway: &TestGateway, target: &str, protocols: &serde_json::Value) -> String {
    let url = format!("wss://localhost:{}{target}", gateway.address().port());
    format!(
        "new Promise((resolve) => {{
           const socket = new WebSocket('{url}', {protocols});
           socket.onmessage = (event) => {{ window.sockets = [...(window.sockets ?? []), socket]; resolve(['message', event.data, socket.protocol]); }};
           socket.onclose = (event) => resolve(['closed', event.code, event.wasClean]);
         }})"
    )
}

#[tokio::test]
async fn a_page_logs_in_gets_a_ticket_and_is_served_once() {
    let (application, gateway) = scene().await;
    let mut page = Page::open(&format!("https://localhost:{}/", application.page)).await;
    let refused = page.evaluate(&ask(&gateway, "")).await;
    assert_eq!((&refused[0], &refused[1]["type"]), (&json!(401), &json!("urn:tidegate:unauthorized")), "{refused}");

    page.evaluate("fetch('/login')").await;
    let given = page.evaluate(&ask(&gateway, "")).await;
    assert_eq!((&given[0], &given[1]["route"]), (&json!(200), &json!("/chat")), "{given}");
    let target = format!("/chat?ticket={}", given[1]["ticket"].as_str().unwrap());
    assert_eq!(page.evaluate(&open(&gateway, &target, &json!([]))).await, json!(["message", "hello ada", ""]));
    let heard = page
        .evaluate("new Promise((resolve) => { const [socket] = window.sockets; socket.onmessage = (event) => resolve(event.data); socket.send('hi'); })")
        .await;
    assert_eq!(heard, "ada said hi");
    // Browsers do not say why a handshake was refused; 1006 is all that a page gets to see.
    assert_eq!(page.evaluate(&open(&gateway, &target, &json!([]))).await, json!(["closed", 1006, false]));

    // The same with the ticket among the subprotocols, and what a browser wants to hear about those.
    for (beside, chosen) in [("app.v2", "app.v2"), ("tidegate", "tidegate")] {
        let given = page.evaluate(&ask(&gateway, "")).await;
        let offers = json!([beside, format!("tidegate.ticket.{}", given[1]["ticket"].as_str().unwrap())]);
        let seen = page.evaluate(&open(&gateway, "/chat", &offers)).await;
        assert_eq!(seen, json!(["message", "hello ada", chosen]));
        assert_eq!(page.evaluate(&open(&gateway, "/chat", &offers)).await[0], "closed");
    }
    page.close().await;
}

#[tokio::test]
async fn a_foreign_page_gets_neither_a_ticket_nor_a_connection() {
    let (application, gateway) = scene().await;
    let mut page = Page::open(&format!("https://localhost:{}/", application.page)).await;
    page.evaluate("fetch('/login')").await;
    let given = page.evaluate(&ask(&gateway, "")).await;
    let target = format!("/chat?ticket={}", given[1]["ticket"].as_str().unwrap());

    // A page of another site in the same browser, where the user is logged in.
    let foreign = format!("https://evil.localhost:{}/", application.page);
    page.command("Page.navigate", json!({"url": foreign})).await;
    page.until(&format!("location.href === '{foreign}' && document.title === 'application'")).await;
    assert_eq!(page.evaluate(&ask(&gateway, "")).await, json!([0, "TypeError"]), "the preflight is refused");
    // A body that needs no preflight is sent, and refused for its type; the page cannot read even that.
    assert_eq!(page.evaluate(&ask(&gateway, "headers: {'content-type': 'text/plain'}")).await, json!([0, "TypeError"]));
    assert_eq!(page.evaluate(&ask(&gateway, "mode: 'no-cors', headers: {'content-type': 'text/plain'}")).await[0], 0);
    assert_eq!(page.evaluate(&open(&gateway, &target, &json!([]))).await, json!(["closed", 1006, false]));
    let opened = application.heard().into_iter().filter(|request| request.contains("/events")).count();
    assert_eq!(opened, 0, "upstream has heard of no connection");

    // The ticket was not spent by that: its own page can still use it.
    let own = format!("https://localhost:{}/", application.page);
    page.command("Page.navigate", json!({"url": own})).await;
    page.until(&format!("location.href === '{own}' && document.title === 'application'")).await;
    assert_eq!(page.evaluate(&open(&gateway, &target, &json!([]))).await[0], "message");
    page.close().await;
}
