//! `[route.sunset]`: how far the end of WebSocket on a route has come.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::Uri;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toml::de::DeValue;

use super::field::{Field, Located};
use super::problem::quote;
use super::reader::TableReader;
use crate::ledger::phase::{Brownout, Phase, Sunset, Window, unix};

/// Less is over before anybody has looked; more is no brownout.
const DURATION: RangeInclusive<Duration> = Duration::from_mins(1)..=Duration::from_hours(7 * 24);
const EVERY: RangeInclusive<Duration> = Duration::from_mins(2)..=Duration::from_hours(366 * 24);

/// Windows of one route: each is looked at for every handshake.
const WINDOWS: usize = 64;

const DATE: &str = "write a date and time with its offset, as in \"2027-03-01T00:00:00Z\"";
const WINDOW: &str =
    "write windows = [{ start = \"2026-12-10T12:00:00Z\", duration = \"1h\" }], with every = \"24h\" to repeat it";

/// Reads the section, which stands at `place`.
pub(super) fn read(mut table: TableReader<'_>, place: Range<usize>) -> Sunset {
    let choices = Phase::ALL.map(|phase| (phase.label(), phase));
    let phase = table.one_of("phase", Phase::Observe, &choices);
    let sunset = date(&mut table, "sunset");
    let deprecated = date(&mut table, "deprecated");
    let link = table.field("link").and_then(|field| link(&field));
    let field = table.field("brownout");
    let brownout = field
        .and_then(|field| table.table_of(&field, "route.sunset.brownout", "[route.sunset.brownout]".to_owned()))
        .map(brownout);
    let report = table.report();
    let span = |key: &str| table.span(key).unwrap_or(place.clone());
    if let (Some(sunset), Some(deprecated)) = (&sunset, &deprecated)
        && sunset.value < deprecated.value
    {
        let message = "`sunset` is before `deprecated`, which clients must not be told (RFC 9745 section 4)";
        report.wrong(Some(sunset.span.clone()), message, "let WebSocket be deprecated first, and end later");
    }
    let said = |key: &str| table.span(key).is_some();
    match phase {
        Phase::Warn if !said("sunset") && !said("deprecated") => {
            let help = "write sunset = \"2027-03-01T00:00:00Z\", deprecated = \"2026-12-01T00:00:00Z\", or both";
            report.wrong(Some(span("phase")), "phase \"warn\" has nothing to warn of", help);
        }
        Phase::Brownout if !said("brownout") => {
            let help = "write brownout = { percent = 20, windows = [{ start = \"2026-12-10T12:00:00Z\", duration = \"1h\" }] }";
            report.wrong(Some(span("phase")), "phase \"brownout\" does not say whom it refuses and when", help);
        }
        Phase::Off if !said("link") => {
            let help = "write link = \"https://docs.example.com/migrate\", where people read what to do";
            report.wrong(Some(span("phase")), "phase \"off\" leaves people without a place to go to", help);
        }
        _ => {}
    }
    table.finish();
    Sunset { phase, sunset: sunset.map(|at| at.value), deprecated: deprecated.map(|at| at.value), link, brownout }
}

fn brownout(mut table: TableReader<'_>) -> Brownout {
    let percent = table.required("percent", "write percent = 20 for a fifth of the clients");
    let percent = percent.and_then(|field| field.integer(0..=100)).and_then(|percent| u8::try_from(percent).ok());
    let mut windows = Vec::new();
    if let Some(field) = table.required("windows", WINDOW) {
        match field.items() {
            None => field.wrong_type("a list of tables", WINDOW),
            Some(items) if items.is_empty() => field.wrong("`windows` is empty, so nobody is ever refused", WINDOW),
            Some(items) if items.len() > WINDOWS => {
                field.wrong(format!("there are more than {WINDOWS} windows"), "let one repeat itself with `every`");
            }
            Some(items) => {
                let title = || "[[route.sunset.brownout.windows]]".to_owned();
                let tables =
                    items.iter().filter_map(|item| table.table_of(item, "route.sunset.brownout.windows", title()));
                windows.extend(tables.filter_map(window));
            }
        }
    }
    table.finish();
    Brownout { percent: percent.unwrap_or(0), windows }
}

fn window(mut table: TableReader<'_>) -> Option<Window> {
    let start = table.required("start", DATE).and_then(|field| instant(&field));
    let duration = table.required("duration", "write duration = \"1h\"").and_then(|field| field.duration(DURATION));
    let every = table.field("every").and_then(|field| field.duration(EVERY));
    if let (Some(duration), Some(every)) = (duration, every)
        && every <= duration
    {
        let help = "let it begin again after it is over, as in duration = \"1h\", every = \"24h\"";
        table.report().wrong(
            table.span("every"),
            "`every` is not longer than `duration`: the window would never end",
            help,
        );
    }
    table.finish();
    Some(Window { start: start?.value, duration: duration?, every })
}

fn date(table: &mut TableReader<'_>, key: &'static str) -> Option<Located<SystemTime>> {
    instant(&table.field(key)?)
}

/// A time as RFC 3339 has it, as a text or as the value of TOML that looks the same.
fn instant(field: &Field<'_>) -> Option<Located<SystemTime>> {
    let text = match field.value {
        DeValue::String(text) => text.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        _ => {
            field.wrong_type("a date and time", DATE);
            return None;
        }
    };
    let time = OffsetDateTime::parse(&text, &Rfc3339).ok().map(SystemTime::from);
    // RFC 9745 counts from 1970.
    let Some(value) = time.filter(|time| unix(*time) > 0) else {
        field.wrong(format!("{} is not a date and time with its offset from UTC", quote(&text)), DATE);
        return None;
    };
    Some(Located { value, span: field.span.clone() })
}

