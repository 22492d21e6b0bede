//! `[auth]`: what proves a client.

mod bearer;
mod cookie;
mod mtls;
#[cfg(test)]
mod tests;

use super::pem::Files;
use super::reader::TableReader;
use crate::access::Settings;
use crate::identity::Way;

/// Reads the section, if it is there. What could not be read is left out, and was reported. `upstreams` are the names of
/// those that may be asked; `asks_clients` is whether a listener asks clients for certificates. Gives as well which ways have
/// a section, be it one with problems.
pub(super) fn read(
    file: &mut TableReader<'_>,
    upstreams: &[&str],
    asks_clients: bool,
    files: Files<'_>,
) -> (Settings, Vec<Way>) {
    let Some(mut table) = file.section("auth") else { return Default::default() };
    let ways =
        [Way::Bearer, Way::Cookie, Way::Mtls].into_iter().filter(|way| table.span(way.label()).is_some()).collect();
    let claims = claims(&mut table);
    let bearer = table.field("bearer").and_then(|field| {
        let inner = table.table_of(&field, "auth.bearer", "[auth.bearer]".to_owned())?;
        bearer::read(inner, &field, &claims, files)
    });
    let cookie = table
        .field("cookie")
        .and_then(|field| table.table_of(&field, "auth.cookie", "[auth.cookie]".to_owned()))
        .and_then(|table| cookie::read(table, upstreams, &claims));
    let mtls = table.field("mtls").and_then(|field| {
        if !asks_clients {
            let help = "write client_ca = \"...\" in a [[listener]], the authority that client certificates come from";
            field.report.absent(Some(field.span.clone()), "no listener asks clients for a certificate", help);
        }
        table.table_of(&field, "auth.mtls", "[auth.mtls]".to_owned()).map(|table| mtls::read(table, &claims))
    });
    table.finish();
    (Settings { claims, bearer, cookie, mtls }, ways)
}

fn claims(table: &mut TableReader<'_>) -> Vec<String> {
    let mut claims = Vec::new();
    for name in table.texts("claims").unwrap_or_default() {
        if name.value.is_empty() {
            table.report().wrong(Some(name.span), "a claim has a name", "write claims = [\"tenant\", \"email\"]");
        }
        claims.push(name.value.to_owned());
    }
    claims
}
