//! Where problems are gathered while a file is read.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ops::Range;

use super::problem::{Problem, line_number};

/// The problems found so far, and the keys that the readers asked for.
///
/// Readers of sections live at the same time, so it is shared and written through a cell.
#[derive(Debug, Default)]
pub(super) struct Report {
    problems: RefCell<Vec<Problem>>,
    absences: RefCell<Vec<Problem>>,
    keys: RefCell<BTreeSet<String>>,
}

impl Report {
    /// Something that stands in the file is wrong.
    pub(super) fn wrong(&self, span: Option<Range<usize>>, message: impl Into<String>, help: impl Into<String>) {
        self.problems.borrow_mut().push(Problem::new(span, message, help));
    }

    /// Something does not stand in the file, or not where it should. This is not told while there are errors of syntax,
    /// since it may well stand in the part that could not be read.
    pub(super) fn absent(&self, span: Option<Range<usize>>, message: impl Into<String>, help: impl Into<String>) {
        self.absences.borrow_mut().push(Problem::new(span, message, help));
    }

    /// Notes that `section.key` is one that is read.
    pub(super) fn knows(&self, section: &str, key: &str) {
        if !section.is_empty() {
            self.keys.borrow_mut().insert(format!("{section}.{key}"));
        }
    }

    /// Every `section.key` that was asked for.
    pub(super) fn into_keys(self) -> Vec<String> {
        self.keys.into_inner().into_iter().collect()
    }

    /// All problems, together with those of the syntax. A value in a line with broken syntax is only a guess of the
    /// parser, so nothing else is said of such a line.
    pub(super) fn into_problems(self, text: &str, syntax: Vec<Problem>) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        if syntax.is_empty() {
            problems.extend(self.absences.into_inner());
            return problems;
        }
        let line = |problem: &Problem| problem.span.as_ref().map(|span| line_number(text, span.start));
        let broken: BTreeSet<_> = syntax.iter().filter_map(line).collect();
        problems.retain(|problem| line(problem).is_none_or(|line| !broken.contains(&line)));
        problems.extend(syntax);
        problems
    }
}

/// The candidate that `word` was most probably meant to be, if one is close enough for that.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, candidate) = candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&word.to_lowercase(), candidate), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    // One slip in a short word, one in three letters in a long one.
    (distance <= (candidate.chars().count() / 3).max(1)).then_some(candidate)
}

/// `a`, `a or b`, `a, b or c`.
pub(super) fn either(choices: &[String]) -> String {
    match choices {
        [] => String::new(),
        [only] => only.clone(),
        [most @ .., last] => format!("{} or {last}", most.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absences_are_not_told_beside_errors_of_syntax() {
        let report = Report::default();
        report.absent(None, "missing", "");
        assert_eq!(report.into_problems("", Vec::new()).len(), 1);
        let report = Report::default();
        report.absent(None, "missing", "");
        let syntax = Problem::new(Some(0..1), "syntax", "");
        assert_eq!(report.into_problems("a", vec![syntax.clone()]), [syntax]);
    }

    #[test]
    fn a_line_with_broken_syntax_is_reported_once() {
        let report = Report::default();
        report.wrong(Some(0..1), "guess", "");
        report.wrong(Some(4..5), "other line", "");
        let problems = report.into_problems("a b\nc", vec![Problem::new(Some(2..3), "syntax", "")]);
        let messages: Vec<_> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(messages, ["other line", "syntax"]);
    }

    #[test]
    fn only_near_words_are_suggested() {
        let known = ["ping_interval", "pong_timeout", "queue"];
        assert_eq!(nearest("ping_intervall", known), Some("ping_interval"));
        assert_eq!(nearest("Queue", known), Some("queue"));
        assert_eq!(nearest("quueu", known), None);
        assert_eq!(nearest("certificate", known), None);
        assert_eq!(nearest("x", []), None);
    }

    #[test]
    fn choices_read_as_a_sentence() {
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(either(&words(&["a"])), "a");
        assert_eq!(either(&words(&["a", "b"])), "a or b");
        assert_eq!(either(&words(&["a", "b", "c"])), "a, b or c");
    }
}
