use chrono::Utc;
use clap::{Args, ValueEnum};
use hooksink::auth::hmac_signature::Algorithm;
use hooksink::names::SourceType;
use hooksink::secret::Secret;
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use uuid::Uuid;

use super::block_on;
use super::exit::{Failure, Outcome};
use super::fresh::freshen;
use super::output::print;
use super::post::{Sender, basic, bearer};
use super::samples::{SAMPLES, body};

/// Sign and post a sample, or a file, as the sender would, and say whether it was accepted or a duplicate
///
/// Ids and times are made anew, so that it is a new event, unless --exact.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: hooksink send meta echo.text --url http://127.0.0.1:8080/webhooks/messenger --secret …"
)]
pub(crate) struct Send {
    /// Which sender
    #[arg(value_parser = source_type)]
    sender: SourceType,

    /// A sample's name (see --list), or a file
    #[arg(value_name = "SAMPLE_OR_FILE", required_unless_present = "list")]
    what: Option<String>,

    /// List the samples of this sender
    #[arg(long)]
    list: bool,

    /// Where to post: the whole URL, such as https://host/webhooks/messenger
    #[arg(long, required_unless_present = "list")]
    url: Option<Url>,

    /// The secret to sign with: the app secret of Meta, the signature secret of Webex Connect
    #[arg(long, env = "HOOKSINK_SEND_SECRET", hide_env_values = true)]
    secret: Option<String>,

    /// The digest of the signature
    #[arg(long, value_enum, default_value_t = Digest::Sha256)]
    algorithm: Digest,

    /// HTTP Basic: user:password
    #[arg(long, env = "HOOKSINK_SEND_BASIC", hide_env_values = true, conflicts_with = "bearer")]
    basic: Option<String>,

    /// A bearer token
    #[arg(long, env = "HOOKSINK_SEND_BEARER", hide_env_values = true)]
    bearer: Option<String>,

    /// An API key in a header: name=value (in a query, it is part of --url)
    #[arg(long, env = "HOOKSINK_SEND_API_KEY", hide_env_values = true, value_name = "NAME=VALUE")]
    api_key: Option<String>,

    /// Send the bytes as they are, ids and times too
    #[arg(long)]
    exact: bool,

    /// How often to send it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Digest {
    Sha256,
    Sha512,
    Sha1,
}

fn source_type(text: &str) -> Result<SourceType, String> {
    text.parse()
}

impl Send {
    pub(crate) fn run(self) -> Outcome {
        let (Some(what), Some(url), false) = (&self.what, &self.url, self.list) else {
            let samples = SAMPLES.iter().filter(|sample| sample.source_type == self.sender.as_str());
            return print(&samples.map(|sample| format!("{}\n", sample.name)).collect::<String>());
        };
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Failure::usage("--url must begin with http:// or https://"));
        }
        let body = body(self.sender, what)?;
        let sender = self.sender(url.clone())?;
        block_on(async {
            for _ in 0..self.count {
                let body = if self.exact { body.clone() } else { freshen(&body, Uuid::new_v4(), Utc::now()) };
                let answer = sender.post(body).await?;
                print(&format!("{what}: {}\n", said(answer.accepted, answer.duplicates)))?;
            }
            Ok(())
        })
    }

    fn sender(&self, url: Url) -> Result<Sender, Failure> {
        let mut sender = Sender::new(self.sender, url, self.secret.clone().map(Secret::new))?;
        sender.algorithm = match self.algorithm {
            Digest::Sha256 => Algorithm::Sha256,
            Digest::Sha512 => Algorithm::Sha512,
            Digest::Sha1 => Algorithm::Sha1,
        };
        if let Some(user_password) = &self.basic {
            sender.headers.extend(basic(&Secret::new(user_password.clone())));
        }
        if let Some(token) = &self.bearer {
            sender.headers.extend(bearer(&Secret::new(token.clone()))?);
        }
        if let Some(key) = &self.api_key {
            let header = key
                .split_once('=')
                .and_then(|(name, value)| Some((name.parse::<HeaderName>().ok()?, value.parse::<HeaderValue>().ok()?)));
            let (name, mut value) = header.ok_or_else(|| Failure::usage("--api-key must be name=value"))?;
            value.set_sensitive(true);
            sender.headers.insert(name, value);
        }
        Ok(sender)
    }
}

/// What became of the events of a request.
fn said(accepted: u64, duplicates: u64) -> String {
    match (accepted, duplicates) {
        (1, 0) => "accepted".into(),
        (0, 1) => "duplicate".into(),
        (accepted, 0) => format!("{accepted} events accepted"),
        (0, duplicates) => format!("{duplicates} duplicates"),
        (accepted, duplicates) => format!("{accepted} events accepted, {duplicates} duplicates"),
    }
}
