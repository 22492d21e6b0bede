//! Layering: which part may know which, and who may touch the world. The rules of `src/lib.rs`, read off the sources.

use std::fs;
use std::path::Path;

/// A file of `src`, without comments and unit tests.
struct Source {
    /// Below `src`, such as `edge/http.rs`.
    name: String,
    lines: Vec<(usize, String)>,
}

impl Source {
    /// Whether it belongs to one of these top-level modules.
    fn is_in(&self, modules: &[&str]) -> bool {
        let top = self.name.split('/').next().unwrap().trim_end_matches(".rs");
        modules.contains(&top)
    }

    /// Whether it is part of a folder of unit tests.
    fn is_test(&self) -> bool {
        self.name.contains("/tests/")
    }

    /// How deep its module lies below the crate's root.
    fn depth(&self) -> usize {
        let name = self.name.trim_end_matches("mod.rs").trim_end_matches('/');
        name.split('/').count()
    }

    /// Top-level modules that a line names, by `crate::` or by `super::` up to the root.
    fn modules_named(&self, line: &str) -> Vec<String> {
        let roots = ["crate::".to_owned(), "tidegate::".to_owned(), "super::".repeat(self.depth())];
        let mut named = Vec::new();
        for root in roots {
            for (at, _) in line.match_indices(&root) {
                // `somecrate::` is another crate, and one `super` more would be above the root.
                if line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':') {
                    continue;
                }
                let rest = &line[at + root.len()..];
                let is_name = |c: char| c.is_alphanumeric() || c == '_';
                match rest.strip_prefix('{') {
                    None => named.push(rest.split(|c| !is_name(c)).next().unwrap().to_owned()),
                    Some(group) => named.extend(top_of_group(group)),
                }
            }
        }
        named
    }
}

/// The first names in `a::b, c::{d, e}, f}`.
fn top_of_group(group: &str) -> Vec<String> {
    let (mut depth, mut names, mut name) = (0, Vec::new(), String::new());
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(std::mem::take(&mut name)),
            _ if depth == 0 => name.push(c),
            _ => {}
        }
    }
    names.push(name);
    let first = |name: String| name.trim().split([':', ' ']).next().unwrap_or_default().to_owned();
    names.into_iter().map(first).filter(|name| !name.is_empty()).collect()
}

/// All of `src`. A `use` over several lines is one line here, with the number of its first.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") && !name.ends_with("tests.rs") {
                sources.push(Source { name, lines: lines(&fs::read_to_string(&path).unwrap()) });
            }
        }
    }
    sources
}

fn lines(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut continues = false;
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
    for (number, line) in code.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("//") {
            continue;
        }
        // Behind ` // ` there is no code; a `//` without spaces may be part of a URL.
        let line = line.split(" // ").next().unwrap();
        if continues {
            lines.last_mut().unwrap().1.push_str(line);
        } else {
            lines.push((number + 1, line.to_owned()));
        }
        let last = &lines.last().unwrap().1;
        continues = (last.starts_with("use ") || last.starts_with("pub use ") || last.starts_with("pub(")) && {
            last.contains("use ") && !last.ends_with(';')
        };
    }
    lines
}

/// Asserts that no line of the sources breaks a rule, and names those that do. `breach` says what a line names that it
/// must not.
fn assert_rule(rule: &str, modules: &[&str], breach: impl Fn(&Source, &str) -> Option<String>) {
    let sources = sources();
    assert!(sources.len() > 40, "only {} files found", sources.len());
    let concerned: Vec<_> = sources.iter().filter(|source| modules.is_empty() || source.is_in(modules)).collect();
    let all_there = modules.iter().all(|module| concerned.iter().any(|source| source.is_in(&[module])));
    assert!(all_there && !concerned.is_empty(), "the rule is about {modules:?}, which are not all there");
    let mut broken = Vec::new();
    for source in concerned {
        for (number, line) in &source.lines {
            if let Some(what) = breach(source, line) {
                broken.push(format!("src/{}:{number} names {what}: {line}", source.name));
            }
        }
    }
    assert!(broken.is_empty(), "{rule}\n{}", broken.join("\n"));
}

/// Asserts that these modules do not know those.
fn assert_not_known(rule: &str, modules: &[&str], unknown: &[&str]) {
    assert_rule(rule, modules, |source, line| {
        source.modules_named(line).into_iter().find(|named| unknown.contains(&named.as_str()))
    });
}

