//! The client's address out of headers. An input is which header counts and who calls, the address of the client, and
//! lines of the header as the client wrote them.

use std::net::{IpAddr, Ipv4Addr};

use hooksink::config::ClientAddressHeader;
use hooksink::http::ClientAddress;
use http::{HeaderMap, HeaderValue};

/// What a client writes never moves the address at which it called the outermost trusted proxy, and who is no trusted
/// proxy is believed nothing.
pub fn check(input: &[u8]) {
    let [header, peer, a, b, written @ ..] = input else { return };
    let (header, name) = match header % 3 {
        0 => (ClientAddressHeader::XForwardedFor, "x-forwarded-for"),
        1 => (ClientAddressHeader::Forwarded, "forwarded"),
        _ => (ClientAddressHeader::None, "x-forwarded-for"),
    };
    let trusted = ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().expect("a network"));
    let resolver = ClientAddress::new(header, trusted.to_vec());
    let (proxy, inner) = (IpAddr::from([10, 0, 0, 1]), "10.9.9.9");
    let stranger = Ipv4Addr::new(203, 0, *a, *b);
    // As a list of lines, whose last one the outermost proxy goes on with.
    let mut lines: Vec<Vec<u8>> = written.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let element = |address: &str| match header {
        ClientAddressHeader::Forwarded => format!("for={address}"),
        _ => address.to_owned(),
    };
    let resolve = |peer: IpAddr, lines: &[Vec<u8>]| {
        let mut headers = HeaderMap::new();
        for line in lines {
            if let Ok(value) = HeaderValue::from_bytes(line) {
                headers.append(name, value);
            }
        }
        resolver.resolve(peer, &headers)
    };

    // As the client wrote them, whoever calls.
    for peer in [proxy, stranger.into(), IpAddr::V6(stranger.to_ipv6_mapped())] {
        let client = resolve(peer, &lines);
        if peer != proxy || header == ClientAddressHeader::None {
            assert_eq!(client, peer.to_canonical(), "nobody else is believed");
        }
    }
    // As one or two proxies pass them on: in the same line, or in one of their own.
    let hops = [element(&stranger.to_string()), element(inner)];
    let hops = &hops[..1 + usize::from(peer % 2)];
    if peer % 4 < 2 {
        let last = lines.last_mut().expect("splitting gives one at least");
        for hop in hops {
            last.extend_from_slice(format!(", {hop}").as_bytes());
        }
        // What can stand in no header is no line of a request, and no proxy goes on with it.
        if HeaderValue::from_bytes(last).is_err() {
            return;
        }
    } else {
        lines.extend(hops.iter().map(|hop| hop.clone().into_bytes()));
    }
    let expected = if header == ClientAddressHeader::None { proxy } else { stranger.into() };
    assert_eq!(resolve(proxy, &lines), expected, "what the client wrote moves nothing");
}
