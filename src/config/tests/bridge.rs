//! `[route.bridge]`, and what tells upstream who a client is.

use super::*;
use crate::session::{OverRate, Rate};

#[test]
fn a_rate_has_a_burst_of_one_second_unless_written() {
    let settings = |lines: &str| {
        let config = parse(&file("", "", "", "", lines)).unwrap_or_else(|problems| panic!("{problems}"));
        config.routes.first().expect("one").bridge.clone().expect("one").session.clone()
    };
    let rate = |units, burst| {
        let number = |number| std::num::NonZeroU32::new(number).expect("not zero");
        Some(Rate::per_second(number(units), number(burst)))
    };
    let free = settings("");
    assert_eq!((free.message_rate, free.byte_rate, free.over_rate), (None, None, OverRate::Pause));
    let limited = settings("message_rate = 5\nbyte_rate = \"64KiB\"\nover_rate = \"close\"");
    assert_eq!((limited.message_rate, limited.byte_rate), (rate(5, 5), rate(65_536, 65_536)));
    assert_eq!(limited.over_rate, OverRate::Close);
    let bursts = settings("message_rate = 5\nmessage_burst = 20\nbyte_rate = \"1GiB\"\nbyte_burst = \"1KiB\"");
    assert_eq!((bursts.message_rate, bursts.byte_rate), (rate(5, 20), rate(1 << 30, 1024)));
    assert!(bridge("message_rate = 0").contains("from 1 to 1000000"));
    assert!(bridge("byte_rate = 65536").ends_with("write \"65536B\""));
    assert!(bridge("byte_rate = \"1B\"").contains("from \"1KiB\" to \"1GiB\""));
    assert!(bridge("message_burst = 5").contains("`message_burst` has no effect, because there is no `message_rate`"));
    assert!(bridge("byte_burst = \"1MiB\"").contains("`byte_burst` has no effect"));
    assert!(bridge("message_rate = \"5\"\nmessage_burst = 5").contains("must be a whole number, not a text"));
    assert!(bridge("over_rate = \"drop\"").ends_with("write \"pause\" or \"close\""));
}

#[test]
fn bridges_are_checked() {
    let bare = |text: &str| only(&file("", "", "", "", "").replace(BRIDGE, &format!("[route.bridge]\n{text}")));
    assert!(bare("events = \"/e\"\nmessages = \"/m\"").contains("`upstream` is missing in [route.bridge]"));
    assert!(bare("upstream = \"app\"\nmessages = \"/m\"").contains("`events` is missing in [route.bridge]"));
    let capture = bare("upstream = \"app\"\nmessages = \"/m\"\nevents = \"/{room}\"");
    assert!(capture.contains("`{room}` is not captured") && capture.contains("captures nothing"), "{capture}");
    assert!(bare("upstream = \"zebra\"\nevents = \"/e\"\nmessages = \"/m\"").ends_with("known upstreams: app"));
    assert!(bridge("text_type = \"text\"").contains("`text` is not a media type"));
    assert!(bridge("binary_event = \"\"").contains("a name cannot be empty"));
    assert!(bridge("close_event = \"message\"").contains("the name of ordinary events"));
    assert!(bridge("close_event = \"a\\nb\"").contains("cannot hold a line break"));
    assert!(bridge("close_event = \"tidegate.binary\"").contains("are both `tidegate.binary`"));
    assert!(
        bridge("max_event_field = \"16B\"\nclose_event = \"a.rather.long.name\"")
            .contains("longer than `max_event_field`")
    );
    assert!(bridge("forward_headers = [\"cookie\"]").contains("`forward_cookies`"));
    assert!(bridge("forward_headers = [\"a\", \"A\"]").contains("`A` stands in `forward_headers` twice"));
    assert!(bridge("forward_cookies = [\"a\", \"*\"]").contains("`*` stands beside other names"));
    assert!(bridge("forward_cookies = [\"a=b\"]").contains("`a=b` is not the name of a cookie"));
    assert!(bridge("credential_params = [\"a&b\"]").contains("`a&b` is not the name of a query parameter"));
    assert!(bridge("last_event_id_param = \"token\"").contains("both a credential and the last event id"));
    assert!(bridge("delivery_timeout = \"20s\"").contains("is shorter than `message_timeout`"));
    assert!(bridge("message_timeout = \"2m\"").contains("is shorter than `message_timeout`"));
    let sound = "last_event_id_param = \"\"\nforward_cookies = [\"*\"]\ncredential_params = []\nforward_headers = []";
    assert_eq!(bridge(sound), "");
}

