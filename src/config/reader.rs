//! A walk over one table of the file that notices what it is not asked for.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::field::{Field, Located, kind};
use super::problem::quote;
use super::report::{Report, nearest};

/// One table. Keys are asked for one by one; [`finish`](Self::finish) reports those that nobody asked for.
///
/// A value that is wrong is reported and its default is given, so that reading goes on. Settings made of such values
/// are never used, because a file with a problem gives no configuration.
#[derive(Debug)]
pub(super) struct TableReader<'a> {
    report: &'a Report,
    /// As in `section.key`; empty for the file itself.
    section: &'static str,
    /// As it is called in reports, such as `[upstream.app]`.
    title: String,
    /// The header or the value; `None` for the file itself.
    place: Option<Range<usize>>,
    table: &'a DeTable<'a>,
    asked: Vec<&'static str>,
}

impl<'a> TableReader<'a> {
    /// The table that a file is.
    pub(super) fn file(report: &'a Report, table: &'a DeTable<'a>) -> Self {
        Self { report, section: "", title: "the file".to_owned(), place: None, table, asked: Vec::new() }
    }

    /// Asks for a key; `None` if it is not there.
    pub(super) fn field(&mut self, key: &'static str) -> Option<Field<'a>> {
        self.report.knows(self.section, key);
        self.asked.push(key);
        let (table, report) = (self.table, self.report);
        table.get(key).map(|value| Field { key, value: value.get_ref(), span: value.span(), report })
    }

    /// Asks for a key that must be there; `help` says what to write.
    pub(super) fn required(&mut self, key: &'static str, help: &str) -> Option<Field<'a>> {
        let field = self.field(key);
        if field.is_none() {
            self.lacks(&format!("`{key}`"), help);
        }
        field
    }

    /// Reports that `what` must be there and is not; `help` says what to write.
    pub(super) fn lacks(&self, what: &str, help: &str) {
        self.report.absent(self.place.clone(), format!("{what} is missing in {}", self.title), help);
    }

    pub(super) fn flag(&mut self, key: &'static str, default: bool) -> bool {
        self.field(key).and_then(|field| field.flag()).unwrap_or(default)
    }

    pub(super) fn integer(&mut self, key: &'static str, default: usize, range: RangeInclusive<u64>) -> usize {
        let number = self.field(key).and_then(|field| field.integer(range));
        number.and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
    }

    pub(super) fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        self.field(key).and_then(|field| field.duration(range)).unwrap_or(default)
    }

    pub(super) fn size(&mut self, key: &'static str, default: usize, range: RangeInclusive<usize>) -> usize {
        self.field(key).and_then(|field| field.size(range)).unwrap_or(default)
    }

    /// One of a few words.
    pub(super) fn one_of<T: Copy>(&mut self, key: &'static str, default: T, choices: &[(&'static str, T)]) -> T {
        self.field(key).and_then(|field| field.choice(choices)).unwrap_or(default)
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<Located<&'a str>> {
        self.field(key)?.text()
    }

    /// A list of texts; `None` if it is not there or is none.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<Located<&'a str>>> {
        self.field(key)?.texts()
    }

    /// The table `[key]`, empty if it is not there.
    pub(super) fn section(&mut self, key: &'static str) -> Option<TableReader<'a>> {
        match self.field(key) {
            Some(field) => self.table_of(&field, key, format!("[{key}]")),
            None => None,
        }
    }

    /// The table that a field is, as a section of its own; reported if it is something else.
    pub(super) fn table_of(&self, field: &Field<'a>, section: &'static str, title: String) -> Option<TableReader<'a>> {
        let DeValue::Table(table) = field.value else {
            field.wrong_type("a table", format!("write {title} in a line of its own, and its keys below"));
            return None;
        };
        Some(Self { report: self.report, section, title, place: Some(field.span.clone()), table, asked: Vec::new() })
    }

    /// The tables `[[key]]`, of which there must be at least one.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<TableReader<'a>> {
        let title = format!("[[{key}]]");
        let Some(field) = self.field(key) else {
            let help = format!("write {title} in a line of its own, and its keys below");
            self.report.absent(self.place.clone(), format!("there is no {title}"), help);
            return Vec::new();
        };
        let Some(items) = field.items() else {
            field.wrong_type("a list of tables", format!("write {title}, with two brackets on each side"));
            return Vec::new();
        };
        if items.is_empty() {
            field.wrong(
                format!("there is no {title}"),
                format!("write {title} in a line of its own, and its keys below"),
            );
        }
        items.iter().filter_map(|item| self.table_of(item, key, title.clone())).collect()
    }

    /// The tables `[key.NAME]` in the order of the file, with their names.
    pub(super) fn named_sections(&mut self, key: &'static str) -> Vec<(Located<&'a str>, TableReader<'a>)> {
        let form = format!("write [{key}.NAME] in a line of its own, and its keys below");
        let Some(field) = self.field(key) else { return Vec::new() };
        let DeValue::Table(tables) = field.value else {
            field.wrong_type("a table of tables", form);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (name, value) in tables {
            let name = Located { value: name.get_ref().as_ref(), span: name.span() };
            let DeValue::Table(table) = value.get_ref() else {
                let message =
                    format!("{} in [{key}] must be a table, not {}", quote(name.value), kind(value.get_ref()));
                self.report.wrong(Some(name.span), message, form.as_str());
                continue;
            };
            let (title, place) = (format!("[{key}.{}]", name.value), Some(value.span()));
            sections.push((name, Self { report: self.report, section: key, title, place, table, asked: Vec::new() }));
        }
        sections.sort_by_key(|(name, _)| name.span.start);
        sections
    }

    /// Where the value of a key stands, if it is there.
    pub(super) fn span(&self, key: &str) -> Option<Range<usize>> {
        self.table.get(key).map(Spanned::span)
    }

    /// Where problems go that only a view of several values shows.
    pub(super) fn report(&self) -> &'a Report {
        self.report
    }

    /// Reports every key that was not asked for.
    pub(super) fn finish(self) {
        for key in self.table.keys().filter(|key| !self.asked.contains(&key.get_ref().as_ref())) {
            let message = format!("{} is not known in {}", quote(key.get_ref()), self.title);
            let help = match nearest(key.get_ref(), self.asked.iter().copied()) {
                Some(known) => format!("did you mean `{known}`?"),
                None => format!("known here: {}", self.asked.join(", ")),
            };
            // Below a broken header the keys of a table fall to the file itself, and that says nothing of them.
            match self.place {
                Some(_) => self.report.wrong(Some(key.span()), message, help),
                None => self.report.absent(Some(key.span()), message, help),
            }
        }
    }
}
