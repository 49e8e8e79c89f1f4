//! What `type = "rabbitmq"` is told.

use std::fmt;
use std::sync::Arc;

use super::super::calls::Calls;
use super::super::encoding::Encoding;
use super::super::template::Template;
use super::super::{BoxError, Sink};
use super::RabbitmqSink;
use crate::names::SinkName;
use crate::remote::tls::TlsFiles;
use crate::remote::{Exposed, Form};
use crate::secret::Secrets;
use crate::settings::units::duration;
use crate::settings::values;
use crate::settings::{Given, Section, secrets};

/// Bytes of a name of AMQP.
const LONGEST_NAME: usize = 255;

/// `type = "rabbitmq"`: an exchange of RabbitMQ.
#[derive(Debug, Clone)]
pub struct RabbitmqSinkConfig {
    /// `url`: nodes of one cluster, tried in this order. Without credentials.
    pub url: Vec<AmqpAddress>,
    /// `vhost`: the virtual host.
    pub vhost: String,
    /// `username`
    pub username: String,
    /// `password`
    pub password: Secrets,
    /// `exchange`: where each event is published; the default exchange if empty.
    pub exchange: Template,
    /// `routing_key`: by which the exchange finds queues.
    pub routing_key: Template,
    /// `format` and `include_raw`.
    pub encoding: Encoding,
    /// `ca_file`, `client_cert_file` and `client_key_file`.
    pub tls: TlsFiles,
    /// `heartbeat`: in whole seconds; after two without a sign the connection counts as broken.
    pub heartbeat: u16,
    /// Calls, each on a channel of its own.
    pub calls: Calls,
}

/// `amqp://host:5672` or `amqps://host:5671`.
#[derive(Clone, PartialEq, Eq)]
pub struct AmqpAddress {
    /// Whether TLS is used.
    pub tls: bool,
    /// The host, an address of IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for AmqpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        write!(f, "{scheme}://{host}:{}", self.port)
    }
}

impl fmt::Debug for AmqpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl RabbitmqSinkConfig {
    pub(crate) fn read(section: &mut Section<'_>) -> Option<Self> {
        let url = section.required("url", urls);
        let vhost = section.or("vhost", name, "/".to_owned());
        let username = section.required("username", values::text);
        let password = section.secrets("password", secrets::text);
        if !section.has("password") {
            section.error("password", "this must be set");
        }
        let exchange = section.required("exchange", template);
        let default_key = Template::parse("{source}.{kind}").ok();
        let routing_key = section.optional("routing_key", template).or(default_key);
        let encoding = Encoding::read(section);
        let plain = url.as_ref().is_some_and(|url| url.iter().any(|address| !address.tls));
        let tls = TlsFiles::read(section, plain.then_some("url begins with amqp://"));
        let heartbeat = section.or("heartbeat", seconds, 20);
        let calls = Calls::read(section, Calls::default());
        Some(Self {
            url: url?,
            vhost,
            username: username?,
            password,
            exchange: exchange?,
            routing_key: routing_key?,
            encoding,
            tls,
            heartbeat,
            calls,
        })
    }

    pub(crate) fn target(&self) -> String {
        let urls: Vec<_> = self.url.iter().map(ToString::to_string).collect();
        let exchange = match self.exchange.as_str() {
            "" => "the default exchange".to_owned(),
            exchange => format!("exchange {exchange}"),
        };
        format!("{}, vhost {}, {exchange}", urls.join(" or "), self.vhost)
    }

    pub(crate) fn exposed(&self) -> Option<Exposed> {
        let hosts = self.url.iter().filter(|address| !address.tls).map(|address| address.host.as_str());
        Exposed::find(&[("password", !self.password.is_empty())], hosts, "begin url with amqps://")
    }

    pub(crate) fn build(&self, _name: &SinkName, _key: [u8; 32]) -> Result<Arc<dyn Sink>, BoxError> {
        Ok(Arc::new(RabbitmqSink::new(self)))
    }
}

fn urls(given: &Given<'_>) -> Result<Vec<AmqpAddress>, String> {
    let urls = values::some(given, url)?;
    if urls.iter().any(|other| other.tls != urls[0].tls) {
        return Err("either all of them begin with amqps:// or none".into());
    }
    Ok(urls)
}

const FORM: Form = Form {
    schemes: &[("amqp", false), ("amqps", true)],
    like: "write it like \"amqp://host:5672\" or, for TLS, \"amqps://host:5671\"",
    login: "username and password",
};

fn url(given: &Given<'_>) -> Result<AmqpAddress, String> {
    let address = FORM.read(given)?;
    if !address.path.is_empty() {
        return Err("what follows the port is no place for the virtual host; use vhost".into());
    }
    let port = address.port.unwrap_or(if address.tls { 5671 } else { 5672 });
    Ok(AmqpAddress { tls: address.tls, host: address.host, port })
}

fn name(given: &Given<'_>) -> Result<String, String> {
    let text = values::text(given)?;
    if text.len() <= LONGEST_NAME { Ok(text) } else { Err(format!("this is longer than {LONGEST_NAME} bytes")) }
}

/// A template whose names are short enough for AMQP; an exchange may be without one.
fn template(given: &Given<'_>) -> Result<Template, String> {
    let template = Template::parse(&values::any_text(given)?)?;
    if template.longest().len() <= LONGEST_NAME {
        Ok(template)
    } else {
        Err(format!("this can become longer than {LONGEST_NAME} bytes"))
    }
}

fn seconds(given: &Given<'_>) -> Result<u16, String> {
    let wrong = || "this must be a number of whole seconds, from \"1s\" to \"1h\"".to_owned();
    let duration = duration(given)?;
    let whole = u16::try_from(duration.as_secs()).ok().filter(|seconds| (1..=3600).contains(seconds));
    whole.filter(|_| duration.subsec_nanos() == 0).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use toml::Value;

    use super::*;

    fn given<T>(parse: fn(&Given<'_>) -> Result<T, String>, text: &str) -> Result<T, String> {
        parse(&Given::item(&Value::String(text.into())))
    }

    #[test]
    fn addresses_hold_no_password_and_errors_none_either() {
        for (text, expected) in [
            ("amqp://rabbit.example", "amqp://rabbit.example:5672"),
            ("amqps://rabbit.example/", "amqps://rabbit.example:5671"),
            ("amqp://127.0.0.1:5673", "amqp://127.0.0.1:5673"),
            ("amqp://[::1]", "amqp://[::1]:5672"),
        ] {
            assert_eq!(given(url, text).unwrap().to_string(), expected);
        }
        for bad in ["marker", "http://marker", "amqp://", "amqp://u:marker@a", "amqp://a/marker", "amqp://a:marker"] {
            let said = given(url, bad).unwrap_err();
            assert!(!said.contains("marker"), "{bad}: {said}");
        }
        let mixed = Value::Array(["amqp://a", "amqps://b"].map(|url| Value::String(url.into())).to_vec());
        assert!(urls(&Given::item(&mixed)).is_err());
    }

    #[test]
    fn names_fit_into_amqp() {
        assert!(given(template, "").is_ok());
        assert!(given(template, "hooks.{source}.{kind}").is_ok());
        assert!(given(template, &format!("{}{{kind}}", "x".repeat(250))).is_err());
        assert!(given(name, &"x".repeat(256)).is_err());
        assert_eq!(given(seconds, "20s"), Ok(20));
        for bad in ["0s", "500ms", "1s 1ms", "2h"] {
            assert!(given(seconds, bad).is_err(), "{bad}");
        }
    }
}
