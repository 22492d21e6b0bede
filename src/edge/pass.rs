//! The cookie of a return pass: where it stands in a request, and how it is set.

use std::time::Duration;

use http::header::{self, HeaderValue};
use http::request;

use super::origin::Origin;

/// Its name. Browsers take one with this prefix over TLS alone (RFC 6265bis, "Cookie Name Prefixes").
const NAME: &str = "__Secure-tidegate-pass";

/// Most of them that are tried: each path of a site may have one.
const TRIED: usize = 4;

/// Longest cookie in bytes, with its name and attributes; browsers ignore those that are longer (RFC 6265bis section 5.6).
const LONGEST: usize = 4096;

/// The passes that a request brings, in the extensions of its head. It has no `Debug`: with the ticket beside it, one lets its
/// bearer in.
#[derive(Clone)]
struct Brought(Vec<Box<str>>);

/// The passes that a request has brought.
pub(super) fn brought(head: &request::Parts) -> impl Iterator<Item = &str> {
    head.extensions.get::<Brought>().into_iter().flat_map(|Brought(passes)| passes.iter().map(AsRef::as_ref))
}

/// Moves them out of the fields, where nobody but the gateway has any use for them: neither upstream, of whatever kind, nor the
/// application that is asked whose cookies these are.
pub(super) fn take_out(head: &mut request::Parts) {
    let fields = &mut head.headers;
    if !fields.get_all(header::COOKIE).iter().flat_map(pairs).any(|pair| pass(pair).is_some()) {
        return;
    }
    let mut passes: Vec<Box<str>> = Vec::new();
    let mut kept: Vec<HeaderValue> = Vec::new();
    for value in fields.get_all(header::COOKIE) {
        let mut others: Vec<&[u8]> = Vec::new();
        for pair in pairs(value) {
            match pass(pair) {
                Some(pass) if passes.len() < TRIED => passes.extend(str::from_utf8(pass).ok().map(Into::into)),
                Some(_) => {}
                None => others.push(pair),
            }
        }
        kept.extend(HeaderValue::from_bytes(&others.join(&b"; "[..])).ok().filter(|value| !value.is_empty()));
    }
    fields.remove(header::COOKIE);
    for mut value in kept {
        value.set_sensitive(true);
        fields.append(header::COOKIE, value);
    }
    head.extensions.insert(Brought(passes));
}

/// The pairs of a `Cookie` field, in whatever bytes: other cookies may have any.
fn pairs(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b';').map(<[u8]>::trim_ascii)
}

/// The pass, if this pair is one.
fn pass(pair: &[u8]) -> Option<&[u8]> {
    let at = pair.iter().position(|byte| *byte == b'=')?;
    let (name, value) = pair.split_at_checked(at)?;
    (name.trim_ascii_end() == NAME.as_bytes()).then(|| value.get(1..).unwrap_or_default())
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

    fn took_out(cookies: &[&[u8]]) -> (Vec<String>, Vec<Vec<u8>>) {
        let mut head = http::Request::new(()).into_parts().0;
        for cookie in cookies {
            head.headers.append(header::COOKIE, HeaderValue::from_bytes(cookie).unwrap());
        }
        take_out(&mut head);
        let left = head.headers.get_all(header::COOKIE).iter().map(|value| value.as_bytes().to_vec()).collect();
        (brought(&head).map(str::to_owned).collect(), left)
    }

    #[test]
    fn passes_are_found_among_cookies_and_do_not_go_upstream() {
        let (passes, left) =
            took_out(&[b"sid=1; __Secure-tidegate-pass=a.b.c;theme=x=y", b"__Secure-tidegate-pass=d", b"b"]);
        assert_eq!(
            (passes, left),
            (vec!["a.b.c".to_owned(), "d".to_owned()], vec![b"sid=1; theme=x=y".to_vec(), b"b".to_vec()])
        );
        let many = [b"__Secure-tidegate-pass=a; ".repeat(5), b"x=1".to_vec()].concat();
        let (passes, left) = took_out(&[&many]);
        assert_eq!((passes.len(), left), (4, vec![b"x=1".to_vec()]));
    }

    #[test]
    fn passes_beside_cookies_in_other_bytes_do_not_go_upstream_and_those_do() {
        let (passes, left) = took_out(&[b"name=J\xfcrgen; __Secure-tidegate-pass=a", b"sid=\xe9"]);
        assert_eq!((passes, left), (vec!["a".to_owned()], vec![b"name=J\xfcrgen".to_vec(), b"sid=\xe9".to_vec()]));
        let untouched = took_out(&[b"a=1;b=2;", b"c=\xff"]);
        assert_eq!(untouched, (vec![], vec![b"a=1;b=2;".to_vec(), b"c=\xff".to_vec()]));
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
