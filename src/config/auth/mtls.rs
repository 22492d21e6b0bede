//! `[auth.mtls]`: how client certificates are read.

use super::super::reader::TableReader;
use crate::access::mtls::Settings;
use crate::identity::certificate::SubjectFrom;

const SUBJECTS: [(&str, SubjectFrom); 5] = [
    ("common-name", SubjectFrom::CommonName),
    ("dn", SubjectFrom::DistinguishedName),
    ("san-dns", SubjectFrom::Dns),
    ("san-uri", SubjectFrom::Uri),
    ("san-email", SubjectFrom::Email),
];

pub(super) fn read(mut table: TableReader<'_>, claims: &[String]) -> Settings {
    let subject = table.one_of("subject", SubjectFrom::default(), &SUBJECTS);
    table.finish();
    Settings { subject, claims: claims.to_vec() }
}
