//! What was found, as a table and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    scenario: String,
    what: String,
    value: Value,
    /// What was promised; empty for a figure that only informs.
    promised: String,
    verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Verdict {
    Figure,
    Kept,
    Broken,
    NotShown,
}

impl Verdict {
    const fn word(self) -> &'static str {
        match self {
            Self::Figure => "",
            Self::Kept => "kept",
            Self::Broken => "BROKEN",
            Self::NotShown => "NOT SHOWN",
        }
    }
}

impl Report {
    /// The part of it for one scenario.
    pub(crate) fn of(&mut self, scenario: impl Into<String>) -> Section<'_> {
        Section { report: self, scenario: scenario.into() }
    }

    /// Whether all that was promised was shown.
    pub(crate) fn is_good(&self) -> bool {
        self.rows.iter().all(|row| matches!(row.verdict, Verdict::Figure | Verdict::Kept))
    }

    pub(crate) fn markdown(&self) -> String {
        let mut table = String::from("| scenario | what | figure | promised | |\n|---|---|---|---|---|\n");
        for Row { scenario, what, value, promised, verdict } in &self.rows {
            writeln!(table, "| {scenario} | {what} | {} | {promised} | {} |", text(value), verdict.word()).unwrap();
        }
        table
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string_pretty(&self.rows).unwrap()
    }
}

pub(crate) struct Section<'a> {
    report: &'a mut Report,
    scenario: String,
}

impl Section<'_> {
    /// A figure.
    pub(crate) fn note(&mut self, what: impl Into<String>, value: impl Into<Value>) {
        self.add(what.into(), value.into(), String::new(), Verdict::Figure);
    }

    /// A figure that something is promised of.
    pub(crate) fn promise(
        &mut self,
        what: impl Into<String>,
        value: impl Into<Value>,
        promised: impl Into<String>,
        kept: bool,
    ) {
        let verdict = if kept { Verdict::Kept } else { Verdict::Broken };
        self.add(what.into(), value.into(), promised.into(), verdict);
    }

    /// One that has to be 0.
    pub(crate) fn none(&mut self, what: impl Into<String>, value: u64) {
        self.promise(what, value, "0", value == 0);
    }

    /// A time that has a limit; `None` took longer than anybody waited.
    pub(crate) fn within(&mut self, what: impl Into<String>, took: Option<Duration>, limit: Duration) {
        let seconds = took.map_or("not in time".into(), |took| Value::from(took.as_secs_f64()));
        self.promise(what, seconds, limit.as_secs_f64().to_string(), took.is_some_and(|took| took <= limit));
    }

    /// What this machine cannot show, and why.
    pub(crate) fn not_shown(&mut self, why: String) {
        self.add(why, Value::Null, String::new(), Verdict::NotShown);
    }

    fn add(&mut self, what: String, value: Value, promised: String, verdict: Verdict) {
        // Said at once, so that a long run can be watched.
        eprintln!("{}: {what}: {} {promised} {}", self.scenario, text(&value), verdict.word());
        self.report.rows.push(Row { scenario: self.scenario.clone(), what, value, promised, verdict });
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(number) if number.abs() < 10.0 => format!("{number:.2}"),
            Some(number) => format!("{number:.0}"),
            None => number.to_string(),
        },
        other => other.to_string(),
    }
}
