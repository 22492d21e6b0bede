//! The client is found behind trusted proxies and nowhere else, and upstream is told what was found.

use proptest::prelude::*;

use super::*;

fn trust(form: Form) -> Trust {
    let proxies = ["10.0.0.0/8", "2001:db8:f::/48"].map(|network| network.parse().unwrap());
    Trust { proxies: proxies.into(), form, host: true }
}

fn map(lines: &[(&'static str, &str)]) -> HeaderMap {
    lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
}

fn found(form: Form, lines: &[(&'static str, &str)]) -> Told {
    trust(form).told(&map(lines), "10.0.0.1:4711".parse().unwrap()).unwrap()
}

/// The client by these lines of `X-Forwarded-For`.
fn x(lines: &[&str]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| ("x-forwarded-for", *line)).collect();
    found(Form::XForwarded, &lines).client.to_string()
}

/// The client by these lines of `Forwarded`.
fn f(lines: &[&str]) -> String {
    let lines: Vec<_> = lines.iter().map(|line| ("forwarded", *line)).collect();
    found(Form::Forwarded, &lines).client.to_string()
}

fn head(via: &[&str]) -> request::Parts {
    let (mut head, ()) = http::Request::new(()).into_parts();
    head.extensions.insert(Via(via.iter().map(|address| address.parse().unwrap()).collect()));
    head
}

#[test]
fn nobody_but_a_trusted_proxy_says_who_the_client_is() {
    let fields = map(&[("x-forwarded-for", "192.0.2.7"), ("forwarded", "for=192.0.2.7")]);
    for form in [Form::XForwarded, Form::Forwarded] {
        for peer in ["192.0.2.1:1", "11.0.0.1:1", "[2001:db8:e::1]:1", "[::ffff:11.0.0.1]:1"] {
            assert_eq!(trust(form).told(&fields, peer.parse().unwrap()), None, "{peer}");
        }
        for peer in ["10.255.0.1:1", "[2001:db8:f:9::1]:1", "[::ffff:10.0.0.1]:1"] {
            let told = trust(form).told(&fields, peer.parse().unwrap()).unwrap();
            assert_eq!(told.client.to_string(), "192.0.2.7:0", "{peer}");
        }
        assert_eq!(Trust { form, ..Trust::default() }.told(&fields, "10.0.0.1:1".parse().unwrap()), None);
    }
}

#[test]
fn the_client_is_the_last_address_that_is_not_trusted() {
    assert_eq!(x(&["192.0.2.7"]), "192.0.2.7:0");
    assert_eq!(x(&["6.6.6.6, 192.0.2.7, 10.0.0.9"]), "192.0.2.7:0");
    assert_eq!(x(&["6.6.6.6", "192.0.2.7", "10.0.0.9"]), "192.0.2.7:0", "in several lines");
    assert_eq!(x(&["10.0.0.8,10.0.0.9"]), "10.0.0.8:0", "a client that is one of ours");
    assert_eq!(x(&["192.0.2.7:4711"]), "192.0.2.7:4711");
    assert_eq!(x(&["2001:db8::7"]), "[2001:db8::7]:0");
    assert_eq!(x(&["[2001:db8::7]:80"]), "[2001:db8::7]:80");
    assert_eq!(x(&["::ffff:192.0.2.7"]), "192.0.2.7:0");
    assert_eq!(x(&[]), "10.0.0.1:4711", "the proxy asks for itself");
    assert_eq!(f(&["for=6.6.6.6, for=192.0.2.7;by=_x, For=\"10.0.0.9:1\""]), "192.0.2.7:0");
    assert_eq!(f(&["for=6.6.6.6", " , for=\"[2001:db8::7]:4711\";proto=https ;host=a,"]), "[2001:db8::7]:4711");
    assert_eq!(f(&["for=\"[2001:db8::7]:_port\""]), "[2001:db8::7]:0");
    assert_eq!(f(&["for=192.0.2.7:4711"]), "192.0.2.7:4711", "without the quotes it should have");
    assert_eq!(f(&[r#"for="192.0.2.\7""#]), "192.0.2.7:0");
}

#[test]
fn what_cannot_be_read_stops_at_the_proxy_that_has_written_it() {
    for entry in
        ["unknown", "_hidden", "", "192.0.2.999", "192.0.2.7:x y", "[2001:db8::7", "a.example", "1.2.3.4:99999"]
    {
        let line = format!("6.6.6.6, {entry}, 10.0.0.9");
        assert!(["10.0.0.9:0", "192.0.2.7:0"].contains(&x(&[&line]).as_str()), "{line}");
    }
    assert_eq!(f(&["for=6.6.6.6, for=unknown, for=10.0.0.9"]), "10.0.0.9:0");
    assert_eq!(f(&["for=6.6.6.6, for=_hidden;proto=https"]), "10.0.0.1:4711");
    for line in ["for=6.6.6.6;for=6.6.6.7", "for=\"6.6.6.6", "for", "for=", "=6.6.6.6", "for=6.6.6.6 x", "f r=6.6.6.6"]
    {
        assert_eq!(f(&[line]), "10.0.0.1:4711", "{line}");
        assert_eq!(f(&[line, "for=192.0.2.7"]), "192.0.2.7:0", "{line} is of before the trusted proxy");
    }
    // A client's open quote swallows what a proxy adds in the same line: then nothing of it counts.
    assert_eq!(f(&["for=\"6.6.6.6, for=192.0.2.7"]), "10.0.0.1:4711");
}

#[test]
fn one_form_is_never_read_for_the_other() {
    let both = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "https"), ("forwarded", "for=198.51.100.9")];
    let told = found(Form::XForwarded, &both);
    assert_eq!((told.client.to_string().as_str(), told.tls), ("192.0.2.7:0", Some(true)));
    let told = found(Form::Forwarded, &both);
    assert_eq!((told.client.to_string().as_str(), told.tls), ("198.51.100.9:0", None));
}

#[test]
fn scheme_and_host_are_those_that_the_nearest_to_the_client_has_seen() {
    let told = found(
        Form::Forwarded,
        &[("forwarded", "for=6.6.6.6;proto=http, for=192.0.2.7;proto=https;host=\"a:1\", for=10.0.0.9;proto=http")],
    );
    assert_eq!((told.tls, told.host.as_deref()), (Some(true), Some("a:1")));
    let fields = [("x-forwarded-for", "192.0.2.7"), ("x-forwarded-proto", "http, HTTPS"), ("x-forwarded-host", "b, a")];
    let told = found(Form::XForwarded, &fields);
    assert_eq!((told.tls, told.host.as_deref()), (Some(true), Some("a")));
    let told = found(Form::XForwarded, &[("x-forwarded-proto", "wss")]);
    assert_eq!((told.tls, told.client.to_string().as_str()), (Some(true), "10.0.0.1:4711"));
    assert_eq!(found(Form::XForwarded, &[("x-forwarded-proto", "gopher")]).tls, None);
}

#[test]
fn upstream_is_told_of_the_client_and_of_the_proxies_behind_it() {
    let text = |fields: [(HeaderName, Cow<'static, [u8]>); 4]| {
        fields.map(|(_, value)| String::from_utf8(value.into_owned()).unwrap())
    };
    let none = http::Request::new(()).into_parts().0;
    let [forwarded, addresses, host, proto] =
        text(told(&none, "[2001:db8::1]:4711".parse().unwrap(), true, "example.com:8443"));
    assert_eq!(forwarded, r#"for="[2001:db8::1]";host="example.com:8443";proto=https"#);
    assert_eq!((addresses.as_str(), host.as_str(), proto.as_str()), ("2001:db8::1", "example.com:8443", "https"));
    let [forwarded, ..] = text(told(&none, "[::ffff:192.0.2.7]:1".parse().unwrap(), false, "example.com"));
    assert_eq!(forwarded, "for=192.0.2.7;host=example.com;proto=http");
    let found = found(Form::XForwarded, &[("x-forwarded-for", "6.6.6.6, 192.0.2.7, 10.0.0.9")]);
    let head = head(&["10.0.0.9", "10.0.0.1"]);
    assert_eq!(head.extensions.get::<Via>(), Some(&found.via));
    let [forwarded, addresses, ..] = text(told(&head, found.client, true, "a"));
    assert_eq!(forwarded, "for=192.0.2.7;host=a;proto=https, for=10.0.0.9, for=10.0.0.1");
    assert_eq!(addresses, "192.0.2.7, 10.0.0.9, 10.0.0.1", "what a client has made up is not passed on");
}

#[test]
fn no_field_that_says_who_the_client_is_stays() {
    let mut fields = map(&[
        ("forwarded", "a"),
        ("x-forwarded-for", "a"),
        ("x-forwarded-port", "a"),
        ("x_forwarded_for", "a"),
        ("x-forwarded_proto", "a"),
        ("x-real-ip", "a"),
        ("x-request-id", "a"),
    ]);
    strip(&mut fields);
    assert_eq!(fields, map(&[("x-request-id", "a")]));
}

proptest! {
    /// What is told is understood by whoever trusts us, whatever the addresses are.
    #[test]
    fn what_is_told_is_found_again(client in any::<u128>(), four in any::<bool>(), proxies in 0..5_u8, host in "[a-z.:\\\\\" ]{1,12}") {
        let client = if four { IpAddr::from(u32::try_from(client & 0xffff_ffff).unwrap().to_be_bytes()) } else { IpAddr::from(client.to_be_bytes()) }.to_canonical();
        let via: Vec<_> = (0..proxies).map(|at| format!("10.1.0.{at}")).collect();
        let head = head(&via.iter().map(String::as_str).collect::<Vec<_>>());
        let fields: HeaderMap = told(&head, SocketAddr::new(client, 1), true, &host).into_iter()
            .map(|(name, value)| (name, http::HeaderValue::from_bytes(&value).unwrap())).collect();
        for form in [Form::Forwarded, Form::XForwarded] {
            let trust = trust(form);
            if trust.covers(client) {
                continue;
            }
            let told = trust.told(&fields, "10.0.0.1:1".parse().unwrap()).unwrap();
            prop_assert_eq!(told.client, SocketAddr::new(client, 0));
            prop_assert_eq!(told.via.0.len(), via.len() + 1);
            prop_assert_eq!(told.tls, Some(true));
            if form == Form::Forwarded {
                prop_assert_eq!(told.host.as_deref(), Some(host.as_str()));
            }
        }
    }

    #[test]
    fn anything_in_the_fields_makes_an_address_or_none(line in "[for=;,\"\\\\0-9.:\\[\\] a-z]{0,60}") {
        for (form, name) in [(Form::Forwarded, "forwarded"), (Form::XForwarded, "x-forwarded-for")] {
            let told = found(form, &[(name, &line)]);
            prop_assert!(told.via.0.len() <= MOST_HOPS);
        }
    }
}
