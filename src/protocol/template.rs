//! Upstream request targets with placeholders: `/rooms/{room}/events?kind=1`.

use std::fmt;

/// A path with an optional query (RFC 3986 sections 3.3 and 3.4) in which `{name}` stands for a captured path segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    has_query: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Capture { name: String, in_query: bool },
}

/// Why a text is no [`Template`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It does not begin with `/`.
    #[error("a request target begins with `/`")]
    NotAbsolute,
    /// A `#`: fragments are never sent to a server (RFC 9110 section 7.1).
    #[error("`#` begins a fragment, and a fragment is never sent to a server")]
    Fragment,
    /// A character that neither a path nor a query may hold.
    #[error("the character {0:?} may not stand in a request target; percent-encode it")]
    Illegal(char),
    /// A `%` without two hexadecimal digits after it.
    #[error("`%` must be followed by two hexadecimal digits")]
    BadEscape,
    /// A `{` without its `}`, or the other way round.
    #[error("`{{` and `}}` must come in pairs, around the name of a capture")]
    Unbalanced,
    /// A placeholder for something that is not captured.
    #[error("`{{{0}}}` is not captured by the path of the route")]
    UnknownCapture(String),
}

impl Template {
    /// Reads a template; `captures` are the names that may be used in it.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] with the first thing that is wrong.
    pub fn parse(text: &str, captures: &[&str]) -> Result<Self, TemplateError> {
        if !text.starts_with('/') {
            return Err(TemplateError::NotAbsolute);
        }
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut has_query = false;
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let tail = rest.get(character.len_utf8()..).unwrap_or_default();
            rest = match character {
                '{' => {
                    let (name, after) = tail.split_once('}').ok_or(TemplateError::Unbalanced)?;
                    if !captures.contains(&name) {
                        return Err(TemplateError::UnknownCapture(name.to_owned()));
                    }
                    if !literal.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut literal)));
                    }
                    parts.push(Part::Capture { name: name.to_owned(), in_query: has_query });
                    after
                }
                '}' => return Err(TemplateError::Unbalanced),
                '#' => return Err(TemplateError::Fragment),
                '%' if !matches!(tail.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()) => {
                    return Err(TemplateError::BadEscape);
                }
                '/' | '?' | '%' | '\u{21}'..='\u{7e}' if is_legal(character) => {
                    has_query |= character == '?';
                    literal.push(character);
                    tail
                }
                other => return Err(TemplateError::Illegal(other)),
            };
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Ok(Self { parts, has_query })
    }

    /// The target with every placeholder replaced by the value captured under its name.
    ///
    /// Values are raw: segments of a request path, percent-encoded as they came, and they go in as they are. Only in
    /// the query `&`, `=`, `+` and `;` are encoded, because a path segment may hold them and they would otherwise add
    /// parameters that the template does not name. A name without a value leaves its place empty.
    #[must_use]
    pub fn expand(&self, captures: &[(&str, &str)]) -> String {
        if let Some(literal) = self.as_literal() {
            return literal.to_owned();
        }
        let mut target = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => target.push_str(text),
                Part::Capture { name, in_query } => {
                    let value = captures.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value);
                    if *in_query { push_encoded(&mut target, value) } else { target.push_str(value) }
                }
            }
        }
        target
    }

    /// The target itself if there is nothing to fill in, so that a caller can parse it once and keep it.
    #[must_use]
    pub fn as_literal(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// Whether there is a `?`, so that further parameters are joined with `&`.
    #[must_use]
    pub fn has_query(&self) -> bool {
        self.has_query
    }
}

/// As it was written.
impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            Part::Text(text) => f.write_str(text),
            Part::Capture { name, .. } => write!(f, "{{{name}}}"),
        })
    }
}

/// `pchar`, `/` and `?` of RFC 3986, with `%` as the beginning of an escape.
fn is_legal(character: char) -> bool {
    character.is_ascii_alphanumeric() || "-._~!$&'()*+,;=:@/?%".contains(character)
}

fn push_encoded(target: &mut String, value: &str) {
    for character in value.chars() {
        match character {
            '&' => target.push_str("%26"),
            '=' => target.push_str("%3D"),
            '+' => target.push_str("%2B"),
            ';' => target.push_str("%3B"),
            other => target.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn template(text: &str) -> Template {
        Template::parse(text, &["room", "rest"]).expect(text)
    }

    #[test]
    fn placeholders_are_replaced_by_raw_segments() {
        let captures = [("room", "a%20b"), ("rest", "x/y")];
        assert_eq!(template("/rooms/{room}/events").expand(&captures), "/rooms/a%20b/events");
        assert_eq!(template("/{rest}").expand(&captures), "/x/y");
        assert_eq!(template("/{room}{rest}?r={room}").expand(&captures), "/a%20bx/y?r=a%20b");
        assert_eq!(template("/plain?kind=1").expand(&captures), "/plain?kind=1");
    }

    #[test]
    fn a_value_cannot_add_parameters_to_the_query() {
        let captures = [("room", "a&admin=1;b+c")];
        assert_eq!(template("/e?room={room}&v=1").expand(&captures), "/e?room=a%26admin%3D1%3Bb%2Bc&v=1");
        assert_eq!(template("/e/{room}").expand(&captures), "/e/a&admin=1;b+c");
    }

    #[test]
    fn a_target_without_placeholders_is_kept_as_one_text() {
        assert_eq!(template("/events?kind=1").as_literal(), Some("/events?kind=1"));
        assert_eq!(template("/{room}").as_literal(), None);
    }

    #[test]
    fn a_query_is_noticed() {
        assert!(template("/events?kind=1").has_query());
        assert!(template("/events?").has_query());
        assert!(!template("/events/{room}").has_query());
    }

    #[test]
    fn what_is_no_request_target_is_refused() {
        let refused = |text| Template::parse(text, &["room"]).expect_err(text);
        assert_eq!(refused("events"), TemplateError::NotAbsolute);
        assert_eq!(refused(""), TemplateError::NotAbsolute);
        assert_eq!(refused("/events#top"), TemplateError::Fragment);
        assert_eq!(refused("/a b"), TemplateError::Illegal(' '));
        assert_eq!(refused("/ä"), TemplateError::Illegal('ä'));
        assert_eq!(refused("/a\\b"), TemplateError::Illegal('\\'));
        assert_eq!(refused("/%2"), TemplateError::BadEscape);
        assert_eq!(refused("/%2{room}"), TemplateError::BadEscape);
        assert_eq!(refused("/{room"), TemplateError::Unbalanced);
        assert_eq!(refused("/room}"), TemplateError::Unbalanced);
        assert_eq!(refused("/{other}"), TemplateError::UnknownCapture("other".to_owned()));
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_prints_back(text in "/?[ -~ä{}%#]{0,40}") {
            if let Ok(template) = Template::parse(&text, &["a", "b"]) {
                prop_assert_eq!(template.to_string(), text);
            }
        }

        #[test]
        fn an_expanded_target_is_one_that_http_takes(value in "[a-zA-Z0-9._~!$&'()*+,;=:@-]{1,20}") {
            let target = template("/x/{room}/y?z={room}").expand(&[("room", &value)]);
            let parsed: Result<http::uri::PathAndQuery, _> = target.parse();
            prop_assert!(parsed.is_ok());
        }
    }
}
