//! What the fuzzer once found stays fixed: every kept input goes through the promises that it was looked for with.

#[path = "../fuzz/invariants/mod.rs"]
#[allow(unreachable_pub, reason = "public for the fuzz targets, which are another crate")]
mod invariants;

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

/// Most files that are kept for one target, and most bytes in all of them: the fuzzer finds the others again.
const KEPT: (usize, u64) = (30, 32 * 1024);

#[test]
fn every_kept_input_keeps_the_promises() {
    let mut broken = Vec::new();
    for (target, check) in invariants::TARGETS {
        for file in files(&format!("corpus/{target}")) {
            let input = fs::read(&file).unwrap();
            // The panic has told what is wrong; this tells with which file.
            if catch_unwind(|| check(&input)).is_err() {
                broken.push(file);
            }
        }
    }
    assert!(broken.is_empty(), "these inputs break a promise: {broken:#?}");
}

#[test]
fn every_target_has_a_small_corpus_and_every_corpus_a_target() {
    let targets = invariants::TARGETS.map(|(target, _)| target.to_owned());
    let named =
        |folder| files(folder).iter().map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    let (programs, corpora): (Vec<String>, Vec<String>) = (named("targets"), named("corpus"));
    assert_eq!((programs.as_slice(), corpora.as_slice()), (targets.as_slice(), targets.as_slice()));
    for target in targets {
        let kept = files(&format!("corpus/{target}"));
        let size = kept.iter().map(|file| file.metadata().unwrap().len()).sum::<u64>();
        assert!((1..=KEPT.0).contains(&kept.len()), "{} files are kept for {target}", kept.len());
        assert!(size <= KEPT.1, "{size} bytes are kept for {target}");
        let program = fs::read_to_string(folder().join(format!("targets/{target}.rs"))).unwrap();
        assert!(
            program.contains(&format!("tidegate_fuzz::{target}::check(input)")),
            "targets/{target}.rs calls another target"
        );
    }
}

/// What is in a folder below `tests/fuzz`, sorted.
fn files(below: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder().join(below)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz")
}
