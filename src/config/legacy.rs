//! `[route.legacy]`: the WebSocket backend that WebSockets are passed through to.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::TableReader;
use super::route::Known;
use super::{ANY_DURATION, bridge, passing, told};
use crate::tunnel::Settings;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const CLOSE: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_mins(1);
/// What limits on a connection's life may be.
const LIFE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(30 * 24);

/// Reads a pass-through. `captures` are the names that templates may use, `None` if the path could not be read.
pub(super) fn read(mut table: TableReader<'_>, captures: Option<&[&str]>, known: Known<'_>) -> Option<Settings> {
    let help = "name one of the upstreams, as in upstream = \"old\" for [upstream.old]";
    let upstream = bridge::upstream(&mut table, known.upstreams, help);
    let path = passing::path(&mut table, captures);
    let host = passing::host(&mut table);
    // All headers of the client go along but those that say who it is, so that there is no list to compare with.
    let claim_headers = told::claim_headers(&mut table, known.claims, &[]);
    let identity_token = told::identity_token(&mut table, known.identity, upstream.as_ref());
    // The backend may have credentials of its own in the query, and gets them.
    let credential_params = passing::credential_params(&mut table, &[], known.ticket_param);
    let open_timeout = table.duration("open_timeout", Duration::from_secs(10), ANY_DURATION);
    let idle_timeout = table.duration("idle_timeout", Duration::from_mins(10), LIFE);
    let max_age = table.field("max_age").and_then(|field| field.duration(LIFE));
    let close_timeout = table.duration("close_timeout", Duration::from_secs(5), CLOSE);
    let buffer = table.size("buffer", 16 * KIB, 4 * KIB..=MIB);
    let max_refusal_body = table.size("max_refusal_body", 16 * KIB, 0..=MIB);
    table.finish();
    Some(Settings {
        upstream: upstream?,
        path,
        host,
        claim_headers,
        identity_token,
        credential_params,
        open_timeout,
        idle_timeout,
        max_age,
        close_timeout,
        buffer,
        max_refusal_body,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use http::HeaderValue;

    use super::*;
    use crate::config::Config;
    use crate::config::tests::{only, problems};
    use crate::protocol::passing::Host;

    /// A file whose only route is passed through, with these lines.
    fn file(lines: &str) -> String {
        format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n[upstream.old]\nendpoints = [\"http://127.0.0.1:9000\"]\n\
             [[route]]\npath = \"/rooms/{{room}}\"\nauth = \"none\"\n[route.legacy]\n{lines}\n"
        )
    }

    fn settings(lines: &str) -> Settings {
        let text = file(&format!("upstream = \"old\"\n{lines}"));
        let config = Config::parse(&text, "test.toml", Path::new("")).unwrap_or_else(|problems| panic!("{problems}"));
        Settings::clone(config.routes[0].legacy.as_ref().unwrap())
    }

    #[test]
    fn the_defaults_are_those_that_the_manual_names() {
        let legacy = settings("");
        assert_eq!((&*legacy.upstream, legacy.path.is_none(), &legacy.host), ("old", true, &Host::Client));
        assert_eq!((legacy.open_timeout, legacy.idle_timeout), (Duration::from_secs(10), Duration::from_mins(10)));
        assert_eq!((legacy.max_age, legacy.close_timeout), (None, Duration::from_secs(5)));
        assert_eq!((legacy.buffer, legacy.max_refusal_body), (16 * KIB, 16 * KIB));
        assert_eq!((legacy.credential_params, legacy.claim_headers.len()), (vec!["ticket".to_owned()], 0));
    }

    #[test]
    fn every_key_is_read() {
        let lines = "path = \"/ws/{room}?v=1\"\nhost = \"old.example:8080\"\ncredential_params = [\"token\"]\n\
                     open_timeout = \"1s\"\nidle_timeout = \"2s\"\nmax_age = \"3s\"\nclose_timeout = \"4s\"\n\
                     buffer = \"4KiB\"\nmax_refusal_body = \"0B\"";
        let legacy = settings(lines);
        let seconds = |number| Duration::from_secs(number);
        assert_eq!(legacy.path.unwrap().expand(&[("room", "7")]), "/ws/7?v=1");
        assert_eq!(legacy.host, Host::Name(HeaderValue::from_static("old.example:8080")));
        assert_eq!(legacy.credential_params, ["token", "ticket"]);
        assert_eq!((legacy.open_timeout, legacy.idle_timeout), (seconds(1), seconds(2)));
        assert_eq!((legacy.max_age, legacy.close_timeout), (Some(seconds(3)), seconds(4)));
        assert_eq!((legacy.buffer, legacy.max_refusal_body), (4 * KIB, 0));
        assert_eq!(settings("host = \"upstream\"").host, Host::Upstream);
    }

    #[test]
    fn mistakes_are_told_with_their_way_out() {
        assert!(only(&file("upstream = \"ol\"")).contains("did you mean \"old\"?"));
        assert!(only(&file("")).contains("[upstream.old]"));
        let told = |line: &str| only(&file(&format!("upstream = \"old\"\n{line}")));
        assert!(told("path = \"/ws/{rom}\"").contains("captured here: room"));
        for host in ["a b", "user@host", "http://old", ""] {
            assert!(told(&format!("host = \"{host}\"")).contains("cannot be a host"), "{host}");
        }
        assert!(told("credential_params = [\"a b\"]").contains("is not the name of a query parameter"));
        assert!(told("identity_token = true").contains("there is no [identity]"));
        assert!(told("claim_headers = { tenant = \"X-Tenant\" }").contains("no claim that an identity keeps"));
        assert!(told("ping_interval = \"1s\"").contains("is not known in [route.legacy]"));
        for line in ["idle_timeout = \"0s\"", "close_timeout = \"2m\"", "buffer = \"1KiB\"", "max_age = \"31d\""] {
            assert_eq!(problems(&file(&format!("upstream = \"old\"\n{line}"))).len(), 1, "{line}");
        }
    }
}
