//! TOML's own rules: from text to a table, with every breach of them.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::DeTable;

use super::problem::{Problem, quote};

/// How many lines without a value are stepped over before the rest of the file is left unread.
const STEPS: usize = 50;

/// Parses `text` and passes the table, as far as it could be made out, and the problems on to `read`.
pub(super) fn parse<T>(text: &str, read: impl FnOnce(&Spanned<DeTable<'_>>, Vec<Problem>) -> T) -> T {
    let mut text = Cow::Borrowed(text);
    let mut stepped_over = Vec::new();
    for _ in 0..STEPS {
        // The parser gives up at a line that has no `=`. What follows is wanted too, so the line is blanked out, which
        // moves nothing, and the rest is read again.
        let Some((line, error)) = first_dead_end(&text) else { break };
        let blank: String = text.get(line.clone()).unwrap_or_default().bytes().map(|_| ' ').collect();
        text.to_mut().replace_range(line, &blank);
        stepped_over.push(error);
    }
    let (table, errors) = DeTable::parse_recoverable(&text);
    let problems = stepped_over.into_iter().chain(errors.iter().map(|error| explain(&text, error))).collect();
    read(&table, problems)
}

/// The first line at which the parser gives up, and what it says of it.
fn first_dead_end(text: &str) -> Option<(Range<usize>, Problem)> {
    let (_, errors) = DeTable::parse_recoverable(text);
    let error = errors.iter().find(|error| error.message().starts_with("key with no value"))?;
    let at = error.span()?.start;
    let start = text.get(..at)?.rfind('\n').map_or(0, |newline| newline + 1);
    let end = text.get(at..)?.find('\n').map_or(text.len(), |newline| at + newline);
    let line = text.get(start..end)?;
    let words = line.trim_ascii();
    if words.is_empty() {
        return None; // cannot be, and would be found again and again
    }
    let words_start = start + line.len() - line.trim_ascii_start().len();
    let problem = Problem { span: Some(words_start..words_start + words.len()), ..explain(text, error) };
    Some((start..end, problem))
}

/// Puts the parser's words into ours.
fn explain(text: &str, error: &toml::de::Error) -> Problem {
    let (message, expected) = match error.message().split_once(", expected ") {
        Some((message, expected)) => (message, Some(expected)),
        None => (error.message(), None),
    };
    let there = error.span().and_then(|span| text.get(span)).unwrap_or_default();
    let quotes = "text is written between quotes, as in key = \"text\"";
    let (message, help) = match (message, expected) {
        ("duplicate key", _) => {
            (format!("{} is defined twice", quote(there)), "every key and table is given once; take one out".to_owned())
        }
        ("string values must be quoted", _) | (_, Some("nothing")) => (message.to_owned(), quotes.to_owned()),
        (_, Some(expected)) => (message.to_owned(), format!("expected {expected}")),
        (_, None) => (message.to_owned(), "the rules of the format are at https://toml.io".to_owned()),
    };
    Problem::new(error.span(), message, help)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn messages(text: &str) -> Vec<(Option<usize>, String)> {
        parse(text, |_, problems| {
            problems.into_iter().map(|problem| (problem.span.map(|span| span.start), problem.message)).collect()
        })
    }

    #[test]
    fn a_valid_file_has_no_problems() {
        assert_eq!(messages("a = 1\n[b]\nc = \"d\"\n"), []);
    }

    #[test]
    fn what_follows_a_line_without_value_is_still_read() {
        let text = "first\na = 1\nsecond line\n[b]\nthird: 4\nc = 2\n";
        let keys: Vec<_> = parse(text, |table, _| table.get_ref().keys().map(ToString::to_string).collect());
        assert_eq!(keys, ["a", "b"]);
        let places: Vec<_> = messages(text).into_iter().map(|(place, _)| place).collect();
        assert_eq!(places, [Some(0), Some(12), Some(28)]);
    }

    #[test]
    fn a_key_that_is_given_twice_is_named() {
        assert_eq!(messages("a = 1\na = 2\n"), [(Some(6), "`a` is defined twice".to_owned())]);
        assert_eq!(messages("[t]\n[t]\n"), [(Some(5), "`t` is defined twice".to_owned())]);
    }

    #[test]
    fn text_without_quotes_is_told_how_to_be_written() {
        let help = parse("a = auto\nb = 127.0.0.1:80", |_, problems| {
            problems.into_iter().filter_map(|problem| problem.help).collect::<Vec<_>>()
        });
        assert_eq!(help.len(), 2);
        assert!(help.iter().all(|help| help.contains("between quotes")), "{help:?}");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "([a-c]|[\\[\\]{}=.,#\"'\n 1-]){0,60}") {
            let _ = messages(&text);
        }
    }
}
