//! `endpoints` of an upstream: where the backend is, and how much each place takes.

use http::uri::Authority;
use toml::de::DeValue;

use super::field::Field;
use super::problem::quote;
use super::reader::TableReader;
use crate::edge::hosts::split_port;
use crate::upstream::Endpoint;

pub(super) const FORM: &str =
    "write endpoints = [\"http://127.0.0.1:9000\"], with http or https, a host and maybe a port";

/// Reads a list of texts and of tables `{ url, weight }`.
pub(super) fn read(table: &TableReader<'_>, field: &Field<'_>) -> Option<Vec<Endpoint>> {
    let Some(items) = field.items() else {
        field.wrong_type("a list of endpoints", FORM);
        return None;
    };
    if items.is_empty() {
        field.wrong("`endpoints` must name at least one", FORM);
        return None;
    }
    let mut endpoints: Vec<Endpoint> = Vec::new();
    let mut complete = true;
    for item in items {
        match one(table, &item) {
            None => complete = false,
            // Written differently but the same, such as with and without the default port.
            Some((url, endpoint)) if endpoints.iter().any(|earlier| is_same(earlier, &endpoint)) => {
                url.wrong(format!("{} stands in `endpoints` twice", text(&url)), "take one of the two out");
                complete = false;
            }
            Some((_, endpoint)) => endpoints.push(endpoint),
        }
    }
    complete.then_some(endpoints)
}

fn is_same(one: &Endpoint, other: &Endpoint) -> bool {
    (one.tls, &one.authority) == (other.tls, &other.authority)
}

fn text(field: &Field<'_>) -> String {
    field.value.as_str().map(quote).unwrap_or_default()
}

/// One endpoint, with the field that its place stands in.
fn one<'a>(table: &TableReader<'a>, item: &Field<'a>) -> Option<(Field<'a>, Endpoint)> {
    let (url, weight) = match item.value {
        DeValue::String(_) => (item.clone(), 1),
        DeValue::Table(_) => {
            let mut inner = table.table_of(item, "upstream.endpoints", "`endpoints`".to_owned())?;
            let url = inner.required("url", "write { url = \"http://127.0.0.1:9000\", weight = 2 }");
            let weight = inner.integer("weight", 1, 1..=1000);
            inner.finish();
            (url?, weight)
        }
        _ => {
            item.wrong_type("a list of texts and tables", FORM);
            return None;
        }
    };
    let place = url.text()?.value;
    match endpoint(place) {
        Ok(endpoint) => Some((url, Endpoint { weight: u32::try_from(weight).unwrap_or(1), ..endpoint })),
        Err(help) => {
            url.wrong(format!("{} is not an endpoint", quote(place)), help);
            None
        }
    }
}

/// Reads `http://host[:port]` or `https://host[:port]`; the error says what to write.
pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    let form = || "write http:// or https://, a host and maybe a port, as in \"http://127.0.0.1:9000\"".to_owned();
    let (scheme, rest) = text.split_once("://").ok_or_else(form)?;
    let (tls, default_port) = match scheme {
        "http" => (false, 80),
        "https" => (true, 443),
        _ => return Err(form()),
    };
    if rest.contains('@') {
        return Err("leave out user and password; an endpoint is only a place".to_owned());
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (place, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
    if !path.is_empty() {
        return Err(format!("write \"{scheme}://{place}\"; the path of a request is given by the route"));
    }
    let (host, port) = split_port(place).filter(|(_, port)| *port != Some(0)).ok_or_else(form)?;
    let authority = match port.filter(|port| *port != default_port) {
        Some(port) => format!("{host}:{port}"),
        None => host.into_owned(),
    };
    let authority = authority.parse::<Authority>().map_err(|_| form())?;
    Ok(Endpoint { tls, authority, weight: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_a_scheme_and_a_place() {
        let read = |text| endpoint(text).map(|endpoint| (endpoint.tls, endpoint.authority.to_string())).expect(text);
        assert_eq!(read("http://127.0.0.1:9000"), (false, "127.0.0.1:9000".to_owned()));
        assert_eq!(read("https://App.internal:443"), (true, "app.internal".to_owned()));
        assert_eq!(read("http://my_service:443"), (false, "my_service:443".to_owned()));
        assert_eq!(read("http://[::1]:80"), (false, "[::1]".to_owned()));
    }

    #[test]
    fn what_is_no_endpoint_says_what_to_write() {
        let help = |text: &str| endpoint(text).expect_err(text);
        for text in ["", "127.0.0.1:9000", "ws://a", "http://", "http://a b", "http://a:0", "http://a:99999", "HTTP//a"]
        {
            assert!(help(text).contains("http://127.0.0.1:9000"), "{text}");
        }
        assert!(help("http://u:p@a").contains("user and password"));
        assert!(help("http://a:9000/").contains("write \"http://a:9000\""));
        assert!(help("https://a/x?y").contains("write \"https://a\""));
    }
}
