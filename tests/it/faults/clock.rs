//! A clock that jumps, forwards and backwards by weeks: ids, order, retries and what a sink is owed do not depend on it,
//! and retention goes by it. The clock of the real binary is set by libfaketime.

use std::fs;
use std::path::{Path, PathBuf};

use hooksink::names::SourceType;
use serde_json::Value;

use crate::echo::{SECRET, echo};
use crate::programs::skipped;
use crate::support::mock_target::{Answer, MockTarget};
use crate::support::runtime;
use crate::support::senders::{SOURCE, check, has_all, owed, senders, under_load};
use crate::support::server::{TestServer, eventually};

const PEOPLE: usize = 4;
const DAY: u64 = 86_400;

/// Where Debian keeps it, for whichever machine.
fn faketime_or_skip(test: &str) -> Option<PathBuf> {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found =
        folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|library| library.is_file());
    if found.is_none() {
        skipped(test, "libfaketime is not installed");
    }
    found
}

/// Sets the clock of a server that runs or will run in this folder.
fn set_clock(folder: &Path, offset: &str) {
    // In one step: it is read at every look at the clock.
    fs::write(folder.join("clock.new"), offset).unwrap();
    fs::rename(folder.join("clock.new"), folder.join("clock")).unwrap();
}

#[test]
fn jumps_of_the_clock_change_no_id_and_no_order_and_lose_nothing_that_is_owed() {
    let name = "faults::clock::jumps_of_the_clock_change_no_id_and_no_order_and_lose_nothing_that_is_owed";
    let Some(library) = faketime_or_skip(name) else { return };
    let runtime = runtime();
    let target = runtime.block_on(MockTarget::start());
    target.otherwise(Some(Answer::Status(503, Vec::new())));
    let config = format!(
        r#"
        {SOURCE}
        [journal]
        path = "journal.db"
        disk_reserve = "1 MiB"
        [sinks.crm]
        type = "http"
        url = "{}"
        retry_initial = "10ms"
        retry_max = "50ms"
        "#,
        target.url("/in")
    );
    let folder = tempfile::tempdir().unwrap();
    let clock = folder.path().join("clock");
    let environment = [
        ("LD_PRELOAD", library.to_str().unwrap().to_owned()),
        ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap().to_owned()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        // As clocks of systems jump: that which counts from the start of the machine does not.
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
    set_clock(folder.path(), "+0");
    let mut server = TestServer::start_with(folder, &config, &environment);
    let mut senders = senders(PEOPLE);
    let send = |server: &TestServer, mid: &str| {
        let answer = runtime.block_on(server.post(SourceType::Meta, "messenger", SECRET, echo(mid, "0")));
        (answer.status, answer.body)
    };
    let taken = || -> Vec<Value> {
        target.taken().iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
    };
    let age =
        |server: &TestServer| runtime.block_on(server.metric("hooksink_sink_oldest_unsent_seconds{sink=\"crm\"}"));
    let retries = |server: &TestServer| runtime.block_on(server.metric("hooksink_sink_retries_total{sink=\"crm\"}"));

    // Past retention, before the first event, back again, and before it with a restart.
    for (offset, restart) in
        [("+0", false), ("+30d", false), ("-30d", false), ("+1d", false), ("-60d", true), ("+0", true)]
    {
        set_clock(server.folder(), offset);
        if restart {
            server = TestServer::start_with(server.stop(), &config, &environment);
        }
        under_load(&mut senders, server.public, |load| {
            eventually("it takes events", || (load.acknowledged() >= 40).then_some(()));
            assert_eq!((load.refused(), load.unanswered()), (0, 0), "{offset}");
        });
        // It has looked after ages by this clock.
        match offset {
            "+30d" => eventually("events are old", || (age(&server) > 29 * DAY).then_some(())),
            "-30d" | "-60d" => eventually("events are young", || (age(&server) == 0).then_some(())),
            _ => {}
        }
        // The sink is tried again as before, whatever the clock says, and a copy is known.
        let before = retries(&server);
        eventually("the sink is tried again", || (retries(&server) > before).then_some(()));
        assert_eq!(send(&server, "m_0-0"), (200, r#"{"accepted":0,"duplicates":1}"#.to_owned()), "{offset}");
    }
    target.otherwise(None);
    let owed = owed(&senders);
    eventually("the sink has everything", || has_all(&taken(), &owed).then_some(()));
    check("http", &taken(), &owed);

    // What nobody is owed any more grows too old by the clock, what came at a wrong time too, and then it goes on.
    set_clock(server.folder(), "+60d");
    let events = || runtime.block_on(server.admin_get("/api/v1/status")).json()["events"].clone();
    eventually("the events are gone", || (events() == 0).then_some(()));
    set_clock(server.folder(), "+0");
    under_load(&mut senders, server.public, |load| {
        eventually("it takes events", || (load.acknowledged() >= 40).then_some(()));
    });
    let owed = crate::support::senders::owed(&senders);
    eventually("the sink has everything", || has_all(&taken(), &owed).then_some(()));
    check("http", &taken(), &owed);
}
