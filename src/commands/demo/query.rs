//! What a client says in its query string.

/// Longest name in the chat, in characters.
const MAX_NAME: usize = 24;

/// The decoded value of the first parameter called `name`, as HTML forms encode it.
pub(super) fn value(query: &str, name: &str) -> Option<String> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key) == name).then(|| decoded(value))
    })
}

/// A name that can be shown: one line, no control characters, not empty and not long.
pub(super) fn clean(name: &str) -> String {
    let visible: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words: Vec<&str> = visible.split_whitespace().collect();
    let name: String = words.join(" ").chars().take(MAX_NAME).collect();
    if name.is_empty() { String::from("guest") } else { name.trim_end().to_owned() }
}

fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(byte) = rest.next() {
        bytes.push(match *byte {
            b'+' => b' ',
            b'%' => match escaped(rest.as_slice()) {
                Some(decoded) => {
                    rest.nth(1);
                    decoded
                }
                None => b'%',
            },
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn escaped(rest: &[u8]) -> Option<u8> {
    let digit = |at: usize| char::from(*rest.get(at)?).to_digit(16);
    u8::try_from(digit(0)? * 16 + digit(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_as_forms_encode_them() {
        let query = "x&name=Ada+L%C3%B6v%65lace&name=2&bad=%&worse=%zz%4";
        assert_eq!(value(query, "name").unwrap(), "Ada Lövelace");
        assert_eq!(value(query, "x").unwrap(), "");
        assert_eq!(value(query, "bad").unwrap(), "%");
        assert_eq!(value(query, "worse").unwrap(), "%zz%4");
        assert_eq!(value(query, "none"), None);
        assert_eq!(value("a=%ff", "a").unwrap(), "\u{fffd}");
    }

    #[test]
    fn names_are_short_and_visible() {
        assert_eq!(clean("  Ada \n\u{7}  L. "), "Ada L.");
        assert_eq!(clean(" \t"), "guest");
        assert_eq!(clean(&"ä".repeat(99)).chars().count(), MAX_NAME);
    }
}
