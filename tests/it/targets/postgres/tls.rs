//! TLS: of PostgreSQL itself, which asks for a certificate too, and of others in its place; and sockets, which have none.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;

use hooksink::names::SourceType;

use super::super::Server as _;
use super::{PostgresServer, settings};
use crate::echo::{SECRET, echo};
use crate::support::postgres::NOBODY;
use crate::support::runtime;
use crate::support::senders::SOURCE;
use crate::support::server::{TestServer, eventually};
use crate::support::tls_target::Authority;

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

/// A key that PostgreSQL takes: its own, and nobody else's.
fn write(folder: &Path, name: &str, text: &str) {
    let file = folder.join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    if rustix::process::geteuid().is_root() {
        chown(&file, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

#[test]
fn nothing_goes_to_a_server_that_cannot_prove_who_it_is() {
    let test = "targets::postgres::tls::nothing_goes_to_a_server_that_cannot_prove_who_it_is";
    let Some(postgres) = PostgresServer::with(test, &[]) else { return };
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let data = postgres.folder().join("data");
    // Who connects over TLS is who the certificate says.
    let rules = "hostnossl all all 127.0.0.1/32 trust\nhostssl all postgres 127.0.0.1/32 trust\nhostssl all few 127.0.0.1/32 cert\n";
    fs::write(data.join("pg_hba.conf"), rules).unwrap();
    postgres.ask("create role few login");
    postgres.ask("grant create on schema public to few");
    write(&data, "ca.pem", &ours.pem());
    let present = |(certificate, key): (String, String)| {
        write(&data, "server.crt", &certificate);
        write(&data, "server.key", &key);
    };

    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    file("ours.pem", &ours.pem());
    for (name, (certificate, key)) in [("few", ours.pems("few")), ("stranger", theirs.pems("few"))] {
        file(&format!("{name}.pem"), &certificate);
        file(&format!("{name}.key"), &key);
    }
    let sink = |name: &str, more: &str| {
        let lines = settings(postgres.address(), name).replace("127.0.0.1", "localhost");
        let lines = lines.replace("sslmode = \"disable\"", more);
        format!("\n[sinks.{name}]\n{lines}\nretry_initial = \"5ms\"\nretry_max = \"50ms\"\n")
    };
    let client = |name: &str, sink: String| {
        let sink = sink.replace("username = \"postgres\"", "username = \"few\"");
        format!("{sink}client_cert_file = \"{name}.pem\"\nclient_key_file = \"{name}.key\"\n")
    };
    let sinks = sink("named", "ca_file = \"ours.pem\"")
        + &sink("system", "sslmode = \"verify-full\"")
        + &sink("required", "sslmode = \"require\"\nca_file = \"ours.pem\"")
        + &client("few", sink("few", "ca_file = \"ours.pem\""))
        + &client("stranger", sink("stranger", "ca_file = \"ours.pem\""));
    let server = TestServer::start_with(folder, &format!("{SOURCE}{sinks}"), &[("SSL_CERT_FILE", "ours.pem")]);
    let is_there = |name: &str| {
        let there: bool = postgres.value(&format!("select to_regclass('{name}') is not null"));
        there && postgres.value::<i64>(&format!("select count(*) from {name}")) > 0
    };
    post(&server, "m_1");
    is_down(&server, "named", "no TLS connection: server does not support TLS");

    for (presented, cause) in [
        (theirs.pems("localhost"), "UnknownIssuer"),
        (ours.pems("db.example"), "certificate not valid for name"),
        (ours.pems("localhost"), ""),
    ] {
        present(presented);
        let with = ["ssl = on", "ssl_ca_file = 'ca.pem'"].map(|setting| format!("alter system set {setting}"));
        with.iter().for_each(|setting| {
            postgres.ask(setting);
        });
        postgres.ask("select pg_reload_conf()");
        if cause.is_empty() {
            break;
        }
        let found = eventually("check finds the new one", || {
            let checked = runtime().block_on(async {
                let config = sink("named", &format!("ca_file = \"{}\"", server.folder().join("ours.pem").display()));
                let lines: String = config.lines().skip(2).flat_map(|line| [line, "\n"]).collect();
                let config = crate::support::sink_config(&lines);
                config.kind.build(&"it".parse().unwrap(), [0; 32]).unwrap().check().await
            });
            Some(checked.unwrap_err().to_string()).filter(|error| error.contains(cause))
        });
        assert!(found.starts_with("no TLS connection: "), "{found}");
        for name in ["named", "system", "required", "few", "stranger"] {
            assert!(!is_there(name), "{name}: nothing of an event");
        }
    }
    for name in ["named", "system", "required", "few"] {
        eventually("a right certificate is enough", || is_there(name).then_some(()));
    }
    assert!(!is_there("stranger"));
    let encrypted: bool = postgres.value(
        "select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'hooksink'",
    );
    assert!(encrypted);
    let said = server.stderr();
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_socket_of_this_machine_will_do() {
    let Some(postgres) = PostgresServer::with("targets::postgres::tls::a_socket_of_this_machine_will_do", &[]) else {
        return;
    };
    let host = postgres.folder().display().to_string().replace('/', "%2F");
    let sink = format!("type = \"postgres\"\nurl = \"postgres://{host}:{}/postgres\"\nusername = \"postgres\"", postgres.port());
    let server = TestServer::start(&format!("{SOURCE}[sinks.it]\n{sink}"));
    post(&server, "m_1");
    eventually("it arrives", || {
        postgres.try_ask("select 1 from hooksink_events").ok().filter(|rows| rows.len() == 1)
    });
}
