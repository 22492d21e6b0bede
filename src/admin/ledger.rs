//! `/ledger`: who still comes by WebSocket, as JSON.

use std::time::SystemTime;

use http::StatusCode;

use super::Sources;
use crate::protocol::problem::Problem;
use crate::protocol::query::decode;

/// The report, with all routes or the one that the query names.
///
/// # Errors
///
/// 400 for anything else in the query, 404 for a route that nothing is known of.
pub(super) fn report(sources: &Sources, query: &str) -> Result<String, Problem> {
    let mut route = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name != "route" {
            let detail = "the query may hold route, and nothing else";
            return Err(Problem::new(StatusCode::BAD_REQUEST, "bad-query", detail));
        }
        route = Some(decode(value));
    }
    let mut report = sources.ledger.report(SystemTime::now());
    if let Some(route) = route {
        report.routes.retain(|known| known.route == route);
        if report.routes.is_empty() {
            let detail = "no route of this name takes WebSockets, or has taken any";
            return Err(Problem::new(StatusCode::NOT_FOUND, "not-found", detail));
        }
    }
    let defect = |_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "defect", "the ledger cannot be written as JSON");
    serde_json::to_string(&report).map_err(defect)
}
