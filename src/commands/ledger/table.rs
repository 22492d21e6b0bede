//! The ledger as people read it.

use std::fmt::Write as _;

use crate::ledger::report::{ClientReport, DayReport, Report, RouteReport};

/// All routes, each with its clients and its days.
pub(super) fn render(report: &Report) -> String {
    let mut text = format!("since {}{}\n", report.since, if report.kept { "" } else { ", in memory alone" });
    if report.routes.is_empty() {
        text.push_str("no route takes WebSockets, or has taken any\n");
    }
    for route in &report.routes {
        let _ = write!(text, "\nroute {}: {}\n", route.route, state(route));
        let _ = write!(text, "  {}\n  {}\n", total(route), verdict(route));
        if !route.clients.is_empty() {
            text.push('\n');
            text.push_str(&columns(&clients(&route.clients)));
        }
        if !route.days.is_empty() {
            text.push('\n');
            text.push_str(&columns(&days(&route.days)));
        }
    }
    text
}

fn state(route: &RouteReport) -> String {
    let Some(phase) = &route.phase else { return "not in the configuration".to_owned() };
    let mut state = format!("phase {phase}");
    let told = [("deprecated", &route.deprecated), ("ends", &route.sunset), ("see", &route.link)];
    for (what, value) in told {
        if let Some(value) = value {
            let _ = write!(state, ", {what} {value}");
        }
    }
    if let Some(brownout) = &route.brownout {
        let _ = match (&brownout.start, &brownout.end) {
            (Some(start), Some(end)) => write!(state, "; refuses {} % from {start} to {end}", brownout.percent),
            _ => write!(state, "; no window is to come"),
        };
    }
    state
}

fn total(route: &RouteReport) -> String {
    let total = &route.total;
    let mut text = format!(
        "{}: {} bridged, {} passed through",
        count(total.connections, "connection"),
        total.bridged,
        total.legacy
    );
    let _ = write!(text, "; {}", people(total.identities, total.addresses, total.exact));
    if total.brownout + total.off > 0 {
        let _ = write!(text, "; refused: {} in brownouts, {} while off", total.brownout, total.off);
    }
    text
}

/// What would break if it were switched off today.
fn verdict(route: &RouteReport) -> String {
    let lately = &route.last_7_days;
    if lately.connections == 0 {
        return match lately.refused {
            0 => "nobody came by WebSocket in the last 7 days".to_owned(),
            refused => {
                format!("nobody was let in by WebSocket in the last 7 days; {} refused", count(refused, "handshake"))
            }
        };
    }
    let who = people(lately.identities, lately.addresses, true);
    let (clients, connections) = (count(lately.clients, "client"), count(lately.connections, "connection"));
    format!("switched off today, it would hit {who} with {clients}: {connections} in the last 7 days")
}

