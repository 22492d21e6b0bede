//! `[route.legacy]`: the WebSocket backend that WebSockets are passed through to.

use super::bridge;
use super::reader::TableReader;
use super::route::Known;
use crate::tunnel::Settings;

pub(super) fn read(mut table: TableReader<'_>, known: Known<'_>) -> Option<Settings> {
    let help = "name one of the upstreams, as in upstream = \"old\" for [upstream.old]";
    let upstream = bridge::upstream(&mut table, known.upstreams, help);
    table.finish();
    Some(Settings { upstream: upstream? })
}
