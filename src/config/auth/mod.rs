//! `[auth]`: what proves a client.

mod bearer;
#[cfg(test)]
mod tests;

use super::pem::Files;
use super::reader::TableReader;
use crate::access::Settings;

/// Reads the section. What could not be read is left out, and was reported.
pub(super) fn read(mut table: TableReader<'_>, files: Files<'_>) -> Settings {
    let mut claims = Vec::new();
    for name in table.texts("claims").unwrap_or_default() {
        if name.value.is_empty() {
            table.report().wrong(Some(name.span), "a claim has a name", "write claims = [\"tenant\", \"email\"]");
        }
        claims.push(name.value.to_owned());
    }
    let bearer = table.field("bearer").and_then(|field| {
        let inner = table.table_of(&field, "auth.bearer", "[auth.bearer]".to_owned())?;
        bearer::read(inner, &field, &claims, files)
    });
    table.finish();
    Settings { claims, bearer }
}
