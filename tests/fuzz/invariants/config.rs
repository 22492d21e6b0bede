//! A configuration: any text is taken or refused with a report that points into it.

use std::path::Path;

use tidegate::config::Config;

/// The bytes are the text, as far as they are one.
pub fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    // Certificates are read where the text says; a device could be read for ever.
    if text.contains("/dev") || text.contains("/proc") || text.contains("..") || text.contains('\\') {
        return;
    }
    let base = Path::new("there is no such directory");
    match Config::parse(&text, "fuzz.toml", base) {
        Ok(config) => {
            assert!(!config.listeners.is_empty() && !config.upstreams.is_empty() && !config.routes.is_empty());
            let again = Config::parse(&text, "fuzz.toml", base);
            let again = again.unwrap_or_else(|problems| panic!("refused the second time:\n{problems}"));
            assert_eq!(format!("{again:?}"), format!("{config:?}"));
        }
        Err(problems) => {
            assert!(problems.len() > 0 && problems.iter().count() == problems.len());
            for problem in problems.iter() {
                assert!(!problem.message.is_empty());
                if let Some(span) = &problem.span {
                    assert!(span.start <= span.end && span.end <= text.len(), "{problem:?} is not within the text");
                    let (line, column) = problems.position(problem).unwrap_or_else(|| panic!("{problem:?} is nowhere"));
                    assert!(line <= text.bytes().filter(|byte| *byte == b'\n').count() + 1 && column >= 1);
                }
            }
            assert!(problems.to_string().contains("fuzz.toml"));
            assert!(problems.render(true).len() >= problems.render(false).len());
        }
    }
}
