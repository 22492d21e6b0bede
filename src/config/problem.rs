//! What is wrong with a file, told so that it can be put right: place, text, way out.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// Longest piece of a line that is underlined, in characters; more would flood the report and show no more.
const UNDERLINED: usize = 60;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it is, in bytes of the file; `None` if it concerns the file as a whole.
    pub span: Option<Range<usize>>,
    /// What it is.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
}

impl Problem {
    pub(super) fn new(span: Option<Range<usize>>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: Some(help.into()) }
    }
}

/// Everything that is wrong with one file, in the order of the file; what concerns all of it comes last.
///
/// `Display` gives the whole report without colour, ending in a line break.
#[derive(Clone, Debug)]
pub struct Problems {
    name: String,
    text: String,
    list: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(name: &str, text: &str, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|problem| problem.span.as_ref().map_or((usize::MAX, 0), |span| (span.start, span.end)));
        list.dedup();
        Self { name: name.to_owned(), text: text.to_owned(), list }
    }

    /// How many there are; at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a collection of no problems is never handed out")]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The problems in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// Line and column, both from 1 and the column in characters, at which a problem begins.
    #[must_use]
    pub fn position(&self, problem: &Problem) -> Option<(usize, usize)> {
        let (line, number, within) = self.line(problem.span.as_ref()?);
        Some((number, line.get(..within.start).unwrap_or_default().chars().count() + 1))
    }

    /// The report: per problem what it is, `file:line:column`, the line with the piece in question underlined, and the
    /// way out. With `colour` it holds the escape codes of a terminal.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let reports = self.list.iter().map(|problem| renderer.render(&[self.group(problem)]) + "\n");
        reports.collect::<Vec<_>>().join("\n")
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let group = Group::with_title(Level::ERROR.primary_title(problem.message.as_str()));
        let group = match &problem.span {
            // Only the line in question is handed over, so that a report costs the same wherever it points.
            Some(span) => {
                let (line, number, within) = self.line(span);
                let snippet = Snippet::source(line).line_start(number).path(self.name.as_str());
                group.element(snippet.annotation(AnnotationKind::Primary.span(within)))
            }
            None => group.element(Origin::path(self.name.as_str())),
        };
        group.elements(problem.help.as_deref().map(|help| Level::HELP.message(help)))
    }

    /// The line in which `span` begins, its number from 1, and the part of the span that lies in it, cut to a length
    /// that can be read.
    fn line(&self, span: &Range<usize>) -> (&str, usize, Range<usize>) {
        let start = floor_char_boundary(&self.text, span.start);
        let (before, after) = self.text.split_at_checked(start).unwrap_or((&self.text, ""));
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line_end = after.find('\n').map_or(self.text.len(), |newline| start + newline);
        let line = self.text.get(line_start..line_end).unwrap_or_default();
        let line = line.strip_suffix('\r').unwrap_or(line);

        let from = (start - line_start).min(line.len());
        let marked = line.get(from..).unwrap_or_default();
        let marked = marked.get(..floor_char_boundary(marked, span.end.saturating_sub(start))).unwrap_or_default();
        let length = marked.char_indices().nth(UNDERLINED).map_or(marked.len(), |(length, _)| length);
        let number = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        (line, number, from..from + length)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Problems {}

/// The number of the line, from 1, in which a byte stands.
pub(super) fn line_number(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1
}

/// A piece of the file as it is put into a message: in backticks, and short.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(UNDERLINED) {
        Some((end, _)) => format!("`{}...`", text.get(..end).unwrap_or_default()),
        None => format!("`{text}`"),
    }
}

fn floor_char_boundary(text: &str, mut offset: usize) -> usize {
    offset = offset.min(text.len());
    while !text.is_char_boundary(offset) {
        offset -= 1;
    }
    offset
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn problems(text: &str, spans: &[Option<Range<usize>>]) -> Problems {
        let list = spans.iter().map(|span| Problem::new(span.clone(), "this is wrong", "write it right")).collect();
        Problems::new("tidegate.toml", text, list)
    }

    #[test]
    fn a_report_shows_place_text_and_way_out() {
        let report = problems("[server]\nthreads = \"x\"\n", &[Some(19..22)]).to_string();
        let expected = "\
error: this is wrong
 --> tidegate.toml:2:11
  |
2 | threads = \"x\"
  |           ^^^
  |
  = help: write it right
";
        assert_eq!(report, expected);
    }

    #[test]
    fn reports_come_in_the_order_of_the_file_and_once() {
        let problems = problems("a\nb\nc", &[None, Some(4..5), Some(0..1), Some(4..5)]);
        let places: Vec<_> = problems.iter().map(|problem| problems.position(problem)).collect();
        assert_eq!(places, [Some((1, 1)), Some((3, 1)), None]);
        assert_eq!(problems.to_string().matches("--> tidegate.toml").count(), 3);
    }

    #[test]
    fn columns_count_characters_from_one() {
        let problems = problems("ä = \"ö\" x", &[Some(10..11)]);
        let position = problems.iter().next().and_then(|problem| problems.position(problem));
        assert_eq!(position, Some((1, 9)));
        assert!(problems.to_string().contains("tidegate.toml:1:9\n"), "{problems}");
    }

    #[test]
    fn a_long_line_is_cut() {
        let text = format!("key = \"{}\" # {}", "v".repeat(5000), "c".repeat(5000));
        let report = problems(&text, &[Some(6..5008)]).to_string();
        assert!(report.len() < 1000, "{report}");
        assert!(report.contains("tidegate.toml:1:7"));
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        let text = "key = \"\u{1b}[31m\"\r\n";
        let list = vec![Problem::new(Some(6..12), "bad \u{1b}[31m", "x")];
        let report = Problems::new("f", text, list).to_string();
        assert!(!report.contains(['\u{1b}', '\r']), "{report:?}");
    }

    #[test]
    fn colour_is_put_in_on_request_only() {
        let problems = problems("a", &[Some(0..1)]);
        assert!(problems.render(true).contains('\u{1b}'));
        assert!(!problems.render(false).contains('\u{1b}'));
    }

    proptest! {
        #[test]
        fn no_span_makes_it_panic(text in "[a-zäß\r\n\t ]{0,40}", start in 0_usize..100, length in 0_usize..100) {
            let problems = problems(&text, &[Some(start..start + length)]);
            prop_assert!(problems.to_string().contains("--> tidegate.toml:"));
            let position = problems.iter().next().and_then(|problem| problems.position(problem));
            let (line, column) = position.expect("has a span");
            let place = format!("tidegate.toml:{line}:{column}\n");
            prop_assert!(problems.to_string().contains(&place));
        }
    }
}
