//! Bearer tokens with keys that come from a server of their own, which changes them, fails and comes back.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderMap, HeaderValue, RETRY_AFTER};
use rcgen::CertifiedKey;
use rustls::pki_types::PrivateKeyDer;
use rustls::{RootCertStore, ServerConfig};
use serde_json::json;
use tidegate::access::bearer::{Bearer, Settings};
use tidegate::access::jwks;
use tidegate::identity::bearer::Rules;
use tidegate::identity::jwks::USUAL_ALGORITHMS;
use tidegate::identity::refresh::RefreshRule;
use tidegate::identity::{Algorithm, Identity};
use tidegate::protocol::problem::Problem;
use tidegate::upstream::Endpoint;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::keys::Signer;
use crate::support::upstream::Answer;
use crate::support::{FakeUpstream, must};

/// Bearer tokens that are believed if a key set vouches for them.
struct Door {
    bearer: Arc<Bearer>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

const RULE: RefreshRule = RefreshRule { refresh: Duration::from_hours(1), cooldown: Duration::from_hours(1) };

impl Door {
    fn open(address: SocketAddr, rule: RefreshRule) -> Self {
        Self::open_with(address, rule, None)
    }

    /// The same over TLS, if there is somebody to vouch for the server.
    fn open_with(address: SocketAddr, rule: RefreshRule, roots: Option<Arc<RootCertStore>>) -> Self {
        let endpoint = Endpoint { tls: roots.is_some(), authority: address.to_string().parse().unwrap(), weight: 1 };
        let timeout = Duration::from_secs(10);
        let jwks = jwks::Settings {
            place: jwks::place(endpoint, roots, timeout),
            target: "/keys?v=1".parse().unwrap(),
            algorithms: USUAL_ALGORITHMS.to_vec(),
            rule,
            timeout,
        };
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let settings = Settings { keys: Vec::new(), jwks: Some(jwks), rules: Rules::default() };
        let bearer = Bearer::new(settings, &tasks, &stop).unwrap().into();
        Self { bearer, tasks, stop }
    }

    async fn knock(&self, token: &str) -> Result<Identity, Problem> {
        knock(&self.bearer, token).await
    }

    /// The word of a refusal, or who it is.
    async fn word(&self, token: &str) -> String {
        match self.knock(token).await {
            Ok(identity) => identity.subject.as_str().to_owned(),
            Err(problem) => problem.kind.to_owned(),
        }
    }

    /// A knock that goes on while the scene does something else.
    fn knocking(&self, token: String) -> tokio::task::JoinHandle<Result<Identity, Problem>> {
        let bearer = self.bearer.clone();
        self.tasks.spawn(async move { knock(&bearer, &token).await })
    }

