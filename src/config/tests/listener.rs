//! Where clients and operators are served.

use super::*;

#[test]
fn http2_on_a_listener_is_read_and_checked() {
    let listener = |keys: &str| file("", &format!("[listener.http2]\n{keys}\n"), "", "", "");
    let config = parse(&listener(
        "enabled = false\nprior_knowledge = true\nmax_resets = 7\nstream_window = \"2MiB\"\nconnection_window = \"3MiB\"",
    ));
    let config = config.unwrap_or_else(|problems| panic!("{problems}"));
    let http2 = &config.listeners.first().expect("a listener").http2;
    assert_eq!(
        (http2.enabled, http2.prior_knowledge, http2.max_resets.get(), http2.max_streams),
        (false, true, 7, 100)
    );
    assert_eq!((http2.stream_window, http2.connection_window), (2 << 20, 3 << 20));
    let smaller = only(&listener("stream_window = \"3MiB\""));
    assert!(smaller.contains("`connection_window` is smaller than `stream_window`"), "{smaller}");
    assert!(only(&listener("max_streams = 0")).contains("from 1 to 10000"));
    assert!(only(&listener("pings = 1")).contains("`pings` is not known in [listener.http2]"));
    let route = file("", "", "", "websocket_over_http2 = false", "");
    let config = parse(&route).unwrap_or_else(|problems| panic!("{problems}"));
    assert!(config.routes.iter().all(|route| !route.websocket_over_http2));
    let native = "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n[upstream.app]\nendpoints = [\"http://127.0.0.1:1\"]\n\
                  [[route]]\npath = \"/\"\nauth = \"none\"\nwebsocket_over_http2 = false\nproxy = { upstream = \"app\" }";
    assert!(only(native).contains("`websocket_over_http2` has no effect without `bridge` or `legacy`"));
}

#[test]
fn with_tls_nobody_needs_to_know_beforehand_that_http2_is_spoken() {
    let repository = repository();
    let text =
        format!("{LOCAL}\n").replace("[upstream.app]", "[listener.http2]\nprior_knowledge = true\n[upstream.app]");
    let problems = Config::parse(&text, "local.toml", &repository.path().join("config")).expect_err("has no effect");
    assert!(problems.to_string().contains("`prior_knowledge` has no effect with TLS"), "{problems}");
}

#[test]
fn listeners_are_checked() {
    let listener = |lines: &str| {
        let text = file("", "", "", "", "").replace(LISTENER, &format!("[[listener]]\n{lines}\n"));
        problems(&text).join("\n")
    };
    assert!(listener("address = \"127.0.0.1:1\"").contains("2:1 `tls` is missing in [[listener]]"));
    assert!(only(&file("", "", "", "", "").replace("tls = false\n", "")).contains("or tls = false for plain HTTP"));
    assert!(listener("tls = false").contains("2:1 `address` is missing in [[listener]]"));
    assert!(listener("address = \"127.0.0.1:1\"\ntls = true").contains("4:7 `tls` must be a table"));
    assert!(listener("address = \"127.0.0.1:1\"\ntls = []").contains("`tls` names no certificate"));
    assert!(listener("address = \"127.0.0.1:1\"\ntls = [false]").contains("4:8 `tls` must be a table"));
    let one_file = listener("address = \"127.0.0.1:1\"\ntls = { certificate = \"a.pem\", kye = \"a.key\" }");
    assert!(one_file.contains("4:7 `key` is missing in `tls`"), "{one_file}");
    assert!(one_file.contains("4:32 `kye` is not known in `tls`"), "{one_file}");
    let unreadable = listener("address = \"127.0.0.1:1\"\ntls = { certificate = \"a.pem\", key = \"a.key\" }");
    assert!(unreadable.contains("4:23 cannot read `/nowhere/a.pem`"), "{unreadable}");
    assert!(unreadable.contains("4:38 cannot read `/nowhere/a.key`"), "{unreadable}");
}

#[test]
fn two_listeners_with_one_address_are_told() {
    let second = "\n[[listener]]\naddress = \"127.0.0.1:8443\"\ntls = false";
    let text = file("", second, "", "", "").replace("127.0.0.1:0", "127.0.0.1:8443");
    assert_eq!(problems(&text), ["7:11 `127.0.0.1:8443` is taken by the listener in line 3"]);
    assert_eq!(problems(&file("", "\n[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false", "", "", "")), [""; 0]);
}

#[test]
fn the_admin_listener_is_off_unless_asked_for_and_never_public_by_mistake() {
    let admin = |lines: &str| file(&format!("[admin]\n{lines}"), "", "", "", "");
    let read = |lines: &str| parse(&admin(lines)).unwrap_or_else(|problems| panic!("{problems}")).admin;
    assert!(parse(&file("", "", "", "", "")).expect("sound").admin.is_none());
    let defaults = read("").expect("an admin listener");
    assert_eq!((defaults.address.to_string().as_str(), defaults.expose), ("127.0.0.1:9900", false));
    assert!(defaults.token.is_none());
    assert_eq!(read("address = \"[::1]:0\"").map(|admin| admin.address.port()), Some(0));
    assert_eq!(read("address = \"10.0.0.7:9900\"\nexpose = true").map(|admin| admin.expose), Some(true));
    for address in ["0.0.0.0:9900", "[::]:9900", "10.0.0.7:9900"] {
        let told = only(&admin(&format!("address = \"{address}\"")));
        assert!(told.contains("can be reached from other machines") && told.contains("expose = true"), "{told}");
    }
    assert!(only(&admin("address = \"localhost:9900\"")).contains("is not an address to listen on"));
    assert!(only(&admin("adress = \"127.0.0.1:9900\"")).contains("did you mean `address`?"));
}

#[test]
fn an_admin_listener_in_the_place_of_a_public_one_is_told() {
    let both = |admin: &str, public: &str| problems(&file(admin, "", "", "", "").replace("127.0.0.1:0", public));
    let taken = both("[admin]\naddress = \"127.0.0.1:8443\"", "127.0.0.1:8443");
    assert_eq!(taken, ["2:11 `127.0.0.1:8443` is where the listener in line 4 serves clients"]);
    assert_eq!(
        both("[admin]", "0.0.0.0:9900"),
        ["1:1 `127.0.0.1:9900` is where the listener in line 3 serves clients"]
    );
    assert_eq!(both("[admin]", "127.0.0.1:9901"), [""; 0]);
    assert_eq!(both("[admin]\naddress = \"127.0.0.1:0\"", "127.0.0.1:0"), [""; 0]);
}
