//! What `type = "nats"` is told.

use std::sync::Arc;

use async_nats::ServerAddr;

use super::super::calls::Calls;
use super::super::encoding::Encoding;
use super::super::template::Template;
use super::super::{BoxError, Sink};
use super::NatsSink;
use crate::names::SinkName;
use crate::remote::Exposed;
use crate::remote::nats::{self, NatsLogin};
use crate::remote::tls::TlsFiles;
use crate::settings::values;
use crate::settings::{Given, Section};

/// `type = "nats"`: a stream of NATS JetStream.
#[derive(Debug, Clone)]
pub struct NatsSinkConfig {
    /// `url`: servers of one cluster, of which any will do. Without credentials.
    pub url: Vec<ServerAddr>,
    /// `subject`: where each event is published.
    pub subject: Template,
    /// `format` and `include_raw`.
    pub encoding: Encoding,
    /// `username` and `password`, `token`, `nkey` or `credentials`.
    pub login: NatsLogin,
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
        let url = section.required("url", nats::servers);
        let default_subject = Template::parse("hooks.{source}.{kind}").ok();
        let subject = section.optional("subject", subject).or(default_subject);
        let encoding = Encoding::read(section);
        let login = NatsLogin::read(section);
        let inbox_prefix = section.or("inbox_prefix", inbox_prefix, "_INBOX".to_owned());
        let tls_first = section.or("tls_first", values::boolean, false);
        let tls = TlsFiles::read(section, None);
        let calls = Calls::read(section, Calls::default());
        Some(Self { url: url?, subject: subject?, encoding, login, inbox_prefix, tls_first, tls, calls })
    }

    pub(crate) fn target(&self) -> String {
        let urls: Vec<_> = self.url.iter().map(ServerAddr::as_url_str).collect();
        format!("{}, subject {}", urls.join(" or "), self.subject.as_str())
    }

    pub(crate) fn exposed(&self) -> Option<Exposed> {
        let servers = self.url.iter().filter(|_| !self.requires_tls()).map(ServerAddr::host);
        self.login.exposed(servers)
    }

    /// Whether nothing may be said without TLS.
    pub(super) fn requires_tls(&self) -> bool {
        self.tls_first || !self.tls.is_empty() || self.url.iter().any(ServerAddr::tls_required)
    }

    pub(crate) fn build(&self, _name: &SinkName, _key: [u8; 32]) -> Result<Arc<dyn Sink>, BoxError> {
        Ok(Arc::new(NatsSink::new(self)))
    }
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
}
