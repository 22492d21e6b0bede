//! `tidegate dev-cert`: a self-signed certificate for work on one machine.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};
use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::pki_types::DnsName;

/// Names that every development certificate carries.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];
const DAY: Duration = Duration::from_hours(24);
/// Several platforms refuse a server certificate that is valid for longer than 398 days.
const VALID_DAYS: u32 = 397;
const KEY_MODE: u32 = 0o600;
const CERTIFICATE_MODE: u32 = 0o644;

/// What `tidegate dev-cert` is told.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory that dev.pem and dev.key are written to; created if it is missing
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// Replace dev.pem and dev.key if they exist
    #[arg(long)]
    pub force: bool,
    /// One more DNS name or IP address that the certificate is good for; may be repeated
    #[arg(long = "name", value_name = "NAME")]
    pub names: Vec<String>,
}

/// A certificate and the key that belongs to it, both as PEM.
pub struct DevCertificate {
    /// The certificate, one `CERTIFICATE` block.
    pub certificate_pem: String,
    /// The private key in PKCS#8, one `PRIVATE KEY` block.
    pub key_pem: String,
    /// SHA-256 of the certificate's DER form, as pairs of hex digits joined by colons.
    pub fingerprint: String,
    /// Every name the certificate is good for.
    pub names: Vec<String>,
}

impl std::fmt::Debug for DevCertificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DevCertificate({})", self.fingerprint)
    }
}

/// Why no development certificate was made or written.
#[derive(Debug, thiserror::Error)]
pub enum DevCertError {
    /// A name is neither a DNS name nor an IP address.
    #[error("{name:?} is neither a DNS name nor an IP address; give it as `example.test` or `192.0.2.1`")]
    Name {
        /// The name as it was given.
        name: String,
    },
    /// Key or certificate could not be generated.
    #[error("cannot generate a certificate")]
    Generate {
        /// What the generator said.
        source: rcgen::Error,
    },
    /// A file is there already.
    #[error("{} exists; use --force to replace it, or name another directory", path.display())]
    Exists {
        /// The file that would have been overwritten.
        path: PathBuf,
    },
    /// The directory or a file could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Writes `dev.pem` and `dev.key` and says on stdout what to do with them.
///
/// # Errors
///
/// [`DevCertError`] when a name is no name, a file is there already and `--force` is not given, or writing fails.
pub fn run(args: &Args) -> Result<(), DevCertError> {
    let certificate_path = args.directory.join("dev.pem");
    let key_path = args.directory.join("dev.key");
    if !args.force
        && let Some(path) = [&certificate_path, &key_path].into_iter().find(|path| path.symlink_metadata().is_ok())
    {
        return Err(DevCertError::Exists { path: path.clone() });
    }
    let made = generate(&args.names)?;
    fs::create_dir_all(&args.directory)
        .map_err(|source| DevCertError::Write { path: args.directory.clone(), source })?;
    write(&key_path, &made.key_pem, KEY_MODE, args.force)?;
    write(&certificate_path, &made.certificate_pem, CERTIFICATE_MODE, args.force)?;
    // The files are written: a closed stdout does not make that a failure.
    let _ = writeln!(
        io::stdout(),
        "wrote {pem}, a certificate for {names}, good for {VALID_DAYS} days\n\
         wrote {key}, its private key, readable by you alone\n\
         SHA-256 {fingerprint}\n\
         next: name both files as certificate and key of a listener, and let clients trust {pem}:\n  \
         tidegate connect wss://localhost:8443/ --ca {pem}\n  \
         curl --cacert {pem} https://localhost:8443/",
        pem = certificate_path.display(),
        key = key_path.display(),
        names = made.names.join(", "),
        fingerprint = made.fingerprint,
    );
    Ok(())
}

/// Makes an ECDSA P-256 certificate for localhost, 127.0.0.1, `::1` and `names`, signed by its own key.
///
/// It is valid from yesterday on, so that a clock that is a little slow does not refuse it, and it is no CA: whoever
/// trusts it trusts this one certificate.
///
/// # Errors
///
/// [`DevCertError::Name`] for a name that a certificate cannot carry, [`DevCertError::Generate`] when the system's
/// source of randomness fails.
pub fn generate(names: &[String]) -> Result<DevCertificate, DevCertError> {
    let generating = |source| DevCertError::Generate { source };
    let mut all: Vec<String> = LOCAL_NAMES.map(String::from).to_vec();
    for name in names {
        if !is_name(name) {
            return Err(DevCertError::Name { name: name.clone() });
        }
        if !all.contains(name) {
            all.push(name.clone());
        }
    }
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(generating)?;
    let mut params = CertificateParams::new(all.clone()).map_err(generating)?;
    // With a name of its own per key, a client that trusts another one says "unknown issuer", not "bad signature".
    let mark = hex(params.key_identifier(&key).get(..4).unwrap_or_default(), "");
    params.distinguished_name = DistinguishedName::new();
    let name = format!("tidegate development certificate {}", mark.to_lowercase());
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + now.saturating_sub(DAY);
    params.not_after = params.not_before + DAY * VALID_DAYS;
    let certificate = params.self_signed(&key).map_err(generating)?;
    Ok(DevCertificate {
        certificate_pem: certificate.pem(),
        key_pem: key.serialize_pem(),
        fingerprint: fingerprint(certificate.der()),
        names: all,
    })
}

fn is_name(name: &str) -> bool {
    name.parse::<IpAddr>().is_ok() || DnsName::try_from(name.strip_prefix("*.").unwrap_or(name)).is_ok()
}

fn fingerprint(der: &[u8]) -> String {
    // The TLS library brings SHA-256 along for its cipher suites; that saves a dependency for one hash.
    match TLS13_AES_128_GCM_SHA256 {
        SupportedCipherSuite::Tls13(suite) => hex(suite.common.hash_provider.hash(der).as_ref(), ":"),
        SupportedCipherSuite::Tls12(_) => String::from("unknown"),
    }
}

fn hex(bytes: &[u8], separator: &str) -> String {
    let mut text = String::new();
    for byte in bytes {
        let separator = if text.is_empty() { "" } else { separator };
        let _ = write!(text, "{separator}{byte:02X}");
    }
    text
}

/// Writes a file that was not there before, or with `replace` puts a complete new one in the place of the old.
fn write(path: &Path, text: &str, mode: u32, replace: bool) -> Result<(), DevCertError> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::AlreadyExists => DevCertError::Exists { path: path.to_owned() },
        _ => DevCertError::Write { path: path.to_owned(), source },
    };
    if !replace {
        return create(path, text, mode).map_err(failed);
    }
    let fresh = path.with_extension(format!("new-{}", std::process::id()));
    create(&fresh, text, mode).and_then(|()| fs::rename(&fresh, path)).map_err(|error| {
        let _ = fs::remove_file(&fresh);
        failed(error)
    })
}

