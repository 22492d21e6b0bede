//! `/readyz`: whether new clients would be let in, and if not, why.

use serde::Serialize;

use super::Sources;

#[derive(Serialize)]
struct State {
    ready: bool,
    checks: [Check; 2],
}

/// One condition; further ones go into the list.
#[derive(Serialize)]
struct Check {
    name: &'static str,
    ok: bool,
    /// What is wrong, while something is.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'static str>,
}

impl Check {
    fn new(name: &'static str, ok: bool, wrong: &'static str) -> Self {
        Self { name, ok, detail: (!ok).then_some(wrong) }
    }
}

/// Whether it is ready, and the answer that says so.
pub(super) fn state(sources: &Sources) -> (bool, String) {
    let checks = [
        Check::new("serving", !sources.draining.is_cancelled(), "the gateway is stopping"),
        Check::new("memory", !sources.memory.held().over, "resident memory is above server.max_memory"),
    ];
    let ready = checks.iter().all(|check| check.ok);
    (ready, serde_json::to_string(&State { ready, checks }).unwrap_or_default())
}
