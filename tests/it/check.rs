//! `tidegate check`, and what is printed of a mistaken file: through the real binary, as its users run it.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::gateway::certificates;
use crate::support::process::{Process, tidegate};

const SOUND: &str = r#"[[listener]]
address = "127.0.0.1:8443"
tls = { certificate = "certs/dev.pem", key = "certs/dev.key" }

[upstream.app]
endpoints = ["http://127.0.0.1:9000"]

[[route]]
path = "/chat"
auth = "none"
bridge = { upstream = "app", events = "/events", messages = "/messages" }
"#;

/// Seven lines, of which six hold a mistake; the address is put in by the scene.
const MISTAKEN: &str = r#"[server]
drain_timeout = 30

[[listener]]
address = "ADDRESS"
tls = { certificate = "certs/dev.pem", key = "certs/missing.key" }
max_conections = 10

[upstream.app]
endpoints = ["ftp://127.0.0.1"]
protocol = "http3"

[[route]]
path = "/chat"
auth = "none"

[route.bridge]
upstream = "app"
events = "/events"
messages = "/messages"
ping_intervall = "30s"
"#;

/// Where the mistakes are, what is underlined, and a part of what is said.
const MISTAKES: [(&str, &str, &str); 6] = [
    ("2:17", "30", "must be a duration with its unit"),
    ("6:46", "\"certs/missing.key\"", "certs/missing.key"),
    ("7:1", "max_conections", "help: did you mean `max_connections`?"),
    ("10:14", "\"ftp://127.0.0.1\"", "is not an endpoint"),
    ("11:12", "\"http3\"", "`protocol` cannot be `http3`"),
    ("21:1", "ping_intervall", "help: did you mean `ping_interval`?"),
];

/// What a command printed and how it ended.
struct Outcome {
    code: i32,
    stdout: String,
    stderr: String,
}

/// Runs a command in a folder, with the certificate of the scenes, on a file of this text.
async fn run(files: &TempDir, command: &str, text: &str) -> Outcome {
    fs::write(files.path().join("tidegate.toml"), text).unwrap();
    run_on(tidegate(&[command, "tidegate.toml"]).current_dir(files.path())).await
}

async fn run_on(command: &mut Command) -> Outcome {
    let mut process = Process::start(command);
    let code = process.exit().await;
    let text = |lines: Vec<String>| lines.into_iter().map(|line| line + "\n").collect();
    Outcome { code, stdout: text(process.stdout.all()), stderr: text(process.stderr.all()) }
}

/// The reports of a run that are about `tidegate.toml`: place, underlined text, and all of it.
fn reports(stderr: &str) -> Vec<(String, String, String)> {
    let report = |text: &str| {
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("error: "), "{text}");
        let place = lines[1].trim_start().strip_prefix("--> tidegate.toml:").expect(text).to_owned();
        // The source stands above the carets, and both begin in the same column.
        let at = lines.iter().position(|line| line.contains('^')).expect(text);
        let (from, to) = (lines[at].find('^').unwrap(), lines[at].rfind('^').unwrap());
        assert!(lines[at - 1].starts_with(place.split(':').next().unwrap()), "{text}");
        // What is missing at the end of a line has nothing above its caret.
        (place, lines[at - 1].get(from..=to).unwrap_or_default().to_owned(), text.to_owned())
    };
    stderr.trim_end().split("\n\n").map(report).collect()
}

#[tokio::test]
async fn a_sound_file_is_good_and_nothing_is_started() {
    let files = certificates();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let sound = SOUND.replace("127.0.0.1:8443", &taken.local_addr().unwrap().to_string());
    let checked = run(&files, "check", &sound).await;
    assert_eq!((checked.code, checked.stderr.as_str()), (0, ""));
    assert!(checked.stdout.starts_with("tidegate.toml: good"), "{}", checked.stdout);
    // The address really is one that nobody can start on.
    let started = run(&files, "run", &sound).await;
    assert_eq!(started.code, 1, "{}", started.stderr);
    assert!(started.stderr.contains(&taken.local_addr().unwrap().to_string()), "{}", started.stderr);
}

