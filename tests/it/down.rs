//! Down: events become messages (contract rules D1 to D10).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::support::{Scene, Seen};

impl Scene {
    /// Sends bytes down and gives the first thing that the client sees.
    async fn sees(&mut self, bytes: &str) -> Seen {
        self.events.send(bytes.to_owned()).await;
        self.client.next().await
    }

    /// Sends bytes down that end the connection and gives code and reason.
    async fn closed_by(mut self, bytes: &str) -> (u16, String) {
        self.events.send(bytes.to_owned()).await;
        let closed = self.client.closed().await;
        self.events.cancelled().await;
        closed
    }
}

#[tokio::test]
async fn an_event_without_a_name_is_one_text_message() {
    let mut scene = Scene::new().await;
    assert_eq!(scene.sees("data: tide\n\n").await, Seen::text("tide"));
    assert_eq!(scene.sees("event: message\ndata: rising\n\n").await, Seen::text("rising"));
    assert_eq!(
        scene.sees("data:  two spaces, ü\ndata\ndata: three lines\n\n").await,
        Seen::text(" two spaces, ü\n\nthree lines")
    );
    assert_eq!(scene.sees("data\n\n").await, Seen::text(""));
}

#[tokio::test]
async fn a_binary_event_is_one_binary_message() {
    let mut scene = Scene::new().await;
    assert_eq!(scene.sees("event: tidegate.binary\ndata: AAH/\n\n").await, Seen::Binary(vec![0, 1, 255]));
    assert_eq!(scene.sees("event: tidegate.binary\ndata: AA\ndata: H/\n\n").await, Seen::Binary(vec![0, 1, 255]));
    assert_eq!(scene.sees("event: tidegate.binary\ndata\n\n").await, Seen::Binary(vec![]));
}

#[tokio::test]
async fn a_close_event_closes_with_its_code_and_reason() {
    let scene = Scene::new().await;
    let closed = scene.closed_by("event: tidegate.close\ndata: {\"code\":4001,\"reason\":\"bye\"}\n\n").await;
    assert_eq!(closed, (4001, "bye".to_owned()));
    let closed = Scene::new().await.closed_by("event: tidegate.close\ndata\n\n").await;
    assert_eq!(closed, (1000, String::new()));
}

#[tokio::test]
async fn messages_before_a_close_event_arrive_before_the_close() {
    let mut scene = Scene::new().await;
    let bytes = "data: last\n\nevent: tidegate.close\ndata: {\"code\":1000}\n\ndata: too late\n\n";
    assert_eq!(scene.sees(bytes).await, Seen::text("last"));
    assert_eq!(scene.client.closed().await.0, 1000);
}

#[tokio::test]
async fn reserved_close_codes_never_go_out() {
    for code in [0, 999, 1004, 1005, 1006, 1010, 1011, 1014, 1015, 2999, 5000] {
        let event = format!("event: tidegate.close\ndata: {{\"code\":{code}}}\n\n");
        let (closed, reason) = Scene::new().await.closed_by(&event).await;
        assert_eq!(closed, 1013, "asked for {code}");
        assert!(reason.starts_with("upstream-invalid: "), "{reason}");
    }
}

#[tokio::test]
async fn a_reason_is_cut_at_123_bytes_on_a_character_boundary() {
    let event = format!("event: tidegate.close\ndata: {{\"code\":4000,\"reason\":\"{}\"}}\n\n", "é".repeat(80));
    assert_eq!(Scene::new().await.closed_by(&event).await, (4000, "é".repeat(61)));
}

#[tokio::test]
async fn what_is_no_base64_or_no_close_object_breaks_the_contract() {
    for event in ["event: tidegate.binary\ndata: n o\n\n", "event: tidegate.close\ndata: [1000]\n\n"] {
        let (code, reason) = Scene::new().await.closed_by(event).await;
        assert_eq!(code, 1013);
        assert!(reason.starts_with("upstream-invalid: "), "{reason}");
    }
}

