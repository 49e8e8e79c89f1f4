//! The disk of a file sink fails: that sink tries again until it works, each line is whole and there once, and neither
//! the senders nor the journal notice.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use crate::programs::strace_or_skip;
use crate::support::runtime;
use crate::support::senders::{SOURCE, check, check_journal, events, has_all, owed, senders, under_load};
use crate::support::server::{TestServer, eventually};
use crate::support::small_disk::{SmallDisk, limit_files};
use crate::support::strace::Strace;

/// Has the disk of the sink fail in the middle of a load and work again. `skip` are bytes that stood in the file before.
/// `fault` makes it fail until it is dropped.
fn only_the_sink_waits<F>(archive: &Path, skip: u64, fault: impl FnOnce(&TestServer) -> F) {
    let runtime = runtime();
    let config = format!(
        r#"
        {SOURCE}
        [journal]
        path = "journal.db"
        disk_reserve = "1 MiB"
        [sinks.archive]
        type = "file"
        path = "{}"
        retry_initial = "5ms"
        retry_max = "20ms"
        "#,
        archive.display()
    );
    let written = || {
        let mut file = File::open(archive).unwrap();
        file.seek(SeekFrom::Start(skip)).unwrap();
        let mut lines = String::new();
        file.read_to_string(&mut lines).unwrap();
        events(&lines)
    };
    let mut senders = senders(4);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let server = TestServer::start_with(folder, &config, &[]);
    let mut send = |count: usize| {
        under_load(&mut senders, server.public, |load| {
            eventually("answers", || (load.acknowledged() >= count).then_some(()));
            assert_eq!((load.refused(), load.unanswered()), (0, 0));
        });
        owed(&senders)
    };
    let owed = send(20);
    eventually("the sink has them", || has_all(&written(), &owed).then_some(()));

    let fault = fault(&server);
    let owed = send(200);
    let retries = || runtime.block_on(server.metric("hooksink_sink_retries_total{sink=\"archive\"}"));
    eventually("the sink tries again", || (retries() >= 3).then_some(()));
    assert!(!has_all(&written(), &owed), "the disk did not fail");
    assert_eq!(runtime.block_on(server.admin_get("/readyz")).status, 200);

    drop(fault);
    eventually("the sink has everything", || has_all(&written(), &owed).then_some(()));
    let owed = send(20);
    eventually("and goes on", || has_all(&written(), &owed).then_some(()));
    runtime.block_on(server.no_dead_letters());
    let folder = server.stop();
    check("file", &written(), &owed);
    assert_eq!(
        written().len(),
        check_journal(&folder.path().join("journal.db"), &owed, 0),
        "a line stands there twice"
    );
}

/// Mends on drop.
struct Until<F: Fn()>(F);

impl<F: Fn()> Drop for Until<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn a_full_disk_of_a_file_sink_delays_that_sink_alone() {
    let name = "faults::sink_disk::a_full_disk_of_a_file_sink_delays_that_sink_alone";
    let Some(disk) = SmallDisk::mount_or_skip(name, 1 << 20) else { return };
    only_the_sink_waits(&disk.path().join("events.jsonl"), 0, |_| {
        disk.fill();
        Until(|| disk.empty())
    });
}

#[test]
fn a_limit_of_its_size_delays_a_file_sink_alone() {
    // Longer than the journal becomes here, so that the limit stops this file and no other.
    const LONG: u64 = 64 << 20;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let archive = folder.path().join("events.jsonl");
    let mut file = File::create(&archive).unwrap();
    file.set_len(LONG - 1).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(b"\n").unwrap();
    only_the_sink_waits(&archive, LONG, |server| {
        let id = server.id();
        limit_files(id, Some(fs::metadata(&archive).unwrap().len() + 10_000));
        Until(move || limit_files(id, None))
    });
}

#[test]
fn failing_writes_and_syncs_delay_a_file_sink_alone() {
    for calls in ["write", "fdatasync"] {
        let name = "faults::sink_disk::failing_writes_and_syncs_delay_a_file_sink_alone";
        let Some(strace) = strace_or_skip(name) else { return };
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let archive = folder.path().join("events.jsonl");
        only_the_sink_waits(&archive, 0, |server| {
            let inject = format!("inject={calls}:error=EIO");
            Strace::attach(&strace, server, &["-P", archive.to_str().unwrap(), "-e", &inject])
        });
    }
}
