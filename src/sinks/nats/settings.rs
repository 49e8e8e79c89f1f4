//! What `type = "nats"` is told.

use std::sync::Arc;

use async_nats::ServerAddr;

use super::super::calls::Calls;
use super::super::encoding::Encoding;
use super::super::template::Template;
use super::super::tls::TlsFiles;
use super::super::{BoxError, Sink};
use super::NatsSink;
use crate::names::SinkName;
use crate::secret::Secrets;
use crate::settings::values;
use crate::settings::{Given, Section, secrets};

/// `type = "nats"`: a stream of NATS JetStream.
#[derive(Debug, Clone)]
pub struct NatsSinkConfig {
    /// `url`: servers of one cluster, of which any will do. Without credentials.
    pub url: Vec<ServerAddr>,
    /// `subject`: where each event is published.
    pub subject: Template,
    /// `format` and `include_raw`.
    pub encoding: Encoding,
    /// `username`, with `password`.
    pub username: Option<String>,
    /// `password`
    pub password: Secrets,
    /// `token`
    pub token: Secrets,
    /// `nkey`: the seed of a user's key.
    pub nkey: Secrets,
    /// `credentials`: the text of a credentials file, JWT and seed.
    pub credentials: Secrets,
    /// `inbox_prefix`: where acknowledgements are awaited.
    pub inbox_prefix: String,
    /// `tls_first`: whether TLS begins before the server's greeting.
    pub tls_first: bool,
    /// `ca_file`, `client_cert_file` and `client_key_file`.
    pub tls: TlsFiles,
    /// Calls, which share a connection.
    pub calls: Calls,
}

impl NatsSinkConfig {
    pub(crate) fn read(section: &mut Section<'_>) -> Option<Self> {
        let url = section.required("url", urls);
        let default_subject = Template::parse("hooks.{source}.{kind}").ok();
        let subject = section.optional("subject", subject).or(default_subject);
        let encoding = Encoding::read(section);
        let username = section.optional("username", values::text);
        let password = section.secrets("password", secrets::text);
        let token = section.secrets("token", secrets::text);
        let nkey = section.secrets("nkey", seed);
        let credentials = section.secrets("credentials", credentials);
        if section.has("password") != section.has("username") {
            section.error("password", "username and password belong together");
        }
        let ways = ["username", "token", "nkey", "credentials"].into_iter().filter(|key| section.has(key));
        let ways: Vec<_> = ways.collect();
        if ways.len() > 1 {
            section.error("", format!("{} are different ways to log in; keep one of them", ways.join(" and ")));
        }
        let inbox_prefix = section.or("inbox_prefix", inbox_prefix, "_INBOX".to_owned());
        let tls_first = section.or("tls_first", values::boolean, false);
        let tls = TlsFiles::read(section, None);
        // Each event is acknowledged by itself, so that more of them in a call gain nothing: four calls are a window.
        let calls = Calls::read(section, Calls { batch_events: 250, ..Calls::default() });
        Some(Self {
            url: url?,
            subject: subject?,
            encoding,
            username,
            password,
            token,
            nkey,
            credentials,
            inbox_prefix,
            tls_first,
            tls,
            calls,
        })
    }

    pub(crate) fn target(&self) -> String {
        let urls: Vec<_> = self.url.iter().map(ServerAddr::as_url_str).collect();
        format!("{}, subject {}", urls.join(" or "), self.subject.as_str())
    }

    pub(crate) fn build(&self, _name: &SinkName, _key: [u8; 32]) -> Result<Arc<dyn Sink>, BoxError> {
        Ok(Arc::new(NatsSink::new(self)))
    }
}

fn urls(given: &Given<'_>) -> Result<Vec<ServerAddr>, String> {
    let urls = values::list(given, url)?;
    match urls.as_slice() {
        [] => Err("the list is empty; name at least one server".into()),
        // Whoever could keep one server away would choose that the other is spoken to in clear.
        [first, rest @ ..] if rest.iter().any(|other| other.tls_required() != first.tls_required()) => {
            Err("either all of them begin with tls:// or none".into())
        }
        _ => Ok(urls),
    }
}

