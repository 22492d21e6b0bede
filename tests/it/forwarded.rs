//! Who the client is: behind a balancer that says so, and behind nobody who only claims to be one.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::upstream::Open;
use crate::support::{FakeUpstream, TestGateway, must};

/// A proxied route for all, with keys for the server and for a listener that may have TLS or not.
fn gateway(upstream: &FakeUpstream, server: &str, tls: bool, listener: &str) -> TestGateway {
    let tls = if tls { r#"{ certificate = "certs/dev.pem", key = "certs/dev.key" }"# } else { "false" };
    TestGateway::from_toml(&format!(
        r#"
[server]
{server}

[admin]
address = "127.0.0.1:0"

[[listener]]
address = "127.0.0.1:0"
tls = {tls}
{listener}

[upstream.app]
endpoints = ["http://{}"]

[[route]]
path = "/{{*rest}}"
auth = "none"
limits = {{ per_address = 1 }}
proxy = {{ upstream = "app" }}
"#,
        upstream.address
    ))
}

/// Sends bytes and reads until the gateway ends the connection.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = must("the end of the connection", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn get(fields: &str) -> String {
    format!("GET /x HTTP/1.1\r\nHost: chat.example\r\nConnection: close\r\n{fields}\r\n")
}

/// What upstream is told of a request's client: `Forwarded`, and the three older fields.
async fn told(gateway: &TestGateway, upstream: &mut FakeUpstream, bytes: &[u8]) -> [String; 4] {
    let (answer, told) = tokio::join!(exchange(gateway.address(), bytes), async {
        let open = upstream.next_open().await;
        let told = fields(&open);
        open.accept().end();
        told
    });
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    told
}

fn fields(open: &Open) -> [String; 4] {
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"].map(|name| {
        let values: Vec<_> = open.head.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect();
        values.join(" | ")
    })
}

#[tokio::test]
async fn what_a_stranger_says_of_its_client_is_dropped() {
    let mut upstream = FakeUpstream::start().await;
    let own = ["for=127.0.0.1;host=chat.example;proto=http", "127.0.0.1", "chat.example", "http"];
    let claims = get(
        "X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\nForwarded: for=192.0.2.7\r\n\
         X-Real-IP: 192.0.2.7\r\nX_Forwarded_For: 192.0.2.7\r\nX-Forwarded-Port: 1\r\n",
    );
    for server in ["", "trusted_proxies = [\"10.0.0.0/8\", \"::1\"]\nforwarded_host = true"] {
        let gateway = gateway(&upstream, server, false, "");
        let (_, open) = tokio::join!(exchange(gateway.address(), claims.as_bytes()), async {
            let open = upstream.next_open().await;
            let all: Vec<_> = open.head.headers.keys().map(ToString::to_string).collect();
            let told = fields(&open);
            open.accept().end();
            (told, all)
        });
        assert_eq!(open.0, own, "{server}");
        for name in ["x-real-ip", "x_forwarded_for", "x-forwarded-port"] {
            assert!(!open.1.contains(&name.to_owned()), "{name}");
        }
    }
}

