//! `[route.proxy.stream]`: what holds for event streams through a proxy.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::TableReader;
use crate::proxy::stream::{OnFailure, Settings};

const DAY: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_hours(24);
/// What clients may be told to wait: longer than that, and people reload the page.
const WAIT: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(10);

/// Reads it off the table of the proxy.
pub(super) fn read(proxy: &mut TableReader<'_>) -> Settings {
    let defaults = Settings::default();
    let Some(mut table) = proxy
        .field("stream")
        .and_then(|field| proxy.table_of(&field, "route.proxy.stream", "[route.proxy.stream]".to_owned()))
    else {
        return defaults;
    };
    let choices = [("retry", OnFailure::Retry), ("pass", OnFailure::Pass)];
    let settings = Settings {
        heartbeat: unless_zero(&mut table, "heartbeat", defaults.heartbeat),
        stall_timeout: unless_zero(&mut table, "stall_timeout", defaults.stall_timeout),
        idle_timeout: unless_zero(&mut table, "idle_timeout", defaults.idle_timeout),
        reconnect_min: table.duration("reconnect_min", defaults.reconnect_min, WAIT),
        reconnect_max: table.duration("reconnect_max", defaults.reconnect_max, WAIT),
        on_failure: table.one_of("on_failure", defaults.on_failure, &choices),
    };
    if settings.reconnect_max < settings.reconnect_min {
        let span = table.span("reconnect_max").or_else(|| table.span("reconnect_min"));
        table.report().wrong(span, "`reconnect_max` is shorter than `reconnect_min`", "raise `reconnect_max`");
    }
    table.finish();
    settings
}

/// A duration that "0s" turns off.
fn unless_zero(table: &mut TableReader<'_>, key: &'static str, default: Option<Duration>) -> Option<Duration> {
    let Some(field) = table.field(key) else { return default };
    let range = Duration::ZERO..=*DAY.end();
    let read = field.duration(range)?;
    if !read.is_zero() && read < *DAY.start() {
        field.wrong(format!("`{key}` is too short"), "write at least \"10ms\", or \"0s\" for never");
    }
    (!read.is_zero()).then_some(read)
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use crate::config::Config;
    use crate::proxy::stream::{OnFailure, Settings};

    fn parse(proxy: &str) -> Result<Settings, String> {
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n[upstream.app]\nendpoints = [\"http://127.0.0.1:1\"]\n\
             [[route]]\npath = \"/\"\nauth = \"none\"\n[route.proxy]\nupstream = \"app\"\n{proxy}"
        );
        let config = Config::parse(&text, "tidegate.toml", Path::new("")).map_err(|problems| problems.to_string())?;
        Ok(config.routes[0].proxy.as_ref().expect("a proxy").stream)
    }

    #[test]
    fn what_is_left_out_is_the_default_and_zero_is_never() {
        assert_eq!(parse(""), Ok(Settings::default()));
        let off =
            parse("[route.proxy.stream]\nheartbeat = \"0s\"\nstall_timeout = \"0s\"\non_failure = \"pass\"").unwrap();
        assert_eq!((off.heartbeat, off.stall_timeout, off.on_failure), (None, None, OnFailure::Pass));
        let short = parse("stream = { heartbeat = \"10ms\", idle_timeout = \"1h\" }").unwrap();
        assert_eq!(
            (short.heartbeat, short.idle_timeout),
            (Some(Duration::from_millis(10)), Some(Duration::from_hours(1)))
        );
    }

    #[test]
    fn times_that_make_no_sense_are_told() {
        let told = |keys: &str| parse(&format!("[route.proxy.stream]\n{keys}")).unwrap_err();
        assert!(told("heartbeat = \"1ms\"").contains("`heartbeat` is too short"));
        assert!(told("reconnect_max = \"500ms\"").contains("`reconnect_max` is shorter than `reconnect_min`"));
        assert!(told("reconnect_max = \"1h\"").contains("from \"0s\" to \"10m\""));
        assert!(told("on_failure = \"ignore\"").contains("\"retry\" or \"pass\""));
    }
}
