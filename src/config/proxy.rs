//! `[route.proxy]`: where everything goes that is no WebSocket.

use std::time::Duration;

use http::{HeaderName, HeaderValue};
use toml::de::DeValue;

use super::problem::quote;
use super::reader::TableReader;
use super::report::Report;
use super::route::Known;
use super::{ANY_DURATION, bridge, passing, stream, told};
use crate::protocol::headers::{OURS, folded};
use crate::protocol::hop;
use crate::proxy::{Cors, Edits, Settings};

/// Most bytes that a limit for bodies can say: one tebibyte, above which no limit can be meant.
const MOST_BODY: usize = 1 << 40;

/// What a header of an edit may be changed in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Requests,
    Answers,
}

/// Reads a proxy. `captures` are the names that templates may use, `None` if the path could not be read.
pub(super) fn read(mut table: TableReader<'_>, captures: Option<&[&str]>, known: Known<'_>) -> Option<Settings> {
    let help = "name one of the upstreams, as in upstream = \"app\" for [upstream.app]";
    let upstream = bridge::upstream(&mut table, known.upstreams, help);
    let path = passing::path(&mut table, captures);
    let host = passing::host(&mut table);
    let request_headers = edits(&mut table, "request_headers", "route.proxy.request_headers", Side::Requests);
    let response_headers = edits(&mut table, "response_headers", "route.proxy.response_headers", Side::Answers);
    let set: Vec<HeaderName> = request_headers.set.iter().map(|(name, _)| name.clone()).collect();
    let claim_headers = told::claim_headers(&mut table, known.claims, &set);
    let identity_token = told::identity_token(&mut table, known.identity, upstream.as_ref());
    let credential_params = passing::credential_params(&mut table, &[], known.ticket_param);
    let max_request_body = table
        .field("max_request_body")
        .and_then(|field| field.size(0..=MOST_BODY))
        .and_then(|size| u64::try_from(size).ok());
    let response_timeout = table.duration("response_timeout", Duration::from_mins(1), ANY_DURATION);
    let read_timeout = table.duration("read_timeout", Duration::from_mins(1), ANY_DURATION);
    let send_timeout = table.duration("send_timeout", Duration::from_secs(30), ANY_DURATION);
    let retries = table.integer("retries", 1, 0..=10);
    let stream = stream::read(&mut table);
    let cors = table.one_of("cors", Cors::Route, &[("route", Cors::Route), ("upstream", Cors::Upstream)]);
    table.finish();
    Some(Settings {
        upstream: upstream?,
        path,
        host,
        request_headers,
        response_headers,
        credential_params,
        claim_headers,
        identity_token,
        max_request_body,
        response_timeout,
        read_timeout,
        send_timeout,
        retries: u32::try_from(retries).unwrap_or(1),
        stream,
        cors,
    })
}

/// `{ set = { .. }, remove = [ .. ] }`.
fn edits(table: &mut TableReader<'_>, key: &'static str, section: &'static str, side: Side) -> Edits {
    let Some(field) = table.field(key) else { return Edits::default() };
    let Some(mut inner) = table.table_of(&field, section, format!("[{section}]")) else { return Edits::default() };
    let report = inner.report();
    let mut edits = Edits::default();
    if let Some(field) = inner.field("set") {
        let form = "write set = { \"X-Frame-Options\" = \"DENY\" }, a header and its value";
        if let DeValue::Table(pairs) = field.value {
            for (name, value) in pairs {
                let header = name_of(name.get_ref(), name.span(), side, report);
                let DeValue::String(text) = value.get_ref() else {
                    report.wrong(
                        Some(value.span()),
                        format!("the value of {} must be a text", quote(name.get_ref())),
                        form,
                    );
                    continue;
                };
                let Ok(mut value) = HeaderValue::from_str(text) else {
                    let help = "take out line breaks and control characters";
                    report.wrong(Some(value.span()), format!("{} cannot be the value of a header", quote(text)), help);
                    continue;
                };
                // It may be what the gateway proves itself with.
                value.set_sensitive(true);
                edits.set.extend(header.map(|header| (header, value)));
            }
        } else {
            field.wrong_type("a table of texts", form);
        }
    }
    for text in inner.texts("remove").unwrap_or_default() {
        edits.remove.extend(name_of(text.value, text.span, side, report));
    }
    inner.finish();
    edits
}

