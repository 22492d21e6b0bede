use std::time::Duration;

use super::{data_of, read, read_every_way, reference};

#[test]
fn every_cut_of_every_corner_reads_as_the_reference_does() {
    let inputs: [&[u8]; 45] = [
        b"",
        b"data: a\n\n",
        b"data: a\r\rdata: b\r\r",
        b"data: a\r\n\r\ndata: b\r\n\r\n",
        b"data: a\r\n\ndata: b\n\r\ndata: c\r\n\rdata: d\n\r",
        b"\r\n\r\n\n\n\r\rdata: a\r\n\r\n",
        b"data: a\n\rdata: b\r\n\n",
        b"\xEF\xBB\xBFdata: a\n\n",
        b"\xEF\xBB\xBF\xEF\xBB\xBFdata: a\n\ndata: b\n\n",
        b"\xEF\xBB\xBF\n\xEF\xBB\xBFdata: a\n\n",
        b"\xEF\xBBdata: a\ndata: b\n\n",
        b"\xEF\xBB\ndata: b\n\n",
        b"\xEF",
        b"\xEF\xBB",
        b"\xEF\xBB\xBF",
        b"\xEF\xEF\xBB\xBFdata: a\ndata: b\n\n",
        b":\n: comment\n:data: a\n\ndata: b\n:\n\n",
        b"data\n\n",
        b"data:\n\n",
        b"data: \n\n",
        b"data\ndata\n\n",
        b"data\ndata:\ndata: x\ndata\n\n",
        b"data:a\ndata: a\ndata:  a\ndata:\ta\ndata: a \n\n",
        b"data: a: b:c\n\n",
        b"Data: a\nDATA: b\n data: c\ndata : d\ndat: e\ndataa: f\n\n",
        b"event: add\ndata: a\n\ndata: b\n\n",
        b"event: add\n\ndata: b\n\n",
        b"event: add\nevent: remove\ndata: a\n\n",
        b"event: add\nevent\ndata: a\n\n",
        b"event: add\nevent:\ndata: a\n\nevent: message\ndata: b\n\n",
        b"id: 1\ndata: a\n\ndata: b\n\nid: 2\n\n",
        b"id: 1\ndata: a\n\nid\ndata: b\n\n",
        b"id: 1\ndata: a\n\nid:\n\n",
        b"id: 1\nid: 2\0\ndata: a\n\nid: \0\ndata: b\n\nid: 3\nid: 4\nid: 5\n\n",
        b"id: 1\n\nid: 2\n",
        b"id: \xF0\x9F\x8C\x8A\xFF\xE2\x82\ndata: a\n\n",
        b"retry: 10\nretry: 1x\nretry:\nretry\nretry: -1\nretry: +1\nretry:  1\nretry: 1 \n",
        b"retry: 0007\n",
        b"retry: 18446744073709551615\n",
        b"retry: 18446744073709551616\n",
        b"retry: 5",
        b"data: \xF0\x9F\x8C\x8A \xE2\x82\xAC\n\n",
        b"data: \xF0\x9F\x8C\nda\xFFta: \xED\xA0\x80\ndata: \xC0\xAF\xF5\xE2\x82\n\n",
        b"event: \xFFx\xE2\x82\ndata: \0\n\n",
        b"data: a\n\ndata: cut",
    ];
    for input in inputs {
        assert_eq!(read_every_way(input), reference::read(input), "{:?}", input.escape_ascii().to_string());
    }
}

#[test]
fn lines_end_with_cr_lf_or_both_in_any_mixture() {
    let reading = read_every_way(b"data: a\rdata: b\r\ndata: c\n\r\ndata: d\r\r\ndata: e\n\r");
    assert_eq!(data_of(&reading), ["a\nb\nc", "d", "e"]);
}

#[test]
fn a_cr_at_the_end_of_a_chunk_dispatches_at_once_and_swallows_a_lf_later() {
    assert_eq!(data_of(&read([b"data: a\r\n\r".as_slice()])), ["a"]);
    let reading = read([b"data: a\r\n\r".as_slice(), b"\ndata: b\n", b"data: c\r", b"", b"\n\r"]);
    assert_eq!(data_of(&reading), ["a", "b\nc"]);
}

