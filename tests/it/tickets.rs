//! Tickets: who gets one, what it lets in, once, and what the client is told when it does not.

use futures_util::future::join_all;
use http::Method;
use serde_json::json;

use crate::support::access::{
    APP_SECRET, Desk, SECTIONS, TICKET_SECRET, bearer, bearer_with, by_ticket, files, guarded, now, signed,
};
use crate::support::keys::Signer;
use crate::support::upstream::Answer;
use crate::support::{Client, FakeUpstream, Seen, TestGateway};

async fn scene() -> (FakeUpstream, TestGateway, Desk) {
    let upstream = FakeUpstream::start().await;
    let gateway = by_ticket(&upstream);
    let desk = Desk::of(&gateway);
    (upstream, gateway, desk)
}

#[tokio::test]
async fn a_ticket_lets_in_once_and_upstream_knows_who() {
    let (mut upstream, gateway, desk) = scene().await;
    let ticket = desk.ticket("ada").await;
    let target = format!("/chat?room=7&ticket={ticket}");
    let (client, events) = tokio::join!(Client::ask(&gateway, &target, &[]), async {
        let open = upstream.next_open().await;
        assert_eq!(open.head.uri.to_string(), "/events?room=7");
        assert_eq!(open.head.headers["tidegate-subject"], "ada");
        open.accept()
    });
    let mut client = client.unwrap();
    events.send("data: hello\n\n").await;
    assert_eq!(client.next().await, Seen::text("hello"));
    client.text("back").await;
    let post = upstream.next_post().await;
    assert_eq!((post.field("tidegate-subject"), post.text()), ("ada", "back"));
    post.accept();

    let refused = Client::ask(&gateway, &target, &[]).await.err().unwrap();
    assert_eq!(refused.status, 401);
    assert!(refused.body.contains("urn:tidegate:ticket-spent"), "{}", refused.body);
    assert!(refused.field("www-authenticate").starts_with("Tidegate-Ticket"), "{:?}", refused.headers);
    upstream.assert_untouched();
}

#[tokio::test]
async fn the_answer_says_what_the_ticket_is_for_and_is_kept_by_no_cache() {
    let (_upstream, _gateway, desk) = scene().await;
    let token = format!("Bearer {}", bearer("ada"));
    for body in ["{}", "", r#"{"route":"/chat"}"#, r#"{"route":"/chat?room=7"}"#] {
        let answered = desk.ask_for_ticket(&[("authorization", &token)], body).await;
        assert_eq!(answered.status, 200, "{answered:?}");
        let given = answered.json();
        assert_eq!((&given["route"], &given["expires_in"]), (&json!("/chat"), &json!(30)), "{given}");
        assert_eq!(answered.field("cache-control"), "no-store");
        assert_eq!(answered.field("content-type"), "application/json");
        let ticket = given["ticket"].as_str().unwrap();
        assert!(ticket.len() < 512, "{} bytes are much for a URL", ticket.len());
        assert!(ticket.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{ticket}");
    }
}

#[tokio::test]
async fn two_hundred_uses_of_one_ticket_have_one_winner() {
    let (mut upstream, gateway, desk) = scene().await;
    let target = format!("/chat?ticket={}", desk.ticket("ada").await);
    let uses = join_all((0..200).map(|_| Client::ask(&gateway, &target, &[])));
    let (uses, events) = tokio::join!(uses, async { upstream.next_open().await.accept() });
    let refused: Vec<_> = uses.iter().filter_map(|used| used.as_ref().err()).collect();
    assert_eq!(refused.len(), 199);
    assert!(refused.iter().all(|refused| refused.status == 401 && refused.body.contains("ticket-spent")));
    upstream.assert_untouched();
    drop(events);
}

#[tokio::test]
async fn a_ticket_may_come_as_a_subprotocol_and_is_never_named_in_the_answer() {
    let (mut upstream, gateway, desk) = scene().await;
    for (offered, told, chosen, answered) in [
        ("app.v2", "app.v2", Some("app.v2"), "app.v2"),
        ("app.v2, app.v1", "app.v2, app.v1", Some("app.v1"), "app.v1"),
        ("app.v2, app.v1", "app.v2, app.v1", None, "app.v2"),
        ("tidegate, app.v2", "app.v2", None, "tidegate"),
        ("tidegate", "", None, "tidegate"),
        ("", "", None, "tidegate"),
    ] {
        let ticket = format!("tidegate.ticket.{}", desk.ticket("ada").await);
        let offer = [&ticket, offered].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
        let request =
            crate::support::client::handshake(&gateway, "/chat", &format!("sec-websocket-protocol: {offer}\r\n"));
        let exchanged = crate::support::client::exchange(&gateway, request.as_bytes());
        let (head, ()) = tokio::join!(exchanged, async {
            let open = upstream.next_open().await;
            let name = "tidegate-subprotocols";
            assert_eq!(crate::support::upstream::field(&open.head.headers, name), told, "offered {offered:?}");
            let chosen: Vec<_> = chosen.map(|chosen| ("sec-websocket-protocol", chosen)).into_iter().collect();
            // The end of the stream without an id ends the connection, and with it the exchange.
            open.accept_with(&chosen).end();
        });
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let line = format!("sec-websocket-protocol: {answered}\r\n");
        assert!(head.to_ascii_lowercase().contains(&line), "offered {offered:?}: {head}");
        assert!(!head.contains(&ticket), "{head}");
    }
}

/// Claims of a good ticket for `ada` at `/chat`, to be spoilt.
fn claims() -> serde_json::Value {
    let id = uuid::Uuid::now_v7().simple().to_string();
    json!({"iss": "tidegate", "aud": "/chat", "sub": "ada", "jti": base64_url(&id[..16]), "iat": now(), "nbf": now(), "exp": now() + 30, "via": "bearer"})
}

fn base64_url(text: &str) -> String {
    base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text)
}

