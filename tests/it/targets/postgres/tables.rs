//! How the table is made and changed, by one sink or by many at once, and what is said of one that others made.

use std::sync::Arc;

use hooksink::sinks::Sink;

use super::super::Server as _;
use super::{PostgresServer, settings};
use crate::support::{event, runtime, sink_config};

fn built(lines: &str) -> Arc<dyn Sink> {
    sink_config(lines).kind.build(&"it".parse().unwrap(), [0; 32]).unwrap()
}

fn deliver(sink: &Arc<dyn Sink>, number: u64) -> Result<(), String> {
    runtime().block_on(sink.deliver(&[event(number, "ann")])).map_err(|failure| failure.cause.to_string())
}

fn comment(postgres: &PostgresServer, table: &str) -> Option<String> {
    postgres.value(&format!("select obj_description('{table}'::regclass, 'pg_class')"))
}

const VERSION: &str = "Events of hooksink, version 2; see its README";

#[test]
fn many_at_once_make_one_table() {
    let Some(postgres) = PostgresServer::with("targets::postgres::tables::many_at_once_make_one_table", &[]) else { return };
    postgres.ask("create schema audit");
    for table in ["events", "audit.order"] {
        runtime().block_on(async {
            let sinks = (0..8).map(|_| built(&settings(postgres.address(), table)));
            let calls: Vec<_> = sinks
                .enumerate()
                .map(|(number, sink)| tokio::spawn(async move { sink.deliver(&[event(number as u64, "ann")]).await }))
                .collect();
            for call in calls {
                call.await.unwrap().unwrap();
            }
        });
        let quoted = format!("\"{}\"", table.replace('.', "\".\""));
        assert_eq!(postgres.value::<i64>(&format!("select count(*) from {quoted}")), 8);
        assert_eq!(comment(&postgres, &quoted).as_deref(), Some(VERSION));
        postgres.ask(&format!("drop table {quoted}"));
    }
    let locks: i64 = postgres.value("select count(*) from pg_locks where locktype = 'advisory'");
    assert_eq!(locks, 0);
}

#[test]
fn an_earlier_version_is_changed_and_a_lost_table_made_again() {
    let test = "targets::postgres::tables::an_earlier_version_is_changed_and_a_lost_table_made_again";
    let Some(postgres) = PostgresServer::with(test, &[]) else { return };
    let lines = settings(postgres.address(), "events");
    let sink = built(&lines);
    deliver(&sink, 1).unwrap();
    // As version 1 left it.
    postgres.ask("drop index events_received_at");
    postgres.ask("comment on table events is 'Events of hooksink, version 1; see its README'");
    deliver(&sink, 2).unwrap();
    assert!(comment(&postgres, "events").unwrap().contains("version 1"), "it is looked at once");
    for _ in 0..2 {
        deliver(&built(&lines), 3).unwrap();
        assert_eq!(comment(&postgres, "events").as_deref(), Some(VERSION));
        assert!(postgres.value::<bool>("select to_regclass('events_received_at') is not null"));
    }
    // What a later version made stays as it is, as long as it will do.
    postgres.ask("comment on table events is 'Events of hooksink, version 99; see its README'");
    deliver(&built(&lines), 4).unwrap();
    assert!(comment(&postgres, "events").unwrap().contains("version 99"));
    assert_eq!(postgres.value::<i64>("select count(*) from events"), 4);

    postgres.ask("drop table events");
    assert_eq!(deliver(&sink, 5).unwrap_err(), "there is no such table (SQLSTATE 42P01)");
    deliver(&sink, 5).unwrap();
    assert_eq!(postgres.value::<i64>("select count(*) from events"), 1);
}

#[test]
fn a_table_of_ones_own_is_checked_and_the_error_says_what_it_would_be() {
    let test = "targets::postgres::tables::a_table_of_ones_own_is_checked_and_the_error_says_what_it_would_be";
    let Some(postgres) = PostgresServer::with(test, &[]) else { return };
    let lines = settings(postgres.address(), "mine") + "\ncreate_table = false";
    let error = deliver(&built(&lines), 1).unwrap_err();
    let definition = error.strip_prefix("there is no table mine; make it: ").expect(&error);
    assert_eq!(runtime().block_on(built(&lines).check()).unwrap_err().to_string(), error);
    postgres.ask(definition);
    deliver(&built(&lines), 1).unwrap();
    assert_eq!(comment(&postgres, "mine"), None, "it is left as it is");

    for (change, undo, expected) in [
        ("alter table mine drop column note", "alter table mine add note text", "the column note is missing"),
        (
            "alter table mine alter data type json",
            "alter table mine alter data type jsonb",
            "the column data is json, not jsonb",
        ),
        (
            "alter table mine alter subject set not null",
            "alter table mine alter subject drop not null",
            "the column subject must take null",
        ),
        (
            "alter table mine add tenant text not null",
            "alter table mine drop tenant",
            "the column tenant has neither null nor a default",
        ),
        (
            "alter table mine drop constraint mine_pkey",
            "alter table mine add unique (id)",
            "id is not unique",
        ),
    ] {
        // With create_table too: what others made is not changed.
        postgres.ask("delete from mine");
        postgres.ask(change);
        for lines in [&lines, &settings(postgres.address(), "mine")] {
            let error = deliver(&built(lines), 1).unwrap_err();
            assert_eq!(error, format!("the table mine will not do: {expected}; it would be: {definition}"));
        }
        postgres.ask(undo);
        deliver(&built(&lines), 1).unwrap();
    }
    postgres.ask("alter table mine add tenant text not null default 'blue'");
    deliver(&built(&lines), 2).unwrap();
    let error = deliver(&built(&(settings(postgres.address(), "nowhere.mine") + "\n")), 1).unwrap_err();
    assert_eq!(error, "there is no such schema (SQLSTATE 3F000)");
}
