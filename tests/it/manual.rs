//! What a client can be told stands in the manual: every kind of refusal in the sources has its row.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Every source but those of tests.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        // What commands say is said on the terminal.
        if path.is_dir() && !["tests", "commands"].contains(&name.as_str()) {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") && name != "tests.rs" {
            found.push(path);
        }
    }
}

/// The first text behind each place in the code.
fn texts_behind(code: &str, place: &str) -> Vec<String> {
    let texts = code.split(place).skip(1).filter_map(|rest| rest.split('"').nth(1));
    texts.map(str::to_owned).collect()
}

/// Words with hyphens and nothing else: what kinds look like.
fn is_kind(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

#[test]
fn every_kind_of_refusal_is_in_the_manual() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    let mut kinds = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        kinds.extend(texts_behind(code, "Problem::new("));
        // Kinds of tickets and bearer tokens stand in tables of their own.
        for prefix in ["\"ticket-", "\"token-"] {
            let words = code.split(prefix).skip(1).filter_map(|rest| Some(rest.split_once('"')?.0));
            kinds.extend(words.map(|word| format!("{}{word}", prefix.trim_start_matches('"'))));
        }
    }
    kinds.retain(|kind| is_kind(kind));
    assert!(kinds.len() > 60, "{kinds:#?}");
    let manual: String = ["docs/operations.md", "docs/tickets.md", "docs/configuration.md"]
        .map(|page| fs::read_to_string(root.join(page)).unwrap())
        .concat();
    // A row may name several that begin alike: `upstream-forbidden`, `-not-found`.
    let is_told = |kind: &String| {
        let end = kind.split_once('-').map(|(_, end)| end);
        manual.contains(&format!("`{kind}`")) || end.is_some_and(|end| manual.contains(&format!("`-{end}`")))
    };
    let missing: Vec<_> = kinds.iter().filter(|kind| !is_told(kind)).collect();
    assert!(missing.is_empty(), "the manual does not say {missing:?}");
}
