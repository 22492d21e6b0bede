//! What the demo's backend tells about itself, for whoever watches.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use serde::Serialize;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

/// Rows that a watcher may be behind before it misses some.
const ROWS_KEPT: usize = 512;
/// Most characters of a body, of an event's data or of a header that a row shows.
const MAX_SHOWN: usize = 2000;

/// Something that the backend has seen or done.
#[derive(Debug, Serialize)]
#[serde(tag = "kind")]
pub(super) enum Row<'a> {
    /// An event stream was opened, refused or has ended.
    #[serde(rename = "GET")]
    Get { state: StreamState, path: &'a str, headers: BTreeMap<&'a str, String>, status: u16, client: Client<'a> },
    /// A message came in and was answered.
    #[serde(rename = "POST")]
    Post { path: &'a str, headers: BTreeMap<&'a str, String>, body: String, status: u16, client: Client<'a> },
    /// An event went out on one stream.
    #[serde(rename = "EVENT")]
    Event { id: u64, event: &'a str, data: String, client: Client<'a> },
    /// The watcher was too slow to see them all.
    #[serde(rename = "MISSED")]
    Missed { rows: u64 },
}

/// What has become of an event stream.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum StreamState {
    Opened,
    Refused,
    Closed,
}

/// Whose stream or message it is.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Client<'a> {
    /// The gateway's id of the connection.
    pub(super) connection: &'a str,
    /// Name in the chat, empty when nobody knows it.
    pub(super) name: &'a str,
    /// What the client called itself in the `tab` parameter, so that a page knows its own rows.
    pub(super) tab: &'a str,
}

#[derive(Serialize)]
struct Stamped<'a> {
    /// Milliseconds since 1970.
    at: u64,
    #[serde(flatten)]
    row: &'a Row<'a>,
}

/// Where rows are told and watched. Clones are the same trace.
#[derive(Clone, Debug)]
pub struct Trace {
    rows: broadcast::Sender<Arc<str>>,
    stop: CancellationToken,
}

impl Trace {
    /// A trace whose watchers see its end when `stop` is cancelled.
    pub(super) fn new(stop: CancellationToken) -> Self {
        Self { rows: broadcast::Sender::new(ROWS_KEPT), stop }
    }

    /// Watches from now on.
    pub fn subscribe(&self) -> Watcher {
        Watcher { rows: self.rows.subscribe(), stop: self.stop.clone() }
    }

    /// Ends it for all who watch, now and later.
    pub fn end(&self) {
        self.stop.cancel();
    }

    pub(super) fn tell(&self, row: &Row<'_>) {
        if self.rows.receiver_count() > 0 {
            // The last watcher may be gone by now, and then nobody misses the row.
            let _ = self.rows.send(stamped(row).into());
        }
    }
}

/// Sees every row told since it subscribed, or how many it missed.
#[derive(Debug)]
pub struct Watcher {
    rows: broadcast::Receiver<Arc<str>>,
    stop: CancellationToken,
}

impl Watcher {
    /// The next row, one JSON object on one line; `None` when the backend stops. Cancel safe.
    pub async fn next(&mut self) -> Option<Arc<str>> {
        let received = tokio::select! {
            received = self.rows.recv() => received,
            () = self.stop.cancelled() => return None,
        };
        match received {
            Ok(row) => Some(row),
            Err(broadcast::error::RecvError::Lagged(rows)) => Some(stamped(&Row::Missed { rows }).into()),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

fn stamped(row: &Row<'_>) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let at = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    // Rows are made of strings and numbers, which always have a JSON form.
    serde_json::to_string(&Stamped { at, row }).unwrap_or_default()
}

/// The headers that the contract is about.
pub(super) fn interesting(headers: &HeaderMap) -> BTreeMap<&str, String> {
    const NAMED: [&str; 5] = ["accept", "content-type", "idempotency-key", "last-event-id", "traceparent"];
    headers
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("tidegate-") || NAMED.contains(&name.as_str()))
        .map(|(name, value)| (name.as_str(), shown(&String::from_utf8_lossy(value.as_bytes()))))
        .collect()
}

/// Text as a row shows it.
pub(super) fn shown(text: &str) -> String {
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_watcher_is_told_how_much_it_missed_and_stops_with_the_backend() {
        let stop = CancellationToken::new();
        let trace = Trace::new(stop.clone());
        trace.tell(&Row::Missed { rows: 0 }); // nobody watches
        let mut watcher = trace.subscribe();
        let client = Client { connection: "c", name: "ada", tab: "" };
        for id in 0..ROWS_KEPT as u64 + 3 {
            trace.tell(&Row::Event { id, event: "message", data: shown(&"ä".repeat(5000)), client });
        }
        let row: serde_json::Value = serde_json::from_str(&watcher.next().await.unwrap()).unwrap();
        assert_eq!((&row["kind"], &row["rows"]), (&"MISSED".into(), &3.into()));
        let row: serde_json::Value = serde_json::from_str(&watcher.next().await.unwrap()).unwrap();
        assert_eq!((&row["kind"], &row["id"], &row["client"]["name"]), (&"EVENT".into(), &3.into(), &"ada".into()));
        assert_eq!(row["data"].as_str().unwrap().chars().count(), MAX_SHOWN + 1);
        stop.cancel();
        while watcher.next().await.is_some() {}
    }
}
