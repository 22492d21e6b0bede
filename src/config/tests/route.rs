//! `[[route]]` and its limits.

use super::*;
use crate::access::limits::RouteLimits;

#[test]
fn limits_of_a_route_are_off_unless_written() {
    let limits = |lines: &str| {
        let config = parse(&file("", "", "", lines, "")).unwrap_or_else(|problems| panic!("{problems}"));
        config.routes.first().expect("one").limits
    };
    assert_eq!(limits(""), RouteLimits::default());
    let most = "limits = { connections = 3, per_identity = 2, per_address = 10000000 }";
    let cookie = "[auth.cookie]\nupstream = \"app\"\npath = \"/who\"\ncookies = [\"sid\"]";
    let text = file(cookie, "", "", most, "").replace("\"none\"", "\"cookie\"");
    let limited = parse(&text).unwrap_or_else(|problems| panic!("{problems}")).routes.first().expect("one").limits;
    let numbers = [limited.connections, limited.per_identity, limited.per_address].map(|most| most.expect("one").get());
    assert_eq!(numbers, [3, 2, 10_000_000]);
    assert!(only(&file("", "", "", most, "")).contains("`per_identity` has no effect with auth = \"none\""));
    let wrong = |lines: &str| only(&file("", "", "", lines, ""));
    assert!(wrong("limits = { connections = 0 }").contains("from 1 to 10000000"));
    assert!(wrong("limits = { per_adress = 1 }").contains("`per_adress` is not known in [route.limits]"));
    assert!(wrong("limits = 3").contains("`limits` must be a table"));
}

#[test]
fn routes_are_checked() {
    let route = |lines: &str| only(&file("", "", "", lines, ""));
    assert!(route("path = \"chat\"").contains("`chat` cannot be a path: a path begins with `/`"));
    assert!(route("path = \"/{a\"").contains("`/{a` cannot be a path"));
    assert!(route("host = \"a.io:443\"").contains("a host is written without a port"));
    assert!(route("origins = [\"app.example.com\"]").contains("`app.example.com` is no origin"));
    assert!(
        only(&file("", "", "", "", "").replace("auth = \"none\"\n", "")).contains("auth = \"none\" lets in anybody")
    );
    assert!(
        only(&file("", "", "", "", "").replace("path = \"/chat\"\n", "")).contains("`path` is missing in [[route]]")
    );
    assert!(
        only(&file("", "", "", "", "").replace(BRIDGE, ""))
            .contains("`bridge`, `legacy` or `proxy` is missing in [[route]]")
    );
    let other = only(&file("", "", "", "", "").replace("\"none\"", "\"basic\""));
    assert!(other.contains("`auth` cannot be `basic`") && other.contains("\"ticket\", \"bearer\""), "{other}");
    let auth = |written: &str| problems(&file("", "", "", "", "").replace("auth = \"none\"", written)).join("\n");
    assert!(auth("auth = []").contains("`auth` is empty"));
    assert!(auth("auth = [\"none\", \"ticket\"]").contains("\"none\" stands beside other ways"));
    for way in ["ticket", "bearer", "cookie", "mtls"] {
        assert!(auth(&format!("auth = \"{way}\"")).contains(&format!("nothing is said about `{way}`")));
        assert!(auth(&format!("auth = [\"{way}\"]")).contains(&format!("nothing is said about `{way}`")));
    }
    let mistaken = "[auth.cookie]\nupstream = \"app\"\npath = \"who\"\ncookies = [\"sid\"]";
    let cookie = |auth: &str| file(mistaken, "", "", "", "").replace("\"none\"", auth);
    for auth in ["\"cookie\"", "\"ticket\""] {
        assert!(only(&cookie(auth)).contains("`who` cannot be a path"), "a section with a mistake is one");
    }
    let twice = cookie("[\"ticket\", \"ticket\"]").replace("\"who\"", "\"/who\"");
    assert!(only(&twice).contains("`ticket` stands in `auth` twice"));
    assert!(route("name = \"a/b\"").contains("`a/b` cannot be the name of a route"));
    let twice = format!(
        "path = \"/chat\"\nname = \"chat\"\n{BRIDGE}\n[[route]]\npath = \"/other\"\nauth = \"none\"\nname = \"chat\""
    );
    assert!(problems(&file("", "", "", &twice, "")).join("\n").contains("this route is called `chat`"));
}

#[test]
fn overlapping_routes_are_told_at_the_second_with_the_line_of_the_first() {
    let inline = "bridge = { upstream = \"app\", events = \"/e\", messages = \"/m\" }";
    let second = format!("\n[[route]]\nauth = \"none\"\npath = \"/{{y}}\"\n{inline}");
    let text = file("", "", "", "path = \"/{x}\"", &second);
    assert_eq!(problems(&text), ["19:8 `/{y}` takes the same requests as `/{x}` in line 11"]);
}