#[test]
fn only_one_lf_belongs_to_a_cr() {
    let reading = read_every_way(b"data: a\r\n\ndata: b\r\n\n");
    assert_eq!(data_of(&reading), ["a", "b"]);
}

#[test]
fn one_byte_order_mark_is_dropped_at_the_very_start() {
    assert_eq!(data_of(&read_every_way(b"\xEF\xBB\xBFdata: a\n\n")), ["a"]);
    assert_eq!(data_of(&read_every_way(b"\xEF\xBB\xBF\xEF\xBB\xBFdata: a\n\ndata: b\n\n")), ["b"]);
    assert_eq!(data_of(&read_every_way(b"\n\xEF\xBB\xBFdata: a\n\ndata: b\n\n")), ["b"]);
    assert_eq!(data_of(&read_every_way(b"data: \xEF\xBB\xBFa\n\n")), ["\u{FEFF}a"]);
}

#[test]
fn half_a_byte_order_mark_spoils_the_first_line_only() {
    assert_eq!(data_of(&read_every_way(b"\xEF\xBBdata: a\ndata: b\n\n")), ["b"]);
}

#[test]
fn comments_and_unknown_fields_are_skipped() {
    let reading = read_every_way(b": hi\n:data: no\ndata: a\nfoo: b\nfoo\n:\ndata: c\n\n: bye\n\n");
    assert_eq!(data_of(&reading), ["a\nc"]);
}

#[test]
fn field_names_match_exactly() {
    let reading = read_every_way(b"Data: a\ndata : b\n data: c\ndat: d\ndatas: e\nretryy: 1\nids: 1\nevents: x\n\n");
    assert_eq!(reading, super::Reading::default());
}

#[test]
fn a_line_without_colon_is_a_field_with_an_empty_value() {
    let reading = read_every_way(b"id: 1\n\nid\nevent: x\nevent\ndata\ndata\n\n");
    assert_eq!(data_of(&reading), ["\n"]);
    assert_eq!(reading.events[0].name, None);
    assert_eq!(reading.last_event_id, "");
}

#[test]
fn exactly_one_space_after_the_colon_is_dropped() {
    let reading = read_every_way(b"data:a\ndata: a\ndata:  a\ndata:\ta\ndata: a \n\n");
    assert_eq!(data_of(&reading), ["a\na\n a\n\ta\na "]);
}

#[test]
fn only_the_first_colon_divides() {
    assert_eq!(data_of(&read_every_way(b"data: {\"a\": 1}\n\ndata::\n\n")), ["{\"a\": 1}", ":"]);
}

#[test]
fn empty_data_is_dispatched_and_no_data_is_not() {
    assert_eq!(data_of(&read_every_way(b"data\n\n")), [""]);
    assert_eq!(data_of(&read_every_way(b"data:\n\n")), [""]);
    assert_eq!(data_of(&read_every_way(b"data: \ndata\n\n")), ["\n"]);
    assert!(read_every_way(b"\n\nevent: x\n\nid: 1\n\n:\n\n").events.is_empty());
}

#[test]
fn the_name_lasts_for_one_block_even_when_nothing_is_dispatched() {
    let reading = read_every_way(b"event: a\ndata\n\ndata\n\nevent: b\n\ndata\n\n");
    let names: Vec<_> = reading.events.iter().map(|event| event.name.as_deref()).collect();
    assert_eq!(names, [Some("a"), None, None]);
}

#[test]
fn an_empty_name_and_message_are_the_default_name() {
    let reading =
        read_every_way(b"event:\ndata\n\nevent: message\ndata\n\nevent: Message\ndata\n\nevent: a\nevent\ndata\n\n");
    let names: Vec<_> = reading.events.iter().map(|event| event.name.as_deref()).collect();
    assert_eq!(names, [None, None, Some("Message"), None]);
}

#[test]
fn the_last_event_id_persists_until_another_or_an_empty_one() {
    let reading = read_every_way(b"id: 1\ndata\n\ndata\n\nid:\ndata\n\nid: \xC3\xA9\ndata\n\n");
    let ids: Vec<_> = reading.events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(ids, ["1", "1", "", "é"]);
}

