//! Close codes and reasons that may be put on the wire.

use super::Text;

/// Longest close reason in bytes: a control frame holds 125 and the code takes two (RFC 6455 section 5.5.1).
pub const MAX_REASON: usize = 123;

/// What a close frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// One that [`is_sendable`]; from a client, any that RFC 6455 section 7.4 lets it send.
    pub code: u16,
    /// At most [`MAX_REASON`] bytes.
    pub reason: Text,
}

impl CloseFrame {
    /// A frame with the reason clipped to what fits. The caller vouches for the code.
    #[must_use]
    pub fn new(code: u16, reason: &str) -> Self {
        debug_assert!(is_sendable(code), "close code {code} must never be sent");
        Self { code, reason: Text::from(clip_reason(reason)) }
    }
}

/// Whether tidegate may send this code, its own or one that upstream asks for.
///
/// Left out are the markers 1004, 1005, 1006 and 1015 (RFC 6455 section 7.4.1), 1010, which only a client may send,
/// 1014, on which common clients fail, and 1011: clients treat it as fatal, so it is kept for a defect in the gateway
/// itself and upstream cannot ask for it.
#[must_use]
pub const fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1009 | 1012 | 1013 | 3000..=4999)
}

/// The longest beginning of `reason` that fits into a close frame, cut on a character boundary.
#[must_use]
pub fn clip_reason(reason: &str) -> &str {
    if reason.len() <= MAX_REASON {
        return reason;
    }
    let end = (0..=MAX_REASON).rev().find(|&end| reason.is_char_boundary(end)).unwrap_or(0);
    reason.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn markers_and_fatal_codes_are_never_sendable() {
        for code in [0, 999, 1004, 1005, 1006, 1010, 1011, 1014, 1015, 1016, 2999, 5000, u16::MAX] {
            assert!(!is_sendable(code), "{code}");
        }
        for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1012, 1013, 3000, 4999] {
            assert!(is_sendable(code), "{code}");
        }
    }

    #[test]
    fn a_reason_is_cut_before_the_character_that_does_not_fit() {
        let reason = format!("{}é", "x".repeat(122));
        assert_eq!(clip_reason(&reason), "x".repeat(122));
        let reason = format!("{}é", "x".repeat(121));
        assert_eq!(clip_reason(&reason), reason);
    }

    proptest! {
        #[test]
        fn a_clipped_reason_is_the_longest_beginning_that_fits(reason in "\\PC{0,200}") {
            let clipped = clip_reason(&reason);
            prop_assert!(clipped.len() <= MAX_REASON);
            prop_assert!(reason.starts_with(clipped));
            if let Some(next) = reason[clipped.len()..].chars().next() {
                prop_assert!(clipped.len() + next.len_utf8() > MAX_REASON);
            }
        }
    }
}
