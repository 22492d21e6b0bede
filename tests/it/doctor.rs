//! `tidegate doctor` and the endpoint that it asks, without anything between them.

use http::Method;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::access::Desk;
use crate::support::client::{handshake, tls};
use crate::support::front::Diagnosis;
use crate::support::gateway::certificates;
use crate::support::process::{Process, tidegate};
use crate::support::{Client, FakeUpstream, Seen, TestGateway, must};

const DOCTOR: &str = "/.well-known/tidegate/doctor";

/// A gateway with an endpoint, with further lines for its listener, and the file that its clients trust.
async fn gateway(lines: &str) -> (TestGateway, tempfile::TempDir) {
    let upstream = FakeUpstream::start().await;
    let files = certificates();
    std::fs::write(files.path().join("doctor.token"), "0123456789abcdef\n").unwrap();
    let trusted = certificates();
    std::fs::copy(files.path().join("certs/dev.pem"), trusted.path().join("certs/dev.pem")).unwrap();
    let toml = crate::support::gateway::toml(&format!("http://{}", upstream.address), "", "");
    let toml = toml.replace("\n[upstream.app]", &format!("diagnostics = \"{DOCTOR}\"\n{lines}\n[upstream.app]"));
    (TestGateway::from_files(&toml, files), trusted)
}

fn url(gateway: &TestGateway, path: &str) -> String {
    format!("https://localhost:{}{path}", gateway.address().port())
}