    async fn close(self) {
        self.stop.cancel();
        self.tasks.close();
        must("the end of all tasks", self.tasks.wait()).await;
    }
}

async fn knock(bearer: &Bearer, token: &str) -> Result<Identity, Problem> {
    let value = HeaderValue::try_from(format!("Bearer {token}")).unwrap();
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    must("a judgement", bearer.prove(&headers)).await.map(|identity| identity.expect("a token was brought"))
}

fn set(signers: &[&Signer]) -> Answer {
    let keys: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
    Answer::status(200).with("content-type", "application/jwk-set+json").body(json!({ "keys": keys }).to_string())
}

async fn serve(server: &mut FakeUpstream, answer: Answer) {
    let asked = server.next_open().await;
    assert_eq!(asked.head.uri, "/keys?v=1");
    assert!(asked.head.headers.get(AUTHORIZATION).is_none());
    asked.answer(answer);
}

#[tokio::test]
async fn keys_of_every_kind_are_fetched_and_used() {
    let mut server = FakeUpstream::start().await;
    let signers = [
        Signer::new("rs", Algorithm::RS256),
        Signer::new("ps", Algorithm::PS256),
        Signer::new("p256", Algorithm::ES256),
        Signer::new("p384", Algorithm::ES384),
        Signer::new("ed", Algorithm::EdDSA),
    ];
    let door = Door::open(server.address, RULE);
    let first = door.knocking(signers[0].token());
    serve(&mut server, set(&signers.iter().collect::<Vec<_>>())).await;
    let identity = first.await.unwrap().expect("a token that comes before the keys waits for them");
    assert_eq!((identity.subject.as_str(), identity.keys.first().map(|key| &**key)), ("ada", Some("rs")));
    for signer in &signers {
        assert_eq!(door.word(&signer.token()).await, "ada", "{}", signer.id());
    }
    assert_eq!(door.word(&Signer::new("ed", Algorithm::EdDSA).token()).await, "token-invalid");
    let snapshot = door.bearer.snapshot();
    assert_eq!((snapshot.keys, snapshot.fetched, snapshot.failed), (5, 1, 0));
    assert!(snapshot.age.is_some());
    door.close().await;
}

#[tokio::test]
async fn a_key_that_is_new_is_fetched_with_its_first_token_and_the_old_one_goes() {
    let mut server = FakeUpstream::start().await;
    let (old, new) = (Signer::new("old", Algorithm::ES256), Signer::new("new", Algorithm::ES256));
    let door = Door::open(server.address, RULE);
    serve(&mut server, set(&[&old])).await;
    assert_eq!(door.word(&old.token()).await, "ada");
    let waiting: Vec<_> = (0..20).map(|_| door.knocking(new.token())).collect();
    let asked = server.next_open().await;
    assert_eq!(door.word(&old.token()).await, "ada", "nobody else waits");
    asked.answer(set(&[&new]));
    for one in waiting {
        assert!(one.await.unwrap().is_ok());
    }
    assert_eq!(door.word(&old.token()).await, "token-invalid", "what is taken out of the set is trusted no more");
    server.assert_untouched();
    assert_eq!(door.bearer.snapshot().fetched, 2);
    door.close().await;
}

#[tokio::test]
async fn a_set_is_fetched_again_without_being_asked_for() {
    let mut server = FakeUpstream::start().await;
    let (old, new) = (Signer::new("old", Algorithm::ES256), Signer::new("new", Algorithm::ES256));
    let door = Door::open(server.address, RefreshRule { refresh: Duration::from_millis(200), ..RULE });
    serve(&mut server, set(&[&old])).await;
    serve(&mut server, set(&[&old, &new])).await;
    // The next request shows that the set before it was taken in.
    let _held = server.next_open().await.hold();
    assert_eq!((door.word(&old.token()).await, door.word(&new.token()).await), ("ada".to_owned(), "ada".to_owned()));
    door.close().await;
}

#[tokio::test]
async fn while_the_server_is_down_the_last_good_set_serves() {
    let mut server = FakeUpstream::start().await;
    let (old, new) = (Signer::new("old", Algorithm::ES256), Signer::new("new", Algorithm::ES256));
    let door = Door::open(server.address, RefreshRule { refresh: Duration::from_millis(100), ..RULE });
    serve(&mut server, set(&[&old])).await;
    let unusable = [
        Answer::status(500),
        Answer::status(302).with("location", "http://127.0.0.1:1/keys"),
        Answer::status(200).body("<html>maintenance</html>"),
        Answer::status(200).body("{\"keys\":[]}"),
        Answer::status(200).body(" ".repeat(1024 * 1024 + 1)),
    ];
    for answer in unusable {
        serve(&mut server, answer).await;
        assert_eq!(door.word(&old.token()).await, "ada");
    }
    let address = server.kill().await;
    assert_eq!(door.word(&old.token()).await, "ada");
    assert_eq!(door.word(&new.token()).await, "token-invalid");
    let mut server = FakeUpstream::start_again_at(address).await;
    serve(&mut server, set(&[&new])).await;
    let _held = server.next_open().await.hold();
    assert_eq!(door.word(&new.token()).await, "ada", "it is back without a restart");
    assert!(door.bearer.snapshot().failed >= 5);
    door.close().await;
}

#[tokio::test]
async fn until_the_first_set_is_there_tokens_are_told_to_come_again() {
    let server = FakeUpstream::start().await;
    let address = server.kill().await;
    let signer = Signer::new("a", Algorithm::EdDSA);
    let door = Door::open(address, RULE);
    let problem = door.knock(&signer.token()).await.unwrap_err();
    assert_eq!((problem.status.as_u16(), problem.kind), (503, "keys-unavailable"));
    assert!(problem.headers.contains_key(RETRY_AFTER));
    assert_eq!(door.word("a.b.c").await, "token-malformed", "what no key could help is refused for good");
    assert_eq!(door.bearer.snapshot().age, None);
    let mut server = FakeUpstream::start_again_at(address).await;
    serve(&mut server, set(&[&signer])).await;
    let come_again = async {
        while door.knock(&signer.token()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    must("the keys to be there", come_again).await;
    door.close().await;
}

#[tokio::test]
async fn a_flood_of_unknown_keys_asks_the_server_once_per_cooldown() {
    let mut server = FakeUpstream::start().await;
    let known = Signer::new("known", Algorithm::ES256);
    let door = Door::open(server.address, RULE);
    serve(&mut server, set(&[&known])).await;
    assert_eq!(door.word(&known.token()).await, "ada");
    let template = Signer::new("x", Algorithm::ES256);
    let flood: Vec<_> = (0..1000).map(|nth| door.knocking(template.token_named(&format!("unknown-{nth}")))).collect();
    serve(&mut server, set(&[&known])).await;
    for one in flood {
        let problem = one.await.unwrap().unwrap_err();
        assert_eq!((problem.status.as_u16(), problem.kind), (401, "token-invalid"));
    }
    server.assert_untouched();
    let snapshot = door.bearer.snapshot();
    assert_eq!((snapshot.fetched, snapshot.failed, snapshot.unknown_keys), (2, 0, 1000));
    assert_eq!(door.word(&known.token()).await, "ada");
    for name in ["a\u{7}b", "a\r\nb", ""] {
        assert_eq!(door.word(&template.token_named(name)).await, "token-invalid", "{name:?}");
    }
    door.close().await;
}

#[tokio::test]
async fn what_is_no_bearer_token_is_for_others_to_judge() {
    let mut server = FakeUpstream::start().await;
    let signer = Signer::new("a", Algorithm::ES256);
    let door = Door::open(server.address, RULE);
    serve(&mut server, set(&[&signer])).await;
    let of =
        |values: &[&str]| values.iter().map(|value| (AUTHORIZATION, value.parse().unwrap())).collect::<HeaderMap>();
    for values in [&[] as &[&str], &["Basic YTpi"], &["Bearer opaque"], &["Bearer a.b.c.d.e"]] {
        assert_eq!(door.bearer.prove(&of(values)).await.unwrap(), None, "{values:?}");
    }
    let token = format!("Bearer {}", signer.token());
    let twice = door.bearer.prove(&of(&[&token, &token])).await.unwrap_err();
    assert_eq!((twice.status.as_u16(), twice.kind), (400, "authorization-repeated"));
    let huge = format!("{}.e30.e30", "A".repeat(1024 * 1024));
    assert_eq!(door.word(&huge).await, "token-malformed");
    door.close().await;
}

#[tokio::test]
async fn a_token_whose_key_came_after_a_fetch_had_begun_waits_for_the_next() {
    let mut server = FakeUpstream::start().await;
    let (old, new) = (Signer::new("old", Algorithm::ES256), Signer::new("new", Algorithm::ES256));
    let door = Door::open(server.address, RefreshRule { refresh: Duration::from_millis(100), ..RULE });
    serve(&mut server, set(&[&old])).await;
    let regular = server.next_open().await;
    let waiting = door.knocking(new.token());
    // The runtime has one thread: after a turn of it, the token waits.
    tokio::task::yield_now().await;
    regular.answer(set(&[&old]));
    serve(&mut server, set(&[&old, &new])).await;
    assert!(waiting.await.unwrap().is_ok());
    door.close().await;
}

#[tokio::test]
async fn a_key_set_is_taken_over_tls_from_whom_the_authority_vouches_for_and_from_nobody_else() {
    let made = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let CertifiedKey { cert, signing_key } = made("127.0.0.1");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = config.with_no_client_auth().with_single_cert(vec![cert.der().clone()], key).unwrap();
    let mut server = FakeUpstream::start_with(Some(TlsAcceptor::from(Arc::new(config))), None).await;
    let signer = Signer::new("a", Algorithm::ES256);
    let trusting = |certificate: &rcgen::Certificate| {
        let mut roots = RootCertStore::empty();
        roots.add(certificate.der().clone()).unwrap();
        Door::open_with(server.address, RULE, Some(Arc::new(roots)))
    };
    let (misled, door) = (trusting(&made("127.0.0.1").cert), trusting(&cert));
    assert_eq!(misled.word(&signer.token()).await, "keys-unavailable");
    let waiting = door.knocking(signer.token());
    serve(&mut server, set(&[&signer])).await;
    assert!(waiting.await.unwrap().is_ok());
    server.assert_untouched();
    misled.close().await;
    door.close().await;
}