#[test]
fn an_id_without_data_moves_the_last_event_id() {
    assert_eq!(read_every_way(b"id: 1\ndata\n\nid: 2\n\n").last_event_id, "2");
}

#[test]
fn an_id_counts_only_when_its_block_ends() {
    assert_eq!(read_every_way(b"id: 1\ndata\n\nid: 2\ndata: x\n").last_event_id, "1");
}

#[test]
fn an_id_with_nul_is_ignored() {
    assert_eq!(read_every_way(b"id: 1\n\nid: 2\0\n\n").last_event_id, "1");
    assert_eq!(read_every_way(b"id: 1\nid: \0 2\n\n").last_event_id, "1");
    assert_eq!(read_every_way(b"id: 1\nid: 2\0\nid: 3\n\n").last_event_id, "3");
}

#[test]
fn retry_takes_ascii_digits_only() {
    let retry = |input: &[u8]| read_every_way(input).retry;
    assert_eq!(retry(b"retry: 1500\n"), Some(Duration::from_millis(1500)));
    assert_eq!(retry(b"retry:007\n"), Some(Duration::from_millis(7)));
    assert_eq!(retry(b"retry: 0\n"), Some(Duration::ZERO));
    for refused in ["", " ", "-1", "+1", "1.5", "1e3", " 1", "1 ", "0x10", "१", "1\0", "x"] {
        let input = format!("retry: 1\nretry: {refused}\n\n");
        assert_eq!(retry(input.as_bytes()), Some(Duration::from_millis(1)), "{refused:?}");
    }
    assert_eq!(retry(b"retry: 1"), None);
    assert_eq!(retry(b"retry\n\n"), None);
}

#[test]
fn retry_too_large_is_the_longest_wait() {
    let digits = [b"retry: ".as_slice(), &[b'9'; 500], b"\n"].concat();
    assert_eq!(read([digits.as_slice()]).retry, Some(Duration::from_millis(u64::MAX)));
    let zeros = [b"retry: ".as_slice(), &[b'0'; 500], b"9\n"].concat();
    assert_eq!(read([zeros.as_slice()]).retry, Some(Duration::from_millis(9)));
}

#[test]
fn malformed_utf8_is_replaced_per_maximal_subpart() {
    assert_eq!(data_of(&read_every_way(b"data: \xF0\x9F\x8Cx\n\n")), ["\u{FFFD}x"]);
    assert_eq!(data_of(&read_every_way(b"data: \xED\xA0\x80\n\n")), ["\u{FFFD}\u{FFFD}\u{FFFD}"]);
    assert_eq!(data_of(&read_every_way(b"data: \xE2\x82\ndata: \xAC\n\n")), ["\u{FFFD}\n\u{FFFD}"]);
    let reading = read_every_way(b"id: \xFF\nevent: \xC3\ndata\n\n");
    assert_eq!((reading.events[0].id.as_str(), reading.events[0].name.as_deref()), ("\u{FFFD}", Some("\u{FFFD}")));
}

#[test]
fn a_character_cut_by_a_chunk_stays_whole() {
    assert_eq!(data_of(&read_every_way("data: 🌊\ndata: é\n\n".as_bytes())), ["🌊\né"]);
    assert_eq!(read_every_way("id: 🌊\n\n".as_bytes()).last_event_id, "🌊");
}

#[test]
fn an_unfinished_block_is_never_dispatched() {
    assert!(read_every_way(b"data: a\n").events.is_empty());
    assert!(read_every_way(b"data: a").events.is_empty());
    assert_eq!(data_of(&read_every_way(b"data: a\n\ndata: b\ndata: c\n")), ["a"]);
}

#[test]
fn mid_event_tells_a_cut_event_from_a_finished_one() {
    for cut in ["d", "data", "data:", "data: a", "data: a\n", "data: a\n:", "x\n", "data: a\n\nid", "\u{FEFF}data"] {
        assert!(read_every_way(cut.as_bytes()).mid_event, "{cut:?}");
    }
    for whole in
        ["", "\n", "\u{FEFF}", "data: a\n\n", "data: a\r\n\r", ":", ": ping", ": ping\n", "data: a\n\n: ping\n"]
    {
        assert!(!read_every_way(whole.as_bytes()).mid_event, "{whole:?}");
    }
}