/// A header that the configuration may change.
fn name_of(text: &str, span: std::ops::Range<usize>, side: Side, report: &Report) -> Option<HeaderName> {
    let refused = |why: &str, help: &str| {
        report.wrong(Some(span.clone()), format!("{} cannot be changed: {why}", quote(text)), help);
    };
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        refused("this is not the name of a header", "write a name such as \"X-Frame-Options\"");
        return None;
    };
    let folded = HeaderName::try_from(folded(name.as_str())).unwrap_or_else(|_| name.clone());
    if hop::is_framing(folded.as_str()) && !(side == Side::Answers && folded == "host") {
        let help = if folded == "host" { "write it as the `host` of this proxy" } else { "take it out" };
        refused("it leads the message, or says where it ends", help);
        return None;
    }
    if OURS.contains(&folded) {
        refused("the contract with the backend has a meaning for it", "take it out");
        return None;
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{parse, problems};
    use crate::protocol::passing::Host;

    fn file(proxy: &str) -> String {
        format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n[upstream.app]\nendpoints = [\"http://127.0.0.1:9000\"]\n\
             [[route]]\npath = \"/app/{{*rest}}\"\nauth = \"none\"\n[route.proxy]\nupstream = \"app\"\n{proxy}\n"
        )
    }

    fn settings(proxy: &str) -> Settings {
        let config = parse(&file(proxy)).unwrap_or_else(|problems| panic!("{problems}"));
        (**config.routes[0].proxy.as_ref().unwrap()).clone()
    }

    #[test]
    fn without_further_keys_a_request_goes_on_as_it_comes() {
        let settings = settings("");
        assert!(settings.path.is_none() && settings.max_request_body.is_none() && settings.identity_token.is_none());
        assert_eq!((settings.host, settings.credential_params), (Host::Client, vec!["ticket".to_owned()]));
        assert_eq!((settings.response_timeout, settings.retries), (Duration::from_mins(1), 1));
    }

    #[test]
    fn every_key_is_read() {
        let settings = settings(
            "path = \"/{rest}\"\nhost = \"inner:81\"\ncredential_params = [\"key\"]\nmax_request_body = \"3GiB\"\nretries = 0\n\
             send_timeout = \"1s\"\nread_timeout = \"2s\"\nresponse_timeout = \"3s\"\n\
             request_headers = { set = { Authorization = \"Basic c2VjcmV0\" }, remove = [\"Cookie\"] }\n\
             response_headers.remove = [\"server\"]",
        );
        assert_eq!(settings.path.as_ref().map(ToString::to_string).as_deref(), Some("/{rest}"));
        assert_eq!(settings.host, Host::Name(HeaderValue::from_static("inner:81")));
        assert_eq!(settings.credential_params, ["key", "ticket"]);
        assert_eq!((settings.max_request_body, settings.retries), (Some(3 << 30), 0));
        let times = [settings.send_timeout, settings.read_timeout, settings.response_timeout];
        assert_eq!(times.map(|time| time.as_secs()), [1, 2, 3]);
        assert_eq!(settings.request_headers.remove, ["cookie"]);
        assert_eq!(settings.response_headers.remove, ["server"]);
        assert_eq!(settings.request_headers.set[0].1, "Basic c2VjcmV0");
        assert!(!format!("{settings:?}").contains("c2VjcmV0"), "a value may be a credential");
    }

    #[test]
    fn what_would_break_or_mislead_a_message_is_told() {
        let only = |proxy: &str| {
            let problems = problems(&file(proxy));
            assert_eq!(problems.len(), 1, "{problems:?}");
            problems[0].split_once(' ').unwrap().1.to_owned()
        };
        for name in ["Connection", "Content-Length", "Transfer_Encoding", "TE", "Upgrade", "Trailer", "Expect"] {
            let told = format!("`{name}` cannot be changed: it leads the message, or says where it ends");
            assert_eq!(only(&format!("request_headers.remove = [\"{name}\"]")), told);
            assert_eq!(only(&format!("response_headers.set = {{ {name} = \"x\" }}")), told);
        }
        assert!(only("request_headers.set = { Host = \"x\" }").contains("leads the message"));
        assert!(only("request_headers.set = { Tidegate_Subject = \"root\" }").contains("has a meaning for it"));
        assert!(only("request_headers.set = { \"a b\" = \"x\" }").contains("not the name of a header"));
        assert!(only("response_headers.set = { x-a = \"a\\nb\" }").contains("cannot be the value of a header"));
        assert_eq!(only("response_headers = { sets = {} }"), "`sets` is not known in [route.proxy.response_headers]");
        assert_eq!(only("host = \"a/b\""), "`a/b` cannot be a host");
        assert_eq!(only("host = \"me@there\""), "`me@there` cannot be a host");
        assert!(only("path = \"/{other}\"").contains("not captured"));
        assert!(only("credential_params = [\"a&b\"]").contains("not the name of a query parameter"));
        assert!(only("retries = 11").contains("out of range"));
    }
}
