//! Who makes a request: the other end of its connection, or whoever a trusted proxy there speaks for.

use http::header::{self, HeaderValue};
use http::request;

use super::http::Connection;
use crate::protocol::diagnostic::{Arrived, Heard};
use crate::protocol::forwarded::{self, Told};

impl Connection {
    /// The connection as this one request has it: a proxy's connection carries the requests of many clients. What is told of
    /// them moves from the fields into the connection; upstream gets fields of our own, made of that.
    pub(super) fn resolve(mut self, head: &mut request::Parts) -> Self {
        let told = self.edge.trust.told(&head.headers, self.peer);
        if self.diagnostics_for(head).is_some() {
            let arrived = self.arrived(head, told.as_ref());
            head.extensions.insert(arrived);
        }
        forwarded::strip(&mut head.headers);
        let Some(told) = told else { return self };
        if told.client != self.peer {
            self.via = Some(self.peer);
            self.peer = told.client;
            // It says who the proxy is, and nothing of those whom it speaks for.
            self.certificate = None;
        }
        self.speaks_for_others = true;
        self.tls = told.tls.unwrap_or(self.tls);
        // A host that cannot stand in a field is no host; the request then is for the one that it names itself.
        let host = told.host.filter(|_| self.edge.trust.host).and_then(|host| HeaderValue::try_from(host).ok());
        if let Some(host) = host {
            name_host(head, host);
        }
        head.extensions.insert(told.via);
        self
    }

    /// What a doctor wants to know of a request, and what nobody else sees.
    fn arrived(&self, head: &request::Parts, told: Option<&Told>) -> Arrived {
        Arrived {
            fields: head.headers.clone(),
            hop: self.via.unwrap_or(self.peer),
            tls: self.tls,
            client: Heard::client(&head.headers, told, self.via.is_some()),
            scheme: Heard::scheme(&head.headers, told),
        }
    }
}

/// Lets a request be for this host, wherever its own stands.
fn name_host(head: &mut request::Parts, host: HeaderValue) {
    if head.uri.authority().is_some() {
        let mut parts = std::mem::take(&mut head.uri).into_parts();
        (parts.scheme, parts.authority) = (None, None);
        head.uri = parts.path_and_query.map(http::Uri::from).unwrap_or_default();
    }
    head.headers.insert(header::HOST, host);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_a_proxys_client_replaces_every_other() {
        for (target, fields) in [("/a?b=c", 2), ("http://own.example/a?b=c", 1), ("https://own.example/a?b=c", 0)] {
            let mut request = http::Request::builder().uri(target);
            for _ in 0..fields {
                request = request.header("host", "own.example");
            }
            let (mut head, ()) = request.body(()).unwrap().into_parts();
            name_host(&mut head, HeaderValue::from_static("theirs.example"));
            assert_eq!(head.uri, "/a?b=c");
            assert_eq!(head.headers.get_all("host").iter().collect::<Vec<_>>(), ["theirs.example"]);
        }
    }
}
