//! Trouble of the server's own: locks, a server that takes no writes, standbys, triggers that talk.

use std::sync::Arc;

use hooksink::names::SourceType;
use hooksink::sinks::{Blame, Sink, SinkError};
use tokio_postgres::NoTls;

use super::super::Server as _;
use super::{PostgresServer, settings};
use crate::echo::{SECRET, echo};
use crate::support::senders::{SOURCE, check, has_all, owed, senders, under_load};
use crate::support::server::{TestServer, eventually};
use crate::support::{event, runtime, sink_config};

fn built(lines: &str) -> Arc<dyn Sink> {
    sink_config(lines).kind.build(&"it".parse().unwrap(), [0; 32]).unwrap()
}

/// A call that waits too long for somebody else's lock ends, and so does what the server was doing for it: it would
/// else insert after the next call did.
#[test]
fn a_call_that_takes_too_long_is_cancelled() {
    let test = "targets::postgres::trouble::a_call_that_takes_too_long_is_cancelled";
    let Some(postgres) = PostgresServer::with(test, &[]) else { return };
    let sink = built(&settings(postgres.address(), "events").replace("\"2s\"", "\"1s\""));
    let deliver = |number| runtime().block_on(sink.deliver(&[event(number, "ann")]));
    // The calls share a runtime, as they do in hooksink.
    let runtime = runtime();
    runtime.block_on(sink.deliver(&[event(1, "ann")])).unwrap();
    let lock = runtime.block_on(async {
        let address = format!("host=127.0.0.1 port={} user=postgres dbname=postgres", postgres.port());
        let (client, connection) = tokio_postgres::connect(&address, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute("begin; lock table events").await.unwrap();
        client
    });
    let failure = runtime.block_on(sink.deliver(&[event(2, "ann")])).unwrap_err();
    assert_eq!((failure.delivered, failure.blame), (0, Blame::Unknown));
    assert_eq!(failure.cause.to_string(), "no answer within 1s");
    let waiting = "select count(*) from pg_stat_activity where application_name = 'hooksink' and state = 'active'";
    eventually("the server stops waiting", || (postgres.value::<i64>(waiting) == 0).then_some(()));
    runtime.block_on(lock.batch_execute("rollback")).unwrap();
    assert_eq!(postgres.value::<i64>("select count(*) from events"), 1);
    drop(runtime);
    // Another runtime, as of another process: what is left of the old one is not used.
    eventually("it delivers again", || deliver(2).ok());
    assert_eq!(postgres.value::<i64>("select count(*) from events"), 2);
}

/// What triggers say, and what errors quote, is in no log.
#[test]
fn what_the_server_says_of_rows_is_not_passed_on() {
    let test = "targets::postgres::trouble::what_the_server_says_of_rows_is_not_passed_on";
    let Some(postgres) = PostgresServer::with(test, &[]) else { return };
    let sink = settings(postgres.address(), "events") + "\nretry_initial = \"5ms\"\nretry_max = \"50ms\"";
    let config = format!("{SOURCE}[sinks.it]\n{sink}");
    let folder = tempfile::tempdir().unwrap();
    let server = TestServer::start_with(folder, &config, &[("RUST_LOG", "info")]);
    let post = |mid: &str| {
        let sent = runtime().block_on(server.post(SourceType::Meta, "messenger", SECRET, echo(mid, "p3rs0n")));
        assert_eq!(sent.status, 200);
    };
    let count = |count: i64| {
        eventually("they arrive", || {
            postgres.try_ask("select count(*) from events").ok().filter(|rows| rows[0].get::<_, i64>(0) == count)
        })
    };
    post("m_1");
    count(1);
    let talk = |how: &str| {
        postgres.ask(&format!(
            "create or replace function talk() returns trigger language plpgsql as $$ begin {how}; return new; end $$"
        ));
    };
    talk("raise notice 'of %', new.subject");
    postgres.ask("create trigger talk before insert on events for each row execute function talk()");
    post("m_2");
    count(2);
    talk("raise warning 'of %', new.subject");
    post("m_3");
    count(3);
    talk("raise exception 'of %', new.subject using detail = new.subject, hint = new.subject");
    post("m_4");
    eventually("it is found to be down", || server.stderr().contains("the server answered SQLSTATE P0001").then_some(()));
    talk("raise exception 'of %', new.subject using errcode = 'p3rsn'");
    talk("perform new.subject::int");
    talk("null");
    count(4);
    // That it is told of the answer before the sink says so is a matter of the machine.
    let said = || Some(server.stderr()).filter(|said| said.contains("the sink is up again"));
    let said = eventually("it is found to be up", said);
    assert!(!said.contains("p3rs0n"), "{said}");
}

/// A server that takes no writes is no reason to give up on anything, and of several the one that does is found.
#[test]
fn of_several_servers_the_one_that_takes_writes_is_used() {
    let test = "targets::postgres::trouble::of_several_servers_the_one_that_takes_writes_is_used";
    let Some(first) = PostgresServer::with(test, &["default_transaction_read_only=on"]) else { return };
    let Some(second) = PostgresServer::with(test, &[]) else { return };
    let several = |lines: String| {
        let (first, second) = (first.address(), second.address());
        lines.replace(
            &format!("url = \"postgres://{second}/postgres\""),
            &format!("url = [\"postgres://{first}/postgres\", \"postgres://{second}/postgres\"]"),
        )
    };
    let sink = several(settings(second.address(), "events"));
    let server = TestServer::start(&format!("{SOURCE}[sinks.it]\n{sink}\nretry_initial = \"5ms\"\nretry_max = \"50ms\""));
    let takes_writes = |takes: bool| {
        let read_only = if takes { "off" } else { "on" };
        second.batch(&format!(
            "begin read write; alter database postgres set default_transaction_read_only = {read_only}; commit"
        ));
        // Sessions that are open do not notice.
        second.ask("select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'hooksink'");
    };
    let mut senders = senders(4);
    let mut send = || {
        under_load(&mut senders, server.public, |load| {
            eventually("requests are answered", || (load.acknowledged() >= 100).then_some(()));
        });
        owed(&senders)
    };
    let before = send();
    eventually("they arrive", || has_all(&second.stored("events"), &before).then_some(()));
    takes_writes(false);
    send();
    eventually("it is found to be down", || server.stderr().contains("the sink is down").then_some(()));
    takes_writes(true);
    let all = send();
    eventually("all of them arrive", || has_all(&second.stored("events"), &all).then_some(()));
    check("it", &second.stored("events"), &all);
    runtime().block_on(server.no_dead_letters());
}

/// As many connections as calls at once, and none that is never closed.
#[test]
fn connections_are_kept_and_no_more_than_calls_at_once() {
    let test = "targets::postgres::trouble::connections_are_kept_and_no_more_than_calls_at_once";
    let Some(postgres) = PostgresServer::with(test, &["log_connections=on"]) else { return };
    let sink = built(&(settings(postgres.address(), "events") + "\nconcurrency = 3"));
    let runtime = runtime();
    runtime.block_on(async {
        for round in 0..20 {
            let calls = (0..3).map(|n| {
                let sink = sink.clone();
                tokio::spawn(async move { sink.deliver(&[event(3 * round + n, "ann")]).await })
            });
            for call in calls.collect::<Vec<_>>() {
                call.await.unwrap().unwrap();
            }
        }
    });
    let ours = "select count(*) from pg_stat_activity where application_name = 'hooksink'";
    assert!((1..=3).contains(&postgres.value::<i64>(ours)));
    let log = std::fs::read_to_string(postgres.folder().join("postgres.log")).unwrap();
    assert!(log.matches("application_name=hooksink").count() <= 3, "{log}");
    runtime.block_on(sink.close()).unwrap();
    eventually("they are closed", || (postgres.value::<i64>(ours) == 0).then_some(()));
    assert!(matches!(
        runtime.block_on(built(&settings(([127, 0, 0, 1], 1).into(), "x")).deliver(&[event(1, "ann")])).unwrap_err().cause,
        SinkError::Transient { retry_after: None, .. }
    ));
}

/// A server that lets itself be connected to and then says nothing keeps nobody from the next one.
#[test]
fn of_several_servers_one_that_hangs_is_passed() {
    let test = "targets::postgres::trouble::of_several_servers_one_that_hangs_is_passed";
    let Some(second) = PostgresServer::with(test, &[]) else { return };
    let hangs = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (first, second_address) = (hangs.local_addr().unwrap(), second.address());
    let sink = settings(second_address, "events").replace(
        &format!("url = \"postgres://{second_address}/postgres\""),
        &format!("url = [\"postgres://{first}/postgres\", \"postgres://{second_address}/postgres\"]"),
    );
    assert!(sink.contains(&first.to_string()), "{sink}");
    let server = TestServer::start(&format!("{SOURCE}[sinks.it]\n{sink}\nretry_initial = \"5ms\"\nretry_max = \"50ms\""));
    let mut senders = senders(4);
    under_load(&mut senders, server.public, |load| {
        eventually("requests are answered", || (load.acknowledged() >= 20).then_some(()));
    });
    eventually("they arrive", || has_all(&second.stored("events"), &owed(&senders)).then_some(()));
}
