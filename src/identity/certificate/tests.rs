//! What certificates say, and what they cannot make us believe.

use proptest::prelude::*;
use rcgen::string::Ia5String;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, DnType, KeyPair, SanType, date_time_ymd};
use serde_json::json;

use super::*;

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// 2026-01-01.
const FROM: u64 = 1_767_225_600;
/// 2027-01-01.
const UNTIL: u64 = 1_798_761_600;

fn certificate(names: &[(DnType, &str)], others: Vec<SanType>) -> Vec<u8> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    for (kind, name) in names {
        params.distinguished_name.push(kind.clone(), *name);
    }
    params.subject_alt_names = others;
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2027, 1, 1);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
}

fn ada() -> Vec<u8> {
    let text = |text: &str| Ia5String::try_from(text).unwrap();
    let others = vec![
        SanType::Rfc822Name(text("ada@example.com")),
        SanType::DnsName(text("one.example")),
        SanType::URI(text("spiffe://example.com/ada")),
        SanType::DnsName(text("two.example")),
    ];
    certificate(&[(DnType::OrganizationName, "Sea, Ltd"), (DnType::CommonName, "Ada Löv")], others)
}

fn subject(der: &[u8], from: SubjectFrom) -> Result<String, BadCertificate> {
    read(der, from, &[], at(UNTIL - 1)).map(|identity| identity.subject.to_string())
}

#[test]
fn the_subject_is_what_the_rule_names() {
    let der = ada();
    for (from, expected) in [
        (SubjectFrom::CommonName, "Ada Löv"),
        (SubjectFrom::DistinguishedName, r"CN=Ada Löv,O=Sea\, Ltd"),
        (SubjectFrom::Dns, "one.example"),
        (SubjectFrom::Uri, "spiffe://example.com/ada"),
        (SubjectFrom::Email, "ada@example.com"),
    ] {
        assert_eq!(subject(&der, from), Ok(expected.to_owned()));
    }
}

#[test]
fn a_certificate_without_such_a_name_names_nobody() {
    let nameless = certificate(&[], vec![SanType::DnsName(Ia5String::try_from("one.example").unwrap())]);
    for from in [SubjectFrom::CommonName, SubjectFrom::DistinguishedName, SubjectFrom::Uri, SubjectFrom::Email] {
        assert_eq!(subject(&nameless, from), Err(BadCertificate::NoSubject), "{from:?}");
    }
    let bare = certificate(&[(DnType::CommonName, "ada")], Vec::new());
    assert_eq!(subject(&bare, SubjectFrom::Dns), Err(BadCertificate::NoSubject));
    let strange = certificate(&[(DnType::CommonName, "ada\nbob")], Vec::new());
    assert_eq!(subject(&strange, SubjectFrom::CommonName), Err(BadCertificate::NoSubject));
}

#[test]
fn it_holds_for_as_long_as_it_says() {
    let der = ada();
    let identity = read(&der, SubjectFrom::CommonName, &[], at(FROM)).unwrap();
    assert_eq!((identity.issued, identity.expires), (Some(at(FROM)), Some(at(UNTIL))));
    assert_eq!((identity.way, identity.keys, identity.ticket), (Way::Mtls, Vec::new(), None));
    assert_eq!(read(&der, SubjectFrom::CommonName, &[], at(UNTIL)), Err(BadCertificate::Expired));
}

#[test]
fn claims_are_those_that_are_kept() {
    let der = ada();
    let kept: Vec<_> = CLAIMS.iter().map(ToString::to_string).chain(["other".to_owned()]).collect();
    let claims = read(&der, SubjectFrom::Email, &kept, at(FROM)).unwrap().claims;
    let expected = json!({
        "cn": "Ada Löv",
        "dn": "CN=Ada Löv,O=Sea\\, Ltd",
        "san_dns": ["one.example", "two.example"],
        "san_uri": ["spiffe://example.com/ada"],
        "san_email": ["ada@example.com"],
        "fingerprint": hex(digest(&SHA256, &der).as_ref()),
    });
    assert_eq!(Value::from(claims), expected);
    assert_eq!(read(&der, SubjectFrom::Email, &[], at(FROM)).unwrap().claims, Claims::new());
    let bare = certificate(&[(DnType::CommonName, "ada")], Vec::new());
    let claims = read(&bare, SubjectFrom::CommonName, &kept, at(FROM)).unwrap().claims;
    assert_eq!(claims.keys().collect::<Vec<_>>(), ["cn", "dn", "fingerprint"], "what is not there is no claim");
}

#[test]
fn a_name_cannot_pass_for_several() {
    let one = certificate(&[(DnType::CommonName, "ada,O=admin")], Vec::new());
    let two = certificate(&[(DnType::OrganizationName, "admin"), (DnType::CommonName, "ada")], Vec::new());
    assert_eq!(subject(&one, SubjectFrom::DistinguishedName).unwrap(), r"CN=ada\,O=admin");
    assert_eq!(subject(&two, SubjectFrom::DistinguishedName).unwrap(), "CN=ada,O=admin");
    assert_eq!(escaped(" #a "), r"\ #a\ ");
    assert_eq!(escaped("#a+b\\\"<>;"), r#"\#a\+b\\\"\<\>\;"#);
}

#[test]
fn an_unknown_attribute_is_told_by_its_number() {
    let der = certificate(&[(DnType::CustomDnType(vec![2, 5, 4, 12]), "Dr")], Vec::new());
    assert_eq!(subject(&der, SubjectFrom::DistinguishedName).unwrap(), "2.5.4.12=Dr");
}

#[test]
fn what_is_no_certificate_or_has_two_lists_of_names_is_malformed() {
    for der in [&b""[..], b"\x30\x00", b"-----BEGIN CERTIFICATE-----", &ada()[..200]] {
        assert_eq!(subject(der, SubjectFrom::CommonName), Err(BadCertificate::Malformed));
    }
    let mut params = CertificateParams::new(vec!["one.example".to_owned()]).unwrap();
    let empty_list = vec![0x30, 0];
    params.custom_extensions.push(CustomExtension::from_oid_content(&[2, 5, 29, 17], empty_list));
    let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
    assert_eq!(subject(&der, SubjectFrom::Dns), Err(BadCertificate::Malformed));
}

proptest! {
    #[test]
    fn no_bytes_break_the_reader(at in 0_usize..600, byte: u8, length in 0_usize..600) {
        let mut der = ada();
        if let Some(changed) = der.get_mut(at) { *changed = byte; }
        der.truncate(length);
        let kept: Vec<_> = CLAIMS.iter().map(ToString::to_string).collect();
        let _ = read(&der, SubjectFrom::DistinguishedName, &kept, UNIX_EPOCH);
    }
}
