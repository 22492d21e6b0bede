//! Secrets and keys: never in the configuration itself, but in a file or in a variable of the environment.

use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretSlice};
use toml::de::DeValue;

use super::field::{Field, Located};
use super::pem::Files;
use super::problem::quote;
use super::reader::TableReader;
use crate::identity::Algorithm;
use crate::identity::key::least_secret;

const FORM: &str = "write { file = \"...\" } or { env = \"...\" }: secrets do not stand in the configuration";

/// One entry of a list of keys.
#[derive(Debug)]
pub(super) struct KeyEntry<'a> {
    /// Where it stands, for further problems.
    pub(super) field: Field<'a>,
    /// Its name, `kid` in tokens.
    pub(super) id: Option<Located<&'a str>>,
    pub(super) algorithm: Algorithm,
    /// What its file or variable holds; for the HS algorithms without a line end at its end, and long enough.
    pub(super) material: SecretSlice<u8>,
}

/// Reads a table of exactly one of `file` and `env`, such as `password = { file = "redis.password" }`.
pub(super) fn secret<'a>(
    outer: &TableReader<'a>,
    field: &Field<'a>,
    section: &'static str,
    files: Files<'_>,
) -> Option<SecretSlice<u8>> {
    if !matches!(field.value, DeValue::Table(_)) {
        field.wrong_type("a table", FORM);
        return None;
    }
    let mut table = outer.table_of(field, section, format!("`{}`", field.key))?;
    let secret = source(&mut table, field, files);
    table.finish();
    secret.map(|secret| without_line_end(&secret))
}

/// Reads `keys = [{ id, algorithm, file or env }, ...]`. Names must differ. What is wrong is reported and left out.
pub(super) fn key_list<'a>(
    outer: &TableReader<'a>,
    field: &Field<'a>,
    section: &'static str,
    algorithms: &[(&'static str, Algorithm)],
    needs_id: bool,
    files: Files<'_>,
) -> Vec<KeyEntry<'a>> {
    let form = "write keys = [{ id = \"...\", algorithm = \"...\", file = \"...\" }]";
    let Some(items) = field.items() else {
        field.wrong_type("a list of tables", form);
        return Vec::new();
    };
    let mut keys: Vec<KeyEntry<'a>> = Vec::new();
    for item in items {
        if !matches!(item.value, DeValue::Table(_)) {
            item.wrong_type("a list of tables", form);
            continue;
        }
        let Some(mut table) = outer.table_of(&item, section, format!("`{}`", field.key)) else { continue };
        let id = if needs_id {
            table.required("id", "name the key: tokens carry that name as kid").and_then(|id| id.text())
        } else {
            table.text("id")
        };
        let algorithm = table.required("algorithm", "a key has one algorithm, whatever a token says of itself");
        let algorithm = algorithm.and_then(|algorithm| algorithm.choice(algorithms));
        let material = source(&mut table, &item, files);
        table.finish();
        if let Some(id) = &id
            && (id.value.is_empty() || id.value.len() > 64 || id.value.chars().any(char::is_control))
        {
            let message = format!("{} cannot be the name of a key", quote(id.value));
            item.report.wrong(Some(id.span.clone()), message, "write a name of 1 to 64 bytes");
        }
        let twice = |id: &Located<&str>| keys.iter().filter_map(|key| key.id.as_ref()).any(|key| key.value == id.value);
        if let Some(id) = id.as_ref().filter(|id| twice(id)) {
            let message = format!("two keys are called {}", quote(id.value));
            item.report.wrong(Some(id.span.clone()), message, "give each key a name of its own");
        }
        let (Some(algorithm), Some(mut material)) = (algorithm, material) else { continue };
        if matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) {
            material = without_line_end(&material);
            if material.expose_secret().trim_ascii_start().starts_with(b"-----BEGIN ") {
                let message = format!("this is PEM, and {algorithm:?} needs a secret: everybody may have a public key");
                item.wrong(message, "name a file with a secret, or the algorithm that the key is for");
                continue;
            }
            let (length, least) = (material.expose_secret().len(), least_secret(algorithm));
            if length < least {
                let message = format!("this secret has {length} bytes, and {algorithm:?} needs {least} at least");
                item.wrong(message, format!("make a longer one: openssl rand -hex {least}"));
                continue;
            }
        }
        keys.push(KeyEntry { field: item, id, algorithm, material });
    }
    keys
}

/// A name that many own.
pub(super) fn shared(id: &Located<&str>) -> Arc<str> {
    Arc::from(id.value)
}

fn source(table: &mut TableReader<'_>, place: &Field<'_>, files: Files<'_>) -> Option<SecretSlice<u8>> {
    match (table.text("file"), table.text("env")) {
        (Some(file), None) => {
            files.bytes(&file, "name a file that holds the secret or key, and nothing else").map(Into::into)
        }
        (None, Some(name)) => {
            let found = std::env::var_os(name.value).map(std::ffi::OsString::into_encoded_bytes);
            if found.is_none() {
                let message = format!("there is no variable {} in the environment", quote(name.value));
                table.report().wrong(Some(name.span), message, "set it before tidegate starts, or name a file");
            }
            found.map(Into::into)
        }
        (None, None) => {
            place.wrong(format!("`{}` says neither `file` nor `env`", place.key), FORM);
            None
        }
        (Some(_), Some(_)) => {
            place.wrong(format!("`{}` says both `file` and `env`", place.key), FORM);
            None
        }
    }
}

/// Editors end a file with a line end, which is no part of a secret.
fn without_line_end(secret: &SecretSlice<u8>) -> SecretSlice<u8> {
    let bytes = secret.expose_secret();
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    bytes.strip_suffix(b"\r").unwrap_or(bytes).to_vec().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_end_is_no_part_of_a_secret() {
        for (held, secret) in [("a", "a"), ("a\n", "a"), ("a\r\n", "a"), ("a\n\n", "a\n"), ("", "")] {
            let read = without_line_end(&held.as_bytes().to_vec().into());
            assert_eq!(read.expose_secret(), secret.as_bytes());
            assert!(!format!("{read:?}").contains('a') || secret.is_empty(), "{read:?}");
        }
    }
}