/// A ticket with these claims, made as the gateway makes them.
fn forged(kid: &str, claims: &serde_json::Value, secret: &str) -> String {
    let header = jsonwebtoken::Header {
        kid: Some(kid.to_owned()),
        typ: Some("tidegate-ticket+jwt".to_owned()),
        ..jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256)
    };
    jsonwebtoken::encode(&header, claims, &jsonwebtoken::EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn with(name: &str, value: serde_json::Value) -> serde_json::Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

#[tokio::test]
async fn every_bad_ticket_is_refused_in_its_own_way_before_upstream_hears_anything() {
    let (mut upstream, gateway, desk) = scene().await;
    let good = desk.ticket("ada").await;
    let truncated = &good[..good.len() - 5];
    let unsigned =
        format!("{}.{}.", base64_url(r#"{"typ":"tidegate-ticket+jwt","alg":"none"}"#), good.split('.').nth(1).unwrap());
    let in_query = |ticket: &str| format!("/chat?ticket={ticket}");
    for (what, target, status, kind) in [
        ("none", "/chat".to_owned(), 401, "ticket-missing"),
        ("empty", in_query(""), 400, "ticket-malformed"),
        ("no token", in_query("abc"), 400, "ticket-malformed"),
        ("truncated", in_query(truncated), 400, "ticket-malformed"),
        ("two parts", in_query(good.rsplit_once('.').unwrap().0), 400, "ticket-malformed"),
        ("another key", in_query(&forged("t1", &claims(), APP_SECRET)), 401, "ticket-invalid"),
        ("alg none", in_query(&unsigned), 401, "ticket-invalid"),
        ("unknown kid", in_query(&forged("t2", &claims(), TICKET_SECRET)), 401, "ticket-invalid"),
        ("expired", in_query(&forged("t1", &with("exp", json!(now() - 60)), TICKET_SECRET)), 401, "ticket-expired"),
        (
            "not yet valid",
            in_query(&forged("t1", &with("nbf", json!(now() + 20)), TICKET_SECRET)),
            401,
            "ticket-not-yet-valid",
        ),
        (
            "another route",
            in_query(&forged("t1", &with("aud", json!("/other")), TICKET_SECRET)),
            403,
            "ticket-wrong-route",
        ),
        (
            "another origin",
            in_query(&forged("t1", &with("origin", json!("https://a.example")), TICKET_SECRET)),
            403,
            "ticket-wrong-origin",
        ),
        ("doubled", format!("{}&ticket={good}", in_query(&good)), 400, "ticket-repeated"),
        ("doubled in disguise", format!("{}&%74icket={good}", in_query(&good)), 400, "ticket-repeated"),
        ("too long", in_query(&"a".repeat(8000)), 400, "ticket-malformed"),
        ("a bearer token", in_query(&bearer("ada")), 400, "ticket-malformed"),
        (
            "a token of another type",
            in_query(&signed(jsonwebtoken::Algorithm::HS256, Some("t1"), &claims(), TICKET_SECRET)),
            400,
            "ticket-malformed",
        ),
    ] {
        let refused = Client::ask(&gateway, &target, &[]).await.err().unwrap_or_else(|| panic!("{what} was let in"));
        assert_eq!(refused.status, status, "{what}: {}", refused.body);
        let problem: serde_json::Value = serde_json::from_str(&refused.body).unwrap();
        assert_eq!(problem["type"], format!("urn:tidegate:{kind}"), "{what}: {}", refused.body);
        assert!(!refused.body.contains(&good) && !refused.body.contains("t1"), "{what}: {}", refused.body);
        upstream.assert_untouched();
    }
    // Larger than any head that is read.
    let huge = crate::support::client::handshake(&gateway, &in_query(&"a".repeat(1024 * 1024)), "");
    let answer = crate::support::client::exchange(&gateway, huge.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431") || answer.starts_with("HTTP/1.1 414"), "{answer}");
    upstream.assert_untouched();

    // None of these has spent the good one.
    let target = in_query(&good);
    let (client, _events) =
        tokio::join!(Client::ask(&gateway, &target, &[]), async { upstream.next_open().await.accept() });
    assert!(client.is_ok());
}

#[tokio::test]
async fn a_public_key_is_no_secret_to_sign_with() {
    let upstream = FakeUpstream::start().await;
    let folder = files();
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    std::fs::write(folder.path().join("ed.pem"), pair.serialize_pem()).unwrap();
    let sections = SECTIONS.replace("HS256\", file = \"ticket.secret", "EdDSA\", file = \"ed.pem");
    let gateway = TestGateway::from_files(&guarded(&upstream, "\"ticket\"", &sections), folder);
    let desk = Desk::of(&gateway);
    for secret in [pair.public_key_pem(), String::from_utf8_lossy(pair.public_key_raw()).into_owned()] {
        let target = format!("/chat?ticket={}", forged("t1", &claims(), &secret));
        let refused = Client::ask(&gateway, &target, &[]).await.err().unwrap();
        assert!(refused.status == 401 && refused.body.contains("ticket-invalid"), "{}", refused.body);
    }
    let mut upstream = upstream;
    upstream.assert_untouched();
    let target = format!("/chat?ticket={}", desk.ticket("ada").await);
    let (client, _events) =
        tokio::join!(Client::ask(&gateway, &target, &[]), async { upstream.next_open().await.accept() });
    assert!(client.is_ok());
}

#[tokio::test]
async fn only_who_is_known_gets_a_ticket() {
    let (_upstream, _gateway, desk) = scene().await;
    let expired = bearer_with(&json!({"sub": "ada", "exp": now() - 60}));
    let foreign =
        signed(jsonwebtoken::Algorithm::HS256, Some("app"), &json!({"sub": "ada", "exp": now() + 60}), TICKET_SECRET);
    for (what, fields, status, kind) in [
        ("nothing", vec![], 401, "unauthorized"),
        ("expired", vec![("authorization", format!("Bearer {expired}"))], 401, "token-expired"),
        ("foreign", vec![("authorization", format!("Bearer {foreign}"))], 401, "token-invalid"),
    ] {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answered = desk.ask_for_ticket(&fields, "{}").await;
        assert_eq!((answered.status, answered.kind()), (status, kind.to_owned()), "{what}: {answered:?}");
        assert!(answered.field("www-authenticate").contains("Bearer"), "{what}: {answered:?}");
    }
}

#[tokio::test]
async fn what_is_no_request_for_a_ticket_is_told_so() {
    let (_upstream, _gateway, desk) = scene().await;
    let token = format!("Bearer {}", bearer("ada"));
    let json = ("content-type", "application/json");
    let auth = ("authorization", token.as_str());
    let large = format!("{{\"route\":\"{}\"}}", "a".repeat(5000));
    for (method, fields, body, status, kind) in [
        (Method::GET, vec![auth], "", 405, "method-not-allowed"),
        (Method::POST, vec![auth], "{}", 415, "not-json"),
        (Method::POST, vec![auth, ("content-type", "text/plain")], "{}", 415, "not-json"),
        (Method::POST, vec![auth, json, json], "{}", 415, "not-json"),
        (Method::POST, vec![auth, json], "[1]", 400, "bad-body"),
        (Method::POST, vec![auth, json], "{\"rout\":\"/chat\"}", 400, "bad-body"),
        (Method::POST, vec![auth, json], "{\"route\":\"/nowhere\"}", 404, "unknown-route"),
        (Method::POST, vec![auth, json], "{\"route\":\"nobody\"}", 404, "unknown-route"),
        (Method::POST, vec![auth, json], &large, 413, "body-too-large"),
        (Method::POST, vec![auth, json, ("origin", "null")], "{}", 403, "origin-refused"),
        (Method::POST, vec![auth, json, ("origin", "https://evil.example")], "{}", 403, "origin-refused"),
        (Method::POST, vec![auth, json, ("sec-fetch-site", "cross-site")], "{}", 403, "origin-refused"),
    ] {
        let answered = desk.ask(method.clone(), "/stream-ticket", &fields, body).await;
        let told = (answered.status, answered.kind());
        assert_eq!(told, (status, kind.to_owned()), "{method} {fields:?} {body}: {answered:?}");
        assert!(!answered.fields.contains_key("access-control-allow-origin"), "{answered:?}");
    }
}

#[tokio::test]
async fn a_ticket_is_bound_to_the_page_that_asked_for_it() {
    let mut upstream = FakeUpstream::start().await;
    let text = guarded(&upstream, "\"ticket\"\norigins = [\"https://a.example\", \"https://*.b.example\"]", SECTIONS);
    let gateway = TestGateway::from_files(&text, files());
    let desk = Desk::of(&gateway);
    let token = format!("Bearer {}", bearer("ada"));
    let answered = desk.ask_for_ticket(&[("authorization", &token), ("origin", "https://a.example")], "{}").await;
    assert_eq!(answered.field("access-control-allow-origin"), "https://a.example");
    assert_eq!(answered.field("access-control-allow-credentials"), "true");
    let target = format!("/chat?ticket={}", answered.json()["ticket"].as_str().unwrap());
    for (origin, kind) in [
        (Some("https://x.b.example"), "ticket-wrong-origin"),
        (None, "ticket-wrong-origin"),
        (Some("https://evil.example"), "origin-refused"),
        (Some("null"), "origin-refused"),
    ] {
        let fields: Vec<_> = origin.map(|origin| ("origin", origin)).into_iter().collect();
        let refused = Client::ask(&gateway, &target, &fields).await.err().unwrap();
        assert!(refused.status == 403 && refused.body.contains(kind), "{origin:?}: {}", refused.body);
    }
    upstream.assert_untouched();
    let (client, _events) = tokio::join!(Client::ask(&gateway, &target, &[("origin", "https://a.example")]), async {
        upstream.next_open().await.accept()
    });
    assert!(client.is_ok());
}

#[tokio::test]
async fn a_client_without_an_origin_is_let_in_only_where_the_route_says_so() {
    let mut upstream = FakeUpstream::start().await;
    let text = guarded(&upstream, "\"ticket\"\nmissing_origin = \"refuse\"", SECTIONS);
    let gateway = TestGateway::from_files(&text, files());
    let refused = Client::ask(&gateway, "/chat", &[]).await.err().unwrap();
    assert!(refused.status == 403 && refused.body.contains("origin-missing"), "{}", refused.body);
    let own = format!("https://localhost:{}", gateway.address().port());
    let refused = Client::ask(&gateway, "/chat", &[("origin", &own)]).await.err().unwrap();
    assert!(refused.status == 401 && refused.body.contains("ticket-missing"), "{}", refused.body);
    upstream.assert_untouched();
}

#[tokio::test]
async fn a_route_may_take_several_proofs() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = TestGateway::from_files(&guarded(&upstream, "[\"ticket\", \"bearer\"]", SECTIONS), files());
    let desk = Desk::of(&gateway);
    let token = format!("Bearer {}", bearer("grace"));
    let fields = [("authorization", token.as_str())];
    let (client, events) = tokio::join!(Client::ask(&gateway, "/chat", &fields), async {
        let open = upstream.next_open().await;
        assert_eq!(open.head.headers["tidegate-subject"], "grace");
        assert!(!open.head.headers.contains_key("authorization"), "credentials stay here unless the route says so");
        open.accept()
    });
    assert!(client.is_ok());
    drop(events);
    let target = format!("/chat?ticket={}", desk.ticket("ada").await);
    let (client, _events) =
        tokio::join!(Client::ask(&gateway, &target, &[]), async { upstream.next_open().await.accept() });
    assert!(client.is_ok());
    let refused = Client::ask(&gateway, "/chat", &[]).await.err().unwrap();
    assert!(refused.status == 401 && refused.body.contains("unauthorized"), "{}", refused.body);
}

#[tokio::test]
async fn whoever_asks_for_too_many_tickets_is_told_when_to_come_back() {
    let upstream = FakeUpstream::start().await;
    let sections = format!("{SECTIONS}per_identity = 3\n");
    let gateway = TestGateway::from_files(&guarded(&upstream, "\"ticket\"", &sections), files());
    let desk = Desk::of(&gateway);
    for _ in 0..3 {
        desk.ticket("ada").await;
    }
    let token = format!("Bearer {}", bearer("ada"));
    let answered = desk.ask_for_ticket(&[("authorization", &token)], "{}").await;
    assert_eq!((answered.status, answered.kind().as_str()), (429, "too-many-tickets"), "{answered:?}");
    assert!((1..=20).contains(&answered.field("retry-after").parse::<u64>().unwrap()), "{answered:?}");
    desk.ticket("grace").await;
}

/// A gateway whose bearer keys come from `keys`, asked again for an unknown one after a second at the soonest.
async fn with_key_set(upstream: &FakeUpstream, keys: &mut FakeUpstream, first: &Signer) -> (TestGateway, Desk) {
    let jwks = format!("jwks = {{ url = \"http://{}/keys\", cooldown = \"1s\", timeout = \"1s\" }}", keys.address);
    let gateway =
        TestGateway::from_files(&guarded(upstream, "\"ticket\"", &format!("[auth.bearer]\n{jwks}\n")), files());
    keys.next_open().await.answer(key_set(&[first]));
    let desk = Desk::of(&gateway);
    (gateway, desk)
}

fn key_set(signers: &[&Signer]) -> Answer {
    let keys: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
    Answer::status(200).with("content-type", "application/jwk-set+json").body(json!({"keys": keys}).to_string())
}

#[tokio::test]
async fn a_ticket_is_given_for_a_token_whose_key_is_new_and_while_the_key_server_is_away() {
    let (upstream, mut keys) = (FakeUpstream::start().await, FakeUpstream::start().await);
    let [old, new] = ["old", "new"].map(|id| Signer::new(id, jsonwebtoken::Algorithm::ES256));
    let (_gateway, desk) = with_key_set(&upstream, &mut keys, &old).await;
    desk.ticket_with(&old.token()).await;
    // The provider changes its key: the first token of the new one makes the gateway ask, and waits for the answer.
    let token = new.token();
    tokio::join!(desk.ticket_with(&token), async { keys.next_open().await.answer(key_set(&[&old, &new])) });
    let address = keys.kill().await;
    for signer in [&old, &new, &old] {
        desk.ticket_with(&signer.token()).await;
    }
    // Names of keys that nobody knows do not keep anybody else waiting, and are asked for once in a while.
    let mut keys = FakeUpstream::start_again_at(address).await;
    let unknown: Vec<_> = (0..200).map(|index| format!("Bearer {}", new.token_named(&format!("k{index}")))).collect();
    let flood = join_all(unknown.iter().map(|token| async {
        let fields = [("authorization", token.as_str())];
        desk.ask_for_ticket(&fields, "{}").await
    }));
    let mut flood = std::pin::pin!(flood);
    let mut asked = 0;
    let answers = loop {
        tokio::select! {
            answers = &mut flood => break answers,
            open = keys.next_open() => {
                asked += 1;
                open.answer(key_set(&[&old, &new]));
            }
        }
    };
    assert!(answers.iter().all(|answer| answer.status == 401), "{answers:?}");
    assert!(asked <= 2, "200 unknown keys made {asked} questions");
    desk.ticket_with(&new.token()).await;
}

#[tokio::test]
async fn a_request_that_upstream_could_not_be_told_of_spends_no_ticket() {
    let (mut upstream, gateway, desk) = scene().await;
    let target = format!("/chat?ticket={}", desk.ticket("ada").await);
    let refused = Client::ask(&gateway, &format!("{target}&last_event_id=%00"), &[]).await.err().unwrap();
    assert!(refused.status == 400 && refused.body.contains("bad-last-event-id"), "{}", refused.body);
    upstream.assert_untouched();
    let (client, _events) =
        tokio::join!(Client::ask(&gateway, &target, &[]), async { upstream.next_open().await.accept() });
    assert!(client.is_ok());
}
