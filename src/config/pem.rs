//! Certificates and keys: from PEM files (RFC 7468) to what TLS works with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, InconsistentKeys, RootCertStore};

use super::field::Located;
use super::report::Report;

const MAKE_A_PAIR: &str = "`tidegate dev-cert certs` makes a pair for localhost in the directory certs";

/// Where files are looked for, and where it is told what is wrong with them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Files<'a> {
    /// The directory of the configuration file.
    pub(super) base: &'a Path,
    pub(super) report: &'a Report,
}

impl Files<'_> {
    /// Reads a chain and its key, and checks that they belong together.
    pub(super) fn certified_key(&self, chain: &Located<&str>, key: &Located<&str>) -> Option<Arc<CertifiedKey>> {
        let provider = default_provider();
        // Both are looked at before either failure counts, so that both are reported.
        let (certificates, signing_key) = (self.chain(chain), self.key(key, &provider));
        let certified = CertifiedKey::new(certificates?, signing_key?);
        match certified.keys_match() {
            // Some kinds of keys cannot tell their public half; the handshake will show.
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Some(Arc::new(certified)),
            Err(Error::InconsistentKeys(_)) => {
                let message = format!("this key does not belong to the certificate in `{}`", chain.value);
                let help = format!("name the key that the certificate was issued for; {MAKE_A_PAIR}");
                self.report.wrong(Some(key.span.clone()), message, help);
                None
            }
            Err(error) => {
                let message = format!("the first certificate in `{}` cannot be used: {error}", chain.value);
                let help = "the server's own certificate comes first in the file, then those that vouch for it";
                self.report.wrong(Some(chain.span.clone()), message, help);
                None
            }
        }
    }

    /// Reads a bundle of certificates that vouch for others.
    pub(super) fn roots(&self, bundle: &Located<&str>) -> Option<Arc<RootCertStore>> {
        let certificates = self.certificates(bundle, "name a PEM file with the certificates of the authority")?;
        let mut roots = RootCertStore::empty();
        for (index, certificate) in certificates.into_iter().enumerate() {
            if let Err(error) = roots.add(certificate) {
                let message = format!("certificate {} in `{}` cannot be used: {error}", index + 1, bundle.value);
                self.report.wrong(Some(bundle.span.clone()), message, "take it out, or ask its issuer for a sound one");
                return None;
            }
        }
        Some(Arc::new(roots))
    }

    /// Reads a bundle of lists of certificates that do not hold any more.
    pub(super) fn revoked(&self, bundle: &Located<&str>) -> Option<Vec<CertificateRevocationListDer<'static>>> {
        let help = "name a PEM file with the authority's revocation list; from DER: openssl crl -inform der";
        let bytes = self.bytes(bundle, help)?;
        let message = match CertificateRevocationListDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
            Ok(lists) if lists.is_empty() => format!("there is no revocation list in `{}`", bundle.value),
            Ok(lists) => return Some(lists),
            Err(error) => format!("`{}` is not sound PEM: {error}", bundle.value),
        };
        self.report.wrong(Some(bundle.span.clone()), message, help);
        None
    }

    fn chain(&self, chain: &Located<&str>) -> Option<Vec<CertificateDer<'static>>> {
        self.certificates(chain, MAKE_A_PAIR)
    }

    fn certificates(&self, file: &Located<&str>, help: &str) -> Option<Vec<CertificateDer<'static>>> {
        let bytes = self.bytes(file, help)?;
        let wrong = |message: String| {
            self.report.wrong(Some(file.span.clone()), message, help);
            None
        };
        match CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>() {
            Ok(certificates) if certificates.is_empty() => {
                wrong(format!("there is no certificate in `{}`", file.value))
            }
            Ok(certificates) => Some(certificates),
            Err(error) => wrong(format!("`{}` is not sound PEM: {error}", file.value)),
        }
    }

    fn key(&self, file: &Located<&str>, provider: &CryptoProvider) -> Option<Arc<dyn SigningKey>> {
        let bytes = self.bytes(file, MAKE_A_PAIR)?;
        let wrong = |message: String, help: String| {
            self.report.wrong(Some(file.span.clone()), message, help);
            None
        };
        let key = match PrivateKeyDer::from_pem_slice(&bytes) {
            Ok(key) => key,
            Err(pem::Error::NoItemsFound) if is_encrypted(&bytes) => {
                let help = format!("take the passphrase off: openssl pkey -in {} -out plain.key", file.value);
                return wrong(format!("the private key in `{}` is encrypted", file.value), help);
            }
            Err(pem::Error::NoItemsFound) => {
                return wrong(format!("there is no private key in `{}`", file.value), MAKE_A_PAIR.to_owned());
            }
            Err(error) => return wrong(format!("`{}` is not sound PEM: {error}", file.value), MAKE_A_PAIR.to_owned()),
        };
        provider.key_provider.load_private_key(key).map_or_else(
            |error| {
                let help = "use an ECDSA (P-256, P-384, P-521), Ed25519 or RSA key of 2048 bits or more";
                wrong(format!("the private key in `{}` cannot be used: {error}", file.value), help.to_owned())
            },
            Some,
        )
    }

    pub(super) fn bytes(&self, file: &Located<&str>, help: &str) -> Option<Vec<u8>> {
        let path = self.path(file.value);
        std::fs::read(&path)
            .map_err(|error| {
                let message = format!("cannot read `{}`: {error}", path.display());
                let help = format!("paths are relative to the configuration file; {help}");
                self.report.wrong(Some(file.span.clone()), message, help);
            })
            .ok()
    }

    fn path(&self, path: &str) -> PathBuf {
        self.base.join(path)
    }
}

