//! One value of the file together with its key and place, and the types it can be read as.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeInteger, DeValue};

use super::problem::quote;
use super::report::{Report, either, nearest};
use super::units::{self, UnitError};

/// A value that knows where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Located<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// The value of a key. Every reading method reports what is wrong and then gives `None`.
#[derive(Clone, Debug)]
pub(super) struct Field<'a> {
    pub(super) key: &'static str,
    pub(super) value: &'a DeValue<'a>,
    pub(super) span: Range<usize>,
    pub(super) report: &'a Report,
}

impl<'a> Field<'a> {
    /// Reports that the value is wrong.
    pub(super) fn wrong(&self, message: impl Into<String>, help: impl Into<String>) {
        self.report.wrong(Some(self.span.clone()), message, help);
    }

    /// Reports that the value has the wrong type; `wanted` and what is there complete "must be .., not ..".
    pub(super) fn wrong_type(&self, wanted: &str, help: impl Into<String>) {
        self.wrong(format!("`{}` must be {wanted}, not {}", self.key, kind(self.value)), help);
    }

    pub(super) fn text(&self) -> Option<Located<&'a str>> {
        let DeValue::String(text) = self.value else {
            self.wrong_type("a text", format!("write {} = \"...\", between quotes", self.key));
            return None;
        };
        Some(Located { value: text.as_ref(), span: self.span.clone() })
    }

    pub(super) fn flag(&self) -> Option<bool> {
        let DeValue::Boolean(flag) = self.value else {
            self.wrong_type("true or false", "write true or false, without quotes");
            return None;
        };
        Some(*flag)
    }

    pub(super) fn integer(&self, range: RangeInclusive<u64>) -> Option<u64> {
        let help = format!("write a whole number from {} to {}", range.start(), range.end());
        let DeValue::Integer(integer) = self.value else {
            self.wrong_type("a whole number", help);
            return None;
        };
        let number = u64_of(integer).filter(|number| range.contains(number));
        if number.is_none() {
            self.wrong(format!("`{}` is out of range", self.key), help);
        }
        number
    }

    pub(super) fn duration(&self, range: RangeInclusive<Duration>) -> Option<Duration> {
        let examples = "write a number with its unit: \"250ms\", \"30s\", \"5m\", \"1h\" or \"1h30m\"";
        let duration = self.measure("a duration", "s", examples, units::parse_duration)?;
        if range.contains(&duration) {
            return Some(duration);
        }
        let (least, most) = (units::show_duration(*range.start()), units::show_duration(*range.end()));
        self.wrong(
            format!("`{}` is out of range", self.key),
            format!("write a duration from \"{least}\" to \"{most}\""),
        );
        None
    }

    pub(super) fn size(&self, range: RangeInclusive<usize>) -> Option<usize> {
        let examples = "write a number with its unit: \"512B\", \"64KiB\" or \"1MiB\" (or the decimal kB, MB, GB)";
        let size = self.measure("a size", "B", examples, units::parse_size)?;
        if range.contains(&size) {
            return Some(size);
        }
        let (least, most) = (units::show_size(*range.start()), units::show_size(*range.end()));
        self.wrong(format!("`{}` is out of range", self.key), format!("write a size from \"{least}\" to \"{most}\""));
        None
    }

    /// Reads a number with a unit. To one without, `unit` is proposed.
    fn measure<T>(
        &self,
        wanted: &str,
        unit: &str,
        examples: &str,
        parse: impl Fn(&str) -> Result<T, UnitError>,
    ) -> Option<T> {
        let text = match self.value {
            DeValue::String(text) => text.as_ref(),
            DeValue::Integer(number) => {
                self.wrong_type(&format!("{wanted} with its unit"), format!("write \"{number}{unit}\""));
                return None;
            }
            _ => {
                self.wrong_type(wanted, examples);
                return None;
            }
        };
        parse(text)
            .map_err(|error| {
                let help = match error {
                    UnitError::NoUnit => format!("write \"{text}{unit}\""),
                    _ => examples.to_owned(),
                };
                self.wrong(format!("{} is not {wanted}: {error}", quote(text)), help);
            })
            .ok()
    }

    /// One of a few words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&'static str, T)]) -> Option<T> {
        let text = self.text()?.value;
        let chosen = choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        if chosen.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let help = match nearest(text, choices.iter().map(|(word, _)| *word)) {
                Some(word) => format!("did you mean \"{word}\"? Allowed is {}", either(&words)),
                None => format!("write {}", either(&words)),
            };
            self.wrong(format!("`{}` cannot be {}", self.key, quote(text)), help);
        }
        chosen
    }

    /// A list of texts, none of them twice.
    pub(super) fn texts(&self) -> Option<Vec<Located<&'a str>>> {
        let help = || format!("write {} = [\"...\", \"...\"]", self.key);
        let DeValue::Array(items) = self.value else {
            self.wrong_type("a list of texts", help());
            return None;
        };
        let mut texts: Vec<Located<&'a str>> = Vec::new();
        let mut complete = true;
        for item in items {
            let span = item.span();
            let text = match item.get_ref() {
                DeValue::String(text) => text.as_ref(),
                other => {
                    let message = format!("`{}` must be a list of texts, and this is {}", self.key, kind(other));
                    self.report.wrong(Some(span), message, help());
                    complete = false;
                    continue;
                }
            };
            if texts.iter().any(|earlier| earlier.value == text) {
                let message = format!("{} stands in `{}` twice", quote(text), self.key);
                self.report.wrong(Some(span), message, "take one of the two out");
                complete = false;
                continue;
            }
            texts.push(Located { value: text, span });
        }
        complete.then_some(texts)
    }

    /// The values of a list, as fields of the same key.
    pub(super) fn items(&self) -> Option<Vec<Field<'a>>> {
        let field = |item: &'a Spanned<DeValue<'a>>| Field { value: item.get_ref(), span: item.span(), ..self.clone() };
        self.value.as_array().map(|items| items.iter().map(field).collect())
    }
}

/// What a value is, in the words of the reports.
pub(super) fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(true) => "true",
        DeValue::Boolean(false) => "false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn u64_of(integer: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(integer.as_str(), integer.radix()).ok()
}
