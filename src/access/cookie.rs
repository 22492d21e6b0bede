//! Who a client is by the word of the application, which is shown the client's cookies (forward-auth).

use std::borrow::Cow;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use aws_lc_rs::digest::{Context, SHA256};
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Method, StatusCode};

use super::answers::{Answers, Question};
use super::caller::{Caller, PrefixLengths};
use super::lock;
use super::rates::{Rates, too_many_questions};
use crate::identity::Identity;
use crate::identity::answer::{self, Rule};
use crate::identity::bearer::BearerRefusal;
use crate::protocol::forwarded;
use crate::protocol::headers;
use crate::protocol::problem::Problem;
use crate::upstream::{Answer, AskError, OutgoingRequest, SendError, Upstream};

const X_FORWARDED_METHOD: HeaderName = HeaderName::from_static("x-forwarded-method");
const X_FORWARDED_URI: HeaderName = HeaderName::from_static("x-forwarded-uri");

/// Largest body of an answer, in bytes: a few claims, and room for an application that says more than it is asked.
const MOST_ANSWER: usize = 64 * 1024;

/// Largest answer that is remembered, in bytes of its fields and body: it bounds the memory together with the number of
/// entries.
const MOST_REMEMBERED: usize = 4 * 1024;

/// When a client may ask again whom the application could not be asked about.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// What the application is asked, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of the upstream that is asked.
    pub upstream: Arc<str>,
    /// What is asked for with GET.
    pub path: PathAndQuery,
    /// The cookies that it is shown; a client without any of them is not asked about for its cookies.
    pub cookies: Cookies,
    /// Whether it is shown `Authorization`, and is asked about a client that has nothing else.
    pub forward_authorization: bool,
    /// Where its answer says who the client is.
    pub rule: Rule,
    /// How long it may take to answer, connecting included.
    pub timeout: Duration,
    /// How long a good answer holds for the same question; zero: it does not.
    pub cache: Duration,
    /// Most answers that are remembered.
    pub cache_entries: usize,
    /// Most questions about clients of one address in a minute, or of those that count as the same client.
    pub per_address: NonZeroU32,
}

/// Which cookies the application is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cookies {
    /// Those with these names.
    Named(Vec<String>),
    /// All of them.
    All,
}

/// Asks the application. Its breaker is the upstream's one for questions.
#[derive(Debug)]
pub struct Cookie {
    settings: Settings,
    upstream: Arc<Upstream>,
    answers: Option<Mutex<Answers>>,
    /// Anybody can make up cookies: what an address makes us ask is limited.
    rates: Arc<Rates>,
    prefixes: PrefixLengths,
}

impl Cookie {
    /// Asks this upstream, which is the one that the settings name.
    #[must_use]
    pub fn new(settings: Settings, upstream: Arc<Upstream>, prefixes: PrefixLengths) -> Self {
        Self::succeeding(None, settings, upstream, prefixes)
    }

    /// The same, with the questions that clients have made the one before ask. What it was answered is not taken over, because
    /// something about the questions is different.
    #[must_use]
    pub fn succeeding(
        before: Option<&Self>,
        settings: Settings,
        upstream: Arc<Upstream>,
        prefixes: PrefixLengths,
    ) -> Self {
        let rates = Rates::succeeding(before.map(|before| &before.rates), settings.per_address, Instant::now());
        let answers = || Mutex::new(Answers::new(settings.cache, settings.cache_entries));
        let answers = (!settings.cache.is_zero()).then(answers);
        Self { settings, upstream, answers, rates, prefixes }
    }

    /// Whether this one asks exactly that.
    #[must_use]
    pub fn asks(&self, settings: &Settings, upstream: &Arc<Upstream>, prefixes: PrefixLengths) -> bool {
        self.settings == *settings && Arc::ptr_eq(&self.upstream, upstream) && self.prefixes == prefixes
    }

    /// Who the caller is; `None` if it brings nothing that the application could know it by.
    ///
    /// # Errors
    ///
    /// 401 or 403 if the application says so, 429 if it, or this, is asked too often, 503 if it gives no answer that could be used:
    /// then nobody is let in.
    pub async fn prove(&self, caller: &Caller<'_>) -> Result<Option<Identity>, Problem> {
        let Some(fields) = self.fields(caller)? else { return Ok(None) };
        let question = self.answers.as_ref().map(|answers| (answers, hash(&fields)));
        if let Some((answers, question)) = &question {
            let known = lock(answers).get(question, Instant::now(), SystemTime::now());
            if known.is_some() {
                return Ok(known);
            }
        }
        self.rates.take(&self.prefixes.of(caller.address), Instant::now()).map_err(too_many_questions)?;
        let request = OutgoingRequest {
            method: Method::GET,
            target: self.settings.path.clone(),
            headers: fields.into_iter().collect(),
            body: Bytes::new(),
        };
        let (asked, date) = (Instant::now(), SystemTime::now());
        let answer = self.upstream.ask(&request, asked + self.settings.timeout, MOST_ANSWER).await;
        let answer = answer.map_err(|error| self.no_answer(&error))?;
        let mut identity = self.identity(&answer, SystemTime::now())?;
        // What is taken back while the answer is on its way may not be known to the application that gave it.
        identity.issued = Some(date);
        if let Some((answers, question)) = question
            && size(&answer) <= MOST_REMEMBERED
        {
            // From the question on: the answer is no younger than that.
            lock(answers).put(question, identity.clone(), asked);
        }
        Ok(Some(identity))
    }