fn is_encrypted(pem: &[u8]) -> bool {
    String::from_utf8_lossy(pem).contains("-----BEGIN ENCRYPTED PRIVATE KEY-----")
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// Reads `certificate` and `key` as two files; gives the problems found.
    fn read(certificate: &str, key: &str) -> Vec<String> {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("a.pem"), certificate).expect("written");
        std::fs::write(directory.path().join("a.key"), key).expect("written");
        let report = Report::default();
        let files = Files { base: directory.path(), report: &report };
        let (chain, key) = (Located { value: "a.pem", span: 0..1 }, Located { value: "a.key", span: 1..2 });
        let found = files.certified_key(&chain, &key);
        let problems = report.into_problems("", Vec::new());
        assert_eq!(found.is_some(), problems.is_empty());
        problems.into_iter().map(|problem| problem.message).collect()
    }

    fn pair() -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        (params.self_signed(&key).expect("signed").pem(), key.serialize_pem())
    }

    #[test]
    fn a_pair_that_belongs_together_is_taken() {
        let (certificate, key) = pair();
        assert_eq!(read(&certificate, &key), [""; 0]);
        assert_eq!(read(&format!("{certificate}{key}"), &format!("{certificate}{key}")), [""; 0], "one file for both");
    }

    #[test]
    fn what_is_wrong_with_a_pair_is_told() {
        let ((certificate, key), (_, other_key)) = (pair(), pair());
        assert_eq!(read(&certificate, &other_key), ["this key does not belong to the certificate in `a.pem`"]);
        assert_eq!(read("", &key), ["there is no certificate in `a.pem`"]);
        assert_eq!(read(&key, ""), ["there is no certificate in `a.pem`", "there is no private key in `a.key`"]);
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert_eq!(read(&certificate, encrypted), ["the private key in `a.key` is encrypted"]);
        let truncated = certificate.lines().take(3).collect::<Vec<_>>().join("\n");
        assert!(read(&truncated, &key).concat().contains("is not sound PEM"));
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(read(garbage, &key).concat().contains("the first certificate in `a.pem` cannot be used"));
        let bad_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        assert!(read(&certificate, bad_key).concat().contains("the private key in `a.key` cannot be used"));
    }

    #[test]
    fn a_file_that_is_not_there_is_told_with_its_path() {
        let report = Report::default();
        let files = Files { base: Path::new("/nowhere"), report: &report };
        assert!(files.roots(&Located { value: "ca.pem", span: 0..1 }).is_none());
        let problems = report.into_problems("", Vec::new());
        assert!(problems.iter().all(|problem| problem.message.contains("`/nowhere/ca.pem`")), "{problems:?}");
        assert_eq!(problems.len(), 1);
    }
}
