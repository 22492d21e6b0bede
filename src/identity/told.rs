//! How an identity is told in header fields, so that any backend can read it and none can be misled.

use std::fmt::Write as _;
use std::time::SystemTime;

use http::{HeaderName, HeaderValue, StatusCode};
use jsonwebtoken::errors::Error;
use serde_json::Value;
use uuid::Uuid;

use super::signer::Signer;
use super::who::Identity;
use crate::protocol::headers;
use crate::protocol::problem::Problem;

/// Largest value of one claim in bytes, as it is sent: what common servers read as one field without being asked to.
pub const MOST_VALUE: usize = 4 * 1024;

/// Most bytes of all values together: half of what common servers take as a whole request head.
pub const MOST_TOGETHER: usize = 8 * 1024;

/// An identity does not fit into what is sent upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// The value of one claim.
    #[error("the claim {0:?} has more than {MOST_VALUE} bytes as a header value")]
    Claim(String),
    /// All values.
    #[error("subject and claims have more than {MOST_TOGETHER} bytes as header values")]
    Together,
    /// What a token would say.
    #[error("the identity token would say more than {} bytes", super::signer::MOST_SAID)]
    Token,
}

/// The proof is good, but not for this route.
impl From<TooLarge> for Problem {
    fn from(error: TooLarge) -> Self {
        let detail = "the identity holds more than can be passed on to this route";
        Self::new(StatusCode::FORBIDDEN, "identity-too-large", detail).with_log(error.to_string())
    }
}

/// All that one request tells upstream of its client.
#[derive(Debug, Default)]
pub struct Told {
    /// The fields: subject, claims, and the token where one is wanted.
    pub fields: Vec<(HeaderName, HeaderValue)>,
    /// Why there is no token: the key has signed at the start, so that the system has no random bytes, or no memory.
    pub unsigned: Option<Error>,
}

impl Told {
    /// Tells it for the request `id` at `now`. `claims` are pairs of claim and field; `token` is for whom there is one and what
    /// makes it.
    ///
    /// # Errors
    ///
    /// [`TooLarge`], which names the claim and does not show it.
    pub fn once(
        identity: &Identity,
        claims: &[(String, HeaderName)],
        token: Option<(&str, &Signer)>,
        id: Uuid,
        now: SystemTime,
    ) -> Result<Self, TooLarge> {
        let told = fields(identity, headers::TIDEGATE_SUBJECT, claims)?.into_iter();
        // A value in printable ASCII can always be sent.
        let mut fields: Vec<_> =
            told.filter_map(|(name, value)| Some((name, HeaderValue::try_from(value).ok()?))).collect();
        let Some((audience, signer)) = token else { return Ok(Self { fields, unsigned: None }) };
        let unsigned = match signer.sign(&signer.say(identity, audience, id)?, now) {
            Ok(made) => {
                fields.extend(made.field().map(|value| (headers::TIDEGATE_IDENTITY, value)));
                None
            }
            Err(error) => Some(error),
        };
        Ok(Self { fields, unsigned })
    }
}

/// The fields that say who a client is: `subject_field` with its subject, and a field for each of `claims`, pairs of claim and
/// field, that the identity has.
///
/// # Errors
///
/// [`TooLarge`], which names the claim and does not show it.
pub fn fields(
    identity: &Identity,
    subject_field: HeaderName,
    claims: &[(String, HeaderName)],
) -> Result<Vec<(HeaderName, String)>, TooLarge> {
    let mut fields = vec![(subject_field, subject(identity.subject.as_str()))];
    for (claim, field) in claims {
        let Some(value) = identity.claims.get(claim).and_then(value) else { continue };
        if value.len() > MOST_VALUE {
            return Err(TooLarge::Claim(claim.clone()));
        }
        fields.push((field.clone(), value));
    }
    if fields.iter().map(|(_, value)| value.len()).sum::<usize>() > MOST_TOGETHER {
        return Err(TooLarge::Together);
    }
    Ok(fields)
}

/// A subject as a header value: every byte of its UTF-8 outside of 0x21 to 0x7E, and `%`, is percent-encoded (RFC 3986 section
/// 2.1): `Ada Löv` is `Ada%20L%C3%B6v`. Decoding gives the subject, and no two subjects have one value.
#[must_use]
pub fn subject(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    encode(text, |_| false, &mut told);
    told
}

/// The value of a claim as a header value; `None` for `null`, which says as much as a missing claim.
///
/// Text is encoded as a subject is, and so is each comma in it; a list of texts is its texts with commas between them. A text
/// thus never looks like a list of several. Numbers and booleans are written as JSON, anything else as compact JSON with all that
/// is not ASCII escaped.
#[must_use]
pub fn value(value: &Value) -> Option<String> {
    let is_comma = |byte| byte == b',';
    let mut told = String::new();
    match value {
        Value::Null => return None,
        Value::String(text) => encode(text, is_comma, &mut told),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            for (at, text) in items.iter().filter_map(Value::as_str).enumerate() {
                if at > 0 {
                    told.push(',');
                }
                encode(text, is_comma, &mut told);
            }
        }
        _ => told = ascii(&value.to_string()),
    }
    Some(told)
}

