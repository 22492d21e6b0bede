//! The figures, as a table and as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::measure::Figure;

/// All figures of a run, in the order in which they came.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    what: String,
    peer: &'static str,
    median: f64,
    least: f64,
    most: f64,
    /// In the JSON, not in the table: it depends on the backend and the clients as much as on the peer.
    aside: bool,
}

const PEERS: [&str; 3] = ["floor", "nginx", "tidegate"];

impl Report {
    /// Takes one figure and says it, so that a long run can be watched.
    pub(crate) fn add(&mut self, what: impl Into<String>, peer: &'static str, figure: Figure) {
        self.take(what.into(), peer, figure, false);
    }

    /// The same for what explains a figure.
    pub(crate) fn note(&mut self, what: impl Into<String>, peer: &'static str, figure: Figure) {
        self.take(what.into(), peer, figure, true);
    }

    fn take(&mut self, what: String, peer: &'static str, figure: Figure, aside: bool) {
        let Figure { median, least, most } = figure;
        eprintln!("{what}: {peer} {} ({} to {})", number(median), number(least), number(most));
        self.rows.push(Row { what, peer, median, least, most, aside });
    }

    /// One line for each thing measured, the peers side by side.
    pub(crate) fn markdown(&self) -> String {
        let mut table =
            String::from("| figure | floor | nginx | tidegate | tidegate / nginx |\n|---|---|---|---|---|\n");
        let mut said: Vec<&str> = Vec::new();
        for row in self.rows.iter().filter(|row| !row.aside) {
            if said.contains(&row.what.as_str()) {
                continue;
            }
            said.push(&row.what);
            let of = |peer| self.rows.iter().find(|other| other.what == row.what && other.peer == peer);
            write!(table, "| {} |", row.what).unwrap();
            for peer in PEERS {
                let cell = of(peer).map_or("-".to_owned(), |row| number(row.median));
                write!(table, " {cell} |").unwrap();
            }
            let ratio = of("tidegate").zip(of("nginx")).map(|(ours, theirs)| ours.median / theirs.median);
            writeln!(table, " {} |", ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"))).unwrap();
        }
        table
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string_pretty(&self.rows).unwrap()
    }
}

/// Three digits that mean something.
fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0..100.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