#[test]
fn what_tells_upstream_of_a_client_is_checked() {
    let bridge = |lines: &str| {
        let text = file("[auth]\nclaims = [\"tenant\", \"roles\", \"a\", \"b\"]", "", "", "", lines);
        parse(&text).err().iter().flat_map(Problems::iter).map(told).collect::<Vec<_>>().join("\n")
    };
    assert!(bridge("claim_headers = { tenent = \"X-Tenant\" }").contains("did you mean `tenant`?"));
    assert_eq!(bridge("claim_headers = { tenant = \"X-Tenant\", roles = \"Tidegate-Roles\" }"), "");
    assert!(bridge("claim_headers = [\"tenant\"]").contains("`claim_headers` must be a table of texts, not a list"));
    assert!(bridge("claim_headers = { tenant = 1 }").contains("the header of `tenant` must be a text"));
    let refused = |header: &str| bridge(&format!("claim_headers = {{ tenant = \"{header}\" }}"));
    assert!(refused("Tidegate_Connection").contains("the contract with the backend has a meaning for it"));
    assert!(refused("Transfer-Encoding").contains("a meaning of its own"));
    assert!(refused("X Tenant").contains("not the name of a header"));
    assert!(refused("User_Agent").contains("is also one of `forward_headers`"));
    let twice = bridge("claim_headers = { a = \"X-A\", b = \"x_a\" }");
    assert!(twice.contains("stands in `claim_headers` twice"), "{twice}");
    assert!(bridge("forward_headers = [\"tidegate_subject\"]").contains("sets headers of this kind itself"));
    assert!(bridge("identity_token = true").contains("there is no [identity]"));
    assert!(bridge("last_event_id_param = \"ticket\"\ncredential_params = []").contains("both a credential"));
}

#[test]
fn identity_tokens_need_a_key_that_can_sign() {
    let repository = repository();
    let read = |lines: &str, bridge: &str| {
        let text = file(&format!("[identity]\n{lines}"), "", "", "", bridge);
        Config::parse(&text, "tidegate.toml", repository.path())
    };
    let told_of = |lines: &str| {
        let problems = read(lines, "identity_token = true").expect_err(lines);
        problems.iter().map(told).collect::<Vec<_>>().join("\n")
    };
    let key = "keys = [{ id = \"k1\", algorithm = \"ES256\", file = \"certs/dev.key\" }]";
    let audience = |lines: &str| {
        let config = read(lines, "identity_token = true").unwrap_or_else(|problems| panic!("{problems}"));
        assert!(config.identity.as_ref().is_some_and(|signer| signer.jwks().contains("\"kid\":\"k1\"")));
        let secret = std::fs::read_to_string(repository.path().join("certs/dev.key")).expect("a key");
        assert!(!format!("{config:#?}").contains(secret.lines().nth(1).expect("a line")));
        config.routes[0].bridge.as_ref().unwrap().identity_token.clone()
    };
    assert_eq!(audience(key).as_deref(), Some("app"), "the name of the upstream");
    assert_eq!(audience(&format!("{key}\naudience = \"all\"\nlifetime = \"10s\"")).as_deref(), Some("all"));
    let off = read(key, "").unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(off.routes[0].bridge.as_ref().unwrap().identity_token, None);
    assert!(told_of("").contains("`keys` is missing in [identity]"));
    assert!(told_of("keys = []").contains("`keys` must name at least one"));
    let other = told_of(&key.replace("ES256", "EdDSA"));
    assert!(other.contains("an Ed25519 key") && other.contains("openssl genpkey -algorithm ed25519"), "{other}");
    assert!(told_of(&key.replace("dev.key", "dev.pem")).contains("not the private key that ES256 needs"));
    assert!(told_of(&key.replace("ES256", "HS256")).contains("`algorithm` cannot be `HS256`"));
    assert!(told_of(&format!("{key}\nlifetime = \"5s\"")).contains("from \"10s\" to \"1h\""));
    assert!(told_of(&format!("{key}\nissuer = \"\"")).contains("`issuer` is empty"));
}
