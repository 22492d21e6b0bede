//! What any key can be told: its name, its type, its range, its unit.

use super::*;

#[test]
fn unknown_keys_are_told_with_the_nearest_or_all_known_ones() {
    assert!(only(&file("[server]\nthread = 1", "", "", "", "")).contains("did you mean `threads`?"));
    assert!(
        only(&file("[server]\ncolour = 1", "", "", "", ""))
            .ends_with("known here: drain_timeout, threads, max_memory, ipv4_prefix, ipv6_prefix, trusted_proxies, forwarded, forwarded_host")
    );
    assert!(
        only(&file("[listeners]", "", "", "", ""))
            .contains("`listeners` is not known in the file; did you mean `listener`?")
    );
}

#[test]
fn wrong_types_are_told() {
    assert!(only(&file("server = 1", "", "", "", "")).contains("`server` must be a table"));
    let upstream = problems(&file("upstream = 1", "", "", "", "").replace(UPSTREAM, ""));
    assert!(upstream.concat().contains("1:12 `upstream` must be a table of tables"));
    assert!(bridge("replies = \"yes\"").contains("`replies` must be true or false, not a text"));
    assert!(bridge("close_event = 1").contains("`close_event` must be a text, not a whole number"));
    assert!(bridge("forward_headers = \"a\"").contains("must be a list of texts, not a text"));
    assert!(bridge("forward_headers = [1]").contains("must be a list of texts, and this is a whole number"));
    assert!(bridge("in_flight = 1.5").contains("must be a whole number, not a number with a fraction"));
    assert!(bridge("queue = true").contains("`queue` must be a size, not true"));
    let listener = LISTENER.replace("[[", "[").replace("]]", "]");
    let text = file("", "", "", "", "").replace(LISTENER, &listener);
    assert!(only(&text).contains("write [[listener]], with two brackets"));
    let upstream = file("", "", "", "", "").replace("[upstream.app]", "[upstream]");
    assert!(problems(&upstream).concat().contains("`endpoints` in [upstream] must be a table, not a list"));
}

#[test]
fn values_out_of_range_are_told_with_the_range() {
    assert!(only(&file("[server]\nthreads = 0", "", "", "", "")).contains("from 1 to 1024"));
    assert!(only(&file("[server]\nthreads = -1", "", "", "", "")).contains("from 1 to 1024"));
    assert!(only(&file("[server]\ndrain_timeout = \"2h\"", "", "", "", "")).contains("from \"1s\" to \"1h\""));
    assert!(only(&file("", "max_header_size = \"4KiB\"", "", "", "")).contains("from \"8KiB\" to \"1MiB\""));
    assert!(bridge("in_flight = 65").contains("from 1 to 64"));
    assert!(bridge("in_flight = 99999999999999999999999").contains("from 1 to 64"));
    assert!(bridge("close_timeout = \"61s\"").contains("from \"100ms\" to \"1m\""));
    assert!(bridge("max_message_size = \"65MiB\"").contains("from \"1B\" to \"64MiB\""));
    assert_eq!(bridge("in_flight = 0x40\nqueue = \"1GiB\"\nmax_refusal_body = \"0B\""), "");
}

#[test]
fn numbers_need_their_unit() {
    assert!(bridge("ping_interval = 30").ends_with("write \"30s\""));
    assert!(bridge("ping_interval = \"30\"").ends_with("write \"30s\""));
    assert!(bridge("ping_interval = \"30 s\"").contains("`30 s` is not a duration"));
    assert!(bridge("queue = 4096").ends_with("write \"4096B\""));
    assert!(bridge("queue = \"64KB\"").contains("there is no unit `KB`"));
}

#[test]
fn words_that_are_no_choice_are_told_with_the_choices() {
    assert!(bridge("named_events = \"envelop\"").contains("did you mean \"envelope\"?"));
    assert!(bridge("named_events = \"x\"").ends_with("write \"data\", \"envelope\" or \"ignore\""));
}
