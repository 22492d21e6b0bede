//! `tidegate ticket`: made and explained through the real binary.

use std::fs;

use tempfile::TempDir;

use crate::support::process::{Process, tidegate};

const CONFIG: &str = r#"[[listener]]
address = "127.0.0.1:0"
tls = false

[ticket]
keys = [{ id = "k1", algorithm = "HS256", file = "secret" }]

[upstream.app]
endpoints = ["http://127.0.0.1:9000"]

[[route]]
path = "/chat"
auth = "none"
bridge = { upstream = "app", events = "/events", messages = "/messages" }
"#;

const MINT: [&str; 8] = ["ticket", "mint", "--config", "tidegate.toml", "--route", "chat", "--subject", "ada"];

/// A folder with a configuration that has a ticket key.
fn files() -> TempDir {
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("tidegate.toml"), CONFIG).unwrap();
    fs::write(files.path().join("secret"), "0123456789abcdef0123456789abcdef\n").unwrap();
    files
}

/// Exit code, stdout and stderr of a command that reads `input`.
async fn run(files: &TempDir, arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut command = tidegate(arguments);
    let mut process = Process::start_with_input(command.current_dir(files.path()), input.into());
    let code = process.exit().await;
    (code, process.stdout.all().join("\n"), process.stderr.all().join("\n"))
}

#[tokio::test]
async fn a_ticket_is_made_and_accepted_by_the_same_keys_alone() {
    let files = files();
    let more = ["--origin", "https://App.example:443", "--claim", "tenant=north=1", "--lifetime", "2m"];
    let (code, ticket, told) = run(&files, &[&MINT[..], &more].concat(), "").await;
    assert_eq!(code, 0, "{told}");
    assert!(!told.contains(&ticket), "the ticket is on stdout alone: {told}");

    let check = ["ticket", "explain", "--config", "tidegate.toml"];
    let (code, text, _) = run(&files, &check, &format!("{ticket}\n")).await;
    assert_eq!(code, 0, "{text}");
    for said in ["\"https://app.example\"", "\"tenant\": \"north=1\"", "expires: ", " GMT, in ", "good, of key \"k1\""]
    {
        assert!(text.contains(said), "{said} in {text}");
    }
    fs::write(files.path().join("secret"), "another secret that is as long as this").unwrap();
    let (code, text, _) = run(&files, &check, &ticket).await;
    assert_eq!(code, 1);
    assert!(text.ends_with("refused: ticket-invalid, the key that it names has not signed it"), "{text}");
}

#[tokio::test]
async fn what_is_explained_without_keys_is_said_to_be_unchecked() {
    let files = files();
    let (_, ticket, _) = run(&files, &MINT, "").await;
    let (code, text, _) = run(&files, &["ticket", "explain"], &ticket).await;
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("\"sub\": \"ada\"") && text.contains("signature: not checked"), "{text}");
    assert_eq!(run(&files, &["ticket", "explain", &ticket], "").await.1, text);
    let (code, text, told) = run(&files, &["ticket", "explain", "-"], "s3cret\n").await;
    assert_eq!((code, text.as_str()), (1, ""));
    assert!(told.contains("this is no JSON Web Token") && !told.contains("s3cret"), "{told}");
}

#[tokio::test]
async fn no_ticket_is_made_that_nobody_would_take() {
    let files = files();
    for (more, why) in [
        (["--lifetime", "11m"], "from 1s to 10m"),
        (["--origin", "app.example"], "https://app.example"),
        (["--claim", "tenant"], "NAME=VALUE"),
    ] {
        let (code, ticket, told) = run(&files, &[&MINT[..], &more].concat(), "").await;
        assert_eq!((code, ticket.as_str()), (2, ""), "{told}");
        assert!(told.contains(why), "{told}");
    }
    for (config, why) in [
        (CONFIG.replace("keys = ", "# keys = "), "a random one of its own"),
        (CONFIG.replace("[ticket]\nkeys", "# keys"), "no [ticket] section"),
        (CONFIG.replace("\"secret\"", "\"none\""), "cannot read"),
    ] {
        fs::write(files.path().join("tidegate.toml"), config).unwrap();
        let (code, ticket, told) = run(&files, &MINT, "").await;
        assert_eq!((code, ticket.as_str()), (2, ""), "{told}");
        assert!(told.contains(why), "{told}");
    }
}
