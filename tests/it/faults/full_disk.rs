//! The journal's disk is full: nothing is answered 200 that was not stored, sinks go on draining, and when there is room
//! again hooksink goes on without a restart.

use std::path::Path;

use crate::support::mock_target::{Answer, MockTarget};
use crate::support::runtime;
use crate::support::senders::{SOURCE, check, check_journal, has_all, owed, senders, under_load};
use crate::support::server::{TestServer, eventually};
use crate::support::small_disk::{SmallDisk, limit_files};

const PEOPLE: usize = 4;

/// `check` is what /readyz says is wrong.
fn until_there_is_room_again(journal: &Path, reserve: &str, check_of_readyz: &str, disk: &Disk<'_>) {
    let runtime = runtime();
    let target = runtime.block_on(MockTarget::start());
    target.otherwise(Some(Answer::Status(503, Vec::new())));
    let config = format!(
        r#"
        {SOURCE}
        [journal]
        path = "{}"
        disk_reserve = "{reserve}"
        [sinks.crm]
        type = "http"
        url = "{}"
        retry_initial = "10ms"
        retry_max = "50ms"
        "#,
        journal.display(),
        target.url("/in")
    );
    let taken = || -> Vec<serde_json::Value> {
        target.taken().iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect()
    };
    let mut senders = senders(PEOPLE);
    let server = TestServer::start_with(tempfile::tempdir().unwrap(), &config, &[]);
    let ready = || {
        let answer = runtime.block_on(server.admin_get("/readyz?verbose"));
        (answer.status, answer.body)
    };
    // The sink gets behind.
    under_load(&mut senders, server.public, |load| {
        eventually("a backlog", || (load.acknowledged() >= 60).then_some(()));
        assert_eq!(load.refused(), 0);
    });
    assert!(taken().is_empty());
    assert_eq!(ready().0, 200);

    disk.fill(&server);
    under_load(&mut senders, server.public, |load| {
        eventually("readiness goes", || (ready().0 == 503).then_some(()));
        assert!(ready().1.contains(&format!("[-] {check_of_readyz}\n")), "{}", ready().1);
        // From here on everything is refused, with Retry-After, which the senders look at.
        let (refused, acknowledged) = (load.refused(), load.acknowledged());
        eventually("refusals", || (load.refused() >= refused + 50).then_some(()));
        assert!(load.acknowledged() <= acknowledged + PEOPLE, "what was answered when readiness went");
    });
    // What was acknowledged leaves all the same.
    target.otherwise(None);
    let owed_before = owed(&senders);
    eventually("the sink drains", || has_all(&taken(), &owed_before).then_some(()));
    assert_eq!(ready().0, 503, "it is still full");

    disk.empty(&server);
    eventually("it is ready again", || (ready().0 == 200).then_some(()));
    under_load(&mut senders, server.public, |load| {
        eventually("it takes events again", || (load.acknowledged() >= 60).then_some(()));
        assert_eq!(load.refused(), 0);
    });
    let owed = owed(&senders);
    eventually("the sink has everything", || has_all(&taken(), &owed).then_some(()));
    check("http", &taken(), &owed);
    let folder = server.stop();
    check_journal(&folder.path().join(journal), &owed, PEOPLE);
}

/// How a disk is filled and emptied.
struct Disk<'a> {
    fill: &'a dyn Fn(&TestServer),
    empty: &'a dyn Fn(&TestServer),
}

impl Disk<'_> {
    fn fill(&self, server: &TestServer) {
        (self.fill)(server);
    }

    fn empty(&self, server: &TestServer) {
        (self.empty)(server);
    }
}

#[test]
fn on_a_full_disk_nothing_is_acknowledged_and_sinks_drain_until_there_is_room() {
    let name = "faults::full_disk::on_a_full_disk_nothing_is_acknowledged_and_sinks_drain_until_there_is_room";
    let Some(disk) = SmallDisk::mount_or_skip(name, 32 << 20) else { return };
    let journal = disk.path().join("journal.db");
    // A reserve so small that the disk itself is what refuses.
    let filled = Disk { fill: &|_| disk.fill(), empty: &|_| disk.empty() };
    until_there_is_room_again(&journal, "1 B", "journal_writable", &filled);
}

#[test]
fn below_the_reserve_it_is_the_same_before_the_disk_is_full() {
    let name = "faults::full_disk::below_the_reserve_it_is_the_same_before_the_disk_is_full";
    let Some(disk) = SmallDisk::mount_or_skip(name, 32 << 20) else { return };
    let journal = disk.path().join("journal.db");
    let ballast = disk.path().join("other");
    let most = Disk {
        fill: &|_| std::fs::write(&ballast, vec![0; 24 << 20]).unwrap(),
        empty: &|_| std::fs::remove_file(&ballast).unwrap(),
    };
    until_there_is_room_again(&journal, "16 MiB", "disk_above_reserve", &most);
}

/// The kernel ends a process that passes such a limit, unless it says that it knows about them.
#[test]
fn at_a_limit_of_file_sizes_it_is_the_same() {
    let log = |server: &TestServer| std::fs::metadata(server.folder().join("journal.db-wal")).unwrap().len();
    let limited = Disk {
        fill: &|server| limit_files(server.id(), Some(log(server))),
        empty: &|server| limit_files(server.id(), None),
    };
    until_there_is_room_again(Path::new("journal.db"), "1 MiB", "journal_writable", &limited);
}
