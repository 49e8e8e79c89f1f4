//! The client's address, as the proxies tell it that are trusted to. It comes from exactly one header, since proxies pass
//! a client's own version of the other one through.
//!
//! Every proxy appends the address it was called from, so the list is walked from the right for as long as the address
//! found is a trusted proxy; whatever stands left of the first other address was written by someone who is not trusted.
//! For that reason each element is also *parsed* from the right: an open quote on the left must not swallow it.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

use crate::config::ClientAddressHeader;

/// Which header tells a client's address, and whose word on it is taken.
#[derive(Debug, Clone)]
pub struct ClientAddress {
    header: ClientAddressHeader,
    trusted_proxies: Vec<IpNet>,
}

impl ClientAddress {
    /// Addresses from this header, as far as these proxies tell them.
    pub fn new(header: ClientAddressHeader, trusted_proxies: Vec<IpNet>) -> Self {
        Self { header, trusted_proxies }
    }

    /// The address of the client that `peer` passes a request on for, or of `peer` where it is no trusted proxy. Where a
    /// trusted proxy names no address (RFC 7239 allows "unknown" and names of its own), it is the proxy's. IPv4-mapped
    /// IPv6 addresses come out as IPv4.
    pub fn resolve(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let (name, address_of): (_, fn(&str) -> Option<IpAddr>) = match self.header {
            ClientAddressHeader::XForwardedFor => ("x-forwarded-for", |element| node(element)),
            ClientAddressHeader::Forwarded => ("forwarded", forwarded_for),
            ClientAddressHeader::None => return peer.to_canonical(),
        };
        let mut client = peer.to_canonical();
        for line in headers.get_all(HeaderName::from_static(name)).iter().rev() {
            // Text beyond ASCII is no address; what stands right of it still counts.
            let line = String::from_utf8_lossy(line.as_bytes());
            let mut rest = Some(&*line);
            while let Some(line) = rest {
                if !self.trusts(client) {
                    return client;
                }
                let (left, element) = split_last(line, b',');
                let Some(address) = address_of(element.trim()) else { return client };
                client = address;
                rest = left;
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(&address))
    }
}

/// An element of `Forwarded`: its one `for` parameter. `for=192.0.2.43;proto=https`, `For="[2001:db8::1]:4711"`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found = None;
    let mut rest = Some(element);
    while let Some(parameters) = rest {
        let (left, parameter) = split_last(parameters, b';');
        let (name, value) = parameter.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("for") && found.replace(value.trim()).is_some() {
            return None;
        }
        rest = left;
    }
    let value = found?;
    match value.strip_prefix('"') {
        // Addresses need no escapes, so that a value with one is no address.
        Some(quoted) => node(quoted.strip_suffix('"')?),
        None => node(value),
    }
}

/// An address with or without a port, an IPv6 one with or without brackets.
fn node(text: &str) -> Option<IpAddr> {
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    text.parse().ok().or_else(with_port).or_else(bracketed).map(|address| address.to_canonical())
}

