//! `[auth]`: what proves who a client is.

mod cookie;
mod mtls;
#[cfg(test)]
mod tests;

use super::reader::TableReader;
use crate::access::Settings;

/// Reads the section, if it is there. `upstreams` are the names of those that may be asked; `asks_clients` is whether a
/// listener asks clients for certificates.
pub(super) fn read(file: &mut TableReader<'_>, upstreams: &[&str], asks_clients: bool) -> Settings {
    let Some(mut table) = file.section("auth") else { return Settings::default() };
    let claims: Vec<String> =
        table.texts("claims").unwrap_or_default().into_iter().map(|claim| claim.value.to_owned()).collect();
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
    Settings { claims, cookie, mtls }
}
