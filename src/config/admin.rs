//! `[admin]`: where operators look inside.

use std::net::SocketAddr;
use std::ops::Range;

use secrecy::{ExposeSecret as _, SecretString};

use super::field::Located;
use super::pem::Files;
use super::problem::{line_number, quote};
use super::reader::TableReader;
use super::report::Report;
use super::secret::secret;
use crate::admin::Settings;
use crate::edge::settings::Listener;

/// Nobody guesses so many.
const LEAST_TOKEN: usize = 16;

const FORM: &str = "write an IP address and a port: \"127.0.0.1:9900\"";

/// Reads the section, which stands at `place`. It comes with the place of its address, or of the section if it says none.
pub(super) fn read(mut table: TableReader<'_>, place: Range<usize>, files: Files<'_>) -> Option<Located<Settings>> {
    let defaults = Settings::default();
    let field = table.field("address");
    let expose = table.flag("expose", defaults.expose);
    let token = token(&mut table, files);
    let report = table.report();
    table.finish();
    let Some(field) = field else {
        return Some(Located { value: Settings { expose, token, ..defaults }, span: place });
    };
    let text = field.text()?;
    let Ok(address) = text.value.parse::<SocketAddr>() else {
        field.wrong(format!("{} is not an address to listen on", quote(text.value)), FORM);
        return None;
    };
    if !expose && !address.ip().to_canonical().is_loopback() {
        let message = format!(
            "{} can be reached from other machines, and the admin listener shows peers, subjects and routes to whoever asks",
            quote(text.value)
        );
        let help = "write \"127.0.0.1:9900\"; or, if only those who may look can reach this address, add expose = true";
        report.wrong(Some(text.span), message, help);
        return None;
    }
    Some(Located { value: Settings { address, expose, token }, span: text.span })
}

/// What is shown to change something: in a header field, so that it must be one.
fn token(table: &mut TableReader<'_>, files: Files<'_>) -> Option<SecretString> {
    let field = table.field("token")?;
    let secret = secret(table, &field, "admin.token", files)?;
    let text = std::str::from_utf8(secret.expose_secret()).ok();
    let good = text.filter(|text| text.len() >= LEAST_TOKEN && text.bytes().all(|byte| byte.is_ascii_graphic()));
    if good.is_none() {
        let message = format!("`token` must be {LEAST_TOKEN} visible characters of ASCII or more");
        field.wrong(message, "make one: openssl rand -hex 16");
    }
    good.map(SecretString::from)
}

/// Reports an admin listener at the address of a public one.
pub(super) fn check_address(admin: &Located<Settings>, listeners: &[Located<Listener>], text: &str, report: &Report) {
    let address = admin.value.address;
    let is_taken = |listener: &&Located<Listener>| {
        let public = listener.value.address;
        // An unspecified address is all of them. Port 0 is a different port each time.
        let meet = public.ip() == address.ip() || public.ip().is_unspecified() || address.ip().is_unspecified();
        meet && public.port() == address.port() && address.port() != 0
    };
    if let Some(public) = listeners.iter().find(is_taken) {
        let line = line_number(text, public.span.start);
        let message = format!("{} is where the listener in line {line} serves clients", quote(&address.to_string()));
        report.wrong(Some(admin.span.clone()), message, "give the admin listener a port of its own");
    }
}