/// The first of `words` in a line that is no part of a longer name.
fn word(line: &str, words: &[&str]) -> Option<String> {
    let found = words.iter().find(|word| {
        line.match_indices(*word).any(|(at, _)| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
    });
    found.map(|word| (*word).to_owned())
}

#[test]
fn formats_and_rules_know_nothing_but_themselves() {
    assert_not_known(
        "`protocol`, `session` and `identity` are pure: they know no other part but themselves",
        &["protocol", "session", "identity"],
        &[
            "access",
            "edge",
            "bridge",
            "proxy",
            "tunnel",
            "upstream",
            "ledger",
            "admin",
            "gateway",
            "config",
            "commands",
            "telemetry",
            "process",
        ],
    );
    assert_not_known("who a client is and what becomes of a connection are apart", &["identity"], &["session"]);
    assert_not_known("who a client is and what becomes of a connection are apart", &["session"], &["identity"]);
    assert_not_known("`protocol` does not know what `session` makes of it", &["protocol"], &["session", "identity"]);
}

/// What a pure part must not touch.
const WORLD: [&str; 18] = [
    "tokio::",
    "tokio_util::",
    "tokio_rustls::",
    "hyper::",
    "hyper_util::",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "UnixStream",
    "Instant::now",
    "SystemTime::now",
    ".elapsed()",
    "rand::",
    "getrandom",
    "now_v7",
    "RandomState",
    "thread::",
];

#[test]
fn formats_and_rules_touch_no_clock_no_socket_and_no_chance() {
    let rule = "`protocol`, `session` and `identity` are pure: bytes, values and instants come in as arguments";
    assert_rule(rule, &["protocol", "session", "identity"], |source, line| {
        // A test needs one instant to begin with; from there on it counts for itself.
        let line = if source.is_test() { line.replace(" Instant::now()", "") } else { line.to_owned() };
        word(&line, &WORLD)
    });
    let rule = "of the WebSocket library, `protocol` and `session` use the types of `tungstenite` alone";
    assert_rule(rule, &["protocol", "session"], |_, line| {
        let others = line.match_indices("tokio_tungstenite::").map(|(at, word)| &line[at + word.len()..]);
        others.filter(|rest| !rest.starts_with("tungstenite")).map(|_| "tokio_tungstenite".to_owned()).next()
    });
}

#[test]
fn the_websocket_codec_touches_no_socket() {
    let rule = "in `edge::websocket`, `socket` moves the bytes; what makes frames and messages of them is pure";
    assert_rule(rule, &["edge"], |source, line| {
        let pure = source.name.starts_with("edge/websocket/") && source.name != "edge/websocket/socket.rs";
        word(line, &WORLD).filter(|_| pure)
    });
}

/// Asserts that these files of a folder are there, and that none of their lines names what it must not.
fn assert_pure(folder: &str, files: &[&str], world: &[&str]) {
    let names: Vec<_> = files.iter().map(|file| format!("{folder}/{file}.rs")).collect();
    let sources = sources();
    for name in names {
        let source = sources.iter().find(|source| source.name == name);
        let source = source.unwrap_or_else(|| panic!("src/{name} is to be pure, and is not there"));
        for (number, line) in &source.lines {
            assert_eq!(word(line, world), None, "src/{name}:{number} is to be pure: {line}");
        }
    }
}

#[test]
fn rules_that_live_beside_their_io_touch_none_of_it() {
    assert_pure("tunnel", &["answer", "frames", "rules", "settings"], &WORLD);
    assert_pure("proxy", &["request", "response"], &WORLD);
    assert_pure("proxy/stream", &["head", "pace", "decode", "settings"], &WORLD);
    assert_pure("edge", &["frames", "resets", "split"], &WORLD);
    assert_pure("ledger", &["book", "client", "count", "phase", "report"], &WORLD);
    assert_pure("commands/doctor", &["cures", "findings", "front", "id", "measured", "report", "timing"], &WORLD);
    let world = ["tokio::", "hyper::", "Instant::now", "SystemTime::now", ".elapsed()", "now_v7", "Mutex", "Atomic"];
    assert_pure("upstream", &["balance", "breaker", "health", "pacer"], &world);
}

#[test]
fn each_side_knows_the_other_only_through_the_bridge() {
    assert_not_known(
        "`upstream` knows nothing of clients",
        &["upstream"],
        &["access", "identity", "edge", "bridge", "proxy", "tunnel", "ledger", "gateway"],
    );
    assert_not_known(
        "`tunnel` knows the client as a stream of bytes, and shares what the bridges share",
        &["tunnel"],
        &["access", "edge", "proxy", "ledger", "gateway"],
    );
    assert_not_known(
        "`access` asks applications and knows no connection",
        &["access"],
        &["edge", "bridge", "proxy", "tunnel", "ledger", "gateway"],
    );
    assert_not_known("`edge` knows nothing of upstreams", &["edge"], &["upstream", "gateway"]);
    assert_not_known(
        "`bridge` sees clients through its trait alone",
        &["bridge"],
        &["access", "edge", "proxy", "tunnel", "ledger", "gateway"],
    );
    assert_not_known(
        "`ledger` counts what it is told of and knows no part that serves",
        &["ledger"],
        &["access", "edge", "bridge", "proxy", "tunnel", "upstream", "session", "identity", "admin", "gateway"],
    );
    assert_not_known(
        "`proxy` sees clients as heads and bodies, and knows neither who lets them in nor WebSockets",
        &["proxy"],
        &["edge", "access", "bridge", "tunnel", "session", "ledger", "gateway"],
    );
    assert_not_known(
        "what serves does not know how it was configured or started",
        &["access", "edge", "bridge", "proxy", "tunnel", "upstream", "admin", "ledger"],
        &["config", "commands", "process"],
    );
}

#[test]
fn what_looks_inside_reads_what_the_bridge_has_counted_and_nobody_knows_that_it_looks() {
    assert_not_known(
        "`admin` sees clients and upstreams as those count them that serve",
        &["admin"],
        &["edge", "tunnel", "upstream"],
    );
    assert_not_known(
        "what serves does not know who looks at it",
        &["access", "edge", "bridge", "proxy", "tunnel", "upstream", "ledger", "telemetry", "process"],
        &["admin", "gateway"],
    );
    assert_not_known(
        "`telemetry` gives names; what is counted under them is brought by others",
        &["telemetry"],
        &["access", "edge", "bridge", "proxy", "tunnel", "upstream", "ledger", "config", "commands", "process"],
    );
}

#[test]
fn only_configuration_commands_and_process_read_files_and_environment() {
    let rule = "files and environment are read by `config`, `commands` and `process`; the others are told";
    assert_rule(rule, &[], |source, line| {
        // The ledger's store is a file of its own.
        if source.is_in(&["config", "commands", "process"]) || source.name == "ledger/store.rs" {
            return None;
        }
        let groups = line.match_indices("std::{").flat_map(|(at, group)| top_of_group(&line[at + group.len()..]));
        let grouped = groups.into_iter().find(|name| ["fs", "env"].contains(&name.as_str()));
        let found = word(line, &["std::fs", "tokio::fs", "std::env", "File::open", "fs::read", "env::var", "env!("]);
        found.or(grouped.map(|name| format!("std::{name}")))
    });
}

#[test]
fn every_task_has_an_owner() {
    let rule = "tasks are spawned on the tracker or join set of their owner, which stops them and waits for them";
    assert_rule(rule, &[], |_, line| {
        word(line, &["tokio::spawn(", "task::spawn(", "tokio::task::spawn_local(", "use tokio::spawn"])
    });
}

#[test]
fn the_reader_of_sources_sees_what_the_rules_are_about() {
    let source = |name: &str, text: &str| Source { name: name.to_owned(), lines: lines(text) };
    let named = |name: &str, line: &str| source(name, "").modules_named(line);
    assert_eq!(named("edge/http.rs", "use crate::{bridge::open, upstream as backend, session::{a, b}};").len(), 3);
    assert_eq!(named("edge/http.rs", "fn f(x: &crate::upstream::Pool)"), ["upstream"]);
    assert_eq!(named("edge/http.rs", "use super::super::upstream::Pool;"), ["upstream"]);
    assert_eq!(named("edge/mod.rs", "use super::upstream;"), ["upstream"]);
    assert_eq!(named("telemetry.rs", "use super::upstream;"), ["upstream"]);
    assert_eq!(named("edge/http.rs", "use super::upstream; use somecrate::upstream;"), [""; 0]);
    let text =
        "use crate::{\n    // one\n    upstream, // two\n};\nlet x = 1;\n#[cfg(test)]\nmod tests { use crate::edge; }";
    let read = source("bridge/mod.rs", text);
    assert_eq!(read.lines[0], (1, "use crate::{upstream,};".to_owned()));
    assert_eq!(read.lines.len(), 2);
}
