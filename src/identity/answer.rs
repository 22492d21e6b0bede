//! From an application's answer about a client to the client's identity.

use std::time::SystemTime;

use http::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::verify::numeric_date;
use super::{Claims, Identity, Subject, Way};
use crate::protocol::headers::{is_identity, media_type};

/// Where an answer says who the client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Field that names the subject; it comes before the body.
    pub subject_header: HeaderName,
    /// Member of the JSON body that names the subject; dots lead into objects: `user.id`.
    pub subject_claim: String,
    /// Claims that are fields of the answer, by name; they come before members of the body.
    pub claim_headers: Vec<(String, HeaderName)>,
    /// Names of the claims that are kept: fields by the list above, or members of the JSON body.
    pub claims: Vec<String>,
}

/// Why an answer with which an application vouches for a client cannot be used. Holds nothing of its values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// The body calls itself JSON and is no JSON object, or is compressed.
    #[error("its body is not the JSON object that it should be")]
    Body,
    /// Neither field nor body names a subject.
    #[error("it names no subject")]
    NoSubject,
    /// The subject is no text, or none that can be a subject.
    #[error("its subject is not a text of 1 to 256 bytes without control characters")]
    BadSubject,
    /// A field that stands for something is there twice, or is not UTF-8.
    #[error("its field {0} is there twice, or is no text")]
    Field(HeaderName),
    /// `exp` is no number of seconds since 1970.
    #[error("its exp is no date")]
    Expiry,
}

/// Reads a 2xx answer that came at `now`. It may be one that does not hold any more: that is for the caller to check.
///
/// The body counts if it is JSON; `exp` in it (RFC 7519 section 4.1.4) is the end of the identity.
///
/// # Errors
///
/// [`Unusable`], if the answer does not say whom it is about, or contradicts itself.
pub fn read(fields: &HeaderMap, body: &[u8], rule: &Rule, now: SystemTime) -> Result<Identity, Unusable> {
    let members = members(fields, body)?;
    let subject = match text_of(fields, &rule.subject_header)? {
        Some(subject) => Subject::new(subject),
        None => match find(&members, &rule.subject_claim) {
            None | Some(Value::Null) => return Err(Unusable::NoSubject),
            Some(Value::String(text)) => Subject::new(text),
            // Many applications number their users.
            Some(Value::Number(number)) if number.is_i64() || number.is_u64() => Subject::new(&number.to_string()),
            Some(_) => return Err(Unusable::BadSubject),
        },
    };
    let expires = match members.get("exp") {
        None | Some(Value::Null) => None,
        Some(date) => Some(numeric_date(date).ok_or(Unusable::Expiry)?),
    };
    Ok(Identity {
        subject: subject.map_err(|_| Unusable::BadSubject)?,
        claims: claims(fields, members, rule)?,
        issued: Some(now),
        expires,
        way: Way::Cookie,
        ticket: None,
        keys: Vec::new(),
    })
}

fn claims(fields: &HeaderMap, mut members: Map<String, Value>, rule: &Rule) -> Result<Claims, Unusable> {
    let mut claims = Claims::new();
    for claim in &rule.claims {
        let field = rule.claim_headers.iter().find(|(name, _)| name == claim);
        let told = field.map(|(_, field)| text_of(fields, field)).transpose()?.flatten();
        let value = told.map(Value::from).or_else(|| members.remove(claim));
        claims.extend(value.map(|value| (claim.clone(), value)));
    }
    Ok(claims)
}

/// The members of a body that is a JSON object; none, if the body is something else and does not call itself JSON.
fn members(fields: &HeaderMap, body: &[u8]) -> Result<Map<String, Value>, Unusable> {
    let is_json = media_type(fields).is_some_and(|essence| {
        let essence = essence.to_ascii_lowercase();
        essence == "application/json" || essence.ends_with("+json")
    });
    if !is_json || body.is_empty() {
        return Ok(Map::new());
    }
    if !is_identity(fields) {
        return Err(Unusable::Body);
    }
    serde_json::from_slice(body).map_err(|_| Unusable::Body)
}

/// The value of a field that may be there once; an empty one says nothing.
fn text_of<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Unusable> {
    let mut values = fields.get_all(name).iter();
    let (first, None) = (values.next(), values.next()) else { return Err(Unusable::Field(name.clone())) };
    let text = first.map(HeaderValue::as_bytes).map(std::str::from_utf8).transpose();
    Ok(text.map_err(|_| Unusable::Field(name.clone()))?.map(str::trim).filter(|text| !text.is_empty()))
}

