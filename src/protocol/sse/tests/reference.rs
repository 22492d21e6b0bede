//! The standard's steps written down one by one, on the whole text at once. Shares no code with the parser.

use std::time::Duration;

use super::{Reading, Seen};

pub(super) fn read(input: &[u8]) -> Reading {
    let decoded = String::from_utf8_lossy(input);
    let text = decoded.strip_prefix('\u{FEFF}').unwrap_or(&decoded).replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<&str> = text.split('\n').collect();
    let unfinished = lines.pop().unwrap_or_default();

    let mut reading = Reading::default();
    let (mut data, mut event_type, mut id) = (String::new(), String::new(), String::new());
    for line in &lines {
        if line.is_empty() {
            reading.last_event_id.clone_from(&id);
            if !data.is_empty() {
                data.truncate(data.len() - 1);
                let name = if event_type.is_empty() { "message" } else { &event_type };
                let name = (name != "message").then(|| name.to_owned());
                reading.events.push(Seen { name, data: data.clone(), id: id.clone() });
            }
            data.clear();
            event_type.clear();
            continue;
        }
        let (field, value) = match line.find(':') {
            Some(0) => continue,
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (*line, ""),
        };
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut event_type),
            "data" => {
                data.push_str(value);
                data.push('\n');
            }
            "id" if !value.contains('\0') => value.clone_into(&mut id),
            "retry" if !value.is_empty() && value.chars().all(|letter| letter.is_ascii_digit()) => {
                reading.retry = Some(Duration::from_millis(value.parse().unwrap_or(u64::MAX)));
            }
            _ => {}
        }
    }
    let block = lines.rsplit(|line| line.is_empty()).next().unwrap_or_default().iter().copied();
    let half_a_mark = matches!(input, [0xEF] | [0xEF, 0xBB]);
    reading.mid_event =
        !half_a_mark && block.chain([unfinished]).any(|line| !line.is_empty() && !line.starts_with(':'));
    reading
}
