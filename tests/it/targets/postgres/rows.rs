//! What a row holds of an event, also of one that `jsonb` would refuse.

use std::sync::Arc;

use chrono::DateTime;
use hooksink::event::{Record, Subject};
use hooksink::names::SourceType;
use hooksink::sinks::Sink;
use reqwest::Method;
use serde_json::Value;

use super::super::Server as _;
use super::{PostgresServer, settings};
use crate::echo::{SECRET, echo, echoes};
use crate::support::senders::SOURCE;
use crate::support::server::{TestServer, answer, eventually};
use crate::support::{decode, event, record, runtime, sink_config};

const README: &str = include_str!("../../../../README.md");

/// The section of the README about PostgreSQL.
fn section() -> &'static str {
    let section = README.split("### PostgreSQL\n").nth(1).expect("it is there");
    section.split("\n### ").next().expect("it ends")
}

fn block(language: &str) -> &'static str {
    let block = section().split(&format!("```{language}\n")).nth(1).and_then(|rest| rest.split("```").next());
    block.expect("it is there")
}

fn post(server: &TestServer, body: impl Into<Vec<u8>>) {
    let sent = runtime().block_on(server.post(SourceType::Meta, "messenger", SECRET, body));
    assert_eq!(sent.status, 200, "{}", sent.body);
}

fn no_dead_letters(server: &TestServer) {
    let letters = runtime().block_on(server.admin_get("/api/v1/dead-letters")).json();
    assert_eq!(letters, Value::Array(Vec::new()));
}

#[test]
fn the_example_of_the_readme_works() {
    let Some(postgres) = PostgresServer::with("targets::postgres::rows::the_example_of_the_readme_works", &[]) else {
        return;
    };
    let sql = block("sql").replace("'PASSWORD'", "'s3cr3t'");
    sql.split(';').filter(|statement| !statement.trim().is_empty()).for_each(|statement| {
        postgres.ask(statement);
    });
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("password");
    std::fs::write(&secret, "s3cr3t\n").unwrap();
    let example = block("toml")
        .replace("127.0.0.1:5432/events", &format!("127.0.0.1:{}/postgres", postgres.port()))
        .replace("/run/secrets/postgres_password", secret.to_str().unwrap());
    let server = TestServer::start_with(folder, &format!("{SOURCE}{example}"), &[]);
    post(&server, echo("m_1", "ann"));
    let rows = eventually("the row is there", || {
        let rows = postgres.try_ask(
            "select source, source_type, kind, subject, occurred_at = '2025-11-01T12:26:40Z', received_at > now() - \
             interval '1 hour', data->>'mid', data_repaired, note, convert_from(raw, 'UTF8')::json->'message'->>'mid' \
             from hooksink_events",
        );
        rows.ok().filter(|rows| !rows.is_empty())
    });
    let [row] = &rows[..] else { panic!("one row: {rows:?}") };
    let texts: [Option<&str>; 4] = [row.get(0), row.get(1), row.get(2), row.get(3)];
    assert_eq!(texts, [Some("messenger"), Some("meta"), Some("meta.message_echo"), Some("ann")]);
    assert_eq!((row.get(4), row.get(5), row.get(7)), (true, true, false), "{row:?}");
    assert_eq!((row.get(6), row.get(8), row.get(9)), (Some("m_1"), None::<&str>, Some("m_1")));
}

