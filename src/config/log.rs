//! `[log]`: what is logged, and in which form.

use tracing_subscriber::EnvFilter;

use super::field::Located;
use super::reader::TableReader;
use super::report::{Report, nearest};
use crate::telemetry::{Format, Settings};

const LEVELS: [&str; 6] = ["trace", "debug", "info", "warn", "error", "off"];

pub(super) fn read(mut table: TableReader<'_>) -> Settings {
    let defaults = Settings::default();
    let forms = [("auto", Format::Auto), ("human", Format::Human), ("json", Format::Json)];
    let format = table.one_of("format", defaults.format, &forms);
    let filter = table.text("filter").map(|filter| {
        check_filter(&filter, table.report());
        filter.value.to_owned()
    });
    table.finish();
    Settings { format, filter: filter.unwrap_or(defaults.filter) }
}

fn check_filter(filter: &Located<&str>, report: &Report) {
    let help = "write a level, or levels by target: \"info\", \"info,tidegate::bridge=debug\"";
    if let Err(error) = EnvFilter::builder().parse(filter.value) {
        report.wrong(Some(filter.span.clone()), format!("`filter` cannot be read: {error}"), help);
        return;
    }
    // A word that is no level is taken for a target and turns on everything there; for a mistyped level that means a
    // silent log, which would be found out much later.
    for word in filter.value.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word));
        if let (false, Some(level)) = (is_level, nearest(word, LEVELS)) {
            let message = format!("`{word}` in `filter` is no level");
            report.wrong(Some(filter.span.clone()), message, format!("did you mean \"{level}\"?"));
        }
    }
}
