//! `[route.split]`: which side a handshake takes on a route with a bridge and a legacy backend.

use std::sync::Arc;

use http::header::HeaderName;
use toml::de::DeValue;

use super::field::{Field, Located};
use super::problem::quote;
use super::reader::TableReader;
use crate::edge::split::{BUCKETS, By, Place, Rule, Split};
use crate::protocol::headers::is_token;
use crate::telemetry::Side;

const SIDES: [(&str, Side); 2] = [("bridge", Side::Bridge), ("legacy", Side::Legacy)];
const BY_HELP: &str = "write \"identity\", \"cookie:NAME\", \"address\" or a list of these, in the order of preference";
const RULE_HELP: &str = "write { header = \"X-Beta\", equals = \"1\", to = \"bridge\" }, or `cookie`, `query` or `identity` in place of `header`";
/// Each is looked at for every handshake.
const MOST_RULES: usize = 64;

/// Reads the section. `has_identity` says whether the route's clients prove who they are.
pub(super) fn read(mut table: TableReader<'_>, has_identity: bool) -> Option<Split> {
    let help = "write bridge_percent = 30 for 30 % of the clients; 0 is nobody and 100 everybody";
    let share = table.required("bridge_percent", help).and_then(|field| percent(&field));
    let by = match table.field("by") {
        Some(field) => by(&field, has_identity),
        None if has_identity => Some(vec![By::Identity]),
        None => Some(Vec::new()),
    };
    let seed = table.text("seed").map(|seed| Arc::from(seed.value));
    let rules = rules(&mut table, has_identity);
    let header = header(&mut table);
    let falls_back = table.one_of("fallback", false, &[("none", false), ("legacy", true)]);
    table.finish();
    Some(Split { share: share?, by: by?, seed, rules: rules?, header: header.ok()?, falls_back })
}

/// Something is wrong, and was reported.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reported;

/// In hundredths of a percent.
fn percent(field: &Field<'_>) -> Option<u16> {
    let help = "write a number from 0 to 100 with at most two digits behind the point, such as 30 or 0.5";
    let text = match field.value {
        DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
        DeValue::Float(number) => number.as_str(),
        _ => {
            field.wrong_type("a number", help);
            return None;
        }
    };
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part: String = part.trim_end_matches('0').to_owned();
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let hundredths = (digits(whole) && digits(&part) && part.len() <= 2)
        .then(|| format!("{whole}{part:0<2}").parse::<u16>().ok())
        .flatten()
        .filter(|hundredths| *hundredths <= BUCKETS);
    if hundredths.is_none() {
        field.wrong(format!("{text} is not a share in percent"), help);
    }
    hundredths
}

fn by(field: &Field<'_>, has_identity: bool) -> Option<Vec<By>> {
    let items = match field.value {
        DeValue::String(_) => vec![field.clone()],
        DeValue::Array(_) => field.items()?,
        _ => {
            field.wrong_type("a text or a list of texts", BY_HELP);
            return None;
        }
    };
    // All are looked at before one that is wrong counts.
    let by: Vec<_> = items.iter().map(|item| one_by(item, has_identity)).collect();
    by.into_iter().collect()
}

fn one_by(item: &Field<'_>, has_identity: bool) -> Option<By> {
    let text = item.text()?;
    match (text.value, text.value.strip_prefix("cookie:")) {
        ("identity", _) if !has_identity => {
            no_identity(item);
            None
        }
        ("identity", _) => Some(By::Identity),
        ("address", _) => Some(By::Address),
        (_, Some(name)) if is_token(name) => Some(By::Cookie(name.to_owned())),
        _ => {
            item.wrong(format!("{} cannot stand for a client", quote(text.value)), BY_HELP);
            None
        }
    }
}

fn no_identity(field: &Field<'_>) {
    let message = "nobody has an identity with auth = \"none\"";
    field.wrong(message, "write how clients prove who they are, or tell them apart by a cookie or their address");
}

fn rules(table: &mut TableReader<'_>, has_identity: bool) -> Option<Vec<Rule>> {
    let Some(field) = table.field("rules") else { return Some(Vec::new()) };
    let Some(items) = field.items() else {
        field.wrong_type("a list of tables", RULE_HELP);
        return None;
    };
    if items.len() > MOST_RULES {
        field.wrong(format!("there are {} rules, and {MOST_RULES} are the most", items.len()), "take some out");
        return None;
    }
    let rules: Vec<_> = items
        .iter()
        .map(|item| {
            let table = table.table_of(item, "route.split.rules", "a rule of [route.split]".to_owned())?;
            rule(table, item, has_identity)
        })
        .collect();
    rules.into_iter().collect()
}

fn rule(mut table: TableReader<'_>, item: &Field<'_>, has_identity: bool) -> Option<Rule> {
    let [header, cookie, query] = ["header", "cookie", "query"].map(|key| table.text(key));
    let identity = table.field("identity");
    let subject = identity.as_ref().and_then(Field::text);
    let equals = table.text("equals").map(|text| text.value.to_owned());
    let to = table.required("to", "write to = \"bridge\" or to = \"legacy\"").and_then(|to| to.choice(&SIDES));
    table.finish();
    let (place, equals) = match (header, cookie, query, identity) {
        (Some(name), None, None, None) => (Place::Header(field_name(&name, item)?), equals),
        (None, Some(name), None, None) if is_token(name.value) => (Place::Cookie(name.value.to_owned()), equals),
        (None, None, Some(name), None) if !name.value.is_empty() => (Place::Query(name.value.to_owned()), equals),
        (None, None, None, Some(field)) if equals.is_none() => {
            if !has_identity {
                no_identity(&field);
                return None;
            }
            (Place::Identity, Some(subject?.value.to_owned()))
        }
        _ => {
            let message = "a rule looks at one of `header`, `cookie`, `query` and `identity`, which must have a name";
            item.wrong(message, RULE_HELP);
            return None;
        }
    };
    Some(Rule { place, equals, to: to? })
}

fn field_name(name: &Located<&str>, item: &Field<'_>) -> Option<HeaderName> {
    let parsed = HeaderName::try_from(name.value).ok();
    if parsed.is_none() {
        item.report.wrong(Some(name.span.clone()), format!("{} is no header", quote(name.value)), RULE_HELP);
    }
    parsed
}

/// The answer's field, if there is to be one. What is wrong was reported.
fn header(table: &mut TableReader<'_>) -> Result<Option<HeaderName>, Reported> {
    let Some(text) = table.text("header") else { return Ok(Some(HeaderName::from_static("tidegate-side"))) };
    if text.value.is_empty() {
        return Ok(None);
    }
    let name = HeaderName::try_from(text.value).ok();
    // Fields of the handshake and of HTTP itself mean something else.
    let free = name.filter(|name| {
        let name = name.as_str();
        !name.starts_with("sec-") && !["connection", "upgrade", "content-length", "transfer-encoding"].contains(&name)
    });
    if free.is_none() {
        let message = format!("{} cannot say which side it was", quote(text.value));
        table.report().wrong(Some(text.span), message, "write \"Tidegate-Side\", or \"\" to say it nowhere");
    }
    free.map(Some).ok_or(Reported)
}

#[cfg(test)]
mod tests;
