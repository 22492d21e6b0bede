//! `diagnostics` and `diagnostics_token` of a listener: where `tidegate doctor` asks, and what it has to show.

use std::sync::Arc;

use http::uri::PathAndQuery;
use secrecy::{ExposeSecret as _, SecretString};

use super::field::Located;
use super::pem::Files;
use super::problem::{line_number, quote};
use super::reader::TableReader;
use super::report::Report;
use super::secret::secret;
use crate::edge::diagnostic::Settings;
use crate::edge::settings::{Listener, Route};

/// Fewest characters of a token: 16 of them cannot be guessed.
const LEAST_TOKEN: usize = 16;

/// Reads both keys; `None` is no endpoint.
pub(super) fn read(table: &mut TableReader<'_>, ticket_path: Option<&str>, files: Files<'_>) -> Option<Settings> {
    let path = table.text("diagnostics");
    let field = table.field("diagnostics_token");
    let token = field.as_ref().and_then(|field| {
        let secret = secret(table, field, "listener.diagnostics_token", files)?;
        let text = std::str::from_utf8(secret.expose_secret()).ok();
        let good = text.filter(|text| text.len() >= LEAST_TOKEN && text.bytes().all(|byte| byte.is_ascii_graphic()));
        if good.is_none() {
            let message = format!("`diagnostics_token` must be {LEAST_TOKEN} visible characters of ASCII or more");
            field.wrong(message, "make one: openssl rand -hex 16");
        }
        good.map(SecretString::from)
    });
    let Some(text) = path.filter(|path| !path.value.is_empty()) else {
        if let Some(field) = field {
            let help = "write diagnostics = \"/.well-known/tidegate/doctor\", or take this out";
            field.wrong("`diagnostics_token` has no effect without `diagnostics`", help);
        }
        return None;
    };
    let path = text.value;
    let help = "write \"/.well-known/tidegate/doctor\", or \"\" to answer no doctor here";
    let sound = path.starts_with('/') && path.parse::<PathAndQuery>().is_ok_and(|parsed| parsed == *path);
    if !sound || path.contains(['?', '#', '{', '}']) {
        table.report().wrong(Some(text.span), format!("{} cannot be the path of a request", quote(path)), help);
        return None;
    }
    if ticket_path == Some(path) {
        let message = format!("{} is where this listener issues tickets", quote(path));
        table.report().wrong(Some(text.span), message, "write another path");
        return None;
    }
    Some(Settings { path: path.into(), token })
}

/// Reports a route whose requests the endpoint of a listener would take.
pub(super) fn check_paths(
    listeners: &[Located<Listener>],
    routes: &[Located<Arc<Route>>],
    text: &str,
    report: &Report,
) {
    for route in routes {
        let path = &route.value.path;
        let answers = |listener: &&Located<Listener>| {
            listener.value.diagnostics.as_ref().is_some_and(|settings| settings.path == *path)
        };
        if let Some(listener) = listeners.iter().find(answers) {
            let line = line_number(text, listener.span.start);
            let message = format!("{} is where the listener in line {line} answers doctors", quote(path));
            report.wrong(Some(route.span.clone()), message, "change the path, or `diagnostics` of the listener");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::tests::{file, only, parse};

    fn listener(lines: &str) -> String {
        file("", lines, "", "", "")
    }

    #[test]
    fn no_listener_answers_a_doctor_unless_it_is_told_where() {
        let endpoint = |lines: &str| {
            let config = parse(&listener(lines)).unwrap_or_else(|problems| panic!("{problems}"));
            config.listeners.into_iter().next().and_then(|listener| listener.diagnostics)
        };
        assert!(endpoint("").is_none() && endpoint("diagnostics = \"\"").is_none());
        let settings = endpoint("diagnostics = \"/chat/doctor\"").unwrap();
        assert_eq!(&*settings.path, "/chat/doctor");
        assert!(settings.token.is_none());
    }

    #[test]
    fn the_endpoint_is_checked() {
        assert!(only(&listener("diagnostics = \"doctor\"")).contains("`doctor` cannot be the path of a request"));
        assert!(only(&listener("diagnostics = \"/a?b\"")).contains("`/a?b` cannot be the path of a request"));
        assert!(only(&listener("diagnostics = \"/stream-ticket\"")).contains("issues tickets"));
        assert!(
            only(&listener("diagnostics_token = { env = \"PATH\" }")).contains("has no effect without `diagnostics`")
        );
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("short"), "0123456789abcde\n").unwrap();
        let short = listener("diagnostics = \"/d\"\ndiagnostics_token = { file = \"short\" }");
        let problems = Config::parse(&short, "tidegate.toml", folder.path()).unwrap_err().to_string();
        assert!(problems.contains("`diagnostics_token` must be 16 visible characters"), "{problems}");
    }

    #[test]
    fn a_route_in_the_place_of_the_endpoint_is_told() {
        let text = listener("diagnostics = \"/chat\"");
        assert!(only(&text).contains("`/chat` is where the listener in line 3 answers doctors"), "{}", only(&text));
    }
}
