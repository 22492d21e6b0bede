//! Who may speak for clients: trusted proxies by their fields, balancers by the PROXY protocol.

use std::net::IpAddr;

use ipnet::IpNet;

use super::problem::quote;
use super::reader::TableReader;
use crate::edge::proxy_protocol::Balancers;
use crate::protocol::forwarded::{Form, Trust};

const NETWORKS: &str = "write networks or addresses, as in [\"10.0.0.0/8\", \"2001:db8::/32\", \"192.0.2.1\"]";

/// The keys of `[server]` that say who the trusted proxies are.
pub(super) fn read(table: &mut TableReader<'_>) -> Trust {
    let proxies = networks(table, "trusted_proxies");
    let form = table.field("forwarded");
    let host = table.field("forwarded_host");
    if proxies.is_none() {
        for field in [&form, &host].into_iter().flatten() {
            let message = format!("`{}` has no effect without `trusted_proxies`", field.key);
            field.wrong(message, "say where they connect from with `trusted_proxies`, or take this out");
        }
    }
    let choices = [("x-forwarded", Form::XForwarded), ("forwarded", Form::Forwarded)];
    let form = form.and_then(|field| field.choice(&choices)).unwrap_or_default();
    let host = host.and_then(|field| field.flag()).unwrap_or(false);
    Trust { proxies: proxies.unwrap_or_default(), form, host }
}

/// The keys of a listener that say who puts the PROXY protocol in front of its connections.
pub(super) fn balancers(table: &mut TableReader<'_>) -> Option<Balancers> {
    let required = table.one_of("proxy_protocol", false, &[("off", false), ("required", true)]);
    let place = table.span("proxy_protocol");
    let from = table.span("proxy_protocol_from");
    let networks = networks(table, "proxy_protocol_from");
    match (required, from) {
        (true, None) => {
            let message = "`proxy_protocol` is required of everybody, and nobody may send it";
            let help = "say who the balancers are: proxy_protocol_from = [\"10.0.0.0/8\"]";
            table.report().wrong(place, message, help);
            None
        }
        (true, Some(from)) if networks.as_ref().is_some_and(Vec::is_empty) => {
            let message = "`proxy_protocol_from` names nobody, and everybody else is refused";
            table.report().wrong(Some(from), message, NETWORKS);
            None
        }
        (true, Some(_)) => networks.map(|networks| Balancers { networks }),
        (false, Some(from)) => {
            let message = "`proxy_protocol_from` has no effect without `proxy_protocol`";
            table.report().wrong(Some(from), message, "write proxy_protocol = \"required\", or take this out");
            None
        }
        (false, None) => None,
    }
}

/// Networks by address and prefix length, and single addresses; `None` if there are none or some cannot be read.
fn networks(table: &mut TableReader<'_>, key: &'static str) -> Option<Vec<IpNet>> {
    let report = table.report();
    let texts = table.texts(key)?;
    // All are read before one that is wrong counts.
    let networks: Vec<_> = texts
        .into_iter()
        .map(|text| {
            let network =
                text.value.parse::<IpNet>().ok().or_else(|| text.value.parse::<IpAddr>().ok().map(IpNet::from));
            let message = match network {
                None => format!("{} is no network", quote(text.value)),
                // The rest of the address says something, and has no effect.
                Some(network) if network != network.trunc() => {
                    format!("{} has bits behind its prefix; the network is \"{}\"", quote(text.value), network.trunc())
                }
                Some(IpNet::V6(network)) if network.addr().to_ipv4_mapped().is_some() => {
                    format!("{} stands for IPv4, which is written as such", quote(text.value))
                }
                Some(network) => return Some(network),
            };
            report.wrong(Some(text.span), message, NETWORKS);
            None
        })
        .collect();
    networks.into_iter().collect::<Option<Vec<_>>>()
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use crate::config::tests::{file, only};
    use crate::protocol::forwarded::Form;

    fn server(keys: &str) -> String {
        only(&file(&format!("[server]\n{keys}"), "", "", "", ""))
    }

    fn listener(keys: &str) -> String {
        only(&file("", keys, "", "", ""))
    }

    #[test]
    fn a_network_is_written_whole_and_means_what_it_says() {
        assert!(server("trusted_proxies = [\"10.0.0.0/33\"]").contains("`10.0.0.0/33` is no network"));
        assert!(server("trusted_proxies = [\"balancer\"]").contains("`balancer` is no network"));
        assert!(server("trusted_proxies = [\"10.0.0.1/8\"]").contains("the network is \"10.0.0.0/8\""));
        assert!(server("trusted_proxies = [\"::ffff:10.0.0.0/104\"]").contains("stands for IPv4"));
        assert!(server("trusted_proxies = \"10.0.0.1\"").contains("must be a list"));
    }

    #[test]
    fn what_would_have_no_effect_or_shut_everybody_out_is_reported() {
        assert!(server("forwarded = \"forwarded\"").contains("no effect without `trusted_proxies`"));
        assert!(server("forwarded_host = false").contains("no effect without `trusted_proxies`"));
        assert!(listener("proxy_protocol = \"required\"").contains("nobody may send it"));
        assert!(listener("proxy_protocol = \"required\"\nproxy_protocol_from = []").contains("names nobody"));
        assert!(listener("proxy_protocol_from = [\"10.0.0.1\"]").contains("no effect without `proxy_protocol`"));
        assert!(listener("proxy_protocol = \"optional\"").contains("\"off\" or \"required\""));
        assert!(listener("misdirected = \"ignore\"").contains("\"refuse\" or \"allow\""));
    }

    #[test]
    fn networks_and_single_addresses_are_taken() {
        let keys = "trusted_proxies = [\"10.0.0.0/8\", \"2001:db8::1\"]\nforwarded = \"forwarded\"";
        let text = file(&format!("[server]\n{keys}"), "", "", "", "");
        let trust = Config::parse(&text, "x", std::path::Path::new("")).unwrap().server.trust;
        assert_eq!((trust.form, trust.host), (Form::Forwarded, false));
        for (address, covered) in
            [("10.9.8.7", true), ("::ffff:10.9.8.7", true), ("2001:db8::1", true), ("2001:db8::2", false)]
        {
            assert_eq!(trust.covers(address.parse().unwrap()), covered, "{address}");
        }
    }
}