/// What stands left and right of the last `separator` outside quotes, found from the right. A quote with an odd number
/// of backslashes before it is escaped and part of a quoted string.
fn split_last(text: &str, separator: u8) -> (Option<&str>, &str) {
    let bytes = text.as_bytes();
    let mut quoted = false;
    for at in (0..bytes.len()).rev() {
        if bytes[at] == b'"' {
            let escapes = bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
            quoted ^= escapes % 2 == 0;
        } else if bytes[at] == separator && !quoted {
            return (Some(&text[..at]), &text[at + 1..]);
        }
    }
    (None, text)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn resolver(header: ClientAddressHeader) -> ClientAddress {
        ClientAddress::new(header, vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()])
    }

    fn resolve(header: ClientAddressHeader, peer: &str, lines: &[(&'static str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        resolver(header).resolve(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn x_forwarded_for_is_walked_from_the_right_through_trusted_proxies() {
        let xff = |peer, value| resolve(ClientAddressHeader::XForwardedFor, peer, &[("x-forwarded-for", value)]);
        for (peer, value, client) in [
            ("10.0.0.1", "192.0.2.1", "192.0.2.1"),
            ("10.0.0.1", "6.6.6.6, 192.0.2.1", "192.0.2.1"),
            ("10.0.0.1", "6.6.6.6, 192.0.2.1, 10.9.9.9", "192.0.2.1"),
            ("10.0.0.1", "10.2.2.2,10.3.3.3", "10.2.2.2"),
            ("10.0.0.1", "192.0.2.1:4711", "192.0.2.1"),
            ("10.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
            ("10.0.0.1", "[2001:db8::1]", "2001:db8::1"),
            ("10.0.0.1", "2001:db8::1", "2001:db8::1"),
            ("10.0.0.1", "::ffff:192.0.2.1", "192.0.2.1"),
            ("10.0.0.1", "192.0.2.1, ::ffff:10.1.1.1", "192.0.2.1"),
            ("::ffff:10.0.0.1", "192.0.2.1", "192.0.2.1"),
            ("fd00::1", "192.0.2.1", "192.0.2.1"),
            ("10.0.0.1", "6.6.6.6, unknown", "10.0.0.1"),
            ("10.0.0.1", "6.6.6.6, unknown, 10.1.1.1", "10.1.1.1"),
            ("10.0.0.1", "6.6.6.6, , 10.1.1.1", "10.1.1.1"),
            ("10.0.0.1", "", "10.0.0.1"),
            ("10.0.0.1", "fe80::1%eth0", "10.0.0.1"),
            ("10.0.0.1", "192.0.2.1.", "10.0.0.1"),
            ("192.0.2.9", "6.6.6.6", "192.0.2.9"),
            ("::ffff:192.0.2.9", "6.6.6.6", "192.0.2.9"),
        ] {
            assert_eq!(xff(peer, value), client, "{peer} {value:?}");
        }
    }

    #[test]
    fn forwarded_is_read_as_rfc_7239_writes_it() {
        let forwarded = |value| resolve(ClientAddressHeader::Forwarded, "10.0.0.1", &[("forwarded", value)]);
        for (value, client) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("proto=https; for=\"192.0.2.43:80\"", "192.0.2.43"),
            ("for=192.0.2.43, for=10.1.1.1", "192.0.2.43"),
            ("for=6.6.6.6, for=192.0.2.43;host=\"a,b;for=7.7.7.7\"", "192.0.2.43"),
            ("for=6.6.6.6, for=192.0.2.43;host=\"\\\",for=7.7.7.7\"", "192.0.2.43"),
            ("for=\"6.6.6.6, for=192.0.2.43", "192.0.2.43"),
            ("for=6.6.6.6;a=\", for=\"[2001:db8::1]\"", "2001:db8::1"),
            ("for=6.6.6.6, for=unknown", "10.0.0.1"),
            ("for=6.6.6.6, for=\"_gazonk\"", "10.0.0.1"),
            ("for=6.6.6.6, for=_hidden, for=10.1.1.1", "10.1.1.1"),
            ("for=6.6.6.6, proto=https", "10.0.0.1"),
            ("for=6.6.6.6;for=7.7.7.7", "10.0.0.1"),
            ("for=\"192.0.2.43", "10.0.0.1"),
            ("192.0.2.43", "10.0.0.1"),
        ] {
            assert_eq!(forwarded(value), client, "{value:?}");
        }
    }

    #[test]
    fn only_the_configured_header_counts() {
        let both = [("x-forwarded-for", "192.0.2.1"), ("forwarded", "for=192.0.2.2")];
        for (header, client) in [
            (ClientAddressHeader::XForwardedFor, "192.0.2.1"),
            (ClientAddressHeader::Forwarded, "192.0.2.2"),
            (ClientAddressHeader::None, "10.0.0.1"),
        ] {
            assert_eq!(resolve(header, "10.0.0.1", &both), client);
        }
    }

    #[test]
    fn several_lines_are_one_list() {
        let lines = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "192.0.2.1, 10.1.1.1"),
            ("x-forwarded-for", "10.2.2.2"),
        ];
        assert_eq!(resolve(ClientAddressHeader::XForwardedFor, "10.0.0.1", &lines), "192.0.2.1");
    }

    /// What a client may write into a header: any byte that a header may have.
    fn forged() -> impl Strategy<Value = Vec<u8>> {
        let hostile = "(for=|For=\"|\"|\\\\|,|;|=| |\\[|\\]|:|1\\.2\\.3\\.4|10\\.0\\.0\\.9|::1|unknown|a){0,24}";
        prop_oneof![
            hostile.prop_map(String::into_bytes),
            proptest::collection::vec(prop_oneof![Just(b'\t'), 32..=126u8, 128..=255u8], 0..60),
        ]
    }

    proptest! {
        /// Whatever a client writes, the address that the trusted proxy appended for it is found.
        #[test]
        fn nothing_left_of_the_client_matters(forged in forged(), own_line: bool, client: IpAddr) {
            let client = client.to_canonical();
            prop_assume!(!resolver(ClientAddressHeader::None).trusts(client));
            let quoted = match client {
                IpAddr::V4(address) => format!("for={address}"),
                IpAddr::V6(address) => format!("for=\"[{address}]\""),
            };
            for (header, name, appended) in [
                (ClientAddressHeader::XForwardedFor, "x-forwarded-for", client.to_string()),
                (ClientAddressHeader::Forwarded, "forwarded", quoted),
            ] {
                let mut headers = HeaderMap::new();
                if own_line {
                    headers.append(name, HeaderValue::from_bytes(&forged).unwrap());
                    headers.append(name, HeaderValue::from_str(&appended).unwrap());
                } else {
                    let line = [&forged, &b", "[..], appended.as_bytes()].concat();
                    headers.append(name, HeaderValue::from_bytes(&line).unwrap());
                }
                prop_assert_eq!(resolver(header).resolve("10.0.0.1".parse().unwrap(), &headers), client);
            }
        }

        /// A peer that is no trusted proxy is the client, whatever it writes.
        #[test]
        fn a_stranger_cannot_name_another(forged in forged()) {
            let peer: IpAddr = "192.0.2.9".parse().unwrap();
            for (header, name) in [(ClientAddressHeader::XForwardedFor, "x-forwarded-for"), (ClientAddressHeader::Forwarded, "forwarded")] {
                let mut headers = HeaderMap::new();
                headers.append(name, HeaderValue::from_bytes(&forged).unwrap());
                prop_assert_eq!(resolver(header).resolve(peer, &headers), peer);
            }
        }
    }
}
