//! Addresses of servers as people write them: URLs without user and password, which stand in errors and logs.

use reqwest::Url;

use crate::settings::Given;
use crate::settings::values;

/// How the URL of a kind of server is written.
pub(crate) struct Form {
    /// The schemes there are, those to be named first, and whether each means TLS.
    pub(crate) schemes: &'static [(&'static str, bool)],
    /// What is said to who wrote something else: `write it like …`.
    pub(crate) like: &'static str,
    /// The settings in which user and password stand.
    pub(crate) login: &'static str,
}

/// What is in a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Whether the scheme means TLS.
    pub(crate) tls: bool,
    /// A name or an address, the latter without brackets.
    pub(crate) host: String,
    /// The port, if one is given.
    pub(crate) port: Option<u16>,
    /// What stands behind that, without slashes around it.
    pub(crate) path: String,
}

impl Form {
    /// Reads a URL that names a host, a port, and a path at most. Errors do not repeat it, since people put passwords
    /// into them.
    pub(crate) fn read(&self, given: &Given<'_>) -> Result<Address, String> {
        let (url, tls) = self.url(given)?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!("nothing is set by what follows ? or # in a URL; {}", self.like));
        }
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        Ok(Address { tls, host, port: url.port(), path: url.path().trim_matches('/').to_owned() })
    }

    /// Reads a URL, and whether it means TLS.
    pub(crate) fn url(&self, given: &Given<'_>) -> Result<(Url, bool), String> {
        let url = Url::parse(&values::text(given)?);
        let url = url.map_err(|error| format!("this is no URL: {error}; {}", self.like))?;
        let Some((_, tls)) = self.schemes.iter().find(|(scheme, _)| *scheme == url.scheme()) else {
            return Err(format!("this must begin with {}, not {}:", self.beginnings(), url.scheme()));
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(format!("user and password do not belong in the URL; use {}", self.login));
        }
        match url.host_str() {
            None | Some("") => Err(format!("this names no host; {}", self.like)),
            Some(_) => Ok((url, *tls)),
        }
    }

    /// `redis:// or rediss://`: one of each kind, since the others only mean the same.
    fn beginnings(&self) -> String {
        let first = |wanted: bool| self.schemes.iter().find(|(_, tls)| *tls == wanted);
        let names = [first(false), first(true)].into_iter().flatten().map(|(scheme, _)| format!("{scheme}://"));
        names.collect::<Vec<_>>().join(" or ")
    }
}

#[cfg(test)]
mod tests {
    use toml::Value;

    use super::*;

    const FORM: Form = Form {
        schemes: &[("x", false), ("xs", true), ("y", false)],
        like: "write it like \"x://host\"",
        login: "username and password",
    };

    fn read(text: &str) -> Result<Address, String> {
        FORM.read(&Given::item(&Value::String(text.into())))
    }

    #[test]
    fn a_url_is_taken_apart() {
        let address = |tls, host: &str, port, path: &str| Address { tls, host: host.into(), port, path: path.into() };
        assert_eq!(read("x://host"), Ok(address(false, "host", None, "")));
        assert_eq!(read("y://host:7/"), Ok(address(false, "host", Some(7), "")));
        assert_eq!(read("xs://[::1]:7/a"), Ok(address(true, "::1", Some(7), "a")));
    }

    #[test]
    fn what_is_wrong_is_said_without_repeating_it() {
        for (wrong, said) in [
            ("marker", "this is no URL: relative URL without a base; write it like \"x://host\""),
            ("x://host:marker", "this is no URL: invalid port number; write it like \"x://host\""),
            ("http://marker", "this must begin with x:// or xs://, not http:"),
            ("x://marker@host", "user and password do not belong in the URL; use username and password"),
            ("x://u:marker@host", "user and password do not belong in the URL; use username and password"),
            ("x:///marker", "this names no host; write it like \"x://host\""),
            ("x:marker", "this names no host; write it like \"x://host\""),
            ("x://host?marker", "nothing is set by what follows ? or # in a URL; write it like \"x://host\""),
            ("x://host#marker", "nothing is set by what follows ? or # in a URL; write it like \"x://host\""),
        ] {
            assert_eq!(read(wrong), Err(said.to_owned()), "{wrong}");
        }
    }
}
