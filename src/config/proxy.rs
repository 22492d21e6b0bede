//! `[route.proxy]`: where everything goes that is no WebSocket.

use std::time::Duration;

use super::reader::TableReader;
use super::route::Known;
use super::{ANY_DURATION, bridge};
use crate::proxy::{Edits, Host, Settings};

/// Reads a proxy. `captures` are the names that templates may use, `None` if the path could not be read.
pub(super) fn read(mut table: TableReader<'_>, _captures: Option<&[&str]>, known: Known<'_>) -> Option<Settings> {
    let help = "name one of the upstreams, as in upstream = \"app\" for [upstream.app]";
    let upstream = bridge::upstream(&mut table, known.upstreams, help);
    let response_timeout = table.duration("response_timeout", Duration::from_secs(60), ANY_DURATION);
    let read_timeout = table.duration("read_timeout", Duration::from_secs(60), ANY_DURATION);
    let send_timeout = table.duration("send_timeout", Duration::from_secs(30), ANY_DURATION);
    table.finish();
    Some(Settings {
        upstream: upstream?,
        path: None,
        host: Host::Client,
        request_headers: Edits::default(),
        response_headers: Edits::default(),
        credential_params: vec![known.ticket_param.to_owned()],
        claim_headers: Vec::new(),
        identity_token: None,
        max_request_body: None,
        response_timeout,
        read_timeout,
        send_timeout,
        retries: 1,
    })
}