fn people(identities: u64, addresses: u64, exact: bool) -> String {
    let about = if exact { "" } else { "about " };
    let identities_shown = format!(
        "{about}{}",
        if identities == 1 { "1 identity".to_owned() } else { format!("{identities} identities") }
    );
    let addresses_shown =
        format!("{about}{}", if addresses == 1 { "1 address".to_owned() } else { format!("{addresses} addresses") });
    match (identities, addresses) {
        (_, 0) => identities_shown,
        (0, _) => format!("{addresses_shown} without an identity"),
        _ => format!("{identities_shown}, and {addresses_shown} without one"),
    }
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

fn clients(clients: &[ClientReport]) -> Vec<Vec<String>> {
    let head = ["CLIENT", "CONNECTIONS", "7 DAYS", "REFUSED", "IDENTITIES", "ADDRESSES", "FIRST SEEN", "LAST SEEN"];
    let row = |client: &ClientReport| {
        let counts = &client.counts;
        vec![
            client.client.clone(),
            counts.connections.to_string(),
            client.last_7_days.to_string(),
            counts.brownout.saturating_add(counts.off).to_string(),
            counts.identities.to_string(),
            counts.addresses.to_string(),
            client.first_seen.clone(),
            client.last_seen.clone(),
        ]
    };
    std::iter::once(head.map(str::to_owned).to_vec()).chain(clients.iter().map(row)).collect()
}

fn days(days: &[DayReport]) -> Vec<Vec<String>> {
    let head = ["DAY (UTC)", "CONNECTIONS", "REFUSED", "IDENTITIES", "ADDRESSES"];
    let row = |day: &DayReport| {
        let numbers = [day.connections, day.refused, day.identities, day.addresses].map(|number| number.to_string());
        std::iter::once(day.day.clone()).chain(numbers).collect()
    };
    std::iter::once(head.map(str::to_owned).to_vec()).chain(days.iter().map(row)).collect()
}

/// Rows as columns: texts begin where others begin, numbers end where others end.
fn columns(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    for row in rows {
        for (index, cell) in row.iter().enumerate() {
            match widths.get_mut(index) {
                Some(width) => *width = cell.len().max(*width),
                None => widths.push(cell.len()),
            }
        }
    }
    let is_number = |index: usize| {
        rows.iter().skip(1).filter_map(|row| row.get(index)).all(|cell| cell.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let numbers: Vec<_> = (0..widths.len()).map(is_number).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for ((cell, width), is_number) in row.iter().zip(&widths).zip(&numbers) {
            let _ = if *is_number { write!(line, "  {cell:>width$}") } else { write!(line, "  {cell:width$}") };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::ledger::book::{Book, Outcome, Who};
    use crate::ledger::client::Client;
    use crate::ledger::phase::{Phase, Sunset};
    use crate::ledger::report::Frame;

    #[test]
    fn the_table_says_who_came_and_whom_it_would_hit() {
        let at = 1_796_904_000;
        let now = UNIX_EPOCH + Duration::from_secs(at);
        let mut book = Book::default();
        for (client, outcome, who) in [
            ("Chrome 131", Outcome::Bridged, Who::Identity(1)),
            ("Chrome 131", Outcome::Bridged, Who::Identity(2)),
            ("okhttp 4.9", Outcome::Legacy, Who::Address(1)),
            ("okhttp 4.9", Outcome::Brownout, Who::Address(1)),
        ] {
            book.note(Client::kept(client).unwrap(), outcome, Some(who), at);
        }
        let end = Some(now + Duration::from_hours(24));
        let sunset = Sunset { phase: Phase::Warn, sunset: end, ..Sunset::default() };
        let mut report = Report::new(&Frame { now, since: at, kept: true });
        report.add("chat", &book, Some(&Some(Arc::new(sunset))), now);
        report.add("old", &Book::default(), None, now);
        assert_eq!(
            render(&report),
            "since 2026-12-10T12:00:00Z\n\n\
             route chat: phase warn, ends 2026-12-11T12:00:00Z\n  \
             3 connections: 2 bridged, 1 passed through; 2 identities, and 1 address without one; refused: 1 in brownouts, 0 while off\n  \
             switched off today, it would hit 2 identities, and 1 address without one with 2 clients: 3 connections in the last 7 days\n\n  \
             CLIENT      CONNECTIONS  7 DAYS  REFUSED  IDENTITIES  ADDRESSES  FIRST SEEN            LAST SEEN\n  \
             Chrome 131            2       2        0           2          0  2026-12-10T12:00:00Z  2026-12-10T12:00:00Z\n  \
             okhttp 4.9            1       1        1           0          1  2026-12-10T12:00:00Z  2026-12-10T12:00:00Z\n\n  \
             DAY (UTC)   CONNECTIONS  REFUSED  IDENTITIES  ADDRESSES\n  \
             2026-12-10            3        1           2          1\n\n\
             route old: not in the configuration\n  0 connections: 0 bridged, 0 passed through; 0 identities\n  \
             nobody came by WebSocket in the last 7 days\n"
        );
    }
}
