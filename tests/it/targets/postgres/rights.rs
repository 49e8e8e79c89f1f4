//! Users of few rights, passwords that change, and what `check` tells.

use std::fs;
use std::sync::Arc;

use hooksink::names::SourceType;
use hooksink::sinks::{BoxError, Checked, Sink};
use rustix::process::Signal;

use super::super::Server as _;
use super::{PostgresServer, settings};
use crate::echo::{SECRET, echo};
use crate::support::senders::SOURCE;
use crate::support::server::{TestServer, eventually};
use crate::support::{event, runtime, sink_config};

/// The same as a user with a password.
fn settings_of(postgres: &PostgresServer, user: &str, password: &str, table: &str) -> String {
    settings(postgres.address(), table).replace("username = \"postgres\"", &format!("username = \"{user}\"\n{password}"))
}

#[test]
fn a_new_password_takes_a_signal() {
    let Some(postgres) = PostgresServer::with("targets::postgres::rights::a_new_password_takes_a_signal", &[]) else {
        return;
    };
    postgres.ask("create role hooksink login password 's3cr3t-old'");
    postgres.ask("grant create on schema public to hooksink");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("password"), "s3cr3t-old").unwrap();
    let sink = settings_of(&postgres, "hooksink", "password = { file = \"password\" }", "events");
    let config = format!("{SOURCE}[sinks.it]\n{sink}\nretry_initial = \"5ms\"\nretry_max = \"50ms\"");
    let server = TestServer::start_with(folder, &config, &[]);
    let post = |mid: &str| {
        let sent = runtime().block_on(server.post(SourceType::Meta, "messenger", SECRET, echo(mid, "ann")));
        assert_eq!(sent.status, 200);
    };
    let arrived = |count: i64| {
        eventually("it arrives", || {
            postgres.try_ask("select count(*) from events").ok().filter(|rows| rows[0].get::<_, i64>(0) == count)
        })
    };
    post("m_1");
    arrived(1);
    postgres.ask("alter role hooksink password 's3cr3t-new'");
    postgres.ask("select pg_terminate_backend(pid) from pg_stat_activity where usename = 'hooksink'");
    post("m_2");
    let refused = "username or password is not accepted, or this user may not connect from here (SQLSTATE 28P01)";
    eventually("it is refused", || server.stderr().contains(refused).then_some(()));
    fs::write(server.folder().join("password"), "s3cr3t-new").unwrap();
    server.signal(Signal::HUP);
    arrived(2);
    assert!(!server.stderr().contains("s3cr3t"), "{}", server.stderr());
}

fn built(lines: &str) -> Arc<dyn Sink> {
    sink_config(lines).kind.build(&"it".parse().unwrap(), [0; 32]).unwrap()
}

fn check(lines: &str) -> Result<Checked, BoxError> {
    runtime().block_on(built(lines).check())
}

#[test]
fn check_tells_what_may_be_done_and_what_is_kept() {
    let test = "targets::postgres::rights::check_tells_what_may_be_done_and_what_is_kept";
    let Some(postgres) = PostgresServer::with(test, &[]) else { return };
    postgres.ask("create role few login password 's3cr3t'");
    let few = settings_of(&postgres, "few", "password = \"s3cr3t\"", "events");
    let all = settings(postgres.address(), "events");
    let found = |lines: &str| check(lines).unwrap().found;
    let error = |lines: &str| check(lines).unwrap_err().to_string();

    let checked = check(&all).unwrap();
    assert!(checked.found.starts_with("PostgreSQL "), "{}", checked.found);
    assert!(checked.found.ends_with("; the table events will be made with the first event"), "{}", checked.found);
    assert_eq!(checked.max_event_bytes, Some(256 << 20));
    assert!(error(&few).starts_with("there is no table events, and the user may not make it: "), "{}", error(&few));
    let delivered = runtime().block_on(built(&few).deliver(&[event(1, "ann")])).unwrap_err();
    assert!(delivered.to_string().contains("the user may not make or change the table (SQLSTATE 42501)"), "{delivered}");
    assert!(postgres.value::<bool>("select to_regclass('events') is null"), "it leaves nothing behind");

    runtime().block_on(built(&all).deliver(&[event(1, "ann")])).unwrap();
    assert!(found(&all).ends_with("; insert into events is allowed"), "{}", found(&all));
    assert_eq!(error(&few), "the user has not the rights that are needed (SQLSTATE 42501)");
    postgres.ask("grant insert on events to few");
    assert_eq!(error(&few), "the user has not the rights that are needed (SQLSTATE 42501)");
    postgres.ask("grant select (id) on events to few");
    assert!(found(&few).ends_with("; insert into events is allowed"), "{}", found(&few));
    runtime().block_on(built(&few).deliver(&[event(2, "ann")])).unwrap();

    postgres.ask("alter table events set unlogged");
    postgres.ask("alter role few set synchronous_commit = off");
    for expected in ["unlogged: a crash of the server empties it", "synchronous_commit is off: a crash of the server loses"] {
        let warnings = check(&few).unwrap().warnings.join("\n");
        assert!(warnings.contains(expected), "{warnings}");
    }
    postgres.ask("alter role few set default_transaction_read_only = on");
    assert!(error(&few).starts_with("the server takes no writes"), "{}", error(&few));
    assert_eq!(postgres.value::<i64>("select count(*) from events"), 2, "it leaves nothing behind");

    let wrong = few.replace("s3cr3t", "s3cr3t-wrong");
    assert!(error(&wrong).ends_with("(SQLSTATE 28P01)"), "{}", error(&wrong));
    let none = few.replace("password = \"s3cr3t\"", "");
    assert_eq!(error(&none), "the server asks for a password, or in a way that is not known");
    let elsewhere = all.replace("/postgres\"", "/nowhere\"");
    assert_eq!(error(&elsewhere), "there is no such database (SQLSTATE 3D000)");
}
