//! Signals in the middle of a burst: a stop loses nothing that was answered 200, and a hang-up refuses nobody.

use hooksink::names::SourceType;
use rustix::process::Signal;

use crate::echo::{SECRET, echo};
use crate::support::runtime;
use crate::support::senders::{SOURCE, check, check_journal, events_in, has_all, owed, senders, under_load};
use crate::support::server::{TestServer, eventually};

const PEOPLE: usize = 8;

#[test]
fn a_stop_in_the_middle_of_a_burst_keeps_every_200_and_ends_well() {
    let config = format!(
        r#"
        {SOURCE}
        [server]
        drain_delay = "200ms"
        shutdown_timeout = "50s"
        [journal]
        path = "journal.db"
        [sinks.archive]
        type = "file"
        path = "events.jsonl"
        "#
    );
    let mut senders = senders(PEOPLE);
    let mut folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for round in 0..6 {
        let server = TestServer::start_with(folder, &config, &[]);
        let enough = rand::random_range(1..300);
        let status;
        (status, folder) = under_load(&mut senders, server.public, |load| {
            eventually("progress", || (load.acknowledged() >= enough).then_some(()));
            server.signal(Signal::TERM);
            server.ended()
        });
        let log = std::fs::read_to_string(folder.path().join("stderr.log")).unwrap();
        assert!(status.success(), "round {round}: {status}\n{log}");
        // Before shutdown_timeout, that is.
        assert!(log.contains("stopped: every request was answered and every sink finished its calls"), "{log}");
        let owed = owed(&senders);
        check_journal(&folder.path().join("journal.db"), &owed, PEOPLE);
    }
    let server = TestServer::start_with(folder, &config, &[]);
    let (owed, archive) = (owed(&senders), server.folder().join("events.jsonl"));
    eventually("the sink has everything", || has_all(&events_in(&archive), &owed).then_some(()));
    check("file", &events_in(&archive), &owed);
}

#[test]
fn a_hang_up_under_load_refuses_nobody_and_lets_the_new_secret_in() {
    let runtime = runtime();
    let config = format!(
        r#"
        {}
        [journal]
        path = "journal.db"
        [sinks.archive]
        type = "file"
        path = "events.jsonl"
        "#,
        SOURCE.replace(r#"tests"]"#, r#"tests", { file = "second" }]"#)
    );
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::write(folder.path().join("second"), "secret 0").unwrap();
    let server = TestServer::start_with(folder, &config, &[]);
    let status = |secret: String, mid: &str| {
        runtime.block_on(server.post(SourceType::Meta, "messenger", &secret, echo(mid, "ann"))).status
    };
    let mut senders = senders(PEOPLE);
    under_load(&mut senders, server.public, |load| {
        for round in 1..=10 {
            let before = load.acknowledged();
            std::fs::write(server.folder().join("second"), format!("secret {round}")).unwrap();
            server.signal(Signal::HUP);
            let done = || server.stderr().matches("sink files reopened, secrets read anew").count() == round;
            eventually("it has read them", || done().then_some(()));
            // Nobody is called ann among those who are counted: these are told apart by being no echo of theirs.
            assert_eq!(status(format!("secret {round}"), "m_8-0"), 200);
            assert_eq!(status(format!("secret {}", round - 1), "m_8-0"), 401);
            assert_eq!(status(SECRET.to_owned(), "m_8-0"), 200);
            eventually("progress", || (load.acknowledged() >= before + 20).then_some(()));
        }
        assert_eq!((load.refused(), load.unanswered()), (0, 0));
    });
    let (owed, archive) = (owed(&senders), server.folder().join("events.jsonl"));
    eventually("the sink has everything", || has_all(&events_in(&archive), &owed).then_some(()));
    let folder = server.stop();
    check("file", &events_in(&folder.path().join("events.jsonl")), &owed);
    check_journal(&folder.path().join("journal.db"), &owed, 1);
}
