//! `[ledger]`: where it is kept who still comes by WebSocket.

use std::ops::RangeInclusive;
use std::time::Duration;

use http::{HeaderName, header};

use super::pem::Files;
use super::problem::quote;
use super::reader::TableReader;
use crate::ledger::Settings;
use crate::protocol::headers::folded;

const FLUSH: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);

/// Fields that prove somebody, or can: what they hold is never written down.
const SECRET: [&str; 6] =
    ["authorization", "proxy-authorization", "cookie", "sec-websocket-protocol", "sec-websocket-key", "x-api-key"];

/// Reads the section.
pub(super) fn read(mut table: TableReader<'_>, files: Files<'_>) -> Settings {
    let defaults = Settings::default();
    let path = table.text("path");
    if let Some(empty) = path.as_ref().filter(|path| path.value.is_empty()) {
        let help = "write path = \"/var/lib/tidegate/ledger\", or leave the key out to count in memory alone";
        table.report().wrong(Some(empty.span.clone()), "`path` is empty", help);
    }
    let settings = Settings {
        path: path.map(|path| files.base.join(path.value)),
        flush: table.duration("flush", defaults.flush, FLUSH),
        client_header: client_header(&mut table),
    };
    if settings.path.is_none() {
        let message = "`flush` has no effect without `path`: nothing is written";
        let help = "write path = \"/var/lib/tidegate/ledger\", or take `flush` out";
        if let Some(place) = table.span("flush") {
            table.report().wrong(Some(place), message, help);
        }
    }
    table.finish();
    settings
}

fn client_header(table: &mut TableReader<'_>) -> Option<HeaderName> {
    let text = table.text("client_header")?;
    let name = HeaderName::from_bytes(text.value.as_bytes()).ok();
    let message = match &name {
        None => "is not the name of a header",
        Some(name) if *name == header::USER_AGENT => "is what counts without this key",
        Some(name) if SECRET.contains(&folded(name.as_str()).as_str()) => {
            "holds what lets somebody in, and that is never written down"
        }
        Some(_) => return name,
    };
    let help = "name the header in which your clients say their name and version, as in \"X-App-Version\"";
    table.report().wrong(Some(text.span), format!("{} {message}", quote(text.value)), help);
    None
}