/// What came, and what of it is to stand in `data`: its text, whether it was repaired, and how the note ends.
fn odd() -> Vec<(String, Option<&'static str>, bool, Option<&'static str>)> {
    vec![
        (r#"{"a":"x\u0000y"}"#.to_owned(), Some("{\"a\": \"x\u{fffd}y\"}"), true, None),
        (r#"{"a":"\ud83d"}"#.to_owned(), Some("{\"a\": \"\u{fffd}\"}"), true, None),
        (r#"{"a":"\ud83d\ude00","b":1.50}"#.to_owned(), Some("{\"a\": \"😀\", \"b\": 1.50}"), false, None),
        (r#"{"a":1,"a":2}"#.to_owned(), Some(r#"{"a": 2}"#), false, None),
        (r#"{"a":1e400000}"#.to_owned(), None, false, Some("it refuses what a row holds (SQLSTATE 22003)")),
        (format!("{{\"a\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000)), None, false, Some("(SQLSTATE 54001)")),
        ("no JSON \u{0} at all".to_owned(), None, false, Some("raw is no JSON")),
    ]
}

#[test]
fn what_jsonb_refuses_costs_data_and_no_event() {
    let Some(postgres) = PostgresServer::with("targets::postgres::rows::what_jsonb_refuses_costs_data_and_no_event", &[])
    else {
        return;
    };
    // Nothing can be inserted at first, so that all of it is in one statement.
    postgres.ask("alter database postgres set default_transaction_read_only = on");
    let sink = settings(postgres.address(), "events");
    let server = TestServer::start(&format!("{SOURCE}[sinks.it]\n{sink}\nretry_initial = \"5ms\"\nretry_max = \"50ms\""));
    post(&server, echoes(&[("m_first", "ann")]));
    for (body, ..) in odd() {
        post(&server, body);
    }
    post(&server, echoes(&[("m_last", "ann")]));
    eventually("it is found to be down", || server.stderr().contains("(SQLSTATE 25006)").then_some(()));
    // Not even `postgres` may do it without this.
    let reset = "begin read write; alter database postgres reset default_transaction_read_only; commit";
    postgres.batch(reset);
    let rows = eventually("all of them arrive", || {
        let rows = postgres.try_ask("select raw, (data->'fields')::text, data_repaired, note, data->>'mid' from events order by seq").ok();
        rows.filter(|rows| rows.len() == odd().len() + 2)
    });
    for (body, data, repaired, note) in odd() {
        let row = rows.iter().find(|row| row.get::<_, &[u8]>(0) == body.as_bytes()).expect("the bytes as they came");
        let shown = &body[..body.len().min(40)];
        assert_eq!(row.get::<_, Option<&str>>(1), data, "{shown}");
        assert_eq!(row.get::<_, bool>(2), repaired, "{shown}");
        match (row.get::<_, Option<&str>>(3), note) {
            (Some(note), Some(end)) => assert!(note.ends_with(end), "{shown}: {note}"),
            (found, expected) => assert_eq!(found, expected, "{shown}"),
        }
    }
    let mids: Vec<&str> = rows.iter().filter_map(|row| row.get(4)).collect();
    assert_eq!(mids, ["m_first", "m_last"]);
    no_dead_letters(&server);
}

/// A time that no calendar of PostgreSQL has, and a subject that no text of it can be.
#[test]
fn what_no_column_holds_costs_that_column() {
    let Some(postgres) = PostgresServer::with("targets::postgres::rows::what_no_column_holds_costs_that_column", &[])
    else {
        return;
    };
    let config = sink_config(&settings(postgres.address(), "events"));
    let sink: Arc<dyn Sink> = config.kind.build(&"it".parse().unwrap(), [0; 32]).unwrap();
    let at = |number, time| Record { occurred_at: Some(time), ..record(number, Some("ann")) };
    let nul = Record { subject: Subject::new("a\0b"), ..record(3, None) };
    let odd = [at(1, DateTime::<chrono::Utc>::MAX_UTC), at(2, DateTime::<chrono::Utc>::MIN_UTC), nul];
    let mut events: Vec<_> = odd.into_iter().map(|record| decode(Arc::new(record))).collect();
    events.push(event(4, "ann"));
    runtime().block_on(sink.deliver(&events)).unwrap();
    // And again, as after a crash before it was known that they are there.
    events.push(event(5, "ann"));
    runtime().block_on(sink.deliver(&events)).unwrap();
    let rows = postgres.ask("select subject, occurred_at::text, (data->'fields'->>'number')::int from events order by seq");
    let rows: Vec<(&str, Option<&str>, i32)> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let of = |subject, number| (subject, None, number);
    let latest = ("ann", Some("262142-12-31 23:59:59.999999+00"), 1);
    assert_eq!(rows, [latest, of("ann", 2), of("a\u{fffd}b", 3), of("ann", 4), of("ann", 5)]);
}

/// A constraint of the table's owner is a refusal of that event alone, and what it quotes is not passed on.
#[test]
fn what_a_constraint_refuses_is_the_only_dead_letter() {
    let test = "targets::postgres::rows::what_a_constraint_refuses_is_the_only_dead_letter";
    let Some(postgres) = PostgresServer::with(test, &[]) else { return };
    let sink = settings(postgres.address(), "events");
    let server = TestServer::start(&format!("{SOURCE}[sinks.it]\n{sink}\nretry_initial = \"5ms\"\nretry_max = \"50ms\""));
    post(&server, echo("m_1", "ann"));
    let count = |count: i64| {
        eventually("they arrive", || {
            postgres.try_ask("select count(*) from events").ok().filter(|rows| rows[0].get::<_, i64>(0) == count)
        })
    };
    count(1);
    postgres.ask("alter table events add check (subject <> 'p3rs0n')");
    post(&server, echoes(&[("m_2", "p3rs0n"), ("m_3", "ann"), ("m_4", "p3rs0n-too")]));
    let letters = eventually("it is given up", || {
        let letters = runtime().block_on(answer(server.admin_request(Method::GET, "/api/v1/dead-letters")));
        letters.json().as_array().is_some_and(|letters| !letters.is_empty()).then_some(letters.body)
    });
    assert!(letters.contains("a constraint of the table refuses a row (SQLSTATE 23514)"), "{letters}");
    assert_eq!(letters.matches("23514").count(), 1, "{letters}");
    count(3);
    assert!(!server.stderr().contains("p3rs0n") && !letters.contains("p3rs0n"), "{}", server.stderr());
}
