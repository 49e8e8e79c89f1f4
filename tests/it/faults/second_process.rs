//! A second hooksink on the journal of the first: it says who has it and ends, and the first does not notice.

use std::os::unix::fs::symlink;

use crate::support::senders::{SOURCE, check, check_journal, events_in, has_all, owed, senders, under_load};
use crate::support::server::{TestServer, eventually};
use crate::support::shell::run_in;

#[test]
fn the_second_of_two_processes_on_a_journal_ends_and_the_first_does_not_notice() {
    let config = format!(
        "{SOURCE}\n[journal]\npath = \"data/journal.db\"\n[sinks.archive]\ntype = \"file\"\npath = \"events.jsonl\"\n"
    );
    let server = TestServer::start(&config);
    // The same file by other names.
    symlink(server.folder().join("data"), server.folder().join("folder")).unwrap();
    symlink(server.folder().join("data/journal.db"), server.folder().join("link.db")).unwrap();
    let mut senders = senders(4);
    under_load(&mut senders, server.public, |load| {
        for path in ["data/journal.db", "folder/journal.db", "link.db"] {
            let listen = "--set server.listen=127.0.0.1:0 --set admin.listen=127.0.0.1:0";
            let said =
                run_in(server.folder(), &format!("serve --set journal.path={path} {listen}"), &[]).status(69).err();
            let expected = format!("another hooksink (process {}) holds the journal {path};", server.id());
            assert!(said.contains(&expected), "{path}: {said}");
        }
        let before = load.acknowledged();
        eventually("the first goes on", || (load.acknowledged() >= before + 50).then_some(()));
        assert_eq!((load.refused(), load.unanswered()), (0, 0));
    });
    let (owed, archive) = (owed(&senders), server.folder().join("events.jsonl"));
    eventually("the sink has everything", || has_all(&events_in(&archive), &owed).then_some(()));
    let folder = server.stop();
    check("file", &events_in(&folder.path().join("events.jsonl")), &owed);
    check_journal(&folder.path().join("data/journal.db"), &owed, 4);
}
