use super::read_every_way;
use crate::protocol::sse::{EncodeError, comment, encode};

fn encoded(event: Option<&str>, id: Option<&str>, data: &str) -> String {
    encode(event, id, data).expect("nothing to refuse")
}

#[test]
fn an_event_is_a_block_of_lines() {
    assert_eq!(encoded(None, None, "a"), "data: a\n\n");
    assert_eq!(encoded(Some("tide"), Some("7"), "a"), "event: tide\nid: 7\ndata: a\n\n");
    assert_eq!(encoded(None, Some(""), ""), "id: \ndata: \n\n");
}

#[test]
fn each_kind_of_line_end_starts_a_data_line() {
    assert_eq!(encoded(None, None, "a\nb\rc\r\nd"), "data: a\ndata: b\ndata: c\ndata: d\n\n");
    assert_eq!(encoded(None, None, "\n\r\r\n"), "data: \ndata: \ndata: \ndata: \n\n");
    assert_eq!(encoded(None, None, "é\r\n"), "data: é\ndata: \n\n");
}

#[test]
fn names_and_ids_that_would_not_arrive_are_refused() {
    for bad in ["a\rb", "\n", "a\0"] {
        assert_eq!(encode(Some(bad), None, ""), Err(EncodeError { field: "event" }));
        assert_eq!(encode(None, Some(bad), ""), Err(EncodeError { field: "id" }));
    }
}

#[test]
fn a_comment_is_no_event_whatever_it_says() {
    assert_eq!(comment("ping"), ": ping\n\n");
    assert_eq!(comment("a\rdata: b\r\n"), ": a\n: data: b\n: \n\n");
    assert_eq!(read_every_way(comment("x\n\ndata: y\n\n").as_bytes()), super::Reading::default());
}
