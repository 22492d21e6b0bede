//! `[identity]`: the tokens that tell upstream who a client is.

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::pem::Files;
use super::reader::TableReader;
use super::secret::{KeyEntry, key_list, shared};
use crate::identity::Algorithm;
use crate::identity::signer::{ALGORITHMS, PairedKey, Signer};

/// The section.
#[derive(Debug)]
pub(super) struct Identity {
    /// `None` if something is wrong with it, which was reported.
    pub(super) signer: Option<Arc<Signer>>,
    /// For whom the tokens are; `None` is the name of the upstream that gets them.
    pub(super) audience: Option<Arc<str>>,
}

/// Reads the section.
pub(super) fn read(mut table: TableReader<'_>, files: Files<'_>) -> Identity {
    let form = "write keys = [{ id = \"...\", algorithm = \"ES256\", file = \"...\" }]";
    let field = table.required("keys", form);
    let entries = field.as_ref().map(|field| key_list(&table, field, "identity.keys", &ALGORITHMS, true, files));
    let issuer = text(&mut table, "issuer").unwrap_or_else(|| Arc::from("tidegate"));
    let audience = text(&mut table, "audience");
    let range = Duration::from_secs(10)..=Duration::from_hours(1);
    let lifetime = table.duration("lifetime", Duration::from_mins(1), range);
    table.finish();
    if let Some(field) = field.filter(|field| field.items().is_some_and(|items| items.is_empty())) {
        field.wrong("`keys` must name at least one", form);
    }
    let keys = entries.unwrap_or_default().iter().filter_map(key).collect();
    Identity { signer: Signer::new(keys, issuer, lifetime).map(Arc::new), audience }
}

/// What the library says of a key that it does not take may show parts of it, and does not say what to do.
fn key(entry: &KeyEntry<'_>) -> Option<PairedKey> {
    let key = PairedKey::new(shared(entry.id.as_ref()?), entry.algorithm, entry.material.expose_secret()).ok();
    if key.is_none() {
        let (kind, make) = match entry.algorithm {
            Algorithm::ES256 => ("an EC key on P-256", "EC -pkeyopt ec_paramgen_curve:P-256"),
            Algorithm::ES384 => ("an EC key on P-384", "EC -pkeyopt ec_paramgen_curve:P-384"),
            Algorithm::EdDSA => ("an Ed25519 key", "ed25519"),
            _ => ("an RSA key of 2048 to 8192 bits", "RSA -pkeyopt rsa_keygen_bits:2048"),
        };
        let message =
            format!("this is not the private key that {:?} needs: {kind}, unencrypted, as PEM", entry.algorithm);
        entry.field.wrong(message, format!("make one: openssl genpkey -algorithm {make} -out identity.key"));
    }
    key
}

/// A text that must say something.
fn text(table: &mut TableReader<'_>, key: &'static str) -> Option<Arc<str>> {
    let text = table.text(key)?;
    if text.value.is_empty() {
        table.report().wrong(Some(text.span), format!("`{key}` is empty"), "write a name, or leave the key out");
        return None;
    }
    Some(Arc::from(text.value))
}
