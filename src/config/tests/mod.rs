//! Files that are sound but for one thing, by section.

mod bridge;
mod files;
mod listener;
mod process;
mod route;
mod upstream;
mod values;

use std::path::Path;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;

const EVERY_KEY: &str = include_str!("../../../config/tidegate.toml");
const LOCAL: &str = include_str!("../../../config/local.toml");
const MANUAL: &str = include_str!("../../../docs/configuration.md");

const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = false\n";
const UPSTREAM: &str = "[upstream.app]\nendpoints = [\"http://127.0.0.1:9000\"]\n";
pub(super) const BRIDGE: &str = "[route.bridge]\nupstream = \"app\"\nevents = \"/e\"\nmessages = \"/m\"\n";

/// A directory like the repository: `certs/dev.pem` and `certs/dev.key`, and an empty `config`.
pub(super) fn repository() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
    for name in ["certs", "config"] {
        std::fs::create_dir(directory.path().join(name)).expect("made");
    }
    let certificate = params.self_signed(&key).expect("signed").pem();
    std::fs::write(directory.path().join("certs/dev.pem"), certificate).expect("written");
    std::fs::write(directory.path().join("certs/dev.key"), key.serialize_pem()).expect("written");
    directory
}

pub(super) fn parse(text: &str) -> Result<Config, Problems> {
    Config::parse(text, "tidegate.toml", Path::new("/nowhere"))
}

/// `line:column message` of every problem of a file.
pub(super) fn problems(text: &str) -> Vec<String> {
    let Err(problems) = parse(text) else { return Vec::new() };
    let show = |problem: &Problem| match problems.position(problem) {
        Some((line, column)) => format!("{line}:{column} {}", problem.message),
        None => problem.message.clone(),
    };
    problems.iter().map(show).collect()
}

/// A file that is sound but for what is added to its sections.
pub(super) fn file(server: &str, listener: &str, upstream: &str, route: &str, bridge: &str) -> String {
    let route = if route.contains("path") { route.to_owned() } else { format!("path = \"/chat\"\n{route}") };
    format!(
        "{server}\n{LISTENER}{listener}\n{UPSTREAM}{upstream}\n[[route]]\nauth = \"none\"\n{route}\n{BRIDGE}{bridge}\n"
    )
}

/// The messages for a bridge with these lines.
fn bridge(lines: &str) -> String {
    let problems: Vec<_> = parse(&file("", "", "", "", lines)).err().into_iter().collect();
    problems.iter().flat_map(Problems::iter).map(told).collect::<Vec<_>>().join("\n")
}

pub(super) fn told(problem: &Problem) -> String {
    format!("{}; {}", problem.message, problem.help.as_deref().unwrap_or_default())
}

/// The message and help of the only problem of a file.
#[track_caller]
pub(super) fn only(text: &str) -> String {
    let problems = parse(text).expect_err(text);
    assert_eq!(problems.len(), 1, "{problems}");
    problems.iter().map(told).collect()
}

/// The fenced blocks of the manual in a language.
fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    MANUAL.split(fence.as_str()).skip(1).filter_map(|rest| rest.split("```").next()).collect()
}
