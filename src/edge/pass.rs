//! The cookie of a return pass: where it stands in a request, and how it is set.

use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};

use super::origin::Origin;

/// Its name. Browsers take one with this prefix over TLS alone (RFC 6265bis, "Cookie Name Prefixes").
const NAME: &str = "__Secure-tidegate-pass";

/// Most of them that are tried: each path of a site may have one.
const TRIED: usize = 4;

/// Longest cookie in bytes, with its name and attributes; browsers ignore those that are longer (RFC 6265bis section 5.6).
const LONGEST: usize = 4096;

/// The passes that a request brings.
pub(super) fn find(fields: &HeaderMap) -> impl Iterator<Item = &str> {
    let cookies = fields.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == NAME).map(|(_, pass)| pass).take(TRIED)
}

/// Takes them out of what goes upstream: with the ticket beside it, which does not go there either, one lets its bearer in.
pub(super) fn take_out(fields: &mut HeaderMap) {
    if find(fields).next().is_none() {
        return;
    }
    let kept: Vec<HeaderValue> = fields
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| {
            let text = value.to_str().ok()?;
            let is_pass = |pair: &&str| pair.trim().split_once('=').is_some_and(|(name, _)| name == NAME);
            let pairs: Vec<&str> = text.split(';').filter(|pair| !is_pass(pair)).map(str::trim).collect();
            HeaderValue::try_from(pairs.join("; ")).ok().filter(|value| !value.is_empty())
        })
        .collect();
    fields.remove(header::COOKIE);
    for mut value in kept {
        value.set_sensitive(true);
        fields.append(header::COOKIE, value);
    }
}

/// Sets one, for this path alone. `page` is where the request comes from if that is another origin: no browser sends the
/// cookie there unless it is told that it may, and then keeps it apart for pages of that site.
///
/// `None` where it would be longer than browsers take.
pub(super) fn set(pass: &str, path: &str, lifetime: Duration, page: Option<&Origin>) -> Option<HeaderValue> {
    let same_site = if page.is_some() { "None; Partitioned" } else { "Strict" };
    // Behind a `;` another attribute would begin: the cookie is then for all that is beside this path.
    let path = match path.split_once(';') {
        Some((before, _)) => {
            before.rsplit_once('/').map_or("/", |(folder, _)| if folder.is_empty() { "/" } else { folder })
        }
        None => path,
    };
    let seconds = lifetime.as_secs();
    let cookie = format!("{NAME}={pass}; Path={path}; Max-Age={seconds}; Secure; HttpOnly; SameSite={same_site}");
    let mut value = HeaderValue::try_from(cookie).ok().filter(|value| value.len() <= LONGEST)?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cookies(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (header::COOKIE, HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn passes_are_found_among_cookies_and_do_not_go_upstream() {
        let mut fields = cookies(&["sid=1; __Secure-tidegate-pass=a.b.c;theme=x=y", "__Secure-tidegate-pass=d", "b"]);
        assert_eq!(find(&fields).collect::<Vec<_>>(), ["a.b.c", "d"]);
        take_out(&mut fields);
        assert_eq!(fields.get_all("cookie").iter().collect::<Vec<_>>(), ["sid=1; theme=x=y", "b"]);
        let many = cookies(&[
            "__Secure-tidegate-pass=a; __Secure-tidegate-pass=b; __Secure-tidegate-pass=c; __Secure-tidegate-pass=d; __Secure-tidegate-pass=e",
        ]);
        assert_eq!(find(&many).count(), 4);
    }

    #[test]
    fn a_pass_is_for_one_path_and_for_no_script() {
        let hour = Duration::from_hours(1);
        assert_eq!(
            set("a.b.c", "/events/1", hour, None).unwrap(),
            "__Secure-tidegate-pass=a.b.c; Path=/events/1; Max-Age=3600; Secure; HttpOnly; SameSite=Strict"
        );
        let page = Origin::parse("https://app.example.com");
        let foreign = set("a", "/e", hour, page.as_ref()).unwrap();
        assert!(foreign.to_str().unwrap().ends_with("; SameSite=None; Partitioned"));
        let folder =
            |path: &str| set("a", path, hour, None).unwrap().to_str().unwrap().split("; ").nth(1).unwrap().to_owned();
        assert_eq!(folder("/a/b;v=1/c"), "Path=/a");
        assert_eq!(folder("/a;v=1"), "Path=/");
        assert!(set(&"x".repeat(4096), "/", hour, None).is_none());
    }
}