/// Exit code and both outputs.
async fn doctor(arguments: &[&str]) -> (i32, String, String) {
    let mut process = Process::start(&mut tidegate(&[&["doctor"], arguments].concat()));
    let exit = process.exit().await;
    (exit, process.stdout.all().join("\n"), process.stderr.all().join("\n"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn straight_to_the_gateway_nothing_stands_in_the_way() {
    let (gateway, trusted) = gateway("").await;
    let certificate = trusted.path().join("certs/dev.pem");
    let diagnosis = Diagnosis::of(&url(&gateway, "/chat"), &certificate, &["--idle", "1s"]).await;
    assert_eq!((diagnosis.exit, diagnosis.found()), (0, Vec::new()), "{diagnosis:?}");
    let measured = &diagnosis.report["measured"];
    assert_eq!(measured["http1"]["done"]["version"], "HTTP/1.1");
    assert_eq!(measured["http2"]["done"]["version"], "HTTP/2.0");
    assert!(measured["websocket_http2"]["done"]["ping_us"].is_u64());
    assert_eq!(measured["events"]["done"]["events"].as_array().unwrap().len(), 10);
    assert_eq!(measured["upload"]["done"]["arrived"]["bytes"], 6 * 512);
    assert!(measured["websocket"]["done"]["ping_us"].is_u64());
    assert!(measured["silence"]["done"]["cut_after_us"].is_null());
    assert!(measured["websocket_silence"]["done"]["cut_after_us"].is_null());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_can_be_probed_it_says_why_and_what_to_do() {
    let upstream = FakeUpstream::start().await;
    let without = TestGateway::in_front_of(&upstream);
    let (exit, stdout, stderr) = doctor(&[&url(&without, "/chat"), "--insecure"]).await;
    assert_eq!((exit, stdout.as_str()), (2, ""));
    assert!(stderr.contains("help: write diagnostics = \"/.well-known/tidegate/doctor\" in [[listener]]"), "{stderr}");

    let (gateway, trusted) = gateway("diagnostics_token = { file = \"doctor.token\" }").await;
    let url = url(&gateway, "/");
    let (exit, _, stderr) = doctor(&[&url]).await;
    assert_eq!(exit, 2);
    assert!(stderr.contains("a certificate of your own can be trusted with --ca FILE"), "{stderr}");
    for arguments in [&["--insecure"][..], &["--insecure", "--token", "another, of 16 characters"]] {
        let (exit, _, stderr) = doctor(&[&[url.as_str()], arguments].concat()).await;
        assert_eq!(exit, 2);
        assert!(stderr.contains("help: the endpoint wants its token: --token TOKEN, or --token @FILE"), "{stderr}");
    }
    let token = trusted.path().join("token");
    std::fs::write(&token, "0123456789abcdef\n").unwrap();
    let token = format!("@{}", token.display());
    let (exit, stdout, stderr) = doctor(&[&url, "--insecure", "--token", &token, "--idle", "0s"]).await;
    assert!(exit < 2 && stdout.contains("10 of 10 events"), "{stdout}{stderr}");
    assert!(!stdout.contains("0123456789abcdef") && !stderr.contains("0123456789abcdef"));

    for arguments in [
        &["https://localhost:1/", "--idle", "3m"][..],
        &["https://localhost:1/", "--resolve", "localhost"],
        &["https://localhost:1/", "--token", "@/nowhere/token"],
        &["localhost"],
    ] {
        assert_eq!(doctor(arguments).await.0, 2, "{arguments:?}");
    }
}

#[tokio::test]
async fn the_endpoint_answers_no_more_than_it_says() {
    let (gateway, _trusted) = gateway("").await;
    let desk = Desk::of(&gateway);
    let ask = async |method, query: &str, body: &str| {
        let target = format!("{DOCTOR}?{query}");
        desk.ask(method, &target, &[("cookie", "session=S3CRET"), ("authorization", "Bearer S3CRET")], body).await
    };
    let seen = ask(Method::GET, "nonce=n1", "").await;
    assert_eq!((seen.status, seen.field("tidegate-doctor"), seen.field("cache-control")), (200, "1", "no-store"));
    assert_eq!((&seen.json()["nonce"], &seen.json()["peer"]), (&"n1".into(), &"loopback".into()));
    assert!(seen.body.contains("\"cookie\"") && !seen.body.contains("S3CRET"), "{}", seen.body);

    let bad = ask(Method::GET, "probe=events&events=101", "").await;
    assert_eq!((bad.status, bad.kind().as_str()), (400, "bad-probe"));
    let long = ask(Method::GET, "probe=events&events=3&interval_ms=61000", "").await;
    assert_eq!((long.status, long.kind().as_str()), (400, "bad-probe"));
    let deleted = ask(Method::DELETE, "probe=seen", "").await;
    assert_eq!((deleted.status, deleted.field("allow")), (405, "GET"));
    let large = ask(Method::POST, "probe=upload", &"x".repeat(1024 * 1024 + 1)).await;
    assert_eq!((large.status, large.kind().as_str()), (413, "body-too-large"));
    let plain = ask(Method::GET, "probe=echo", "").await;
    assert_eq!((plain.status, plain.kind().as_str()), (426, "upgrade-required"));

    let mut refused = None;
    for _ in 0..200 {
        let answered = ask(Method::GET, "", "").await;
        if answered.status != 200 {
            refused = Some(answered);
            break;
        }
    }
    let refused = refused.expect("an address may ask 120 times a minute");
    assert_eq!((refused.status, refused.kind().as_str()), (429, "too-many-diagnoses"));
    assert!(refused.field("retry-after").parse::<u64>().is_ok());
}

#[tokio::test]
async fn as_many_streams_as_are_allowed_are_held_open_and_end_with_the_gateway() {
    let (gateway, _trusted) = gateway("").await;
    let desk = Desk::of(&gateway);
    let mut streams = Vec::new();
    let mut buffer = [0; 4096];
    for _ in 0..32 {
        let mut stream = tls(gateway.address(), &gateway.tls).await;
        let request =
            format!("GET {DOCTOR}?probe=events&events=2&interval_ms=120000 HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let read = must("the first event", stream.read(&mut buffer)).await.unwrap();
        assert!(buffer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..read]));
        streams.push(stream);
    }
    let refused = desk.ask(Method::GET, &format!("{DOCTOR}?probe=events"), &[], "").await;
    assert_eq!((refused.status, refused.kind().as_str()), (503, "too-many-probes"));
    // The others go on as long as they are not told to end.
    let stopping = gateway.stop();
    let ends = async {
        for mut stream in streams {
            let mut rest = Vec::new();
            let _ = must("the end of a stream", stream.read_to_end(&mut rest)).await;
            assert!(rest.windows(5).any(|end| end == b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&rest));
        }
    };
    let (drained, ()) = tokio::join!(stopping, ends);
    assert_eq!(drained.cut, 0);
}

#[tokio::test]
async fn the_echo_is_for_a_few_messages_and_ends_with_the_gateway() {
    let (gateway, _trusted) = gateway("").await;
    let target = format!("{DOCTOR}?probe=echo");
    let mut client = Client::ask(&gateway, &target, &[]).await.unwrap();
    assert_eq!(client.answer["tidegate-doctor"], "1");
    for number in 0..64 {
        client.text(&number.to_string()).await;
        assert_eq!(client.next().await, Seen::Text(number.to_string()));
    }
    client.text("one more").await;
    assert_eq!(client.closed().await.0, 1008);

    let mut client = Client::ask(&gateway, &target, &[]).await.unwrap();
    client.synchronise().await;
    let ((code, _), drained) = tokio::join!(client.closed(), gateway.stop());
    assert_eq!((code, drained.cut), (1001, 0));
}

#[tokio::test]
async fn a_handshake_that_is_refused_at_the_endpoint_is_one_answer() {
    let (gateway, _trusted) = gateway("diagnostics_token = { file = \"doctor.token\" }").await;
    let request = handshake(&gateway, &format!("{DOCTOR}?probe=echo"), "");
    let answer = crate::support::client::exchange(&gateway, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}