/// The errors do not repeat the URL, since people put passwords into them.
fn url(given: &Given<'_>) -> Result<ServerAddr, String> {
    let text = values::text(given)?;
    if !["nats://", "tls://"].iter().any(|scheme| text.starts_with(scheme)) {
        return Err("this must begin with nats:// or, where TLS must be used, tls://".into());
    }
    let wrong = "this is no address of a server; write it like \"nats://host:4222\"";
    let url = reqwest::Url::parse(&text).map_err(|_| wrong)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("user and password do not belong in the URL; use username and password".into());
    }
    if !url.has_host() || !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong.into());
    }
    ServerAddr::from_url(url).map_err(|_| wrong.to_owned())
}

/// A template whose names can be published to: tokens between dots, without white space and wildcards.
fn subject(given: &Given<'_>) -> Result<Template, String> {
    let template = Template::parse(&values::text(given)?)?;
    let longest = template.longest();
    let wrong = if longest.chars().any(|char| char.is_whitespace() || char.is_control()) {
        "a subject holds no white space"
    } else if longest.contains(['*', '>']) {
        "* and > are for who subscribes; events are published to one subject each"
    } else if longest.split('.').any(str::is_empty) {
        "something must stand before, between and after the dots"
    } else if longest.starts_with(['$', '_']) {
        "subjects that begin with $ or _ are the server's own"
    } else {
        return Ok(template);
    };
    Err(wrong.into())
}

fn inbox_prefix(given: &Given<'_>) -> Result<String, String> {
    let text = values::text(given)?;
    let token = |token: &str| {
        !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'*' | b'>'))
    };
    if text.split('.').all(token) {
        Ok(text)
    } else {
        Err("this is no subject; write it like \"_INBOX_hooksink\"".into())
    }
}

fn seed(bytes: &[u8]) -> Result<(), &'static str> {
    let seed = bytes.starts_with(b"SU") && bytes.iter().all(u8::is_ascii_alphanumeric);
    if seed { Ok(()) } else { Err("this is not the seed of a user's nkey, which begins with SU") }
}

fn credentials(bytes: &[u8]) -> Result<(), &'static str> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    let parts = ["BEGIN NATS USER JWT", "BEGIN USER NKEY SEED"];
    if parts.iter().all(|part| text.contains(part)) {
        Ok(())
    } else {
        Err("this is not the text of a credentials file; name the file as { file = \"/path/user.creds\" }")
    }
}

#[cfg(test)]
mod tests {
    use toml::Value;

    use super::*;

    fn given<T>(parse: fn(&Given<'_>) -> Result<T, String>, text: &str) -> Result<T, String> {
        parse(&Given::item(&Value::String(text.into())))
    }

    #[test]
    fn subjects_can_be_published_to() {
        for good in ["hooks.{source}.{kind}", "hooks", "{kind}", "a.b-{source}_{sourcetype}", "HOOKS.é"] {
            assert!(given(subject, good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("hooks {kind}", "white space"),
            ("hooks.*.{kind}", "for who subscribes"),
            ("hooks.>", "for who subscribes"),
            ("hooks..{kind}", "between"),
            (".hooks", "before"),
            ("hooks.{kind}.", "after"),
            ("$JS.API.{kind}", "server's own"),
            ("_INBOX.x", "server's own"),
            ("hooks.{person}", "{person} is not known"),
        ] {
            let said = given(subject, bad).unwrap_err();
            assert!(said.contains(why), "{bad}: {said}");
        }
    }

    #[test]
    fn addresses_hold_no_password_and_errors_none_either() {
        for good in ["nats://a.example", "tls://a.example:4443", "nats://127.0.0.1:4222/", "nats://[::1]:4222"] {
            assert!(given(url, good).is_ok(), "{good}");
        }
        for bad in ["marker", "http://marker", "nats://", "nats://u:marker@a", "nats://a/marker", "nats://a:marker"] {
            let said = given(url, bad).unwrap_err();
            assert!(!said.contains("marker"), "{bad}: {said}");
        }
        let mixed = Value::Array(["tls://a", "nats://b"].map(|url| Value::String(url.into())).to_vec());
        assert_eq!(urls(&Given::item(&mixed)).unwrap_err(), "either all of them begin with tls:// or none");
    }
}