/// A URL that can stand in a `Link` (RFC 8288 section 3).
fn link(field: &Field<'_>) -> Option<Arc<str>> {
    let text = field.text()?;
    let uri = text.value.parse::<Uri>().ok();
    let is_web = uri.is_some_and(|uri| matches!(uri.scheme_str(), Some("https" | "http")) && uri.host().is_some());
    let is_plain = text.value.len() <= 1024
        && text.value.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"\\^`{|}".contains(&byte));
    if !(is_web && is_plain) {
        field.wrong(
            format!("{} is not the URL of a page", quote(text.value)),
            "write link = \"https://docs.example.com/migrate\"",
        );
        return None;
    }
    Some(text.value.into())
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{file, only, parse, problems};

    /// The problems of a route with these lines in its sunset.
    fn sunset(lines: &str) -> String {
        problems(&file("", "", "", "", &format!("[route.sunset]\n{lines}"))).join("\n")
    }

    const WINDOW: &str = "{ start = \"2026-12-10T12:00:00Z\", duration = \"1h\" }";

    #[test]
    fn an_end_is_read_whole() {
        let lines = format!(
            "phase = \"brownout\"\nsunset = 2027-03-01T00:00:00Z\ndeprecated = \"2026-12-01T01:00:00+01:00\"\n\
             link = \"https://docs.example.com/migrate?a=1\"\nbrownout = {{ percent = 20, windows = [{WINDOW}] }}"
        );
        let config = parse(&file("", "", "", "", &format!("[route.sunset]\n{lines}"))).unwrap();
        let sunset = config.routes[0].sunset.as_deref().unwrap();
        let seconds = [sunset.sunset, sunset.deprecated].map(|at| super::unix(at.unwrap()));
        assert_eq!(seconds, [1_803_859_200, 1_796_083_200]);
        assert_eq!(sunset.brownout.as_ref().unwrap().windows.len(), 1);
        assert_eq!(sunset.phase.label(), "brownout");
    }

    #[test]
    fn what_makes_no_sense_together_is_told() {
        assert_eq!(sunset("phase = \"observe\""), "");
        assert!(sunset("phase = \"warn\"").contains("nothing to warn of"));
        assert!(sunset("phase = \"warn\"\nlink = \"https://a.example\"").contains("nothing to warn of"));
        assert!(sunset("phase = \"brownout\"").contains("whom it refuses and when"));
        assert!(sunset("phase = \"off\"").contains("without a place to go to"));
        let dates = "deprecated = \"2026-12-02T00:00:00Z\"\nsunset = \"2026-12-01T00:00:00Z\"";
        assert!(sunset(dates).contains("`sunset` is before `deprecated`"));
        assert_eq!(sunset(&dates.replace("02T", "01T")), "");
        let brownout = |rest: &str| sunset(&format!("phase = \"brownout\"\nbrownout = {{ {rest} }}"));
        assert!(brownout("percent = 20").contains("`windows` is missing"));
        assert!(brownout(&format!("windows = [{WINDOW}]")).contains("`percent` is missing"));
        assert!(brownout("percent = 20, windows = []").contains("nobody is ever refused"));
        assert!(brownout(&format!("percent = 101, windows = [{WINDOW}]")).contains("`percent` is out of range"));
        let every = WINDOW.replace(" }", ", every = \"1h\" }");
        assert!(brownout(&format!("percent = 1, windows = [{every}]")).contains("would never end"));
        assert!(
            brownout("percent = 1, windows = [{ start = \"2026-12-10T12:00:00Z\" }]").contains("`duration` is missing")
        );
    }

    #[test]
    fn dates_need_their_offset_and_links_are_pages() {
        for date in ["2026-12-10", "2026-12-10T12:00:00", "2026-02-30T12:00:00Z", "1969-01-01T00:00:00Z", "soon"] {
            assert!(sunset(&format!("sunset = \"{date}\"")).contains("is not a date and time"), "{date}");
        }
        assert!(sunset("sunset = 2026-12-10").contains("is not a date and time"));
        assert!(sunset("sunset = 5").contains("must be a date and time"));
        for link in ["docs.example.com", "/migrate", "ftp://docs.example.com", "https://docs.example.com/<x>"] {
            assert!(sunset(&format!("link = \"{link}\"")).contains("is not the URL of a page"), "{link}");
        }
    }

    #[test]
    fn an_end_without_websocket_is_refused() {
        let bridge = crate::config::tests::BRIDGE;
        let text = file("", "", "", "", "[route.sunset]").replace(bridge, "proxy = { upstream = \"app\" }\n");
        assert!(only(&text).contains("no WebSocket that could come to an end"));
    }

    #[test]
    fn the_ledger_says_where_it_is_and_names_no_secret() {
        let ledger = |lines: &str| problems(&file(&format!("[ledger]\n{lines}"), "", "", "", "")).join("\n");
        assert_eq!(ledger("path = \"ledger\"\nflush = \"1m\"\nclient_header = \"X-App-Version\""), "");
        assert!(ledger("path = \"\"").contains("`path` is empty"));
        assert!(ledger("flush = \"1m\"").contains("has no effect without `path`"));
        assert!(ledger("client_header = \"Authorization\"").contains("never written down"));
        assert!(ledger("client_header = \"user-agent\"").contains("counts without this key"));
        assert!(ledger("client_header = \"a b\"").contains("is not the name of a header"));
        let config = parse(&file("[ledger]\npath = \"x/ledger\"", "", "", "", "")).unwrap();
        assert_eq!(config.ledger.path.as_deref(), Some(std::path::Path::new("/nowhere/x/ledger")));
    }
}
