//! Talks to the admin listener of a running server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use clap::Args;
use hooksink::config::{AdminConfig, JournalConfig};
use hooksink::secret::Secret;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Method, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::config_args::ConfigArgs;
use super::exit::Failure;
use super::post;

/// The journal answers in far less; a page of dead letters is read from disk.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Where a bearer token may stand that ranks above `admin.token`; never on the command line, which everyone can see.
const TOKEN_VARIABLE: &str = "HOOKSINK_ADMIN_TOKEN";

#[derive(Debug, Clone, Args)]
pub(crate) struct AdminArgs {
    #[command(flatten)]
    pub(crate) config: ConfigArgs,

    /// The server's admin listener [default: http:// and admin.listen of the configuration]. The token is admin.token
    /// of the configuration, or the environment's HOOKSINK_ADMIN_TOKEN
    #[arg(long, value_name = "URL", env = "HOOKSINK_ADMIN_URL", hide_env_values = true)]
    pub(crate) admin: Option<Url>,
}

/// A client for the admin API.
pub(crate) struct AdminClient {
    base: Url,
    token: Option<Secret>,
    client: Client,
}

/// Why a call did not give what was asked for.
pub(crate) enum CallError {
    /// No server answered.
    NoServer(Failure),
    /// The server refused.
    Refused(Failure),
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NoServer(failure) | CallError::Refused(failure) => failure,
        }
    }
}

impl AdminArgs {
    /// The client, and the parts of the configuration it was made from.
    pub(crate) fn client(&self) -> Result<(AdminClient, JournalConfig), Failure> {
        let (admin, journal) = self.config.load_operator()?;
        Ok((AdminClient::new(&admin, self.admin.clone())?, journal))
    }
}

impl AdminClient {
    pub(crate) fn new(config: &AdminConfig, url: Option<Url>) -> Result<Self, Failure> {
        let base = match url {
            Some(url) => url,
            None => base_of(config.listen)?,
        };
        let token = match std::env::var(TOKEN_VARIABLE) {
            Ok(token) if !token.is_empty() => Some(Secret::new(token)),
            _ => config.token.first(),
        };
        let client = post::client(&base, TIMEOUT)?;
        Ok(Self { base, token, client })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        read(self.call(Method::GET, path, None::<&()>).await?).await
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        read(self.call(Method::DELETE, path, None::<&()>).await?).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        read(self.call(Method::POST, path, Some(body)).await?).await
    }

    /// Calls, and gives the answer of a success as it comes.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<Response, CallError> {
        let url = self
            .base
            .join(path)
            .map_err(|error| CallError::Refused(Failure::usage(format!("--admin is no base of a URL: {error}"))))?;
        let mut request = self.client.request(method, url);
        if let Some(token) = &self.token {
            let headers = post::bearer(token).map_err(CallError::Refused)?;
            request = request.headers(headers);
        }
        if let Some(body) = body {
            let body = serde_json::to_vec(body).map_err(|error| {
                CallError::Refused(Failure::internal(format!("cannot be written as JSON: {error}")))
            })?;
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        let answer = request.send().await.map_err(|error| {
            let failure = post::unreachable(&error);
            if error.is_connect() { CallError::NoServer(failure) } else { CallError::Refused(failure) }
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = answer.text().await.unwrap_or_default();
        let hint = if status == 401 { "; is admin.token, or HOOKSINK_ADMIN_TOKEN, the server's?" } else { "" };
        Err(CallError::Refused(Failure::unavailable(format!(
            "the server answered {status}{}{hint}",
            post::detail(&text)
        ))))
    }
}

async fn read<T: DeserializeOwned>(answer: Response) -> Result<T, Failure> {
    let text = answer.text().await.map_err(|error| post::unreachable(&error))?;
    serde_json::from_str(&text)
        .map_err(|_| Failure::unavailable("the server's answer cannot be read; is it hooksink, of this version?"))
}

/// An address that means every address is reached through loopback.
fn base_of(listen: SocketAddr) -> Result<Url, Failure> {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    let url = format!("http://{}", SocketAddr::new(ip, listen.port()));
    url.parse().map_err(|error| Failure::internal(format!("admin.listen makes no URL: {error}")))
}