fn create(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?; // whatever the umask left of it
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
    use rustls::sign::CertifiedKey;

    fn parsed(made: &DevCertificate) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        (
            CertificateDer::from_pem_slice(made.certificate_pem.as_bytes()).unwrap(),
            PrivateKeyDer::from_pem_slice(made.key_pem.as_bytes()).unwrap(),
        )
    }

    #[test]
    fn certificate_matches_its_key_and_is_trusted_for_every_name_by_whoever_trusts_it() {
        let made = generate(&["chat.example".into(), "192.0.2.7".into()]).unwrap();
        let (certificate, key) = parsed(&made);
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        CertifiedKey::from_der(vec![certificate.clone()], key, &provider).unwrap().keys_match().unwrap();

        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let verifier =
            rustls::client::WebPkiServerVerifier::builder_with_provider(roots.into(), provider.into()).build().unwrap();
        let check = |name: &str, at: UnixTime| {
            use rustls::client::danger::ServerCertVerifier;
            let name = ServerName::try_from(name.to_owned()).unwrap();
            verifier.verify_server_cert(&certificate, &[], &name, &[], at)
        };
        for name in ["localhost", "127.0.0.1", "::1", "chat.example", "192.0.2.7"] {
            check(name, UnixTime::now()).unwrap();
        }
        assert!(check("other.example", UnixTime::now()).is_err());
        let later = Duration::from_secs(UnixTime::now().as_secs()) + DAY * 397;
        assert!(check("localhost", UnixTime::since_unix_epoch(later)).is_err());
    }

    #[test]
    fn names_that_no_certificate_can_carry_are_refused_by_name() {
        for bad in ["", "a b", "https://x", "x..y", "ä.example"] {
            let error = generate(&[bad.to_owned()]).unwrap_err();
            assert!(matches!(&error, DevCertError::Name { name } if name == bad), "{bad:?}: {error}");
        }
        assert_eq!(generate(&["*.example.test".into(), "localhost".into()]).unwrap().names.len(), 4);
    }

    #[test]
    fn key_is_private_and_nothing_is_overwritten_without_force() {
        let temporary = tempfile::tempdir().unwrap();
        let mut args = Args { directory: temporary.path().join("a/b"), force: false, names: vec![] };
        run(&args).unwrap();
        let key = args.directory.join("dev.key");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&key), 0o600);
        let first = fs::read(&key).unwrap();
        assert!(matches!(run(&args), Err(DevCertError::Exists { .. })));
        assert_eq!(fs::read(&key).unwrap(), first);
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        args.force = true;
        run(&args).unwrap();
        assert_ne!(fs::read(&key).unwrap(), first);
        assert_eq!(mode(&key), 0o600);
        assert_eq!(fs::read_dir(&args.directory).unwrap().count(), 2);
    }
}
