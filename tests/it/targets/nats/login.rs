//! How hooksink and a server prove to each other who they are: every way to log in, changed passwords, TLS.

use std::fs;

use async_nats::ConnectOptions;
use hooksink::names::SourceType;
use rustix::process::Signal;

use super::{USERS, admin, hooks, numbers, sink, sink_at, waits};
use crate::echo::{SECRET, echo};
use crate::support::nats_server::{NatsServer, OPEN, add_stream, messages};
use crate::support::senders::SOURCE;
use crate::support::server::{TestServer, eventually};
use crate::support::tls_target::Authority;
use crate::support::{event, runtime};

#[test]
fn a_password_that_was_changed_is_taken_with_sighup() {
    let test = "targets::nats::login::a_password_that_was_changed_is_taken_with_sighup";
    let Some(nats) = NatsServer::start(test, USERS) else { return };
    let runtime = runtime();
    let context = runtime.block_on(nats.context(admin()));
    runtime.block_on(add_stream(&context, "HOOKS", hooks()));
    let folder = tempfile::tempdir().expect("a folder");
    let password = folder.path().join("password");
    fs::write(&password, "marker-word\n").expect("a file");
    let config = format!(
        r#"{SOURCE}
        [sinks.stream]
        type = "nats"
        url = "{}"
        username = "hooksink"
        password = {{ file = "password" }}
        retry_initial = "10ms"
        retry_max = "50ms"
        "#,
        nats.url()
    );
    let server = TestServer::start_with(folder, &config, &[]);
    let post = |mid: &str| {
        let posted = runtime.block_on(server.post(SourceType::Meta, "messenger", SECRET, echo(mid, "ann")));
        assert_eq!(posted.status, 200);
    };
    let arrived = |count: usize| {
        let read = || runtime.block_on(messages(&context, "HOOKS", 1)).len();
        eventually("all arrive", || (read() == count).then_some(()));
    };
    post("m-1");
    arrived(1);
    nats.reconfigure(&USERS.replace("marker-word", "marker-other"));
    post("m-2");
    let down = || server.stderr().contains("the server refuses the credentials").then_some(());
    eventually("it is found to be down", down);
    fs::write(&password, "marker-other\n").expect("a file");
    server.signal(Signal::HUP);
    arrived(2);
    assert!(!server.stderr().contains("marker"), "{}", server.stderr());
}

#[test]
fn every_way_to_log_in_works_and_a_wrong_one_does_not() {
    const KEY: &str = "UABYVXQCM6MS62P7CTBDVZFDVVE6B4X22EXXA5WUZFN7BRJGCXPVXETP";
    const SEED: &str = "SUAFFBATCGDVV2VRZAZIRL5I2AA6GZ3FMH43W57J5TGH3HMUVBNYW26A6M";
    const WRONG: &str = "SUAIO3FHUX5PNV2LQIIP7TZ3N4L7TX3W53MQGEIVYFIGA635OZCKEYHFLM";
    let test = "targets::nats::login::every_way_to_log_in_works_and_a_wrong_one_does_not";
    let credentials = include_str!("../nats_operator/user.creds");
    assert!(credentials.contains(SEED), "it is the same key");
    for (lines, options, setting, right, wrong) in [
        (
            "authorization { token: \"marker-token\" }".to_owned(),
            ConnectOptions::new().token("marker-token".into()),
            "token",
            "marker-token",
            "marker-wrong".to_owned(),
        ),
        (
            format!("authorization {{ users = [ {{ nkey: {KEY} }} ] }}"),
            ConnectOptions::new().nkey(SEED.into()),
            "nkey",
            SEED,
            WRONG.to_owned(),
        ),
        (
            include_str!("../nats_operator/operator.conf").to_owned(),
            ConnectOptions::new().credentials(credentials).expect("JWT and seed"),
            "credentials",
            credentials,
            credentials.replace(SEED, WRONG),
        ),
    ] {
        let Some(nats) = NatsServer::start(test, &lines) else { return };
        runtime().block_on(async {
            let context = nats.context(options).await;
            add_stream(&context, "HOOKS", hooks()).await;
            for lines in [format!("{setting} = {wrong:?}"), String::new()] {
                let refused = sink_at(&nats, &lines).deliver(&[event(1, "ann")]).await;
                waits(refused, "the server refuses the credentials");
            }
            sink_at(&nats, &format!("{setting} = {right:?}")).deliver(&[event(2, "ann")]).await.unwrap();
            assert_eq!(numbers(&context, "HOOKS").await, [2], "{setting}");
        });
    }
}

#[test]
fn over_tls_both_sides_prove_who_they_are() {
    let test = "targets::nats::login::over_tls_both_sides_prove_who_they_are";
    let Some(plain) = NatsServer::start(test, OPEN) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path
    };
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let ((certificate, key), (client, client_key)) = (ours.pems("localhost"), ours.pems("client.example"));
    let (ca, other_ca) = (write("ca.pem", &ours.pem()), write("other.pem", &theirs.pem()));
    let (certificate, key) = (write("server.pem", &certificate), write("server.key", &key));
    let (client, client_key) = (write("client.pem", &client), write("client.key", &client_key));
    let presents = format!("client_cert_file = {client:?}\nclient_key_file = {client_key:?}\n");
    let one = [event(1, "ann")];
    for first in [false, true] {
        let nats = NatsServer::start(
            test,
            &format!(
                "tls {{ cert_file: {certificate:?}, key_file: {key:?}, ca_file: {ca:?}, verify: true, \
                 handshake_first: {first} }}"
            ),
        );
        let port = nats.as_ref().map_or(0, |nats| nats.address().port());
        let with = |host: &str, ca: &std::path::Path, lines: &str| {
            sink(&format!("url = \"tls://{host}:{port}\"\nca_file = {ca:?}\ntls_first = {first}\n{lines}"))
        };
        runtime().block_on(async {
            waits(with("localhost", &other_ca, &presents).deliver(&one).await, "UnknownIssuer");
            waits(with("127.0.0.1", &ca, &presents).deliver(&one).await, "certificate not valid for name");
            waits(with("localhost", &ca, "").deliver(&one).await, "cannot connect");
            // Connected at last, and there is no stream.
            waits(with("localhost", &ca, &presents).deliver(&one).await, "no stream listens");
        });
    }
    // A server without TLS is not talked to where TLS must be used.
    let tls = sink(&format!("url = \"tls://localhost:{}\"\nca_file = {ca:?}", plain.address().port()));
    waits(runtime().block_on(tls.deliver(&one)), "cannot connect");
}
