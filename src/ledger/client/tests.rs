//! Programs by what real ones send.

use proptest::prelude::*;

use super::*;

fn agent(field: &str) -> String {
    Client::of_user_agent(field.as_bytes()).to_string()
}

#[test]
fn browsers_are_known_by_their_name_and_major_version() {
    let webkit = "AppleWebKit/537.36 (KHTML, like Gecko)";
    for (field, client) in [
        (format!("Mozilla/5.0 (Windows NT 10.0; Win64; x64) {webkit} Chrome/131.0.0.0 Safari/537.36"), "Chrome 131"),
        (format!("Mozilla/5.0 (X11; Linux x86_64) {webkit} HeadlessChrome/140.0.0.0 Safari/537.36"), "Chrome Headless 140"),
        (format!("Mozilla/5.0 (Windows NT 10.0) {webkit} Chrome/131.0.0.0 Safari/537.36 Edg/131.0.2903.86"), "Edge 131"),
        (format!("Mozilla/5.0 (X11; Linux x86_64) {webkit} Chrome/130.0.0.0 Safari/537.36 OPR/116.0.0.0"), "Opera 116"),
        (
            format!("Mozilla/5.0 (Linux; Android 14; SM-S921B) {webkit} SamsungBrowser/27.0 Chrome/125.0 Mobile Safari/537.36"),
            "Samsung Internet 27",
        ),
        (
            format!("Mozilla/5.0 (Linux; Android 14; Pixel 8; wv) {webkit} Version/4.0 Chrome/131.0.6778.39 Mobile Safari/537.36"),
            "Android WebView 131",
        ),
        (
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1.1 Safari/605.1.15"
                .to_owned(),
            "Safari 18",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/131.0.6778.73 Mobile/15E148 Safari/604.1"
                .to_owned(),
            "Chrome iOS 131",
        ),
        (
            "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148"
                .to_owned(),
            "WebKit view 605",
        ),
        ("Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0".to_owned(), "Firefox 133"),
        ("Mozilla/4.0 (compatible; MSIE 8.0)".to_owned(), "other browser"),
    ] {
        assert_eq!(agent(&field), client, "{field}");
    }
}

#[test]
fn what_is_no_browser_is_known_by_its_first_product() {
    for (field, client) in [
        ("okhttp/4.9.3", "okhttp 4.9"),
        ("MyApp/3.2.1 (iPhone; iOS 18.1) CFNetwork/1494.0.7 Darwin/23.4.0", "MyApp 3.2"),
        ("Python/3.12 websockets/13.1", "websockets 13.1"),
        ("Python/3.11 aiohttp/3.9.5", "aiohttp 3.9"),
        ("Dart/3.2 (dart:io)", "Dart 3.2"),
        ("Go-http-client/1.1", "Go-http-client 1.1"),
        ("Desk/v2.0.0-beta.1", "Desk 2.0"),
        ("curl", "curl"),
        (
            "Mozilla/5.0 (X11) AppleWebKit/537.36 (KHTML, like Gecko) Desk/2.14.1 Chrome/128.0 Electron/32.0 Safari/537.36",
            "Desk 2.14",
        ),
        (
            "Mozilla/5.0 (X11) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0 Electron/32.0 Safari/537.36",
            "Electron 32",
        ),
        ("", "unknown"),
        ("(nothing but a comment)", "unknown"),
        ("/1.0", "unknown 1.0"),
    ] {
        assert_eq!(agent(field), client, "{field}");
    }
}

#[test]
fn a_header_of_the_operator_is_taken_at_its_word() {
    let header = |field: &str| Client::of_header(field.as_bytes()).map(|client| client.to_string());
    assert_eq!(header("MyApp/3.2.1").as_deref(), Some("MyApp 3.2"));
    assert_eq!(header("ios 3.2.1").as_deref(), Some("ios 3.2.1"));
    assert_eq!(header("3.2.1").as_deref(), Some("3.2.1"));
    assert_eq!(header("  "), None);
    assert_eq!(header(&"x".repeat(500)).map(|client| client.len()), Some(Client::LENGTH));
}

proptest! {
    #[test]
    fn whatever_is_sent_gives_a_short_printable_name(field: Vec<u8>, near in "[A-Za-z/().; 0-9]{0,200}") {
        for field in [field.as_slice(), near.as_bytes()] {
            for client in Client::of_header(field).into_iter().chain([Client::of_user_agent(field)]) {
                prop_assert_eq!(Client::kept(client.as_str()), Some(client));
            }
        }
    }
}