#[tokio::test]
async fn other_names_follow_the_policy_of_the_route() {
    let event = "id: 7\nevent: tick\ndata: 1\n\ndata: behind\n\n";
    assert_eq!(Scene::new().await.sees(event).await, Seen::text("1"));
    let mut envelope = Scene::with("named_events = \"envelope\"").await;
    assert_eq!(envelope.sees(event).await, Seen::text(r#"{"event":"tick","id":"7","data":"1"}"#));
    assert_eq!(envelope.client.next().await, Seen::text("behind"));
    let mut ignore = Scene::with("named_events = \"ignore\"").await;
    assert_eq!(ignore.sees(event).await, Seen::text("behind"));
}

#[tokio::test]
async fn the_contracts_names_can_be_changed() {
    let mut scene = Scene::with("binary_event = \"bin\"\nclose_event = \"bye\"").await;
    assert_eq!(scene.sees("event: bin\ndata: AA==\n\n").await, Seen::Binary(vec![0]));
    assert_eq!(scene.sees("event: bye\ndata\n\n").await, Seen::Close(1000, String::new()));
}

#[tokio::test]
async fn comments_and_fields_alone_are_no_messages() {
    let mut scene = Scene::new().await;
    assert_eq!(scene.sees(": hello\n\nretry: 10\n\nid: 3\n\n:\n\ndata: only\n\n").await, Seen::text("only"));
}

#[tokio::test]
async fn every_way_to_cut_the_bytes_gives_the_same_messages() {
    // A BOM, all line ends, a NUL in an id, empty data, a name without data, multi-byte text and malformed UTF-8.
    let bytes: &[u8] = b"\xEF\xBB\xBFdata: a\r\ndata: b\r\rdata: c\n\r\nid: x\0y\nevent: none\n\ndata\n\n: c\r\ndata:\xC3\xA4\n\ndata: \xFF!\n\n";
    let expected = ["a\nb", "c", "", "ä", "\u{FFFD}!"];
    let mut scene = Scene::new().await;
    for at in 0..=bytes.len() {
        // The BOM belongs to the start of a stream only.
        let bytes = if at == 0 { bytes } else { &bytes[3..] };
        let (head, tail) = bytes.split_at(at.min(bytes.len()));
        scene.events.send(head.to_vec()).await;
        scene.events.send(tail.to_vec()).await;
        for text in expected {
            assert_eq!(scene.client.next().await, Seen::text(text), "cut at {at}");
        }
    }
    for byte in &bytes[3..] {
        scene.events.send(vec![*byte]).await;
    }
    for text in expected {
        assert_eq!(scene.client.next().await, Seen::text(text), "byte by byte");
    }
}

#[tokio::test]
async fn an_event_is_a_message_as_soon_as_its_empty_line_begins() {
    let mut scene = Scene::new().await;
    assert_eq!(scene.sees("data: now\r\n\r").await, Seen::text("now"));
    assert_eq!(scene.sees("\ndata: next\n\n").await, Seen::text("next"));
}

#[tokio::test]
async fn the_size_limit_is_inclusive() {
    let text = "x".repeat(1024 * 1024);
    let mut scene = Scene::new().await;
    assert_eq!(scene.sees(&format!("data: {text}\n\n")).await, Seen::Text(text.clone()));
    let octets = vec![7; 1024 * 1024];
    let event = format!("event: tidegate.binary\ndata: {}\n\n", STANDARD.encode(&octets));
    assert_eq!(scene.sees(&event).await, Seen::Binary(octets.clone()));

    let (code, reason) = Scene::new().await.closed_by(&format!("data: {text}x\n\n")).await;
    assert_eq!((code, reason.as_str()), (1009, "event-too-big: an event is larger than 1048576 bytes"));
    let event = format!("event: tidegate.binary\ndata: {}\n\n", STANDARD.encode([octets, vec![7]].concat()));
    assert_eq!(Scene::new().await.closed_by(&event).await.0, 1009);
}

#[tokio::test]
async fn a_line_without_an_end_does_not_grow_without_bound() {
    let mut scene = Scene::with("max_message_size = \"64KiB\"").await;
    scene.events.send("data: ").await;
    // The gateway ends the stream long before all of this could be sent.
    for _ in 0..1024 {
        if scene.events.try_send("x".repeat(64 * 1024)).await.is_err() {
            break;
        }
    }
    assert_eq!(scene.client.closed().await.0, 1009);
}

#[tokio::test]
async fn an_id_above_its_limit_breaks_the_contract() {
    let (code, reason) = Scene::new().await.closed_by(&format!("id: {}\ndata: x\n\n", "i".repeat(1025))).await;
    assert_eq!(code, 1013);
    assert!(reason.starts_with("upstream-invalid: "), "{reason}");
}

#[tokio::test]
async fn the_end_of_the_stream_closes_with_1012_and_an_unfinished_event_is_no_message() {
    let Scene { mut client, events, _gateway, upstream: _upstream } = Scene::new().await;
    events.send("data: whole\n\ndata: half\n").await;
    events.end();
    assert_eq!(client.next().await, Seen::text("whole"));
    assert_eq!(client.closed().await, (1012, "stream-ended: upstream ended the event stream".to_owned()));

    let Scene { mut client, events, _gateway, upstream: _upstream } = Scene::new().await;
    events.send("data: whole\n\ndata: half").await;
    assert_eq!(client.next().await, Seen::text("whole"));
    events.cut().await;
    let (code, reason) = client.closed().await;
    assert_eq!(code, 1012);
    assert!(reason.starts_with("stream-broken: "), "{reason}");
}

#[tokio::test]
async fn a_client_that_reads_slowly_slows_its_stream_down_and_loses_nothing() {
    let Scene { mut client, events, _gateway, upstream: _upstream } = Scene::new().await;
    let total = 20_000;
    // Much more than all buffers on the way can hold: sending can only end because the client reads.
    let sending = async {
        for number in 0..total {
            events.send(format!("data: {number} {}\n\n", "x".repeat(1000))).await;
        }
    };
    let reading = async {
        for number in 0..total {
            let Seen::Text(text) = client.next().await else { panic!("message {number} is missing") };
            assert!(text.starts_with(&format!("{number} ")), "{number}: {text:.20}");
        }
    };
    tokio::join!(sending, reading);
}

#[tokio::test]
async fn messages_of_every_length_stay_whole_and_in_order_in_both_directions() {
    let Scene { mut client, events, _gateway, mut upstream } = Scene::new().await;
    // Where the header of a frame changes, where a TLS record is full, and where messages are no longer collected.
    let lengths = [0, 1, 125, 126, 4095, 4097, 16_370, 16_384, 65_535, 65_536, 300_000, 3, 1 << 20, 7];
    let text = |length: usize| "é0123456789".chars().cycle().take(length).collect::<String>();
    let down = async {
        for length in lengths {
            events.send(format!("data: {}\n\n", text(length / 2))).await;
        }
    };
    let reading = async {
        for length in lengths {
            let expected = Seen::Text(text(length / 2));
            assert!(client.next().await == expected, "of length {length}");
        }
        for length in lengths {
            client.text(&text(length / 2)).await;
        }
    };
    let up = async {
        for length in lengths {
            let post = upstream.next_post().await;
            assert!(post.text() == text(length / 2), "of length {length}");
            post.accept();
        }
    };
    tokio::join!(down, reading, up);
}