#[tokio::test]
async fn a_trusted_proxy_speaks_for_a_client_with_each_request() {
    let mut upstream = FakeUpstream::start().await;
    let gateway = gateway(&upstream, "trusted_proxies = [\"127.0.0.0/8\"]", false, "");
    let fields = get(
        "X-Forwarded-For: 6.6.6.6, 192.0.2.7, 127.0.0.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil.example\r\n",
    );
    assert_eq!(
        told(&gateway, &mut upstream, fields.as_bytes()).await,
        [
            "for=192.0.2.7;host=chat.example;proto=https, for=127.0.0.9, for=127.0.0.1",
            "192.0.2.7, 127.0.0.9, 127.0.0.1",
            "chat.example",
            "https"
        ]
    );
    // Two clients on one connection: a limit for each address is for each of them, and not for the proxy.
    let mut stream = TcpStream::connect(gateway.address()).await.unwrap();
    let mut held = Vec::new();
    for address in ["192.0.2.8", "[2001:db8::9]:4711"] {
        let request = format!("GET /x HTTP/1.1\r\nHost: chat.example\r\nX-Forwarded-For: {address}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let open = upstream.next_open().await;
        held.push(open.head.headers["x-forwarded-for"].to_str().unwrap().to_owned());
        let mut other = TcpStream::connect(gateway.address()).await.unwrap();
        other.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        must("an answer", other.read_exact(&mut status)).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 429", "a second one of {address}");
        open.accept().end();
        let mut answer = vec![0; 12];
        must("an answer", stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(answer, b"HTTP/1.1 200");
        let mut end = Vec::new();
        while !end.ends_with(b"0\r\n\r\n") {
            end.push(must("the end of the answer", stream.read_u8()).await.unwrap());
        }
    }
    assert_eq!(held, ["192.0.2.8, 127.0.0.1", "2001:db8::9, 127.0.0.1"]);
}

#[tokio::test]
async fn the_standard_field_is_read_where_it_is_chosen_and_the_host_where_that_is() {
    let mut upstream = FakeUpstream::start().await;
    let server = "trusted_proxies = [\"127.0.0.1\"]\nforwarded = \"forwarded\"\nforwarded_host = true";
    let gateway = gateway(&upstream, server, false, "");
    let fields = get(
        "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=\"[2001:db8::7]:1\";proto=https;host=\"front.example:8443\"\r\n",
    );
    assert_eq!(
        told(&gateway, &mut upstream, fields.as_bytes()).await,
        [
            "for=\"[2001:db8::7]\";host=\"front.example:8443\";proto=https, for=127.0.0.1",
            "2001:db8::7, 127.0.0.1",
            "front.example:8443",
            "https"
        ]
    );
}

#[tokio::test]
async fn a_balancer_says_in_front_of_tls_who_the_client_is() {
    let mut upstream = FakeUpstream::start().await;
    let keys = "proxy_protocol = \"required\"\nproxy_protocol_from = [\"127.0.0.1\"]";
    let plain = gateway(&upstream, "", false, keys);
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x12\x34\x01\xbb";
    let secure = [&v2[..15], b"\x14", &v2[16..], b"\x20\0\x05\x01\0\0\0\0"].concat();
    let local = [&v2[..12], b"\x20", &v2[13..]].concat();
    for (header, client, proto) in [
        (&b"PROXY TCP4 192.0.2.7 10.0.0.1 4660 443\r\n"[..], "192.0.2.7", "http"),
        (b"PROXY TCP6 2001:db8::7 ::1 4660 443\r\n", "2001:db8::7", "http"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1", "http"),
        (v2, "192.0.2.7", "http"),
        (&secure, "192.0.2.7", "https"),
        (&local, "127.0.0.1", "http"),
    ] {
        let bytes = [header, get("").as_bytes()].concat();
        let [_, address, _, scheme] = told(&plain, &mut upstream, &bytes).await;
        assert_eq!((address.as_str(), scheme.as_str()), (client, proto), "{header:?}");
    }
    // TLS begins right behind the header.
    let gateway = gateway(&upstream, "", true, keys);
    let mut tcp = TcpStream::connect(gateway.address()).await.unwrap();
    tcp.write_all(v2).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
    let connector = tokio_rustls::TlsConnector::from(gateway.tls.clone());
    let mut stream = must("the TLS handshake", connector.connect(name, tcp)).await.unwrap();
    stream.write_all(get("").replace("chat.example", "localhost").as_bytes()).await.unwrap();
    let open = upstream.next_open().await;
    let [_, address, _, scheme] = fields(&open);
    assert_eq!((address.as_str(), scheme.as_str()), ("192.0.2.7", "https"));
}

#[tokio::test]
async fn without_a_good_header_from_a_balancer_nobody_gets_a_word() {
    let mut upstream = FakeUpstream::start().await;
    let from = |network: &str| format!("proxy_protocol = \"required\"\nproxy_protocol_from = [\"{network}\"]");
    let ours = gateway(&upstream, "", false, &from("127.0.0.0/8"));
    let theirs = gateway(&upstream, "", false, &from("10.0.0.0/8"));
    let good = "PROXY TCP4 192.0.2.7 10.0.0.1 4660 443\r\n";
    let cases = [
        (&ours, String::new()),
        (&ours, "PROXY TCP4 192.0.2.7 10.0.0.1 4660\r\n".to_owned()),
        (&ours, "PROXY TCP4 192.0.2.7 10.0.0.1 4660 443\n".to_owned()),
        (&ours, format!("PROXY UNKNOWN {}", "x".repeat(200))),
        (&ours, "\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c1234123412341234".to_owned()),
        (&theirs, good.to_owned()),
    ];
    for (gateway, header) in &cases {
        assert_eq!(exchange(gateway.address(), (header.clone() + &get("")).as_bytes()).await, "", "{header:?}");
    }
    upstream.assert_untouched();
    let admin = ours.gateway.admin_address().unwrap();
    let metrics = exchange(admin, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(metrics.contains("tidegate_handshakes_refused_total{reason=\"proxy-header\"} 5"), "{metrics}");
}
