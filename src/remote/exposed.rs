//! Secrets that others could learn on their way.

use std::net::IpAddr;

/// Settings whose secrets would go to another machine without TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exposed {
    /// The settings.
    pub keys: Vec<String>,
    /// The first host beyond this machine.
    pub host: String,
    /// What to do: `begin url with …`.
    pub instead: &'static str,
}

impl Exposed {
    /// Those of `keys` that are set, if they go beyond this machine.
    pub(crate) fn find<'a>(
        keys: &[(&str, bool)],
        hosts: impl IntoIterator<Item = &'a str>,
        instead: &'static str,
    ) -> Option<Self> {
        let host = hosts.into_iter().find(|host| !is_this_machine(host))?.to_owned();
        let keys: Vec<_> = keys.iter().filter(|(_, set)| *set).map(|(key, _)| (*key).to_owned()).collect();
        (!keys.is_empty()).then_some(Self { keys, host, instead })
    }

    /// What is said of each of the settings.
    pub fn message(&self) -> String {
        let (host, instead) = (&self.host, self.instead);
        format!("goes to {host} without TLS, where whoever sees the traffic can read or guess it: {instead}")
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    address.map_or_else(|_| host.eq_ignore_ascii_case("localhost"), |address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_on_this_machine_is_not_exposed() {
        for host in ["localhost", "127.0.0.1", "127.8.8.8", "::1", "[::1]", "::ffff:127.0.0.1"] {
            assert_eq!(Exposed::find(&[("password", true)], [host], "x"), None, "{host}");
        }
        for host in ["10.0.0.1", "localhost.example", "redis", "::2"] {
            let found = Exposed::find(&[("token", false), ("password", true)], ["::1", host], "x").expect("exposed");
            assert_eq!((found.keys, &*found.host), (vec!["password".to_owned()], host));
        }
        assert_eq!(Exposed::find(&[("password", false)], ["redis"], "x"), None);
    }
}
