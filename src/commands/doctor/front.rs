//! Which program stands in front, as far as it says so.

use serde::Serialize;

use super::measured::Measured;

/// The programs for which cures are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Front {
    Nginx,
    HaProxy,
    Caddy,
    Traefik,
    Envoy,
    Alb,
    /// The gateway itself, where it is its own configuration that cures.
    Tidegate,
}

impl Front {
    /// As its makers write it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::HaProxy => "HAProxy",
            Self::Caddy => "Caddy",
            Self::Traefik => "Traefik",
            Self::Envoy => "Envoy",
            Self::Alb => "ALB",
            Self::Tidegate => "tidegate",
        }
    }

    /// The one that stands in front, guessed by what it writes into answers and requests. HAProxy writes nothing unless it is
    /// told to.
    pub(super) fn guess(measured: &Measured) -> Option<Self> {
        let signs = measured.signs.iter().map(|(_, value)| value.to_ascii_lowercase());
        let by_answer = signs.into_iter().find_map(|sign| {
            let words = [
                ("nginx", Self::Nginx),
                ("openresty", Self::Nginx),
                ("haproxy", Self::HaProxy),
                ("caddy", Self::Caddy),
                ("traefik", Self::Traefik),
                ("envoy", Self::Envoy),
                ("awselb", Self::Alb),
            ];
            words.into_iter().find(|(word, _)| sign.contains(word)).map(|(_, front)| front)
        });
        let seen = measured.seen();
        let has = |name: &str| seen.is_some_and(|seen| seen.has(name));
        by_answer.or_else(|| {
            if has("x-amzn-trace-id") {
                Some(Self::Alb)
            } else if has("x-envoy-expected-rq-timeout-ms") || has("x-envoy-internal") {
                Some(Self::Envoy)
            } else if has("x-forwarded-server") && has("x-real-ip") {
                Some(Self::Traefik)
            } else {
                None
            }
        })
    }
}