fn encode(text: &str, also: impl Fn(u8) -> bool, told: &mut String) {
    for byte in text.bytes() {
        if (0x21..=0x7e).contains(&byte) && byte != b'%' && !also(byte) {
            told.push(char::from(byte));
        } else {
            // A string takes all.
            let _ = write!(told, "%{byte:02X}");
        }
    }
}

/// JSON in ASCII. Only the texts in it can hold anything else, and there it may be escaped (RFC 8259 section 7).
fn ascii(json: &str) -> String {
    let mut told = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() && character != '\x7f' {
            told.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(told, "\\u{unit:04x}");
            }
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::identity::{Subject, Way};

    fn identity(claims: Value) -> Identity {
        let Value::Object(claims) = claims else { panic!("claims are an object") };
        let subject = Subject::new("Ada Löv").unwrap();
        Identity { subject, claims, issued: None, expires: None, way: Way::Ticket, ticket: None, keys: Vec::new() }
    }

    fn told(claims: Value, wanted: &[(&str, &'static str)]) -> Result<Vec<(String, String)>, TooLarge> {
        let wanted: Vec<_> =
            wanted.iter().map(|(claim, field)| ((*claim).to_owned(), HeaderName::from_static(field))).collect();
        let fields = fields(&identity(claims), HeaderName::from_static("s"), &wanted)?;
        Ok(fields.into_iter().skip(1).map(|(name, value)| (name.to_string(), value)).collect())
    }

    #[test]
    fn a_subject_is_told_in_printable_ascii() {
        for (text, value) in [
            ("auth0|42", "auth0|42"),
            ("ada@example.com", "ada@example.com"),
            ("Ada Löv", "Ada%20L%C3%B6v"),
            ("100%", "100%25"),
            ("a,b", "a,b"),
            (" a ", "%20a%20"),
        ] {
            assert_eq!(subject(text), value);
        }
    }

    #[test]
    fn a_claim_is_told_by_its_kind() {
        let of = |json| value(&json);
        let is = |text: &str| Some(text.to_owned());
        assert_eq!(of(json!("Lovelace, Ada")), is("Lovelace%2C%20Ada"));
        assert_eq!(of(json!(["a", "b,c", "ö"])), is("a,b%2Cc,%C3%B6"));
        assert_eq!(of(json!([])), is(""));
        assert_eq!((of(json!(7)), of(json!(-1.5)), of(json!(true))), (is("7"), is("-1.5"), is("true")));
        assert_eq!(of(json!([1, "ö"])), is(r#"[1,"\u00f6"]"#));
        assert_eq!(of(json!({"a": "😀\u{7f}\n"})), is(r#"{"a":"\ud83d\ude00\u007f\n"}"#));
        assert_eq!(of(json!(null)), None);
    }

    #[test]
    fn a_claim_that_is_missing_has_no_field_and_one_that_is_not_wanted_neither() {
        let claims = json!({"tenant": "t1", "roles": ["a"], "none": null});
        let told = told(claims, &[("tenant", "x-tenant"), ("email", "x-email"), ("none", "x-none")]);
        assert_eq!(told, Ok(vec![("x-tenant".to_owned(), "t1".to_owned())]));
    }

    #[test]
    fn what_is_too_large_is_refused_and_not_shown() {
        let long = |length: usize| Value::from("x".repeat(length));
        assert!(told(json!({"a": long(MOST_VALUE)}), &[("a", "a")]).is_ok());
        let refused = told(json!({"a": long(MOST_VALUE + 1)}), &[("a", "a")]).expect_err("too large");
        assert_eq!(refused, TooLarge::Claim("a".to_owned()));
        assert!(!refused.to_string().contains("xxx"), "{refused}");
        assert!(told(json!({"a": long(MOST_VALUE + 1)}), &[]).is_ok(), "what is not sent need not fit");
        let two = json!({"a": long(MOST_VALUE), "b": long(MOST_VALUE)});
        assert_eq!(told(two, &[("a", "a"), ("b", "b")]), Err(TooLarge::Together));
    }

    proptest! {
        #[test]
        fn every_subject_can_be_sent_and_is_told_apart(one: String, other: String) {
            let value = subject(&one);
            prop_assert!(value.bytes().all(|byte| (0x21..=0x7e).contains(&byte)));
            prop_assert_eq!(value == subject(&other), one == other);
            // `+` is no space here, so it goes around the form's decoder.
            prop_assert_eq!(crate::protocol::query::decode(&value.replace('+', "%2B")), one);
        }

        #[test]
        fn every_list_of_texts_comes_apart_again(texts in proptest::collection::vec("\\PC{1,8}", 1..5)) {
            let told = value(&json!(texts)).unwrap();
            prop_assert!(told.is_ascii() && !told.contains(' '));
            let decode = |part: &str| crate::protocol::query::decode(&part.replace('+', "%2B"));
            prop_assert_eq!(told.split(',').map(decode).collect::<Vec<_>>(), texts);
        }
    }
}
