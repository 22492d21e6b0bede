//! `[route.proxy]`: where everything goes that is no WebSocket.

use super::reader::TableReader;
use super::route::Known;
use super::{bridge, stream};
use crate::proxy::{Cors, Settings};

/// Reads a proxy. `captures` are the names that templates may use, `None` if the path could not be read.
pub(super) fn read(mut table: TableReader<'_>, _captures: Option<&[&str]>, known: Known<'_>) -> Option<Settings> {
    let help = "name one of the upstreams, as in upstream = \"app\" for [upstream.app]";
    let upstream = bridge::upstream(&mut table, known.upstreams, help);
    let stream = stream::read(&mut table);
    let cors = table.one_of("cors", Cors::Route, &[("route", Cors::Route), ("upstream", Cors::Upstream)]);
    table.finish();
    Some(Settings { upstream: upstream?, stream, cors })
}
