//! Tickets: whatever is presented as one, and whatever somebody who has the key has signed.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use tidegate::edge::credential;
use tidegate::identity::Way;
use tidegate::identity::ticket::{KeyRing, MAX_LIFETIME, MAX_TICKET, Presented, Rules, explain, is_ticket, redeem};

const SECRET: [u8; 32] = [7; 32];
/// When everything happens, in seconds since 1970.
const NOW: u64 = 1_800_000_000;
const LEEWAY: Duration = Duration::from_secs(5);

/// Three readings of the bytes: as the text of a ticket; as a query and a list of subprotocols, cut at the first line feed;
/// and as header and claims, cut the same way, that are signed with our key.
pub fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (first, second) = text.split_once('\n').unwrap_or((&text, ""));
    // Nobody has the key but us, and none of the kept inputs was signed with it.
    assert!(!presented(&text), "{text:?} is let in, and our key has not signed it");
    carried(first, second);
    signed(first, second);
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

/// Whether a text lets anybody in, with what must hold then.
fn presented(token: &str) -> bool {
    let ring = KeyRing::random(&SECRET);
    let presented =
        Presented { route: "chat", origin: Some("https://app.example"), net: IpAddr::V4(Ipv4Addr::LOCALHOST) };
    let explained = explain(token);
    let Ok(redeemed) = redeem(&ring, &Rules { leeway: LEEWAY }, token, &presented, now()) else { return false };
    assert!(token.len() <= MAX_TICKET && is_ticket(token));
    let explained = explained.unwrap_or_else(|error| panic!("{token:?} is let in and cannot be explained: {error}"));
    assert_eq!(explained.text("aud"), Some("chat"));
    assert_eq!(explained.text("sub"), Some(redeemed.identity.subject.as_str()));
    assert!(explained.text("origin").is_none_or(|origin| origin == "https://app.example"));
    assert!(redeemed.identity.way == Way::Ticket && redeemed.identity.ticket.is_some());
    // Remembered for as long as it could be used again, and not for ever.
    let longest = now() + MAX_LIFETIME + 4 * LEEWAY;
    assert!(redeemed.spent_until > now() && redeemed.spent_until < longest, "{token:?}");
    true
}

/// What somebody who has the key could have signed.
fn signed(header: &str, claims: &str) {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = EncodingKey::from_secret(&SECRET);
    let Ok(signature) = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::HS256) else { return };
    presented(&format!("{message}.{signature}"));
}

fn carried(query: &str, offered: &str) {
    let offered: Vec<_> = offered.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let Ok(found) = credential::find(Some(query), &offered, "ticket") else { return };
    let is_ours = |name: &str| name == credential::MARKER || name.starts_with(credential::TICKET);
    assert!(!found.offered.iter().any(|name| is_ours(name)), "upstream would see what is ours");
    assert!(found.offered.iter().all(|name| offered.contains(name)));
    let answer = found.answer(None);
    assert!(!answer.is_some_and(|answer| answer.as_bytes().starts_with(credential::TICKET.as_bytes())));
}
