//! Which program a client is: its name and version, as short as a person would say them. Pure.
//!
//! By rules of our own over product tokens (RFC 9110 section 10.1.5), not by a table of expressions: the browsers that speak
//! WebSocket are few, and everything else names itself in its first token.

#[cfg(test)]
mod tests;

use std::fmt;

/// Most characters of a name; longer ones are cut.
const NAME: usize = 32;

/// Most characters of a version; longer ones are cut.
const VERSION: usize = 16;

/// Most bytes of a field that are looked at: the longest sound `User-Agent` is a third of it.
const FIELD: usize = 1024;

/// Most tokens of a field that are looked at.
const TOKENS: usize = 24;

/// What a client is called that says nothing of itself.
pub const UNKNOWN: &str = "unknown";

/// Browsers by the token that gives them away, the most telling first: all of them claim to be others as well.
const BROWSERS: [(&str, &str); 15] = [
    ("Edg", "Edge"),
    ("EdgA", "Edge"),
    ("EdgiOS", "Edge iOS"),
    ("OPR", "Opera"),
    ("SamsungBrowser", "Samsung Internet"),
    ("YaBrowser", "Yandex Browser"),
    ("Vivaldi", "Vivaldi"),
    ("DuckDuckGo", "DuckDuckGo"),
    ("FxiOS", "Firefox iOS"),
    ("Firefox", "Firefox"),
    ("CriOS", "Chrome iOS"),
    ("HeadlessChrome", "Chrome Headless"),
    ("Electron", "Electron"),
    ("Chrome", "Chrome"),
    ("Chromium", "Chrome"),
];

/// Tokens of engines and platforms, which name no program.
const ENGINES: [&str; 11] = [
    "Mozilla",
    "AppleWebKit",
    "Gecko",
    "Safari",
    "Mobile",
    "Version",
    "Chrome",
    "Chromium",
    "Electron",
    "Tablet",
    "Ubuntu",
];

/// Runtimes that say their own name first and then that of the library that is meant.
const RUNTIMES: [&str; 6] = ["Python", "Node.js", "node", "Ruby", "Java", "PHP"];

/// A program: its name, with its version if it says one. Printable ASCII, at most [`Client::LENGTH`] characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Client(Box<str>);

impl Client {
    /// Most characters.
    pub const LENGTH: usize = NAME + 1 + VERSION;

    /// One that says nothing of itself.
    #[must_use]
    pub fn unknown() -> Self {
        Self(UNKNOWN.into())
    }

    /// Reads a `User-Agent`: browsers with their major version (`Chrome 131`), others by their first product with two parts of
    /// its version (`okhttp 4.9`).
    #[must_use]
    pub fn of_user_agent(field: &[u8]) -> Self {
        let text = printable(field);
        let products = products(&text);
        let Some(first) = products.first() else { return Self::unknown() };
        if first.name == "Mozilla" {
            return browser(&text, &products);
        }
        let library = products.get(1).filter(|_| RUNTIMES.contains(&first.name));
        library.unwrap_or(first).client(2)
    }

    /// Reads a field that the operator has named: as a product if it looks like one (`MyApp/3.2.1` is `MyApp 3.2`), otherwise
    /// as it stands, cut to [`LENGTH`](Self::LENGTH). `None` for one that says nothing.
    #[must_use]
    pub fn of_header(field: &[u8]) -> Option<Self> {
        let text = printable(field);
        let text = text.trim();
        if text.is_empty() {
            return None;
        }
        match products(text).as_slice() {
            [only] if !only.version.is_empty() && !text.contains(' ') => Some(only.client(2)),
            _ => Some(Self(text.chars().take(Self::LENGTH).collect::<String>().trim_end().into())),
        }
    }

    /// Takes a name as the store has kept it; `None` if it is none that could have been made here.
    #[must_use]
    pub fn kept(name: &str) -> Option<Self> {
        let good =
            !name.is_empty() && name.len() <= Self::LENGTH && name.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        good.then(|| Self(name.into()))
    }

    /// Its name and version as one text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Client {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// A product token and its version, which may be empty.
#[derive(Clone, Copy, Debug)]
struct Product<'a> {
    name: &'a str,
    version: &'a str,
}

impl Product<'_> {
    /// It with so many parts of its version.
    fn client(self, parts: usize) -> Client {
        named(self.name, self.version, parts)
    }
}

fn named(name: &str, version: &str, parts: usize) -> Client {
    let name: String = name.chars().take(NAME).collect();
    let version = short(version, parts);
    let name = if name.is_empty() { UNKNOWN } else { &name };
    Client(if version.is_empty() { name.into() } else { format!("{name} {version}").into() })
}

/// The leading number of each of the first parts: `18.1.2` and two is `18.1`. What begins with no digit is no version.
fn short(version: &str, parts: usize) -> String {
    let version = version.strip_prefix('v').unwrap_or(version);
    let mut kept = String::new();
    for part in version.split('.').take(parts) {
        let number: String = part.chars().take_while(char::is_ascii_digit).collect();
        if number.is_empty() || kept.len() + 1 + number.len() > VERSION {
            break;
        }
        if !kept.is_empty() {
            kept.push('.');
        }
        kept.push_str(&number);
        if number.len() < part.len() {
            break;
        }
    }
    kept
}

fn browser(text: &str, products: &[Product<'_>]) -> Client {
    let find = |name: &str| products.iter().find(|product| product.name == name).copied();
    if find("Electron").is_some() {
        // An application in Electron puts its own name between those of the engines.
        let own = products.iter().find(|product| !ENGINES.contains(&product.name));
        if let Some(own) = own {
            return own.client(2);
        }
    }
    for (token, name) in BROWSERS {
        if let Some(product) = find(token) {
            let is_view = name == "Chrome" && text.contains("; wv)");
            return named(if is_view { "Android WebView" } else { name }, product.version, 1);
        }
    }
    match (find("Safari"), find("Version"), find("AppleWebKit")) {
        (Some(_), Some(version), _) => named("Safari", version.version, 1),
        // Without those two it is an application that shows pages.
        (_, _, Some(engine)) => named("WebKit view", engine.version, 1),
        _ => named("other browser", "", 0),
    }
}

/// The products of a field, comments in parentheses left out.
fn products(text: &str) -> Vec<Product<'_>> {
    let mut depth = 0_usize;
    let outside = text.split_inclusive(|sign: char| {
        // Every piece ends at a sign that may change the depth, or at a space.
        matches!(sign, '(' | ')' | ' ')
    });
    let mut found = Vec::new();
    for piece in outside {
        let word = piece.trim_end_matches(['(', ')', ' ']);
        if depth == 0 && !word.is_empty() && found.len() < TOKENS {
            let (name, version) = word.split_once('/').unwrap_or((word, ""));
            found.push(Product { name, version });
        }
        match piece.chars().next_back() {
            Some('(') => depth = depth.saturating_add(1),
            Some(')') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    found
}

/// The beginning of a field, with `?` for what cannot be printed.
fn printable(field: &[u8]) -> String {
    let show = |byte: &u8| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '?' };
    field.iter().take(FIELD).map(show).collect()
}
