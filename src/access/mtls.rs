//! Who a client is by its certificate.

use std::time::SystemTime;

use http::StatusCode;
use rustls::pki_types::CertificateDer;

use crate::identity::Identity;
use crate::identity::certificate::{self, BadCertificate, SubjectFrom};
use crate::protocol::problem::Problem;

/// How client certificates are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What names the subject.
    pub subject: SubjectFrom,
    /// Names of the claims that are kept.
    pub claims: Vec<String>,
}

/// Takes the certificates that TLS has verified for what they say.
#[derive(Debug)]
pub struct Mtls {
    settings: Settings,
}

impl Mtls {
    /// Reads certificates like this.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Who the certificate speaks for; `None` without one.
    ///
    /// # Errors
    ///
    /// 403 for a certificate that names nobody, 401 for one that does not hold any more.
    pub fn prove(&self, certificate: Option<&CertificateDer<'_>>) -> Result<Option<Identity>, Problem> {
        let Some(certificate) = certificate else { return Ok(None) };
        let Settings { subject, claims } = &self.settings;
        certificate::read(certificate, *subject, claims, SystemTime::now()).map(Some).map_err(|bad| match bad {
            BadCertificate::Malformed => {
                Problem::new(StatusCode::FORBIDDEN, "certificate-malformed", "the client certificate cannot be read")
            }
            BadCertificate::NoSubject => Problem::new(
                StatusCode::FORBIDDEN,
                "certificate-no-subject",
                "the client certificate holds no name of the kind that is asked for here",
            ),
            BadCertificate::Expired => Problem::new(
                StatusCode::UNAUTHORIZED,
                "certificate-expired",
                "the client certificate does not hold any more; connect anew with another",
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(common_name: Option<&str>, until: i32) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.not_after = date_time_ymd(until, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_certificate_proves_its_subject_and_none_proves_nothing() {
        let mtls = Mtls::new(Settings { claims: vec!["cn".to_owned()], ..Settings::default() });
        let identity = mtls.prove(Some(&certificate(Some("ada"), 4000))).unwrap().unwrap();
        assert_eq!(identity.subject.as_str(), "ada");
        assert_eq!(identity.claims["cn"], "ada");
        assert_eq!(mtls.prove(None).unwrap(), None);
    }

    #[test]
    fn a_certificate_that_proves_nothing_is_refused_with_the_reason() {
        let refusal = |der: &CertificateDer<'_>| {
            let problem = Mtls::new(Settings::default()).prove(Some(der)).unwrap_err();
            (problem.status.as_u16(), problem.kind)
        };
        assert_eq!(refusal(&certificate(None, 4000)), (403, "certificate-no-subject"));
        assert_eq!(refusal(&certificate(Some("ada"), 2000)), (401, "certificate-expired"));
        assert_eq!(refusal(&CertificateDer::from(vec![1, 2, 3])), (403, "certificate-malformed"));
    }
}
