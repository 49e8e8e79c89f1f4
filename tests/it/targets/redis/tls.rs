//! TLS: of redis-server itself, which asks for a certificate too, and of others in its place.

use std::fs;
use std::path::Path;

use hooksink::names::SourceType;

use super::super::Server as _;
use super::RedisServer;
use crate::echo::{SECRET, echo};
use crate::programs::find_or_skip;
use crate::support::daemon::free_port;
use crate::support::runtime;
use crate::support::senders::SOURCE;
use crate::support::server::{TestServer, eventually};
use crate::support::tls_target::{Authority, TlsTarget};

fn sink(name: &str, port: u16, more: &str) -> String {
    format!(
        "\n[sinks.{name}]\ntype = \"redis\"\nurl = \"rediss://localhost:{port}\"\nstream = \"{name}\"\nretry_initial = \"5ms\"\nretry_max = \"50ms\"\n{more}\n"
    )
}

fn post(server: &TestServer, mid: &str) {
    let sent = runtime().block_on(server.post(SourceType::Meta, "messenger", SECRET, echo(mid, "ann")));
    assert_eq!(sent.status, 200);
}

fn is_down(server: &TestServer, sink: &str, cause: &str) {
    let line = eventually("it is found to be down", || {
        let said = server.stderr();
        said.lines().find(|line| line.contains("is down") && line.contains(&format!("sink={sink} "))).map(str::to_owned)
    });
    assert!(line.contains(cause), "{line}");
}

#[test]
fn nothing_goes_to_a_server_that_cannot_prove_who_it_is() {
    let test = "targets::redis::tls::nothing_goes_to_a_server_that_cannot_prove_who_it_is";
    let Some(redis) = RedisServer::with(test, &[]) else { return };
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let runtime = runtime();
    let fronts = [
        ("untrusted", theirs.certify("localhost", false), "UnknownIssuer"),
        ("expired", ours.certify("localhost", true), "certificate expired"),
        ("another", ours.certify("redis.example", false), "certificate not valid for name"),
    ];
    let fronts = fronts.map(|(name, certificate, cause)| {
        (name, runtime.block_on(TlsTarget::start(certificate, redis.address())), cause)
    });
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("ours.pem"), ours.pem()).unwrap();
    let sinks = fronts.iter().map(|(name, front, _)| sink(name, front.address.port(), "ca_file = \"ours.pem\""));
    // Those that the system trusts, when no others are named.
    let sinks = sinks.collect::<String>() + &sink("system", fronts[0].1.address.port(), "");
    let config = format!("{SOURCE}{sinks}");
    let server = TestServer::start_with(folder, &config, &[("SSL_CERT_FILE", "ours.pem")]);
    post(&server, "m_1");
    for (name, front, cause) in &fronts {
        is_down(&server, name, cause);
        assert!(redis.entries(name).is_empty(), "{name}");
        front.renew(ours.certify("localhost", false));
        eventually("a right certificate is enough", || (redis.entries(name).len() == 1).then_some(()));
    }
    eventually("so it is for whom the system trusts", || (redis.entries("system").len() == 1).then_some(()));
    assert!(!server.stderr().contains("panicked"));
}

/// What redis-server needs for TLS, in a folder: its certificate, and whom it trusts.
fn options(folder: &Path, port: u16) -> Vec<String> {
    let file = |name: &str| folder.join(name).display().to_string();
    ["--tls-port", &port.to_string(), "--tls-cert-file", &file("server.pem"), "--tls-key-file", &file("server.key")]
        .into_iter()
        .chain(["--tls-ca-cert-file", &file("ca.pem"), "--tls-auth-clients", "yes"])
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_server_that_asks_for_a_certificate_is_shown_ours() {
    let test = "targets::redis::tls::a_server_that_asks_for_a_certificate_is_shown_ours";
    if find_or_skip(test, "redis-server").is_none() {
        return;
    }
    let (authority, strangers) = (Authority::new("ours"), Authority::new("strangers"));
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("ca.pem", &authority.pem());
    for (name, authority) in [("server", &authority), ("client", &authority), ("stranger", &strangers)] {
        let (certificate, key) = authority.pems("localhost");
        write(&format!("{name}.pem"), &certificate);
        write(&format!("{name}.key"), &key);
    }
    let port = free_port();
    let options = options(folder.path(), port);
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    let Some(redis) = RedisServer::with(test, &options) else { return };
    let client = |name: &str| {
        format!("ca_file = \"ca.pem\"\nclient_cert_file = \"{name}.pem\"\nclient_key_file = \"{name}.key\"")
    };
    let sinks = sink("right", port, &client("client"))
        + &sink("without", port, "ca_file = \"ca.pem\"")
        + &sink("stranger", port, &client("stranger"))
        + &sink("missing", port, &client("missing"));
    // The files that redis-server reads are those that hooksink reads.
    let server = TestServer::start_with(folder, &format!("{SOURCE}{sinks}"), &[]);
    post(&server, "m_1");
    eventually("it arrives", || (redis.entries("right").len() == 1).then_some(()));
    is_down(&server, "without", "the connection broke");
    is_down(&server, "stranger", "the connection broke");
    is_down(&server, "missing", "client_key_file missing.key cannot be read");
    // Files are read anew for each connection.
    for suffix in ["pem", "key"] {
        fs::copy(server.folder().join(format!("client.{suffix}")), server.folder().join(format!("stranger.{suffix}"))).unwrap();
    }
    eventually("it arrives", || (redis.entries("stranger").len() == 1).then_some(()));
    assert!(redis.entries("without").is_empty());
}
