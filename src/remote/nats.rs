//! Servers of NATS, which keep the journal or are a sink: where they are, how hooksink proves who it is, and TLS.

use async_nats::{Auth, AuthError, ConnectOptions, ServerAddr};
use nkeys::KeyPair;
use zeroize::Zeroizing;

use super::address::Form;
use super::exposed::Exposed;
use super::tls::{TlsFiles, use_ring};
use crate::secret::Secrets;
use crate::settings::values;
use crate::settings::{Given, Section, secrets};

const FORM: Form = Form {
    schemes: &[("nats", false), ("tls", true)],
    like: "write it like \"nats://host:4222\" or, for TLS, \"tls://host:4222\"",
    login: "username and password, token, nkey or credentials",
};

/// Addresses of the servers of one cluster, all with TLS or none.
pub(crate) fn servers(given: &Given<'_>) -> Result<Vec<ServerAddr>, String> {
    let servers = values::some(given, |given| {
        let address = FORM.read(given)?;
        let server = values::text(given)?.parse::<ServerAddr>().ok().filter(|_| address.path.is_empty());
        server.ok_or_else(|| format!("this is no address of a server; {}", FORM.like))
    })?;
    // Whoever could keep one server away would choose that the other is spoken to in clear.
    if servers.iter().any(|other| other.tls_required() != servers[0].tls_required()) {
        return Err("either all of them begin with tls:// or none".into());
    }
    Ok(servers)
}

/// Who hooksink is to the servers. One way of proving it is set, or none.
#[derive(Debug, Clone, Default)]
pub struct NatsLogin {
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
}

impl NatsLogin {
    pub(crate) fn read(section: &mut Section<'_>) -> Self {
        let login = Self {
            username: section.optional("username", values::text),
            password: section.secrets("password", secrets::text),
            token: section.secrets("token", secrets::text),
            nkey: section.secrets("nkey", is_seed),
            credentials: section.secrets("credentials", are_credentials),
        };
        if section.has("password") != section.has("username") {
            section.error("password", "username and password belong together");
        }
        let ways = ["username", "token", "nkey", "credentials"].into_iter().filter(|key| section.has(key));
        let ways: Vec<_> = ways.collect();
        if ways.len() > 1 {
            section.error(ways[1], format!("{} are different ways to log in; keep one of them", ways.join(" and ")));
        }
        login
    }

    /// What others could learn if there is no TLS. Keys and credentials sign, and stay here.
    pub(crate) fn exposed<'a>(&self, servers: impl IntoIterator<Item = &'a str>) -> Option<Exposed> {
        let secrets = [("password", !self.password.is_empty()), ("token", !self.token.is_empty())];
        Exposed::find(&secrets, servers, "begin the addresses with tls://, since nats:// leaves TLS to the servers")
    }

    /// What proves to a server who this is, with the secrets of now. Errors quote none of them.
    fn proof(&self, nonce: &[u8]) -> Result<Auth, &'static str> {
        let text = |secrets: &Secrets| {
            secrets.first().map(|secret| Zeroizing::new(String::from_utf8_lossy(secret.expose()).into_owned()))
        };
        let plain = |secrets: &Secrets| text(secrets).map(|text| text.to_string());
        let mut auth = Auth::new();
        auth.username = self.username.clone();
        auth.password = plain(&self.password);
        auth.token = plain(&self.token);
        if let Some(seed) = text(&self.nkey) {
            let pair = KeyPair::from_seed(seed.trim()).map_err(|_| "nkey is not the seed of a key")?;
            auth.signature = Some(pair.sign(nonce).map_err(|_| "the key of nkey cannot sign")?);
            auth.nkey = Some(pair.public_key());
        }
        if let Some(text) = text(&self.credentials) {
            let parts = credentials(&text).and_then(|(jwt, seed)| Some((jwt, KeyPair::from_seed(seed).ok()?)));
            let (jwt, pair) = parts.ok_or("credentials: JWT or seed cannot be read")?;
            auth.signature = Some(pair.sign(nonce).map_err(|_| "the key in credentials cannot sign")?);
            auth.jwt = Some(jwt.to_owned());
        }
        Ok(auth)
    }
}

/// What a connection begins with: who this is, with the secrets of each moment at which it is made, and TLS. `required`
/// says that nothing may be said without it; so does who names a certificate, whatever a server, or somebody before it,
/// offers. The error names the setting.
pub(crate) fn options(login: &NatsLogin, tls: &TlsFiles, required: bool) -> Result<ConnectOptions, &'static str> {
    use_ring();
    // Here it can be said which setting it is; later it is tried again and again.
    login.proof(b"")?;
    let login = login.clone();
    let auth = move |nonce: Vec<u8>| std::future::ready(login.proof(&nonce).map_err(AuthError::new));
    let mut options =
        ConnectOptions::with_auth_callback(auth).name("hooksink").require_tls(required || !tls.is_empty());
    if let Some(file) = &tls.ca_file {
        options = options.add_root_certificates(file.clone());
    }
    if let (Some(certificate), Some(key)) = (&tls.client_cert_file, &tls.client_key_file) {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    Ok(options)
}

/// The JWT and the seed of a credentials file: each stands below a line of dashes that says so.
/// <https://docs.nats.io/using-nats/developer/connecting/creds>
fn credentials(text: &str) -> Option<(&str, &str)> {
    let below = |title: &str| {
        let mut lines =
            text.lines().map(str::trim).skip_while(|line| !(line.starts_with("---") && line.contains(title)));
        lines.nth(1).filter(|line| !line.is_empty() && !line.starts_with('-'))
    };
    Some((below("BEGIN NATS USER JWT")?, below("BEGIN USER NKEY SEED")?))
}

fn is_seed(bytes: &[u8]) -> Result<(), &'static str> {
    let seed = bytes.starts_with(b"SU") && bytes.iter().all(u8::is_ascii_alphanumeric);
    if seed { Ok(()) } else { Err("this is not the seed of a user's nkey, which begins with SU") }
}

fn are_credentials(bytes: &[u8]) -> Result<(), &'static str> {
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

    #[test]
    fn addresses_are_of_servers() {
        let read = |text: &str| servers(&Given::item(&Value::String(text.into())));
        for good in ["nats://a.example", "tls://a.example:4443", "nats://127.0.0.1:4222/", "nats://[::1]:4222"] {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in ["marker", "http://marker", "nats://", "nats://u:marker@a", "nats://a/marker", "nats://a:marker"] {
            let said = read(bad).unwrap_err();
            assert!(!said.contains("marker"), "{bad}: {said}");
        }
        let mixed = Value::Array(["tls://a", "nats://b"].map(|url| Value::String(url.into())).to_vec());
        assert_eq!(servers(&Given::item(&mixed)).unwrap_err(), "either all of them begin with tls:// or none");
    }
}
