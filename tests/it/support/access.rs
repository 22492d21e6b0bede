//! Gateways that let in only who proves who it is, and what proves it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rustls::ClientConfig;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::tls;
use super::gateway::{certificates, toml};
use super::http::{Answered, exchange};
use super::{FakeUpstream, TestGateway};

/// What the application signs its tokens with.
pub(crate) const APP_SECRET: &str = "the application's own secret, 32 bytes or more";
/// What the gateway signs its tickets with.
pub(crate) const TICKET_SECRET: &str = "the gateway's own secret, of 32 bytes or more";

/// Sections for bearer tokens of the application, and for tickets with a key that scenes know.
pub(crate) const SECTIONS: &str = r#"
[auth.bearer]
keys = [{ id = "app", algorithm = "HS256", file = "app.secret" }]

[ticket]
keys = [{ id = "t1", algorithm = "HS256", file = "ticket.secret" }]
"#;

/// The folder of a gateway, with both secrets.
pub(crate) fn files() -> TempDir {
    let files = certificates();
    std::fs::write(files.path().join("app.secret"), APP_SECRET).unwrap();
    std::fs::write(files.path().join("ticket.secret"), TICKET_SECRET).unwrap();
    files
}

/// A configuration whose only route, `/chat`, lets in by `auth`, with `SECTIONS` or others in front.
pub(crate) fn guarded(upstream: &FakeUpstream, auth: &str, sections: &str) -> String {
    let open = toml(&format!("http://{}", upstream.address), "", "");
    format!("{sections}\n{}", open.replace("auth = \"none\"", &format!("auth = {auth}")))
}

/// A gateway that lets in by ticket alone.
pub(crate) fn by_ticket(upstream: &FakeUpstream) -> TestGateway {
    TestGateway::from_files(&guarded(upstream, "\"ticket\"", SECTIONS), files())
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A token of the application's for this subject, good for an hour.
pub(crate) fn bearer(subject: &str) -> String {
    bearer_with(&json!({"sub": subject, "exp": now() + 3600}))
}

/// A token of the application's with these claims.
pub(crate) fn bearer_with(claims: &Value) -> String {
    signed(Algorithm::HS256, Some("app"), claims, APP_SECRET)
}

/// Any token that is signed with a secret.
pub(crate) fn signed(algorithm: Algorithm, kid: Option<&str>, claims: &Value, secret: &str) -> String {
    let header = Header { kid: kid.map(str::to_owned), ..Header::new(algorithm) };
    encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

/// A place where tickets are given: address of a gateway and what its clients trust.
#[derive(Clone)]
pub(crate) struct Desk {
    pub(crate) address: SocketAddr,
    pub(crate) tls: Arc<ClientConfig>,
}

impl Desk {
    pub(crate) fn of(gateway: &TestGateway) -> Self {
        Self { address: gateway.address(), tls: gateway.tls.clone() }
    }

    /// One request over a connection of its own. `Host` is there unless it is among the fields.
    pub(crate) async fn ask(&self, method: Method, target: &str, fields: &[(&str, &str)], body: &str) -> Answered {
        let host = format!("localhost:{}", self.address.port());
        exchange(tls(self.address, &self.tls).await, &host, method, target, fields, body).await
    }

    /// Asks for a ticket with these fields beside the type of the body.
    pub(crate) async fn ask_for_ticket(&self, fields: &[(&str, &str)], body: &str) -> Answered {
        let fields: Vec<_> = [("content-type", "application/json")].into_iter().chain(fields.iter().copied()).collect();
        self.ask(Method::POST, "/stream-ticket", &fields, body).await
    }

    /// A ticket for this subject, who proves itself by a token of the application's.
    pub(crate) async fn ticket(&self, subject: &str) -> String {
        self.ticket_with(&bearer(subject)).await
    }

    /// A ticket for whoever this token speaks for.
    pub(crate) async fn ticket_with(&self, token: &str) -> String {
        let answered = self.ask_for_ticket(&[("authorization", &format!("Bearer {token}"))], "{}").await;
        assert_eq!(answered.status, 200, "{answered:?}");
        answered.json()["ticket"].as_str().unwrap().to_owned()
    }
}

/// Writes a file into a gateway's folder.
pub(crate) fn write(folder: &Path, name: &str, text: &str) {
    std::fs::write(folder.join(name), text).unwrap();
}
