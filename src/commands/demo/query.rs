//! What a client says in its query string.

use crate::protocol::query::decode;

/// Longest name in the chat, in characters.
const MAX_NAME: usize = 24;

/// The decoded value of the first parameter called `name`, as HTML forms encode it.
pub(super) fn value(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key) == name).then(|| decode(value))
    })
}

/// A name that can be shown: one line, no control characters, not empty and not long.
pub(super) fn clean(name: &str) -> String {
    let visible: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words: Vec<&str> = visible.split_whitespace().collect();
    let name: String = words.join(" ").chars().take(MAX_NAME).collect();
    if name.is_empty() { String::from("guest") } else { name.trim_end().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_value_of_a_name_counts_and_is_decoded() {
        let query = "x&name=Ada+L%C3%B6v%65lace&name=2";
        assert_eq!(value(query, "name").unwrap(), "Ada Lövelace");
        assert_eq!(value(query, "x").unwrap(), "");
        assert_eq!(value(query, "none"), None);
    }

    #[test]
    fn names_are_short_and_visible() {
        assert_eq!(clean("  Ada \n\u{7}  L. "), "Ada L.");
        assert_eq!(clean(" \t"), "guest");
        assert_eq!(clean(&"ä".repeat(99)).chars().count(), MAX_NAME);
    }
}
