//! Whole files: those we ship, those in the manual, and broken ones.

use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

#[test]
fn the_files_we_ship_are_sound_and_say_the_defaults() {
    let repository = repository();
    let base = repository.path().join("config");
    let every_key = Config::parse(EVERY_KEY, "tidegate.toml", &base).unwrap_or_else(|problems| panic!("{problems}"));
    let local = Config::parse(LOCAL, "local.toml", &base).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(format!("{every_key:#?}"), format!("{local:#?}"));
}

#[test]
fn the_smallest_file_of_the_manual_is_the_local_one() {
    let repository = repository();
    let smallest = blocks("toml").into_iter().next().expect("a block");
    let smallest = Config::parse(smallest, "manual", repository.path()).unwrap_or_else(|problems| panic!("{problems}"));
    let local = Config::parse(LOCAL, "local.toml", &repository.path().join("config")).expect("sound");
    assert_eq!(format!("{smallest:#?}"), format!("{local:#?}"));
}

#[test]
fn a_file_is_loaded_with_paths_relative_to_it() {
    let repository = repository();
    let path = repository.path().join("config/local.toml");
    std::fs::write(&path, LOCAL).expect("written");
    let config = Config::load(&path).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.listeners.iter().filter_map(|listener| listener.tls.as_ref()).map(Vec::len).sum::<usize>(), 1);
    let problems = Config::load(&repository.path().join("none.toml")).expect_err("there is none").to_string();
    assert!(problems.contains("none.toml") && problems.contains("No such file") && problems.contains("help:"));
    std::fs::write(&path, [0xff]).expect("written");
    assert!(Config::load(&path).expect_err("no text").to_string().contains("save the file as UTF-8"));
}

#[test]
fn the_report_in_the_manual_is_what_its_file_gives() {
    let mistaken = blocks("toml").into_iter().next_back().expect("a block");
    let report = blocks("text").into_iter().next_back().expect("a block");
    assert_eq!(parse(mistaken).expect_err("mistaken").to_string(), report);
}

#[test]
fn six_mistakes_give_six_reports_in_one_run() {
    let mistaken = blocks("toml").into_iter().next_back().expect("a block");
    let expected = [
        "2:17 `drain_timeout` must be a duration with its unit, not a whole number",
        "5:11 `localhost:8443` is not an address to listen on",
        "9:14 `http://127.0.0.1:9000/api` is not an endpoint",
        "11:1 `auth` is missing in [[route]]",
        "15:12 there is no upstream `ap`",
        "18:1 `ping_intervall` is not known in [route.bridge]",
    ];
    assert_eq!(problems(mistaken), expected);
}

#[test]
fn every_key_is_in_the_full_file_and_in_the_manual() {
    let keys = keys();
    assert!(keys.len() > 40, "{keys:?}");
    // Lines of the file as `section.key`, the commented-out ones included.
    let (mut section, mut written) = (String::new(), String::new());
    for line in EVERY_KEY.lines() {
        // A section that is commented out is one that need not be there.
        let line = line.trim_start_matches("# ");
        if line.starts_with('[') {
            section = line.trim_matches(['[', ']']).replace("upstream.app", "upstream");
            // A table may stand under its own header, and is a key all the same.
            writeln!(written, "{section}").expect("a string takes all");
        }
        if let Some((key, value)) = line.split_once(" = ") {
            writeln!(written, "{section}.{key}").expect("a string takes all");
            for inner in value.split(['{', ',']).filter_map(|part| part.trim().split_once(" = ")) {
                writeln!(written, "{section}.{key}.{}", inner.0).expect("a string takes all");
            }
        }
    }
    for key in &keys {
        assert!(written.lines().any(|line| line == key), "{key} is not in config/tidegate.toml");
        let (section, name) = key.rsplit_once('.').expect("section.key");
        let chapter = MANUAL.split("\n## `").find(|chapter| {
            let title = chapter.split('`').next().unwrap_or_default().replace(".NAME", "");
            title.trim_matches(['[', ']']) == section
        });
        let chapter = chapter.unwrap_or_else(|| panic!("[{section}] is not in docs/configuration.md"));
        assert!(chapter.contains(&format!("\n| `{name}` |")), "{key} is not in docs/configuration.md");
    }
}

#[test]
fn an_empty_file_is_told_what_is_needed() {
    assert_eq!(problems(""), ["there is no [[listener]]", "there is no [[route]]"]);
    assert_eq!(problems("listener = []\nroute = []\n"), ["1:12 there is no [[listener]]", "2:9 there is no [[route]]"]);
}

#[test]
fn syntax_errors_are_reported_together_with_other_mistakes() {
    let text = "[server]\nthreads\ndrain_timeout = 10s\n[log]\nformat = \"xml\"\n[log]\n";
    let expected = [
        "2:1 key with no value",
        "3:17 string values must be quoted",
        "5:10 `format` cannot be `xml`",
        "6:2 `log` is defined twice",
    ];
    assert_eq!(problems(text), expected);
}

#[test]
fn a_broken_header_is_all_that_is_said_of_its_table() {
    assert_eq!(problems("[[route]\npath = \"/y\"\n"), ["1:9 unclosed array table"]);
}

proptest! {
    #[test]
    fn a_damaged_file_is_reported_and_never_panics(
        at: usize,
        length in 0_usize..80,
        put in "[\\[\\]{}=.,#\"'\n a-c0-9_-]{0,6}",
    ) {
        let sound = EVERY_KEY.replace("{ certificate = \"../certs/dev.pem\", key = \"../certs/dev.key\" }", "false");
        let start = at % sound.len();
        let end = (start + length).min(sound.len());
        let mut damaged = sound;
        damaged.replace_range(start..end, &put);
        if let Err(problems) = parse(&damaged) {
            prop_assert!(problems.len() > 0);
            prop_assert_eq!(problems.to_string().matches("error: ").count(), problems.len());
            prop_assert!(problems.to_string().contains("tidegate.toml"));
        }
    }
}