/// A member by its name or, if there is none of that name, by a path of names with dots between.
fn find<'a>(members: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = members.get(path) {
        return Some(value);
    }
    let (first, rest) = path.split_once('.')?;
    find(members.get(first)?.as_object()?, rest)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    fn rule() -> Rule {
        Rule {
            subject_header: HeaderName::from_static("tidegate-subject"),
            subject_claim: "user.id".to_owned(),
            claim_headers: vec![("tenant".to_owned(), HeaderName::from_static("x-tenant"))],
            claims: vec!["tenant".to_owned(), "roles".to_owned()],
        }
    }

    fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        fields.iter().map(field).collect()
    }

    fn read_both(pairs: &[(&'static str, &'static str)], body: &str) -> Result<Identity, Unusable> {
        read(&fields(pairs), body.as_bytes(), &rule(), UNIX_EPOCH + NOW)
    }

    fn json(body: &Value) -> Result<Identity, Unusable> {
        read_both(&[("content-type", "application/json; charset=utf-8")], &body.to_string())
    }

    #[test]
    fn a_field_names_the_subject_and_other_fields_its_claims() {
        let identity = read_both(&[("tidegate-subject", "ada"), ("x-tenant", "sea"), ("x-other", "1")], "hello");
        let identity = identity.unwrap();
        assert_eq!((identity.subject.as_str(), identity.way), ("ada", Way::Cookie));
        assert_eq!(Value::from(identity.claims), json!({"tenant": "sea"}));
        assert_eq!((identity.issued, identity.expires), (Some(UNIX_EPOCH + NOW), None));
    }

    #[test]
    fn a_json_body_names_the_subject_by_a_path_and_its_members_are_claims() {
        let identity = json(&json!({"user": {"id": 42}, "roles": ["a"], "tenant": "sea", "more": 1, "exp": 2000}));
        let identity = identity.unwrap();
        assert_eq!(identity.subject.as_str(), "42");
        assert_eq!(Value::from(identity.claims), json!({"tenant": "sea", "roles": ["a"]}));
        assert_eq!(identity.expires, Some(UNIX_EPOCH + Duration::from_secs(2000)));
        assert_eq!(json(&json!({"user.id": "whole", "user": {"id": "path"}})).unwrap().subject.as_str(), "whole");
    }

    #[test]
    fn a_field_comes_before_the_body() {
        let pairs = [("content-type", "application/json"), ("tidegate-subject", "field"), ("x-tenant", "field")];
        let identity = read_both(&pairs, r#"{"user":{"id":"body"},"tenant":"body"}"#).unwrap();
        assert_eq!(identity.subject.as_str(), "field");
        assert_eq!(Value::from(identity.claims), json!({"tenant": "field"}));
    }

    #[test]
    fn an_answer_that_does_not_say_who_it_is_about_lets_nobody_in() {
        assert_eq!(read_both(&[], ""), Err(Unusable::NoSubject));
        assert_eq!(read_both(&[("tidegate-subject", " ")], ""), Err(Unusable::NoSubject));
        assert_eq!(read_both(&[("content-type", "text/html")], r#"{"user":{"id":"a"}}"#), Err(Unusable::NoSubject));
        for body in [json!({}), json!({"user": null}), json!({"user": {"id": null}}), json!({"user": "ada"})] {
            assert_eq!(json(&body), Err(Unusable::NoSubject), "{body}");
        }
        for id in [json!(""), json!("a\nb"), json!("x".repeat(257)), json!(1.5), json!(true), json!(["a"])] {
            assert_eq!(json(&json!({"user": {"id": id}})), Err(Unusable::BadSubject), "{id}");
        }
    }

    #[test]
    fn an_answer_that_contradicts_itself_is_not_used() {
        let twice = fields(&[("tidegate-subject", "ada"), ("tidegate-subject", "bob")]);
        let name = HeaderName::from_static("tidegate-subject");
        assert_eq!(read(&twice, b"", &rule(), UNIX_EPOCH), Err(Unusable::Field(name.clone())));
        let latin = HeaderMap::from_iter([(name.clone(), HeaderValue::from_bytes(b"L\xf6v").unwrap())]);
        assert_eq!(read(&latin, b"", &rule(), UNIX_EPOCH), Err(Unusable::Field(name)));
        let is_json = [("content-type", "application/json"), ("tidegate-subject", "ada")];
        for body in ["{", "[]", "\"ada\"", "null"] {
            assert_eq!(read_both(&is_json, body), Err(Unusable::Body), "{body}");
        }
        assert_eq!(read_both(&is_json, r#"{"exp":"soon"}"#), Err(Unusable::Expiry));
        let packed = [("content-type", "application/json"), ("content-encoding", "gzip"), ("tidegate-subject", "ada")];
        assert_eq!(read_both(&packed, "{}"), Err(Unusable::Body));
    }

    proptest! {
        #[test]
        fn no_body_breaks_the_reader(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&fields(&[("content-type", "application/json")]), &body, &rule(), UNIX_EPOCH);
        }

        #[test]
        fn whatever_is_read_has_the_claims_that_are_kept_and_no_others(names in proptest::collection::vec("[a-z]{1,6}", 0..6)) {
            let mut body: Map<String, Value> = names.iter().map(|name| (name.clone(), json!(1))).collect();
            body.insert("user".to_owned(), json!({"id": "ada"}));
            let identity = json(&Value::from(body)).unwrap();
            prop_assert!(identity.claims.keys().all(|name| rule().claims.contains(name)));
        }
    }
}