    /// What the application is told; `None` if there is nothing to ask about.
    ///
    /// Anything else that the client sent stays here, its query first of all, because tickets and tokens stand there.
    fn fields(&self, caller: &Caller<'_>) -> Result<Option<Vec<(HeaderName, HeaderValue)>>, Problem> {
        let client = &caller.head.headers;
        let cookies = self.cookies(client);
        let authorization = self.authorization(client)?;
        if cookies.is_none() && authorization.is_none() {
            return Ok(None);
        }
        let mut fields = vec![
            (header::ACCEPT, HeaderValue::from_static("application/json")),
            (header::ACCEPT_ENCODING, HeaderValue::from_static("identity")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        let mut add = |name: HeaderName, value: Cow<'_, [u8]>, secret: bool| {
            // Values that are put together here are made of what has stood in a request head.
            if let Ok(mut value) = HeaderValue::from_bytes(&value) {
                value.set_sensitive(secret);
                fields.push((name, value));
            }
        };
        for (name, value) in forwarded::told(caller.head, SocketAddr::new(caller.address, 0), caller.tls, caller.host) {
            add(name, value, false);
        }
        add(X_FORWARDED_METHOD, caller.head.method.as_str().as_bytes().into(), false);
        add(X_FORWARDED_URI, caller.head.uri.path().as_bytes().into(), false);
        for name in [header::USER_AGENT, header::ACCEPT_LANGUAGE] {
            if let Some(value) = client.get(&name) {
                add(name, value.as_bytes().into(), false);
            }
        }
        if let Some(cookies) = cookies {
            add(header::COOKIE, cookies, true);
        }
        if let Some(authorization) = authorization {
            add(header::AUTHORIZATION, authorization.as_bytes().into(), true);
        }
        Ok(Some(fields))
    }

    /// The cookies that are shown, as one field.
    fn cookies<'a>(&self, client: &'a HeaderMap) -> Option<Cow<'a, [u8]>> {
        let shown = client.get_all(header::COOKIE).iter().filter_map(|cookies| match &self.settings.cookies {
            Cookies::All => Some(Cow::Borrowed(cookies.as_bytes())).filter(|cookies| !cookies.is_empty()),
            Cookies::Named(names) => {
                let kept = headers::cookies_named(cookies.to_str().ok()?, names)?;
                Some(Cow::Owned(kept.into_bytes()))
            }
        });
        shown.reduce(|before, cookies| Cow::Owned([&before, &b"; "[..], &cookies].concat()))
    }

    fn authorization<'a>(&self, client: &'a HeaderMap) -> Result<Option<&'a HeaderValue>, Problem> {
        if !self.settings.forward_authorization {
            return Ok(None);
        }
        let mut values = client.get_all(header::AUTHORIZATION).iter();
        match (values.next(), values.next()) {
            (value, None) => Ok(value.filter(|value| !value.is_empty())),
            // Which of them holds would be a guess, and the application might guess otherwise.
            _ => Err(BearerRefusal::Repeated.problem()),
        }
    }

    /// What an answer means.
    fn identity(&self, answer: &Answer, now: SystemTime) -> Result<Identity, Problem> {
        let status = answer.status;
        let log = format!("{} answered {} when it was asked who this is", self.upstream.name(), status.as_u16());
        let (problem, handed_on) = match status {
            _ if status.is_success() => return self.known(answer, now),
            StatusCode::UNAUTHORIZED => {
                let problem = Problem::new(status, "unauthorized", "the application does not know this client");
                (problem, Some(header::WWW_AUTHENTICATE))
            }
            StatusCode::FORBIDDEN => {
                (Problem::new(status, "forbidden", "the application does not let this client in"), None)
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let problem = Problem::new(status, "auth-busy", "the application asks to come back later");
                (problem, Some(header::RETRY_AFTER))
            }
            StatusCode::SERVICE_UNAVAILABLE => (unavailable(TRY_AGAIN), Some(header::RETRY_AFTER)),
            // A redirection too: whoever logs in does so in a page, and this is not one.
            _ => (unavailable(TRY_AGAIN), None),
        };
        let mut problem = problem.with_log(log);
        if let Some(name) = handed_on.filter(|name| answer.headers.contains_key(name)) {
            problem.headers.remove(&name);
            for value in answer.headers.get_all(&name) {
                problem.headers.append(name.clone(), value.clone());
            }
        }
        Err(problem)
    }

    fn known(&self, answer: &Answer, now: SystemTime) -> Result<Identity, Problem> {
        let identity = answer::read(&answer.headers, &answer.body, &self.settings.rule, now).map_err(|unusable| {
            let log = format!("the answer of {} to who this is cannot be used: {unusable}", self.upstream.name());
            unavailable(TRY_AGAIN).with_log(log)
        })?;
        if identity.expires.is_some_and(|end| end <= now) {
            let detail = "what the application knew of this client does not hold any more";
            return Err(Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", detail));
        }
        Ok(identity)
    }

    fn no_answer(&self, error: &AskError) -> Problem {
        let wait = match error {
            AskError::Send(SendError::Ejected { wait, .. }) => *wait,
            _ => TRY_AGAIN,
        };
        unavailable(wait).with_log(format!("{} could not be asked who this is: {error}", self.upstream.name()))
    }
}

/// Nobody is let in on a guess.
fn unavailable(wait: Duration) -> Problem {
    let detail = "it cannot be found out at the moment who this client is";
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "auth-unavailable", detail).with_retry_after(wait)
}

/// Stands for all that the application is told: it may judge by any of it.
fn hash(fields: &[(HeaderName, HeaderValue)]) -> Question {
    let mut context = Context::new(&SHA256);
    for (name, value) in fields {
        // With its length, no text can pass for another and what follows it.
        for part in [name.as_str().as_bytes(), value.as_bytes()] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
    }
    let mut question = Question::default();
    // The digest is as long as a question is.
    question.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    question
}

fn size(answer: &Answer) -> usize {
    answer.body.len() + answer.headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum::<usize>()
}