#[tokio::test]
async fn six_mistakes_are_reported_in_one_run_each_with_its_place_and_nothing_is_started() {
    let files = certificates();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let mistaken = MISTAKEN.replace("ADDRESS", &taken.local_addr().unwrap().to_string());
    for command in ["check", "run"] {
        let outcome = run(&files, command, &mistaken).await;
        // To start would be to fail on the address, which is 1.
        assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""), "{}", outcome.stderr);
        let reports = reports(&outcome.stderr);
        assert_eq!(reports.len(), MISTAKES.len(), "{}", outcome.stderr);
        for ((place, underlined, text), (expected_place, expected_text, said)) in reports.iter().zip(MISTAKES) {
            assert_eq!((place.as_str(), underlined.as_str()), (expected_place, expected_text), "{text}");
            assert!(text.contains(said) && text.contains("= help: "), "{text}");
        }
    }
}

#[tokio::test]
async fn a_file_that_is_broken_as_toml_is_reported_with_its_place() {
    let files = certificates();
    let outcome = run(&files, "check", &SOUND.replace("[upstream.app]", "[upstream.app")).await;
    assert_eq!(outcome.code, 2);
    assert_eq!(reports(&outcome.stderr).len(), 1, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("--> tidegate.toml:5:"), "{}", outcome.stderr);
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let files = certificates();
    for command in ["check", "run"] {
        for (file, why) in [("none.toml", "check the path"), ("certs", "name the file, not its directory")] {
            let outcome = run_on(tidegate(&[command, file]).current_dir(files.path())).await;
            assert_eq!((outcome.code, outcome.stdout.as_str()), (2, ""));
            assert!(outcome.stderr.contains(file) && outcome.stderr.contains(why), "{}", outcome.stderr);
        }
    }
    assert_eq!(run_on(&mut tidegate(&["check"])).await.code, 2, "no file at all");
    assert_eq!(run_on(&mut tidegate(&["chekc", "tidegate.toml"])).await.code, 2, "no such command");
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Files of a folder of the repository whose names end like this.
fn files_in(folder: &str, ending: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository().join(folder)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_str().unwrap().ends_with(ending));
    files.sort();
    files
}

#[tokio::test]
async fn every_configuration_that_we_ship_is_good() {
    let files = certificates();
    fs::create_dir(files.path().join("config")).unwrap();
    let shipped = files_in("config", ".toml");
    assert!(shipped.len() >= 2, "{shipped:?}");
    for path in shipped {
        let copy = files.path().join("config").join(path.file_name().unwrap());
        fs::copy(&path, &copy).unwrap();
        let outcome = run_on(tidegate(&["check"]).arg(copy)).await;
        assert_eq!(outcome.code, 0, "{}: {}", path.display(), outcome.stderr);
    }
}

/// The fenced blocks of a text: language and content, in order.
fn blocks(markdown: &str) -> Vec<(String, String)> {
    let mut blocks = Vec::new();
    let mut open: Option<(String, String)> = None;
    for line in markdown.lines() {
        open = match (open.take(), line.trim_start().strip_prefix("```")) {
            (None, None) => None,
            (None, Some(language)) => Some((language.to_owned(), String::new())),
            (Some(block), Some(_)) => {
                blocks.push(block);
                None
            }
            (Some((language, text)), None) => Some((language, text + line + "\n")),
        };
    }
    assert!(open.is_none(), "a block is not closed");
    blocks
}

#[tokio::test]
async fn every_configuration_in_the_docs_is_whole_and_good_or_has_the_report_that_is_printed_below_it() {
    let mut configurations = 0;
    for path in [files_in("", ".md"), files_in("docs", ".md"), files_in("docs/decisions", ".md")].concat() {
        let blocks = blocks(&fs::read_to_string(&path).unwrap());
        for (at, (language, text)) in blocks.iter().enumerate() {
            if !language.starts_with("toml") {
                continue;
            }
            configurations += 1;
            let files = certificates();
            // What `openssl rand -hex 32` gives.
            fs::write(files.path().join("ticket.key"), "0123456789abcdef".repeat(4)).unwrap();
            let outcome = run(&files, "check", text).await;
            match blocks.get(at + 1) {
                Some((_, report)) if report.starts_with("error: ") => {
                    assert_eq!((outcome.code, &outcome.stderr), (2, report), "{}", path.display());
                }
                _ => assert_eq!(outcome.code, 0, "{}:\n{text}\n{}", path.display(), outcome.stderr),
            }
        }
    }
    assert!(configurations >= 3, "only {configurations} found");
}
