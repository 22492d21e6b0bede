//! Who may look, and who may change something.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use http::StatusCode;
use http::header::{self, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret as _, SecretString};

use super::Settings;
use crate::protocol::problem::Problem;

/// What holds for all requests to one admin listener.
#[derive(Debug)]
pub(super) struct Rights {
    /// Whether requests may come from other machines, under any name.
    pub(super) expose: bool,
    token: Option<SecretString>,
}

impl Rights {
    pub(super) fn of(settings: &Settings) -> Self {
        Self { expose: settings.expose, token: settings.token.clone() }
    }

    /// Whether a request may change something: it shows the token, or there is none and it comes from this machine.
    ///
    /// # Errors
    ///
    /// 401 without the token or with another one; 403 where other machines could ask and there is none.
    pub(super) fn check_change(&self, fields: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = &self.token else {
            let detail = "with expose = true nothing can be changed here without admin.token";
            let refused = || Problem::new(StatusCode::FORBIDDEN, "no-admin-token", detail);
            return if self.expose { Err(refused()) } else { Ok(()) };
        };
        let mut given = fields.get_all(header::AUTHORIZATION).iter();
        let shown = match (given.next().map(HeaderValue::as_bytes), given.next()) {
            (Some(given), None) => given.split_at_checked("Bearer ".len()),
            _ => None,
        };
        let shown = shown.filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "));
        let good =
            |(_, shown): (&[u8], &[u8])| verify_slices_are_equal(shown, token.expose_secret().as_bytes()).is_ok();
        if shown.is_some_and(good) {
            return Ok(());
        }
        Err(Problem::new(StatusCode::UNAUTHORIZED, "bad-admin-token", "this needs the token of the admin listener")
            .with_header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(expose: bool, token: Option<&str>, shown: &[&'static str]) -> Option<u16> {
        let rights = Rights { expose, token: token.map(SecretString::from) };
        let mut fields = HeaderMap::new();
        for value in shown {
            fields.append(header::AUTHORIZATION, HeaderValue::from_static(value));
        }
        rights.check_change(&fields).err().map(|problem| problem.status.as_u16())
    }

    #[test]
    fn only_this_machine_changes_something_without_a_token() {
        assert_eq!(asked(false, None, &[]), None);
        assert_eq!(asked(true, None, &[]), Some(403));
        assert_eq!(asked(true, None, &["Bearer x"]), Some(403));
    }

    #[test]
    fn a_token_has_to_be_shown_where_there_is_one() {
        for expose in [false, true] {
            let with = |shown: &[&'static str]| asked(expose, Some("0123456789abcdef"), shown);
            assert_eq!(with(&["Bearer 0123456789abcdef"]), None);
            assert_eq!(with(&["bearer 0123456789abcdef"]), None);
            for bad in ["", "Bearer ", "Bearer 0123456789abcde", "Bearer 0123456789abcdefg", "Basic 0123456789abcdef"] {
                assert_eq!(with(&[bad]), Some(401), "{bad:?}");
            }
            assert_eq!(with(&["Bearer 0123456789abcdef", "Bearer 0123456789abcdef"]), Some(401));
            assert_eq!(with(&[]), Some(401));
        }
    }
}
