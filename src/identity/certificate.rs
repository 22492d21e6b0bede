//! From a client certificate (RFC 5280) to the identity of whoever holds its key.
//!
//! TLS has verified it before: here is only read what it says.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::{Claims, Identity, Subject, Way};

/// Which part of a certificate names the subject; of several of one kind it is the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubjectFrom {
    /// The common name.
    #[default]
    CommonName,
    /// The whole distinguished name, as RFC 4514 writes it: the most specific part first.
    DistinguishedName,
    /// A DNS name among the alternative names.
    Dns,
    /// A URI among the alternative names, such as a SPIFFE id.
    Uri,
    /// A mail address among the alternative names.
    Email,
}

/// Why a certificate names nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadCertificate {
    /// It cannot be read.
    Malformed,
    /// It holds no name of the kind that is asked for, or none that can be a subject.
    NoSubject,
    /// It does not hold any more at this time.
    Expired,
}

/// Claims that a certificate can give; `fingerprint` is the SHA-256 of the certificate in hex.
pub const CLAIMS: [&str; 6] = ["cn", "dn", "san_dns", "san_uri", "san_email", "fingerprint"];

/// Reads a certificate in DER at `now`. Of [`CLAIMS`] those are kept that `kept` names.
///
/// `issued` is the time from which it holds: what is revoked later does not come back with the same certificate.
///
/// # Errors
///
/// [`BadCertificate`].
pub fn read(der: &[u8], from: SubjectFrom, kept: &[String], now: SystemTime) -> Result<Identity, BadCertificate> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| BadCertificate::Malformed)?;
    let expires = time(certificate.validity().not_after.timestamp()).ok_or(BadCertificate::Malformed)?;
    // A TLS session that is resumed is not verified again.
    if expires <= now {
        return Err(BadCertificate::Expired);
    }
    let name = certificate.subject();
    let others = others(&certificate)?;
    let subject = match from {
        SubjectFrom::CommonName => common_name(name).map(str::to_owned),
        SubjectFrom::DistinguishedName => Some(rfc4514(name)),
        SubjectFrom::Dns => others.dns.first().map(|&name| name.to_owned()),
        SubjectFrom::Uri => others.uris.first().map(|&name| name.to_owned()),
        SubjectFrom::Email => others.emails.first().map(|&name| name.to_owned()),
    };
    let subject = subject.and_then(|subject| Subject::new(&subject).ok()).ok_or(BadCertificate::NoSubject)?;
    let claim = |claim: &str| match claim {
        "cn" => common_name(name).map(Value::from),
        "dn" => Some(rfc4514(name)).filter(|name| !name.is_empty()).map(Value::from),
        "san_dns" => list(&others.dns),
        "san_uri" => list(&others.uris),
        "san_email" => list(&others.emails),
        "fingerprint" => Some(hex(digest(&SHA256, der).as_ref()).into()),
        _ => None,
    };
    let claims: Claims = kept.iter().filter_map(|name| Some((name.clone(), claim(name)?))).collect();
    Ok(Identity {
        subject,
        claims,
        issued: time(certificate.validity().not_before.timestamp()),
        expires: Some(expires),
        way: Way::Mtls,
        ticket: None,
        keys: Vec::new(),
    })
}

/// The alternative names (RFC 5280 section 4.2.1.6) that can be a subject, in their order.
#[derive(Debug, Default)]
struct Others<'a> {
    dns: Vec<&'a str>,
    uris: Vec<&'a str>,
    emails: Vec<&'a str>,
}

fn others<'a>(certificate: &'a X509Certificate<'_>) -> Result<Others<'a>, BadCertificate> {
    let mut others = Others::default();
    let extension = certificate.subject_alternative_name().map_err(|_| BadCertificate::Malformed)?;
    for name in extension.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => others.dns.push(name),
            GeneralName::URI(name) => others.uris.push(name),
            GeneralName::RFC822Name(name) => others.emails.push(name),
            _ => {}
        }
    }
    Ok(others)
}

fn common_name<'a>(name: &'a X509Name<'_>) -> Option<&'a str> {
    name.iter_common_name().next().and_then(|name| name.as_str().ok())
}

/// A distinguished name as a text from which it can be told apart from any other (RFC 4514 section 2).
fn rfc4514(name: &X509Name<'_>) -> String {
    let mut parts: Vec<String> = Vec::new();
    for relative in name.iter_rdn() {
        let attributes: Vec<_> = relative.iter().map(attribute).collect();
        parts.push(attributes.join("+"));
    }
    parts.reverse();
    parts.join(",")
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    // The short names of RFC 4514 section 3, and no others: whoever reads the text knows these.
    let short = match oid.as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.6" => "C",
        "2.5.4.9" => "STREET",
        "0.9.2342.19200300.100.1.25" => "DC",
        "0.9.2342.19200300.100.1.1" => "UID",
        dotted => dotted,
    };
    match attribute.as_str() {
        Ok(text) => format!("{short}={}", escaped(text)),
        // Kinds of text that nobody should use any more: told apart by their bytes.
        Err(_) => format!("{short}=#{}", hex(attribute.as_slice())),
    }
}

/// RFC 4514 section 2.4.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (at, c) in text.chars().enumerate() {
        let at_an_end = (c == ' ' && (at == 0 || at == last)) || (c == '#' && at == 0);
        if at_an_end || matches!(c, '"' | '+' | ',' | ';' | '<' | '>' | '\\') {
            escaped.push('\\');
        }
        if c == '\0' { escaped.push_str("\\00") } else { escaped.push(c) }
    }
    escaped
}

fn list(names: &[&str]) -> Option<Value> {
    (!names.is_empty()).then(|| names.into())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A time in seconds since 1970; `None` before that, or beyond what a clock can show.
fn time(seconds: i64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).ok()?))
}

#[cfg(test)]
mod tests;
